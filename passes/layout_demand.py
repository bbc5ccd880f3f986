"""In which layouts each value is needed: demands run backward from the uses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tilec.ir.core import Block, Op, Value, walk
from tilec.ir.layout import Layout
from tilec.ir.types import TensorType, TileType
from tilec.passes.layout_choice import MEMORY, TENSOR_CORE, Choice, Chooser
from tilec.passes.layout_rules import (
    SHAPES,
    coalesces,
    default,
    is_pointwise,
    is_tile,
    left_layout,
    may_stay,
    memory_anchor,
    operand_layout,
    tile_type,
)

Needs = tuple[Layout | None, ...]
MAX_SOURCES = 8


def is_flexible(op: Op) -> bool:
    """Whether an op may be emitted again in another layout: pure, cheap, one result."""
    return op.name in ("const", "arange") or op.name in SHAPES or is_pointwise(op)


def holds_elements(value: Value) -> bool:
    """A tile of rank > 0, in registers or in shared memory."""
    return isinstance(value.type, TileType) and bool(value.type.shape)


def yield_targets(op: Op) -> list[Sequence[Value]]:
    """For each block of a control op the values whose layouts what it yields must take."""
    if op.name == "while":
        return [op.blocks[0].yielded, op.results]
    return [op.results if op.name in ("for", "if") else ()] * len(op.blocks)


def _sources(body: Block, chosen: set[Value]) -> dict[Value, frozenset[Op]]:
    """The loads that a value is computed from, for those made of loads by pointwise ops alone."""
    found: dict[Value, frozenset[Op]] = {}
    for op in walk(body):
        if op.name == "load":
            found[op.result] = frozenset((op,))
        elif is_pointwise(op):
            sets = [found.get(a) for a in op.args if a in chosen]
            loads: frozenset[Op] = frozenset().union(*(s for s in sets if s))
            if None not in sets and len(loads) <= MAX_SOURCES:
                found[op.result] = loads
    return found


def _levels(block: Block, level: int) -> Iterator[tuple[Value, int]]:
    """All values of a block with the number of loops around them."""
    yield from ((p, level) for p in block.params)
    for op in block.ops:
        yield from ((r, level) for r in op.results)
        for inner in op.blocks:
            yield from _levels(inner, level + (op.name in ("for", "while")))


def _coalesced(load: Op, layout: Layout) -> bool:
    tensor = load.args[0].type
    assert isinstance(tensor, TensorType)
    return coalesces(tensor, tile_type(load.result), layout)


class Demands:
    """``wanted``: the layouts in which a value is needed, from its last use to its first."""

    def __init__(self, chooser: Chooser, body: Block) -> None:
        self.choice, self.group_warps = chooser.choice, chooser.group_warps
        self.wanted: dict[Value, dict[Layout, None]] = {}
        self.sources = _sources(body, set(chooser.choice))
        self.levels = dict(_levels(body, 0))
        self.products = any(op.name == "dot" for op in walk(body))
        self.block(body)

    def block(self, block: Block) -> None:
        for op in reversed(block.ops):
            if op.name == "load":
                self._load_directly(op)
            elif is_pointwise(op) or op.name == "gather":
                self._convert_early(op)
            elif op.name in SHAPES:
                self._load_through(op)
            for inner, targets in zip(op.blocks, yield_targets(op), strict=True):
                self._ask(inner.yielded, self.leaving(inner.yielded, targets, op))
                self.block(inner)
            if op.name != "yield":
                for layout in self.emitted(op):
                    self._ask(op.args, self.needs(op, layout))

    def _ask(self, values: Sequence[Value], layouts: Needs) -> None:
        for value, layout in zip(values, layouts, strict=True):
            if layout is not None:
                self.wanted.setdefault(value, {})[layout] = None

    def own(self, value: Value, op: Op) -> Layout:
        """The layout a value has for want of a better one; ``op`` makes or uses it."""
        chosen = self.choice.get(value)
        return chosen.layout if chosen else default(tile_type(value), self.group_warps[op])

    def leaving(self, yielded: Sequence[Value], targets: Sequence[Value], op: Op) -> Needs:
        """The layouts in which a block of ``op`` must yield."""
        return tuple(self.own(t, op) if is_tile(t) else None for t in targets or yielded)

    def emitted(self, op: Op) -> list[Layout | None]:
        """The layouts in which the op will be emitted (of its first result); None: no layout."""
        value = op.results[0] if op.results else None
        if value is None or not is_tile(value):
            return [None]
        if is_flexible(op) and value not in self.choice:
            return list(self.wanted.get(value, ()))
        return [self.own(value, op)]

    def needs(self, op: Op, layout: Layout | None) -> Needs:
        """For each operand the layout that the op needs to give its result in ``layout``.

        None: as it is, which for tiles means in shared memory.
        """
        own = tuple(self.own(a, op) if is_tile(a) else None for a in op.args)
        special = _NEEDS.get(op.name)
        if special is not None:
            return special(self, op, layout, own)
        if layout is None or not (is_pointwise(op) or op.name in SHAPES):
            return own
        wanted = (operand_layout(op, a, layout) if holds_elements(a) else None for a in op.args)
        return tuple(w or o for w, o in zip(wanted, own, strict=True))

    def _dot(self, op: Op, layout: Layout | None, own: Needs) -> Needs:
        """Operand A stays in registers if it is in the accumulator's layout, can be made in it, or is
        made outside of the loop; other register operands have to go through shared memory."""
        a, warps = op.args[0], self.group_warps[op]
        if self.choice[op.result].strength != TENSOR_CORE:
            return (*(self.own(x, op) for x in op.args[:2]), layout)
        if not is_tile(a) or not may_stay(op):
            return (*own[:2], layout)
        choice = self.choice.get(a)
        outside = self.levels.get(a, 0) < self.levels[op.result]
        direct = choice is None or choice.strength == TENSOR_CORE or outside
        return (left_layout(op, warps) if direct else own[0], own[1], layout)

    def _carried(self, op: Op, layout: Layout | None, own: Needs) -> Needs:
        params = op.blocks[-1].params
        skip = 1 if op.name == "for" else 0
        bounds = 3 if op.name == "for" else 0
        return (*own[:bounds], *(self.own(p, op) if is_tile(p) else None for p in params[skip:]))

    def _indexed(self, op: Op, layout: Layout | None, own: Needs) -> Needs:
        """Indices, mask and values in one layout: the result's, or the strongest of theirs."""
        if layout is None:
            found = [self.choice[a] for a in op.args if a in self.choice]
            best = max(found, key=lambda c: c.strength, default=None)
            layout = best.layout if best else own[-1]
        return tuple(layout if holds_elements(a) else None for a in op.args)

    def _store(self, op: Op, layout: Layout | None, own: Needs) -> Needs:
        """A tensor core's layout is kept (the epilogue knows better); others if they coalesce."""
        tensor, value = op.args[0].type, op.args[1]
        if not holds_elements(value):
            return own
        assert isinstance(tensor, TensorType)
        chosen, t = self.choice.get(value), tile_type(value)
        keep = chosen and (chosen.strength == TENSOR_CORE or coalesces(tensor, t, chosen.layout))
        anchor = memory_anchor(tensor, t, self.group_warps[op])
        return (None, chosen.layout if chosen and keep else anchor, *own[2:])

    def _load_directly(self, op: Op) -> None:
        """Load in the one layout that the uses want, unless that makes poor memory accesses."""
        wanted = list(self.wanted.get(op.result, ()))
        if len(wanted) == 1 and _coalesced(op, wanted[0]):
            self.choice[op.result] = Choice(wanted[0], MEMORY)

    def _convert_early(self, op: Op) -> None:
        """Compute in the one layout that the uses want, if all behind it can be made or loaded in
        that, or if it takes one conversion of an operand that is no wider than the result."""
        wanted, chosen = list(self.wanted.get(op.result, ())), self.choice.get(op.result)
        if chosen is None or chosen.strength != MEMORY or len(wanted) != 1:
            return
        moved = [a for a in op.args if is_tile(a) and a in self.choice]
        narrow = len(moved) == 1 and tile_type(moved[0]).dtype.bytes <= tile_type(op.result).dtype.bytes
        free = op.name == "gather" and not moved
        if free or narrow or self._loadable(op.result, wanted[0]):
            self.choice[op.result] = Choice(wanted[0], MEMORY)

    def _load_through(self, op: Op) -> None:
        """Load a tile that is only reshaped in the one layout that the uses want; not beside products, whose
        layouts repeat it in many registers."""
        value, source = op.result, op.args[0]
        wanted, chosen = list(self.wanted.get(value, ())), self.choice.get(value)
        if self.products or chosen is None or chosen.strength != MEMORY or len(wanted) != 1:
            return
        inner = operand_layout(op, source, wanted[0]) if holds_elements(source) else None
        if inner is not None and self._loadable(source, inner):
            self.choice[value] = Choice(wanted[0], MEMORY)

    def _loadable(self, value: Value, layout: Layout) -> bool:
        """Whether a value is computed pointwise from tiles that may be loaded in a layout."""
        sources = self.sources.get(value)
        return sources is not None and all(
            _coalesced(load, layout) and not self.wanted.get(load.result, {}).keys() - {layout}
            for load in sources
        )


_NEEDS = {
    "dot": Demands._dot, "for": Demands._carried, "while": Demands._carried, "store": Demands._store,
    "gather": Demands._indexed, "scatter": Demands._indexed, "atomic": Demands._indexed,
}  # fmt: skip
