"""Dead code: keep what the roots need; drop all other ops and carried values."""

from __future__ import annotations

from collections.abc import Callable

from tilec.ir.core import Block, Op, Value, walk
from tilec.ir.ops import opdef

IsRoot = Callable[[Op], bool]


def has_effect(op: Op) -> bool:
    """The op does something besides computing its results."""
    return opdef(op.name).effect in ("write", "sync") or op.name == "warp_groups"


def sweep(block: Block, is_root: IsRoot = has_effect) -> Block:
    """The block with only the ops that the roots depend on."""
    return Sweeper(block, is_root).block(block)


class Sweeper:
    """Marks live ops and values from the roots, then rebuilds blocks without the rest.

    A carried value is live when its result is used after the loop or its
    parameter inside; one that only feeds itself is never reached.
    """

    def __init__(self, block: Block, is_root: IsRoot) -> None:
        self.live: set[Value] = set()
        self.kept: set[Op] = set()
        self.origin: dict[Value, tuple[Op, int, bool]] = {}
        self.owner: dict[Op, Op] = {}
        self._index(block)
        self._queue: list[Value] = list(block.yielded)
        for op in walk(block):
            if is_root(op):
                self._keep(op)
        while self._queue:
            self._mark(self._queue.pop())

    def _index(self, block: Block) -> None:
        for op in block.ops:
            self.origin.update({r: (op, i, True) for i, r in enumerate(op.results)})
            for inner in op.blocks:
                self.owner.update(dict.fromkeys(inner.ops, op))
                self.origin.update({p: (op, i, False) for i, p in enumerate(inner.params)})
                self._index(inner)

    def _keep(self, op: Op) -> None:
        """The op runs: so do those around it, with their bounds and conditions."""
        if op in self.kept:
            return
        self.kept.add(op)
        self._queue += op.args if op.name not in CARRIED else op.args[: CARRIED[op.name]]
        if op.name == "while":
            self._queue += op.blocks[0].yielded
        if op in self.owner:
            self._keep(self.owner[op])

    def _mark(self, value: Value) -> None:
        if value in self.live:
            return
        self.live.add(value)
        if value not in self.origin:
            return
        op, index, is_result = self.origin[value]
        self._keep(op)
        if op.name in CARRIED:
            # A `for` body takes the index first; the index comes from the bounds.
            index -= 1 if op.name == "for" and not is_result else 0
            if index >= 0:
                self._queue += carried_sources(op, index)

    def block(self, block: Block) -> Block:
        ops = [self._op(op) for op in block.ops if op in self.kept or op.name == "yield"]
        return Block(block.params, tuple(ops))

    def _op(self, op: Op) -> Op:
        if op.name not in CARRIED:
            return op.with_(blocks=tuple(self.block(b) for b in op.blocks))
        first = CARRIED[op.name]
        keep = [i for i in range(len(op.results)) if not self.live.isdisjoint(carried_values(op, i))]
        blocks = tuple(self._carrying(op, b, keep, n) for n, b in enumerate(op.blocks))
        initial = op.args[first:]
        args = (*op.args[:first], *(initial[i] for i in keep if initial))
        return op.with_(args=args, results=tuple(op.results[i] for i in keep), blocks=blocks)

    def _carrying(self, op: Op, block: Block, keep: list[int], number: int) -> Block:
        swept = self.block(block)
        params = block.params
        if op.name != "if":
            extra = len(params) - len(op.results)
            params = (*params[:extra], *(params[extra + i] for i in keep))
        last = swept.ops[-1]
        if op.name != "while" or number == 1:
            last = last.with_(args=tuple(last.args[i] for i in keep))
        return Block(params, (*swept.ops[:-1], last))


# Control ops whose results are carried values, and the number of their operands before those.
CARRIED = {"for": 3, "while": 0, "if": 1}


def carried_sources(op: Op, index: int) -> list[Value]:
    """Where carried value ``index`` comes from: the operand and the yields."""
    first = CARRIED[op.name]
    bodies = op.blocks[1:] if op.name == "while" else op.blocks
    return [*op.args[first:][index : index + 1], *(b.yielded[index] for b in bodies)]


def carried_values(op: Op, index: int) -> list[Value]:
    """The values that carried value ``index`` is known as: the result and the parameters."""
    if op.name == "if":
        return [op.results[index]]
    extra = len(op.blocks[-1].params) - len(op.results)
    return [op.results[index], *(b.params[extra + index] for b in op.blocks)]
