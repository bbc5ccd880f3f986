"""The state of code generation: what each value is, and how its elements are read.

A scalar is a register. A tile is a `Buffer`, or `Lazy`: not computed yet, and
computed inside the loops of whoever consumes it. Uses are counted per block, so
that buffers are reused and overwritten in place once nobody needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tilec.backends.cpu import loops, views
from tilec.backends.cpu.access import from_memory, load, store, to_memory
from tilec.backends.cpu.ahead import Ahead
from tilec.backends.cpu.lanes import I8, Lanes, storage
from tilec.backends.cpu.loops import Index, Values
from tilec.backends.cpu.shapes import is_cosmetic, pitches, tile_type
from tilec.backends.cpu.target import CpuTarget
from tilec.backends.cpu.views import At, View
from tilec.backends.cpu.walk import over
from tilec.backends.cpu.workspace import Buffer, Workspace
from tilec.ir.core import Block, Op, Value, definitions, free_values, walk
from tilec.ir.core import uses as uses_of
from tilec.ir.types import TileType

# A gather that is masked off reads here; never written.
DUMMY_BYTES = 64
# Recomputing up to this many simple operations beats a buffer.
CHEAP = 4
# From so many uses of each element on, a buffer beats any operation.
MANY = 16


@dataclass(frozen=True)
class Lazy:
    """A tile that is computed where it is consumed."""

    op: Op


class Taken:
    """A value whose buffer was overwritten by its last user."""


@dataclass(frozen=True)
class Pointwise:
    """How to emit one element (or vector) of a lazy op.

    ``identity``: element i depends on elements i of the operands only.
    """

    emit: Callable[[Code, Op, At, Lanes], Any]
    cost: int
    identity: bool


POINTWISE: dict[str, Pointwise] = {}


class Code:
    """Generates the body of one program instance."""

    def __init__(self, b: Any, target: CpuTarget, workspace: Any, body: Block) -> None:
        self.b, self.target, self.pointer = b, target, workspace
        self.memory = Workspace(DUMMY_BYTES)
        self.env: dict[Value, Any] = {}
        self.frames: list[dict[Value, int]] = []
        self.temporaries: list[Buffer] = []
        self.grid: tuple[Any, ...] = ()
        self.program: tuple[Any, ...] = ()
        self.users, self.definitions = uses_of(body), definitions(body)
        self.parents = {inner.ops[-1]: op for op in walk(body) for inner in op.blocks if inner.ops}
        self.inside: frozenset[View] = frozenset()
        self.opened: frozenset[Value] = frozenset()
        self.ahead = Ahead(b)
        self.pending: set[Value] = set()
        self.packed: dict[Any, Any] = {}
        self.batches: dict[Op, Any] = {}
        self.rows: dict[Op, Any] = {}
        self.captured = {v for op in walk(body) for inner in op.blocks for v in free_values(inner)}

    @contextmanager
    def frame(self, block: Block) -> Iterator[None]:
        """Count the uses of the block's own values while its code is generated."""
        counts = dict.fromkeys((*block.params, *(r for op in block.ops for r in op.results)), 0)
        for op in block.ops:
            inner = {v for blk in op.blocks for v in free_values(blk)}
            for value in (*op.args, *inner):
                if value in counts:
                    counts[value] += 1
        self.frames.append(counts)
        holes, top = list(self.memory.holes), self.memory.top
        yield
        self.memory.holes, self.memory.top = holes, top
        self.frames.pop()

    def uses(self, value: Value) -> int:
        """Remaining uses in the innermost block; 0 for values of outer blocks."""
        return self.frames[-1].get(value, 0)

    def release(self, *values: Value) -> None:
        """One use of each value is over."""
        counts = self.frames[-1]
        for value in values:
            if value in counts:
                counts[value] -= 1
                if counts[value] == 0:
                    self._drop(value)

    def _drop(self, value: Value) -> None:
        found = self.env.get(value)
        if isinstance(found, Lazy):
            self.release(*found.op.args)
        elif isinstance(found, Buffer):
            self._unbind(found)

    def _unbind(self, buffer: Buffer) -> None:
        buffer.live -= 1
        if buffer.live == 0 and not buffer.pinned:
            self.memory.free(buffer)

    def bind(self, value: Value, what: Any) -> None:
        """Say what a value is; a buffer that nobody uses is given back at once."""
        self.env[value] = what
        if isinstance(what, Buffer):
            what.live += 1
            if value in self.frames[-1] and self.uses(value) == 0:
                self._unbind(what)

    def end_op(self) -> None:
        """Give the temporaries of an op back."""
        for buffer in self.temporaries:
            self.memory.free(buffer)
        self.temporaries.clear()

    def temporary(self, type_: TileType) -> Buffer:
        """A buffer until the end of this op."""
        self.temporaries.append(self.memory.allocate(type_))
        return self.temporaries[-1]

    def element(self, value: Value, at: At, lanes: int) -> Any:
        """One element or vector of a value, in its register type."""
        e = Lanes(self.b, lanes, self.target)
        if lanes > 1 and not any(c.lane for c in at):
            return e.splat(self.element(value, at, 1))
        found = self.env[value]
        if isinstance(found, Lazy):
            return POINTWISE[found.op.name].emit(self, found.op, at, e)
        if isinstance(found, View):
            self.ahead.ask(found, at)
            return views.read(e, found, at, found in self.inside, self.pointer)
        if isinstance(found, Buffer):
            return self.read(found, tile_type(value), at, e)
        return found

    def scalar(self, value: Value) -> Any:
        """The register of a scalar."""
        return self.element(value, (), 1)

    def read(self, buffer: Buffer, type_: TileType, at: At, e: Lanes) -> Any:
        """Elements of a tile in a buffer."""
        pointer, step = self.address(buffer, type_, at)
        return from_memory(e, load(e, pointer, storage(type_.dtype), step), type_)

    def write(self, buffer: Buffer, type_: TileType, at: At, e: Lanes, value: Any) -> None:
        """Put elements into a buffer."""
        pointer, step = self.address(buffer, type_, at)
        store(e, pointer, to_memory(e, value, type_), step)

    def base(self, buffer: Buffer) -> Any:
        """The address of a buffer."""
        return self.b.gep(self.pointer, [loops.i64(buffer.offset)], source_etype=I8, inbounds=True)

    def pointer_to(self, buffer: Buffer, element: Any, offset: Index) -> Any:
        """The address of an element of an LLVM type in a buffer."""
        return self.b.gep(self.base(buffer), [loops.i64(offset)], source_etype=element, inbounds=True)

    def address(self, buffer: Buffer, type_: TileType, at: At) -> tuple[Any, Index]:
        """The address of the first lane, and the distance between lanes in elements."""
        offset: Index = 0
        step: Index = 0
        for coord, pitch in zip(at, pitches(type_.shape), strict=True):
            offset = loops.add(self.b, offset, loops.mul(self.b, coord.base, pitch))
            step = pitch if coord.lane else step
        return self.pointer_to(buffer, storage(type_.dtype), offset), step

    def over(
        self, shape: tuple[int, ...], body: Callable[[At, int], None], bytes_: int = 4,
        within: Sequence[tuple[Index, Index]] | None = None, lane_axis: int | None = None,
    ) -> None:  # fmt: skip
        """Loops over a tile, with vectors of lanes along an axis (the last one longer than 1).

        ``within``: bounds of the axes; along that of the vectors the lower one is not used.
        """
        over(self.b, self.target, shape, body, bytes_, within, lane_axis)

    def sources(self, value: Value) -> list[Value]:
        """What the value is lazily computed from, each once and operands first; last itself."""
        found: dict[Value, None] = {}

        def visit(v: Value) -> None:
            what = self.env.get(v)
            for arg in what.op.args if isinstance(what, Lazy) else ():
                if arg not in found:
                    visit(arg)
            found[v] = None

        visit(value)
        return list(found)

    def versions(
        self, values: Sequence[Value], emit: Callable[[bool], Values], also: Any = None
    ) -> list[Any]:
        """``emit(inside)`` twice: for tiles that lie within their tensors, and with accesses masked.

        ``also``: a further condition of the first version.
        """
        found = [self.env.get(s) for v in values for s in self.sources(v)]
        return self.versions_of([v for v in dict.fromkeys(found) if isinstance(v, View)], emit, also)

    def versions_of(
        self, read: Sequence[View], emit: Callable[[bool], Values], also: Any = None
    ) -> list[Any]:
        """The same for given views."""
        inside = also
        for view in read:
            inside = view.part.inside if inside is None else self.b.and_(inside, view.part.inside)
        if inside is None:
            return list(emit(True))

        def fast() -> Values:
            before, self.inside = self.inside, self.inside | frozenset(read)
            with self.ahead.loop(read):
                values = emit(True)
            self.inside = before
            return values

        return loops.branch(self.b, inside, fast, lambda: emit(False))

    def fill(self, buffer: Buffer, value: Value) -> None:
        """Compute a value into a buffer."""
        type_ = tile_type(value)

        def body(at: At, lanes: int) -> None:
            e = Lanes(self.b, lanes, self.target)
            self.write(buffer, type_, at, e, self.element(value, at, lanes))

        def run(_: bool) -> Values:
            self.over(type_.shape, body)
            return ()

        self.versions([value], run)

    def buffer(self, value: Value) -> Buffer:
        """A buffer to read a tile from."""
        found = self.env[value]
        if isinstance(found, Buffer):
            return found
        if not isinstance(found, Lazy) or value not in self.frames[-1]:
            temporary = self.temporary(tile_type(value))
            self.fill(temporary, value)
            return temporary
        return self._settle(value, found)

    def _settle(
        self,
        value: Value,
        found: Lazy,
        into: Buffer | None = None,
        fill: Callable[[Buffer], None] | None = None,
    ) -> Buffer:
        """Compute a lazy value of this block for good, in place of an operand if possible."""
        source = self._reusable(value) if into is None else None
        buffer = into or (self.env[source] if source else self.memory.allocate(tile_type(value)))
        if fill is None:
            self.fill(buffer, value)
        else:
            fill(buffer)
        self.pending.discard(value)
        self.env[value] = buffer
        if source is None:
            buffer.live += 1
        else:
            self.env[source] = Taken()
        self.release(*found.op.args)
        return buffer

    def owned(self, value: Value, into: Buffer | None = None) -> Buffer:
        """A buffer with the tile that this use may overwrite; its ``live`` counts this use.

        ``into``: a pinned buffer that should get the tile if it must be computed.
        """
        found = self.env[value]
        if isinstance(found, Lazy) and self.uses(value) == 1:
            self._settle(value, found, into)
            return self._take(value)
        if isinstance(found, Buffer) and self.uses(value) == 1 and found.live == 1:
            return self._take(value)
        buffer = into or self.memory.allocate(tile_type(value))
        buffer.live += 1
        self.fill(buffer, value)
        return buffer

    def _take(self, value: Value) -> Buffer:
        buffer: Buffer = self.env[value]
        self.env[value] = Taken()
        return buffer

    def _reusable(self, value: Value) -> Value | None:
        """An operand whose buffer dies here and can hold the result, element by element."""
        reads: dict[Value, list[bool]] = {}

        def visit(node: Op, fits: bool) -> None:
            fits = fits and POINTWISE[node.name].identity
            for arg in node.args:
                found = self.env.get(arg)
                if isinstance(found, Lazy):
                    visit(found.op, fits and self.uses(arg) == 1)
                elif isinstance(found, Buffer):
                    reads.setdefault(arg, []).append(fits)

        visit(self.env[value].op, True)
        want = tile_type(value)
        for arg, fits in reads.items():
            have = tile_type(arg)
            same = have.shape == want.shape and have.dtype.bytes == want.dtype.bytes
            if same and all(fits) and len(fits) == self.uses(arg) and self.env[arg].live == 1:
                return arg
        return None

    def define(self, op: Op) -> None:
        """Register a pure op; scalars at once, tiles where they are consumed."""
        value = op.result
        self.env[value] = Lazy(op)
        if op.name == "broadcast":
            self._before_repeating(op)
        if self.uses(value) == 0:
            self.release(*op.args)
            return
        if tile_type(value).shape == ():
            self.env[value] = POINTWISE[op.name].emit(self, op, (), Lanes(self.b, 1, self.target))
            self.release(*op.args)
        elif op.name == "reshape" and not is_cosmetic(op):
            self._share(op)
        elif (self.uses(value) > 1 or value in self.captured) and self.cost(value) > CHEAP:
            self._keep(value)

    def _keep(self, value: Value) -> None:
        """Compute a value that is used again: at once, or in the loops of its first consumer."""
        if value in self.captured:
            self.buffer(value)
        else:
            self.pending.add(value)

    def settle_pending(self, values: Sequence[Value], fused: Value | None = None) -> None:
        """Compute what is pending and used by an op, but for one that the op computes on its way."""
        for value in values:
            for source in self.sources(value):
                if source in self.pending and source is not fused:
                    self.buffer(source)

    def settle_with(self, value: Value, fill: Callable[[Buffer], None]) -> None:
        """Compute a pending value by the loops of ``fill``, which writes its buffer."""
        self._settle(value, self.env[value], fill=fill)

    def _before_repeating(self, op: Op) -> None:
        source = op.args[0]
        grows = tile_type(op.result).size // tile_type(source).size
        limit = 1 if grows >= MANY else CHEAP
        if grows > 1 and self.uses(source) > 0 and tile_type(source).shape and self.cost(source) > limit:
            self.buffer(source)

    def _share(self, op: Op) -> None:
        """A reshape: the same row-major elements in the same buffer."""
        source = op.args[0]
        if source in self.frames[-1] and not isinstance(self.env[source], View):
            self.bind(op.result, self.buffer(source))
        else:
            self.env[op.result] = self.owned(source)
        self.release(source)

    def cost(self, value: Value) -> int:
        """Simple operations to compute one element."""
        found = self.env[value]
        if isinstance(found, Lazy):
            if value in self.pending:
                return 1
            return POINTWISE[found.op.name].cost + sum(self.cost(a) for a in found.op.args)
        return 1 if isinstance(found, Buffer | View) else 0
