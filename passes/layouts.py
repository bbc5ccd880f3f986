"""Give every register tile a layout, and insert `convert_layout` where two disagree.

First `Chooser` picks layouts forward. Then demands run backward: each op asks for its
operands in the layouts it needs. Then the program is copied: flexible values once for
each layout that is asked for, all others once, followed by conversions.
"""

from __future__ import annotations

from collections.abc import Iterable

from tilec.ir.core import Block, Kernel, Op, Value, frozen
from tilec.ir.errors import InternalError
from tilec.ir.layout import Layout, wgmma_a16
from tilec.ir.ops import opdef
from tilec.ir.types import TensorType, TileType
from tilec.passes.layout_choice import MEMORY, TENSOR_CORE, Choice, Chooser
from tilec.passes.layout_rules import (
    SHAPES,
    coalesces,
    default,
    is_pointwise,
    is_tile,
    memory_anchor,
    operand_layout,
    tile_type,
)

Key = tuple[Value, Layout | None]


def assign_layouts(kernel: Kernel) -> Kernel:
    """SCHEDULED -> SCHEDULED in which the type of every register tile of rank > 0 has a layout."""
    chooser = Chooser(kernel)
    demands = Demands(chooser)
    demands.block(kernel.body)
    return Rewriter(demands).kernel(kernel)


class Demands:
    """In which layouts each value is asked for, in the order of the last to the first use."""

    def __init__(self, chooser: Chooser) -> None:
        self.choice, self.group_warps = chooser.choice, chooser.group_warps
        self.wanted: dict[Value, dict[Layout, None]] = {}

    def ask(self, value: Value, layout: Layout | None = None) -> None:
        """Want a value in a layout (None: its own, or the default)."""
        if _holds_elements(value):
            self.wanted.setdefault(value, {})[layout or self.own(value)] = None

    def own(self, value: Value) -> Layout:
        chosen = self.choice.get(value)
        return default(tile_type(value), self.warps) if chosen is None else chosen.layout

    def block(self, block: Block) -> None:
        for op in reversed(block.ops):
            if op.name != "yield":
                self.warps = self.group_warps[op]
                self.visit(op)

    def visit(self, op: Op) -> None:
        if op.name == "load":
            self._load_directly(op)
        for block, targets in zip(op.blocks, _targets(op), strict=True):
            for leaving, target in zip(block.yielded, targets, strict=True):
                self.ask(leaving, self.own(target) if is_tile(target) else None)
            self.block(block)
        self.warps = self.group_warps[op]
        if op.name == "store" and is_tile(op.args[1]):
            self.ask(op.args[1], self._store_layout(op))
            return
        for layout in self.results(op):
            for arg, wanted in self.operands(op, layout):
                self.ask(arg, wanted)

    def results(self, op: Op) -> list[Layout | None]:
        """The layouts in which the op will be emitted."""
        if not is_flexible(op):
            return [self.own(op.results[0]) if op.results and is_tile(op.results[0]) else None]
        (value,) = op.results
        if not is_tile(value):
            return [None]
        if value in self.choice:
            return [self.choice[value].layout]
        return list(self.wanted.get(value, ()))

    def operands(self, op: Op, layout: Layout | None) -> Iterable[tuple[Value, Layout | None]]:
        """What the op needs to give its (first) result in a layout; None: any."""
        tiles = [a for a in op.args if _holds_elements(a)]
        if op.name == "dot":
            yield from self._dot(op, layout)
        elif op.name in ("for", "while"):
            params = op.blocks[-1].params
            inits = op.args[3:] if op.name == "for" else op.args
            for init, param in zip(inits, params[len(params) - len(inits) :], strict=True):
                if is_tile(param):
                    yield init, self.own(param)
        elif op.name in ("gather", "scatter", "atomic"):
            common = layout or self._common(tiles)
            yield from ((a, common) for a in tiles)
        elif layout is not None and (is_pointwise(op) or op.name in SHAPES):
            yield from ((a, operand_layout(op, a, layout)) for a in tiles)
        else:
            yield from ((a, None) for a in tiles if is_tile(a))

    def _common(self, tiles: list[Value]) -> Layout | None:
        found = [self.choice[a] for a in tiles if a in self.choice]
        best = max(found, key=lambda c: c.strength, default=None)
        return best.layout if best else (default(tile_type(tiles[0]), self.warps) if tiles else None)

    def _dot(self, op: Op, layout: Layout | None) -> Iterable[tuple[Value, Layout | None]]:
        """Operand A stays in registers if it is in the accumulator's layout already (or can be
        made in it); other register operands keep their layout and go through shared memory."""
        a, b, acc = op.args
        yield acc, layout
        yield from ((x, None) for x in (b,) if is_tile(x))
        if is_tile(a):
            t = tile_type(a)
            direct = self.choice.get(a) is None or self.choice[a].strength == TENSOR_CORE
            fits = t.dtype.bits == 16 and self.warps % 4 == 0
            yield a, wgmma_a16(*t.shape, self.warps) if direct and fits else None

    def _store_layout(self, op: Op) -> Layout | None:
        tensor, value = op.args[0].type, op.args[1]
        assert isinstance(tensor, TensorType)
        chosen, t = self.choice.get(value), tile_type(value)
        if chosen is None:
            return memory_anchor(tensor, t, self.warps)
        keep = chosen.strength == TENSOR_CORE or coalesces(tensor, t, chosen.layout)
        return chosen.layout if keep else memory_anchor(tensor, t, self.warps)

    def _load_directly(self, op: Op) -> None:
        """Load in the one layout that the uses want, unless that makes poor memory accesses."""
        tensor, wanted = op.args[0].type, list(self.wanted.get(op.result, ()))
        assert isinstance(tensor, TensorType)
        if len(wanted) == 1 and coalesces(tensor, tile_type(op.result), wanted[0]):
            self.choice[op.result] = Choice(wanted[0], MEMORY)


