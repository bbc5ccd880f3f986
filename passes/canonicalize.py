"""canonicalize: fold, merge and remove, until nothing changes."""

from __future__ import annotations

from collections.abc import Iterable

from tilec.ir.core import Block, Kernel, Op, Value, walk
from tilec.ir.ops import opdef, written_tensors
from tilec.passes.fold import simplify
from tilec.passes.rewrite import constant_of, without_yield
from tilec.passes.sweep import CARRIED, carried_sources, carried_values, sweep


def canonicalize(kernel: Kernel) -> Kernel:
    """The same program without foldable, repeated or unused ops. Any form."""
    while True:
        worker = _Simplifier(kernel)
        body = worker.block(kernel.body, {})
        swept = sweep(body)
        if not worker.changed and _count(swept) == _count(kernel.body):
            return kernel.with_(body=swept)
        kernel = kernel.with_(body=swept)


def _count(block: Block) -> int:
    """Ops and carried values: what a sweep can lower."""
    return sum(1 + len(op.results) for op in walk(block))


Seen = dict[tuple[object, ...], tuple[Value, ...]]


class _Simplifier:
    """One walk that folds ops and merges equal ones of a scope and its inner scopes."""

    def __init__(self, kernel: Kernel) -> None:
        self.changed = False
        self.defs: dict[Value, Op] = {}
        self.table: dict[Value, Value] = {}
        self.written = written_tensors(kernel.body)

    def block(self, block: Block, seen: Seen) -> Block:
        ops: list[Op] = []
        for op in block.ops:
            ops += self._op(op, seen)
        return Block(block.params, tuple(ops))

    def _op(self, op: Op, seen: Seen) -> Iterable[Op]:
        op = op.with_(args=tuple(self._find(a) for a in op.args))
        self._drop_invariant_carries(op)
        op = op.with_(blocks=tuple(self.block(b, dict(seen)) for b in op.blocks))
        if op.blocks:
            return self._control(op)
        found = simplify(op, self.defs) if len(op.results) == 1 else None
        if isinstance(found, Value):
            return self._replace(op, (found,), ())
        if isinstance(found, Op):
            return self._replace(op, found.results, (found,))
        return self._merge(op, seen)

    def _find(self, value: Value) -> Value:
        while value in self.table:
            value = self.table[value]
        return value

    def _replace(self, op: Op, values: tuple[Value, ...], ops: tuple[Op, ...]) -> tuple[Op, ...]:
        self.changed = True
        self.table.update(zip(op.results, values, strict=True))
        self._define(ops)
        return ops

    def _define(self, ops: Iterable[Op]) -> None:
        for op in ops:
            self.defs.update(dict.fromkeys(op.results, op))

    def _merge(self, op: Op, seen: Seen) -> tuple[Op, ...]:
        self._define((op,))
        if not self._may_merge(op):
            return (op,)
        key = _key(op)
        if key in seen:
            return self._replace(op, seen[key], ())
        seen[key] = op.results
        return (op,)

    def _may_merge(self, op: Op) -> bool:
        """Running products are counted by waits: each stays one of its own."""
        if op.attrs.get("asynchronous"):
            return False
        effect = opdef(op.name).effect
        return effect == "pure" or (effect == "read" and op.args[0] not in self.written)

    def _drop_invariant_carries(self, op: Op) -> None:
        """A carried value that every path hands on unchanged is the value that entered."""
        if op.name not in CARRIED or op.name == "if":
            return
        for i in range(len(op.results)):
            names = carried_values(op, i)
            initial, following = carried_sources(op, i)
            if following in names[1:] and initial.type == names[0].type and names[0] not in self.table:
                self.changed = True
                self.table.update(dict.fromkeys(names, initial))

    def _control(self, op: Op) -> tuple[Op, ...]:
        chosen = self._taken(op)
        if chosen is not None:
            ops = without_yield(chosen)
            return self._replace(op, tuple(self._find(v) for v in chosen.yielded), ops)
        if op.name == "for" and self._never_runs(op):
            return self._replace(op, op.args[3:], ())
        if op.name == "if":
            self._join(op)
        return (op,)

    def _join(self, op: Op) -> None:
        """A result of `if` that is the same value on both sides is that value."""
        for result, a, b in zip(op.results, op.blocks[0].yielded, op.blocks[1].yielded, strict=True):
            if a is b:
                self.changed = True
                self.table[result] = a

    def _taken(self, op: Op) -> Block | None:
        """The branch of an `if` whose condition is known."""
        known = constant_of(op.args[0], self.defs) if op.name == "if" else None
        return None if known is None else op.blocks[0 if known else 1]

    def _never_runs(self, op: Op) -> bool:
        bounds = [constant_of(a, self.defs) for a in op.args[:3]]
        return None not in bounds and bounds[2] != 0 and not range(*bounds)


def _key(op: Op) -> tuple[object, ...]:
    """Equal keys mean equal values. By repr, since 0.0 == -0.0 and 1 == True."""
    attrs = tuple((name, repr(value)) for name, value in sorted(op.attrs.items()))
    return (op.name, op.args, attrs, tuple(r.type for r in op.results))
