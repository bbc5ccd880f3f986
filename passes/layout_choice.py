"""Which layout each register tile gets: forward from the anchors, to a fixed point over loops.

A value without a choice is *flexible*: made by pointwise and shape ops from constants,
ranges, scalars and broadcasts, it is computed again in every layout that is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tilec.ir.core import Block, Kernel, Op, Value, walk
from tilec.ir.layout import Layout, blocked
from tilec.ir.ops import attr
from tilec.ir.types import TensorType
from tilec.passes.layout_rules import (
    VECTOR_BYTES,
    default,
    is_pointwise,
    is_tile,
    memory_anchor,
    product_layout,
    result_layout,
    spread,
    tile_type,
)
from tilec.passes.multiples import row_axis

MEMORY, TENSOR_CORE = 1, 2


@dataclass(frozen=True)
class Choice:
    """A layout, and how strong the reason for it is."""

    layout: Layout
    strength: int


class Chooser:
    """Fills ``choice``; ``warps`` remembers the size of the group around every op."""

    def __init__(self, kernel: Kernel) -> None:
        self.choice: dict[Value, Choice] = {}
        self.group_warps: dict[Op, int] = {}
        self.warps = int(kernel.attrs.get("num_warps", 4))
        self.defs = {r: op for op in walk(kernel.body) for r in op.results}
        self.block(kernel.body)

    def block(self, block: Block) -> None:
        for op in block.ops:
            self.group_warps[op] = self.warps
            self.visit(op)

    def visit(self, op: Op) -> None:
        handler = _HANDLERS.get(op.name)
        if handler is not None:
            handler(self, op)
        elif is_pointwise(op):
            self.set(op.result, self.join(op.args))
        elif op.blocks:
            for block in op.blocks:
                self.block(block)

    def join(self, values: Iterable[Value]) -> Choice | None:
        """The strongest choice among values, the first among equals."""
        found = [self.choice[v] for v in values if v in self.choice]
        return max(found, key=lambda c: c.strength, default=None)

    def set(self, value: Value, choice: Choice | None) -> None:
        if choice is None:
            self.choice.pop(value, None)
        elif is_tile(value):
            self.choice[value] = choice

    def settled(self, value: Value) -> Choice:
        """The choice of a value that must not be flexible."""
        return self.choice.get(value) or Choice(default(tile_type(value), self.warps), MEMORY)

    def load(self, op: Op) -> None:
        tensor = op.args[0].type
        assert isinstance(tensor, TensorType)
        if is_tile(op.result):
            self.set(op.result, Choice(memory_anchor(tensor, tile_type(op.result), self.warps), MEMORY))

    def indexed(self, op: Op) -> None:
        """gather, atomic: like an operand, as all have one shape; a gather of rows in units of 16 bytes."""
        if op.name == "gather":
            t, along = tile_type(op.result), attr(op, "along")
            axis = row_axis(op, self.defs) if along is None else along
            if axis is not None:
                layout = blocked(t.shape, axis, VECTOR_BYTES // t.dtype.bytes, self.warps)
                self.set(op.result, Choice(layout, MEMORY))
                return
        for result in op.results:
            if is_tile(result):
                self.set(result, self.join(op.args[1:]) or self.settled(result))

    def dot(self, op: Op) -> None:
        t, layout = tile_type(op.result), product_layout(op, self.warps)
        if layout is not None:
            self.set(op.result, Choice(layout, TENSOR_CORE))
        else:
            self.set(op.result, Choice(spread(t.shape, t.dtype, 1, self.warps), MEMORY))

    def shape(self, op: Op) -> None:
        operand = self.choice.get(op.args[0])
        layout = None if operand is None else result_layout(op, operand.layout)
        if operand is not None and layout is not None:
            self.set(op.result, Choice(layout, operand.strength))
        elif operand is not None:
            self.set(op.result, self.settled(op.result))

    def reduce(self, op: Op) -> None:
        operand = self.settled(op.args[0])
        self.set(op.result, Choice(operand.layout.drop(op.attrs["axis"]), operand.strength))

    def through(self, op: Op) -> None:
        for arg, result in zip(op.args, op.results, strict=True):
            if is_tile(result):
                self.set(result, self.settled(arg))

    def convert(self, op: Op) -> None:
        self.set(op.result, Choice(op.attrs["layout"], MEMORY))

    def loop(self, op: Op) -> None:
        inits = op.args[3:] if op.name == "for" else op.args
        skip = len(op.blocks[-1].params) - len(inits)
        for init, *params in zip(inits, *self._carried(op, skip), strict=True):
            for param in params:
                self.set(param, self.choice.get(init))
        while self._round(op, skip):
            pass
        for param, result in zip(op.blocks[-1].params[skip:], op.results, strict=True):
            self.set(result, self.choice.get(param))

    def _carried(self, op: Op, skip: int) -> list[Sequence[Value]]:
        return [block.params[skip:] for block in op.blocks]

    def _round(self, op: Op, skip: int) -> bool:
        """One pass over the body; whether a carried value got a stronger layout."""
        for block in op.blocks:
            self.block(block)
        changed = False
        for params, leaving in zip(
            zip(*self._carried(op, skip), strict=True), op.blocks[-1].yielded, strict=True
        ):
            changed |= self._strengthen(params, leaving)
        return changed

    def _strengthen(self, params: Sequence[Value], leaving: Value) -> bool:
        if not is_tile(leaving):
            return False
        now, new = self.choice.get(params[0]), self.choice.get(leaving)
        if new is None and now is None:
            new = self.settled(params[0])
        if new is None or (now is not None and new.strength <= now.strength):
            return False
        for param in params:
            self.set(param, new)
        return True

    def branch(self, op: Op) -> None:
        for block in op.blocks:
            self.block(block)
        for result, *sides in zip(op.results, *(b.yielded for b in op.blocks), strict=True):
            if is_tile(result):
                self.set(result, self.join(sides) or self.settled(result))

    def groups(self, op: Op) -> None:
        outer = self.warps
        for block, warps in zip(op.blocks, op.attrs["warps"], strict=True):
            self.warps = warps
            self.block(block)
        self.warps = outer


_HANDLERS = {
    "load": Chooser.load, "gather": Chooser.indexed, "atomic": Chooser.indexed, "dot": Chooser.dot,
    "reshape": Chooser.shape, "permute": Chooser.shape, "reduce": Chooser.reduce,
    "dot.wait": Chooser.through, "convert_layout": Chooser.convert, "for": Chooser.loop,
    "while": Chooser.loop, "if": Chooser.branch, "warp_groups": Chooser.groups,
}  # fmt: skip
