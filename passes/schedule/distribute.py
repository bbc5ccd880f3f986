"""One body per warp group: which ops of an AREF program each group keeps."""

from __future__ import annotations

from tilec.ir.core import (
    Block,
    Kernel,
    Op,
    Value,
    clone_block,
    clone_op,
    definitions,
    free_values,
    frozen,
    walk,
)
from tilec.ir.errors import InfeasibleError
from tilec.ir.ops import attr, make, opdef, written_tensors
from tilec.ir.types import TileType
from tilec.passes.async_rules import ACCUMULATOR, consumer_warps, source_of
from tilec.passes.make_async import LOAD, consumer
from tilec.passes.rewrite import where
from tilec.passes.schedule.apart import why_not_apart
from tilec.passes.schedule.reach import Reach
from tilec.passes.sweep import has_effect, sweep

Env = dict[Value, Value]


def load_block(kernel: Kernel, rings: Env) -> Block:
    """The load group: puts, and all that they need."""
    block = clone_block(kernel.body, dict(rings), _keep_puts)
    return sweep(block, lambda op: op.name == "aref.put")


def _keep_puts(op: Op, env: Env) -> list[Op]:
    if has_effect(op) and not (op.name == "aref.put" and producer(op) == LOAD):
        return []
    return [clone_op(op, env, _keep_puts)]


def producer(put: Op) -> str:
    """The group that fills a ring."""
    return attr(put, "group") or LOAD


def why_not_closed(kernel: Kernel, load: Block, rings: Env) -> str | None:
    """Why the load group cannot stand alone: it would need what only the compute group has."""
    written = written_tensors(kernel.body)
    for op in walk(load):
        if op.name == "dot":
            return f"{where(op)}: the load group would need this dot"
        if op.name in ("load", "gather") and op.args[0] in written:
            return f"{where(op)}: the load group would need this {op.name} of a tensor that the kernel writes"
    known = {*kernel.params, *rings.values()}
    defs = definitions(kernel.body)
    for value in (v for v in free_values(load) if v not in known):
        return f"{where(defs[value])}: the load group would need this {defs[value].name}"
    return None


def consumers(kernel: Kernel) -> tuple[str, ...]:
    """The compute groups, as the gets name them, in program order."""
    return tuple(dict.fromkeys(attr(op, "group") for op in walk(kernel.body) if op.name == "aref.get"))


def compute_block(kernel: Kernel, rings: Env, group: str) -> Block:
    """All that a compute group's effects need, and its puts; products are asynchronous, and waited for."""
    return sweep(clone_block(kernel.body, dict(rings), _Compute(kernel, group)))


def effects(kernel: Kernel) -> dict[Op, str] | str:
    """The compute group of each op that writes: that of its part, else the first.

    Or why there is none: an op that needs all parts, or groups that get into each other's way.
    """
    names, found = consumers(kernel), dict[Op, str]()
    reach = Reach(kernel.body)
    for op in walk(kernel.body):
        if opdef(op.name).effect != "write":
            continue
        behind = reach.behind(op.args)
        parts = {attr(o, "part") for o in behind if o.name == "dot"}
        if len(parts) > 1 and len(names) > 1:
            return f"{where(op)}: this {op.name} needs all parts of the rows"
        part = next(iter(parts), None)
        readers = {attr(o, "group") for o in behind if o.name == "aref.get"}
        found[op] = next(iter(readers)) if len(readers) == 1 else names[0]
        if part is not None:
            found[op] = consumer(part)
    reason = why_not_apart(kernel, found) if len(names) > 1 else None
    return found if reason is None else reason


def asynchronous_dots(block: Block) -> list[Op]:
    """Products whose second operand lies in a ring."""
    return [dot for dot, _ in _fed(block)]


def _fed(block: Block) -> list[tuple[Op, Op]]:
    """Products whose second operand lies in a ring, each with the get of that operand."""
    defs = definitions(block)
    found = []
    for dot in (op for op in walk(block) if op.name == "dot"):
        source = source_of(dot.args[1], defs)
        if source is not None and source.name == "aref.get":
            found.append((dot, source))
    return found


def compute_warps(kernel: Kernel, wish: int | None) -> int | str:
    """Two warp groups if the rows of every asynchronous product split evenly, else one; or why neither can.

    InfeasibleError I102 if the author wishes for what the products do not allow.
    """
    found = [d.result.type for d in asynchronous_dots(kernel.body)]
    products = [t for t in found if isinstance(t, TileType)]
    able = min(consumer_warps(t.shape[0]) for t in products)
    warps = able if wish is None else wish
    reason = _why_not_warps(products, able, warps)
    if reason is not None and wish is not None:
        help = "8 warps need products of a multiple of 128 rows; 4 need smaller tiles"
        raise InfeasibleError("I102", f"num_warps={wish}: {reason}", help=help)
    return warps if reason is None else reason


def _why_not_warps(products: list[TileType], able: int, warps: int) -> str | None:
    if warps not in (4, able):
        return f"the rows of the products split over {able} warps, not {warps}"
    widest = max(products, key=lambda t: t.size)
    registers = widest.size // (32 * warps)
    if registers > ACCUMULATOR:
        return (
            f"on {warps} warps the accumulator of a {widest.shape} product takes {registers} registers each"
        )
    return None


class _Compute:
    """The rewriter of a compute group: a product is waited for at once."""

    def __init__(self, kernel: Kernel, group: str) -> None:
        owners = effects(kernel)
        self.owners = {} if isinstance(owners, str) else owners
        self.products = {dot: attr(get, "group") for dot, get in _fed(kernel.body)}
        self.group = group

    def __call__(self, op: Op, env: Env) -> list[Op]:
        if op.name == "aref.new" or self._owner(op) != self.group:
            return []
        new = clone_op(op, env, self)
        if op not in self.products:
            return [new]
        wait = make("dot.wait", (new.result,), loc=op.loc, hints=(op.result.hint,), pending=0)
        env[op.result] = wait.result
        return [new.with_(attrs=frozen(**{**op.attrs, "asynchronous": True})), wait]

    def _owner(self, op: Op) -> str:
        """The group of an op that is one group's alone; all others go wherever they are needed."""
        if op.attrs.get("part") is not None:
            return consumer(op.attrs["part"])
        if op.name == "aref.put":
            return producer(op)
        if op in self.products:
            return self.products[op] or self.group
        return self.owners.get(op) or op.attrs.get("group", self.group)