def is_flexible(op: Op) -> bool:
    """Whether an op may be emitted again in another layout: pure, cheap, one result."""
    return op.name in ("const", "arange") or op.name in SHAPES or is_pointwise(op)


def _holds_elements(value: Value) -> bool:
    """A tile of rank > 0, in registers or in shared memory."""
    return isinstance(value.type, TileType) and bool(value.type.shape)


def _targets(op: Op) -> list[tuple[Value, ...]]:
    """For each block the values whose layouts what it yields must take."""
    if op.name == "if":
        return [op.results, op.results]
    if op.name == "for":
        return [op.results]
    if op.name == "while":
        return [op.blocks[0].yielded, op.results]
    return [()] * len(op.blocks)


class Rewriter:
    """Copies a kernel; ``env`` gives the new value of an old one in a layout (None: no layout)."""

    def __init__(self, demands: Demands) -> None:
        self.demands = demands
        self.env: dict[Key, Value] = {}

    def kernel(self, kernel: Kernel) -> Kernel:
        self.env.update({(p, None): p for p in kernel.params})
        return kernel.with_(body=self.block(kernel.body, ()))

    def block(self, block: Block, targets: tuple[Value, ...]) -> Block:
        ops: list[Op] = []
        params = []
        for param in block.params:
            params.append(self.define(param, self.layout_of(param)))
        for param in block.params:
            ops += self.conversions(param, block.ops[0] if block.ops else None)
        for op in block.ops:
            ops += self.leave(op, targets) if op.name == "yield" else self.op(op)
        return Block(tuple(params), tuple(ops))

    def layout_of(self, value: Value) -> Layout | None:
        if not is_tile(value):
            return None
        chosen = self.demands.choice.get(value)
        if chosen is not None:
            return chosen.layout
        wanted = list(self.demands.wanted.get(value, ()))
        return wanted[0] if wanted else default(tile_type(value), self.demands.warps)

    def define(self, old: Value, layout: Layout | None) -> Value:
        """The new value of ``old`` in a layout."""
        t = old.type.with_(layout=layout) if isinstance(old.type, TileType) else old.type
        new = self.env[old, layout] = Value(t, old.hint)
        return new

    def get(self, old: Value, layout: Layout | None) -> Value:
        found = self.env.get((old, layout if is_tile(old) or layout else None))
        if found is None:
            raise InternalError("X126", f"{old.hint or 'a value'}: {old.type} is missing in {layout}")
        return found

    def leave(self, op: Op, targets: tuple[Value, ...]) -> list[Op]:
        args = tuple(
            self.get(a, self.demands.own(t)) if is_tile(t) else self.get(a, None)
            for a, t in zip(op.args, targets or op.args, strict=True)
        )
        return [op.with_(args=args)]

    def op(self, op: Op) -> list[Op]:
        """The copies of an op, and the conversions of its results."""
        self.demands.warps = self.demands.group_warps[op]
        copies = [self.copy(op, layout) for layout in self.demands.results(op)]
        return copies + [c for r in op.results for c in self.conversions(r, op)]

    def copy(self, op: Op, layout: Layout | None) -> Op:
        blocks = tuple(self.block(b, t) for b, t in zip(op.blocks, _targets(op), strict=True))
        self.demands.warps = self.demands.group_warps[op]
        args = self.args(op, layout)
        results = tuple(self.define(r, layout if is_flexible(op) else self.layout_of(r)) for r in op.results)
        return Op(op.name, args, op.attrs, results, blocks, op.loc)

    def args(self, op: Op, layout: Layout | None) -> tuple[Value, ...]:
        if op.name == "store" and is_tile(op.args[1]):
            needs: dict[Value, Layout | None] = {op.args[1]: self.demands._store_layout(op)}
        else:
            needs = dict(self.demands.operands(op, layout))
        return tuple(self._arg(op, a, needs) for a in op.args)

    def _arg(self, op: Op, arg: Value, needs: dict[Value, Layout | None]) -> Value:
        if not _holds_elements(arg):
            return self.get(arg, None)
        if arg not in needs:
            return self.get(arg, None) if not is_tile(arg) else self.get(arg, self.demands.own(arg))
        return self.get(arg, needs[arg] or self.demands.own(arg))

    def conversions(self, value: Value, op: Op | None) -> list[Op]:
        """Conversions of a new value to the other layouts that are asked for."""
        if not _holds_elements(value) or (op is not None and value in op.results and is_flexible(op)):
            wanted: Iterable[Layout] = self._missing(value) if _holds_elements(value) else ()
        else:
            wanted = self._missing(value)
        source_layout = self.layout_of(value)
        made = []
        for layout in wanted:
            source = self.get(value, source_layout)
            t = tile_type(source).with_(layout=layout, space="reg")
            new = self.env[value, layout] = Value(t, value.hint)
            loc = op.loc if op is not None else opdef and None
            made.append(Op("convert_layout", (source,), frozen(layout=layout), (new,), (), loc))
        return made

    def _missing(self, value: Value) -> list[Layout]:
        return [w for w in self.demands.wanted.get(value, ()) if (value, w) not in self.env]
