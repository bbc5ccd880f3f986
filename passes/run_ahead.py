"""Software pipelining in one group: each loop fills its rings some iterations ahead.

AREF -> SCHEDULED without warp groups. A ring of ``depth`` slots is filled depth - 1 iterations
before it is read: that many puts stand before the loop, in the loop each get is followed by
the put for a later iteration, and after the loop the slots that nobody reads are given back.
Puts for iterations that do not come name places outside of the tensor: nothing is copied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tilec.ir.core import Block, Kernel, Op, Value, clone_block, clone_op, definitions, frozen, walk
from tilec.ir.ops import make, opdef, written_tensors
from tilec.ir.ring_flow import VIEWS
from tilec.ir.types import TensorType, TileType, int32
from tilec.passes.rewrite import Emit, constant_of, where
from tilec.passes.sweep import sweep

Env = dict[Value, Value]


def run_ahead(kernel: Kernel, depths: Mapping[str, int], num_warps: int) -> Kernel:
    """The SCHEDULED form, run by one group of ``num_warps`` warps; ``depths`` by name of the ring.

    Loops whose loads need what an earlier iteration made fill their slots when they read them;
    ``attrs["notes"]`` says so.
    """
    pass_ = _RunAhead(kernel, depths)
    body = late_gets(sweep(clone_block(kernel.body, {}, pass_.rewrite)))
    notes = (*kernel.attrs.get("notes", ()), *pass_.notes)
    attrs = frozen(**{**kernel.attrs, "num_warps": num_warps, "notes": notes})
    return kernel.with_(form="scheduled", body=body, attrs=attrs)


class _RunAhead:
    """Clones blocks; ``notes`` says which loops do not run ahead, and why."""

    def __init__(self, kernel: Kernel, depths: Mapping[str, int]) -> None:
        self.depths, self.written = depths, written_tensors(kernel.body)
        self.defs, self.notes = definitions(kernel.body), list[str]()

    def rewrite(self, op: Op, env: Env) -> list[Op]:
        if op.name == "aref.new":
            attrs = {**op.attrs, "depth": self.depths[op.result.hint]}
            new = make(op.name, loc=op.loc, hints=(op.result.hint,), **attrs)
            env[op.result] = new.result
            return [new]
        leads = self.leads(op) if op.name == "for" else {}
        return self.loop(op, leads, env) if leads else [clone_op(op, env, self.rewrite)]

    def leads(self, loop: Op) -> dict[Op, int]:
        """How many iterations each put of the loop runs ahead, for those that do."""
        (body,), found = loop.blocks, {}
        for put in (op for op in body.ops if op.name == "aref.put"):
            depth = self.depths[put.args[0].hint]
            reason = self.why_not(loop, put) if depth > 1 else None
            if reason is not None:
                self.notes.append(f"{where(put)}: the loads do not run ahead: {reason}")
            elif depth > 1:
                found[put] = depth - 1
        return found

    def why_not(self, loop: Op, put: Op) -> str | None:
        """Why the loads of a put cannot be done in an earlier iteration."""
        step = constant_of(loop.args[2], self.defs)
        if step is None or step < 1:
            return "the loop's step is not a positive constant"
        (body,) = loop.blocks
        for op in needed(body, put):
            if not set(op.args).isdisjoint(body.params[1:]):
                return f"they need what an earlier iteration made ({op.name} at {where(op)})"
            if opdef(op.name).effect not in ("pure", "read") or not self.written.isdisjoint(op.args):
                return f"they need the {op.name} at {where(op)}"
        return None

    def loop(self, loop: Op, leads: Mapping[Op, int], env: Env) -> list[Op]:
        """Puts before the loop, the loop, and what gives back the slots that are left."""
        puts = {put.args[0]: put for put in leads}
        before = [
            op
            for n in range(max(leads.values()))
            for put, lead in leads.items()
            if n < lead
            for op in self.put(loop, put, env, env.get(loop.args[0], loop.args[0]), n)
        ]

        def inside(op: Op, inner: Env) -> list[Op]:
            made = self.rewrite(op, inner) if op not in leads else []
            put = puts.get(op.args[0]) if op.name == "aref.get" else None
            index = inner[loop.blocks[0].params[0]]
            return [*made, *self.put(loop, put, inner, index, leads[put])] if put else made

        new = clone_op(loop, env, inside)
        return [*before, new, *(op for put, lead in leads.items() for op in _drain(loop, put, env, lead))]

    def put(self, loop: Op, put: Op, env: Env, index: Value, ahead: int) -> list[Op]:
        """The put of the iteration ``ahead`` of ``index``, with all that it needs."""
        (body,), made = loop.blocks, _Scalars(loop)
        step = int(constant_of(loop.args[2], self.defs))
        then = made("add", index, made.number(ahead * step, index)) if ahead else index
        comes = made("lt", then, env.get(loop.args[1], loop.args[1]))
        own = {**env, body.params[0]: then}
        for op in needed(body, put):
            new = clone_op(op, own, lambda o, _: [o])
            made.ops.append(made.inside(new, comes) if op.name == "load" else new)
        return [*made.ops, clone_op(put, own, lambda o, _: [o])]


def needed(body: Block, put: Op) -> list[Op]:
    """The ops of a block that a put needs, in order."""
    found: set[Op] = set()
    defs = {r: op for op in body.ops for r in op.results}
    todo = list(put.args)
    while todo:
        op = defs.get(todo.pop())
        if op is not None and op not in found:
            found.add(op)
            todo += op.args
    return [op for op in body.ops if op in found]


class _Scalars(Emit):
    """Makes ops at the place of a loop: numbers, and loads of iterations that may not come."""

    def number(self, value: int, like: Value) -> Value:
        assert isinstance(like.type, TileType)
        return self("const", dtype=like.type.dtype, shape=(), value=value)

    def inside(self, load: Op, comes: Value) -> Op:
        """The load, or if its iteration does not come one that lies outside of the tensor."""
        tensor = load.args[0]
        assert isinstance(tensor.type, TensorType)
        axis = next((a for a in range(tensor.type.rank) if a != tensor.type.contiguous), None)
        if axis is None:
            return load
        offset, end = load.args[1 + axis], self("dim", tensor, axis=axis)
        assert isinstance(offset.type, TileType)
        if offset.type.dtype != int32:
            end = self("cast", end, dtype=offset.type.dtype)
        chosen = self("where", comes, offset, end)
        return load.with_(args=(*load.args[: 1 + axis], chosen, *load.args[2 + axis :]))


def _drain(loop: Op, put: Op, env: Env, lead: int) -> list[Op]:
    """Take and give back the slots of the iterations that did not come."""
    (body,), ring = loop.blocks, put.args[0]
    names = ("aref.get", "aref.release")
    ops = [next(op for op in body.ops if op.name == name and op.args[0] is ring) for name in names]
    return [clone_op(op, dict(env), lambda o, _: [o]) for _ in range(lead) for op in ops]


def late_gets(block: Block) -> Block:
    """The block with gets, and views of what they give, right before the first op that needs them."""
    ops: list[Op] = []
    waiting: list[Op] = []
    for op in block.ops:
        op = op.with_(blocks=tuple(late_gets(b) for b in op.blocks)) if op.blocks else op
        if op.name == "aref.get" or _is_view(op):
            waiting.append(op)
            continue
        due = set(waiting) if op.name == "yield" else _due(op, waiting)
        ops += [*(o for o in waiting if o in due), op]
        waiting = [o for o in waiting if o not in due]
    return Block(block.params, tuple(ops))


def _is_view(op: Op) -> bool:
    t = op.results[0].type if op.results else None
    return op.name in VIEWS and isinstance(t, TileType) and t.space == "smem"


def _due(op: Op, waiting: Sequence[Op]) -> set[Op]:
    """The waiting ops that ``op`` needs to be done: what makes its operands, and gets of its ring."""
    read = {a for o in (op, *(o for b in op.blocks for o in walk(b))) for a in o.args}
    due: set[Op] = set()
    for o in reversed(waiting):
        if not read.isdisjoint((*o.results, *(o.args if o.name == "aref.get" else ()))):
            due.add(o)
            read |= set(o.args)
    return due
