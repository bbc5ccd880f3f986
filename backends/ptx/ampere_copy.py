"""cp.async: a tile of a tensor into shared memory, 16 bytes a copy.

Where the whole tile lies in the tensor the copies need no tests. Elsewhere each copy has the
number of bytes that lie inside, 0 to 16; the rest of its 16 bytes in shared memory are zeros.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tilec.backends.ptx.ampere_place import Places
from tilec.backends.ptx.ampere_ring import Slot
from tilec.backends.ptx.context import Emitter, Tensor
from tilec.backends.ptx.coords import both, inside, is_first_holder, thread_coord
from tilec.backends.ptx.hopper_smem import SmemTile
from tilec.backends.ptx.hopper_views import identity
from tilec.backends.ptx.tensors import Start, Window, wide_index
from tilec.ir.core import Block, Op, Value
from tilec.ir.layout import Basis, blocked
from tilec.ir.ptx.module import Addr, Int, Not, Reg
from tilec.ir.types import DType, TileType, int32, uint32

UNIT = 16  # bytes of a copy


Offset = tuple[DType, Reg]


@dataclass(frozen=True)
class Request:
    """What a load asks for: the tile at ``offsets`` of the tensor, or only zeros where ``comes`` is
    false. ``fixed``: the axes along which the loop around does not move."""

    offsets: tuple[Value, ...]
    comes: Value | None
    fixed: tuple[int, ...] = ()


def request(load: Op, defs: Mapping[Value, Op], around: Block | None) -> Request:
    """The request of a load in the body of a loop (None: in no loop).

    An offset "o if c, else the tensor's extent" means: o, if c.
    """
    offsets, comes = list(load.args[1:]), None
    for axis, offset in enumerate(offsets):
        op = defs.get(offset)
        if op is not None and op.name == "where" and _is_end(op.args[2], load.args[0], axis, defs):
            comes, offsets[axis] = op.args[:2]
            break
    inside = set() if around is None else {*around.params, *(r for op in around.ops for r in op.results)}
    fixed = () if around is None else tuple(a for a, v in enumerate(offsets) if v not in inside)
    return Request(tuple(offsets), comes, fixed)


def _is_end(value: Value, tensor: Value, axis: int, defs: Mapping[Value, Op]) -> bool:
    op = defs.get(value)
    return op is not None and op.name == "dim" and op.args[0] is tensor and op.attrs["axis"] == axis


@dataclass(frozen=True)
class Pending:
    """A request in registers: offsets with their dtypes, and a predicate."""

    offsets: Mapping[int, Offset]
    fixed: tuple[int, ...]
    comes: Reg | None


def pending(e: Emitter, asked: Request, axes: Sequence[int]) -> Pending:
    """A request of which the offsets along ``axes`` are in registers, which stay as they are."""
    offsets = {axis: _offset(e, asked.offsets[axis]) for axis in axes}
    comes = None if asked.comes is None or tuple(axes) == asked.fixed else e.fragment(asked.comes).reg
    e.hold([comes, *(reg for _, reg in offsets.values())])
    return Pending(offsets, asked.fixed, comes)


def _offset(e: Emitter, value: Value) -> Offset:
    assert isinstance(value.type, TileType)
    return value.type.dtype, e.fragment(value).reg


class Copies:
    """The copies of one tile: who copies what, and the parts of addresses that no loop changes."""

    def __init__(self, e: Emitter, tensor: Tensor, tile: SmemTile, shape: tuple[int, ...]) -> None:
        self.e, self.tensor, self.tile, self.shape = e, tensor, tile, shape
        self.unit = UNIT // tile.es
        self.layout = blocked(shape, tile.inner, self.unit, e.group.warps)
        self.places = Places(e, tile, identity(shape), self.layout)
        self.first = is_first_holder(e, self.layout)

    def chunks(self) -> Iterator[tuple[Basis, Reg | None]]:
        """Coordinates of the copies of lane 0 of warp 0, each with its guard, but those of padding."""
        for coords in self.layout.register_coords()[:: self.unit]:
            ok = inside(self.e, self.layout, self.shape, coords)
            guard = False if ok is False else both(self.e, [self.first, ok if isinstance(ok, Reg) else None])
            if guard is not False:
                yield coords, guard if isinstance(guard, Reg) else None

    def prepare(self) -> None:
        """Compute ahead what a loop would compute in every round."""
        self.thread()
        for step in {step for step in self.steps() if any(step)}:
            self.distance(step)
        for coords, _ in self.chunks():
            self.places.register(coords)

    def steps(self) -> list[Basis]:
        """For each chunk how far its row is from that of the chunk before; the first from the tile's."""
        rows = [tuple(0 if a == self.tile.inner else c for a, c in enumerate(x)) for x, _ in self.chunks()]
        before = [(0,) * len(self.shape), *rows]
        return [tuple(b - a for a, b in zip(*pair, strict=True)) for pair in zip(before, rows, strict=False)]

    def thread(self) -> Reg | None:
        """Bytes (b64) from the tile's first element to the thread's first chunk; None where that is 0."""
        key = ("row", self.tensor.pointer, self.layout)
        return self.e.cached(key, lambda: self._thread())  # type: ignore[no-any-return]

    def _thread(self) -> Reg | None:
        e, at = self.e, None
        for axis in range(len(self.shape)):
            thread = thread_coord(e, self.layout, axis)
            if thread is not None:
                parts = e.make("b64", "cvt.u64.u32", thread), self.stride(axis)
                at = e.make("b64", "mad.lo.s64", *parts, at) if at else e.make("b64", "mul.lo.s64", *parts)
        return at

    def distance(self, step: Basis) -> Reg:
        """Bytes (b64) between rows."""
        key = ("distance", self.tensor.pointer, step)
        return self.e.cached(key, lambda: self._distance(step))  # type: ignore[no-any-return]

    def _distance(self, step: Basis) -> Reg:
        e, at = self.e, None
        for axis, c in enumerate(step):
            if c:
                stride = self.stride(axis)
                parts = stride if isinstance(stride, Reg) else e.make("b64", "mov.b64", stride), Int(c)
                at = e.make("b64", "mad.lo.s64", *parts, at) if at else e.make("b64", "mul.lo.s64", *parts)
        assert at is not None
        return at

    def stride(self, axis: int) -> Reg | Int:
        """Bytes (b64)."""
        stride, size = self.tensor.strides[axis], self.tile.es
        if isinstance(stride, Int):
            return Int(stride.value * size)
        key = ("bytes", stride, size)
        return self.e.cached(key, lambda: self.e.make("b64", "mul.lo.s64", stride, Int(size)))  # type: ignore[no-any-return]

    def hoist(self, load: Pending) -> None:
        """Compute ahead of a loop what it does not change of addresses and of tests."""
        self.fixed_base(load)
        for axis in load.fixed:
            self.within(load, axis)

    def base(self, load: Pending) -> Reg:
        """The address of the tile's first element."""
        moving = [axis for axis in load.offsets if axis not in load.fixed]
        return self._plus(self.fixed_base(load), load, moving)

    def fixed_base(self, load: Pending) -> Reg:
        """The part of the address that a loop does not change."""
        key = ("base", self.tensor.pointer, tuple((axis, load.offsets[axis]) for axis in load.fixed))
        return self.e.cached(key, lambda: self._plus(self.tensor.pointer, load, load.fixed))  # type: ignore[no-any-return]

    def _plus(self, at: Reg, load: Pending, axes: Sequence[int]) -> Reg:
        e = self.e
        for axis in axes:
            (dtype, reg), stride = load.offsets[axis], self.stride(axis)
            if dtype == int32 and isinstance(stride, Int):
                at = e.make("b64", "mad.wide.s32", reg, stride, at)
            else:
                at = e.make("b64", "mad.lo.s64", wide_index(e, dtype, reg), stride, at)
        return at

    def whole(self, load: Pending) -> list[Reg]:
        """Uniform predicates that together say that the tile lies inside of the tensor."""
        return [*(self.within(load, axis) for axis in load.offsets), *([load.comes] if load.comes else [])]

    def within(self, load: Pending, axis: int) -> Reg:
        """A uniform predicate: along an axis the tile lies inside of the tensor."""
        key = ("within", self.tensor.pointer, axis, load.offsets[axis], self.shape[axis])
        return self.e.cached(key, lambda: self._within(*load.offsets[axis], axis))  # type: ignore[no-any-return]

    def _within(self, dtype: DType, reg: Reg, axis: int) -> Reg:
        e, dim, extent = self.e, self.tensor.dims[axis], Int(self.shape[axis])
        wide = dtype.bits == 64 or dtype == uint32
        at = wide_index(e, dtype, reg) if wide else reg
        typed, bits = ("s64", "b64") if wide else ("s32", "b32")
        end = e.make("b64", "cvt.s64.s32", dim) if wide else dim
        below = e.make("pred", f"setp.le.{typed}", at, e.make(bits, f"sub.{typed}", end, extent))
        return e.make("pred", f"setp.ge.and.{typed}", at, Int(0), below)

    def copy(self, base: Reg, slot: Slot) -> None:
        """All copies of a tile that lies inside of the tensor."""
        for source, (coords, guard) in zip(self.rows(base), self.chunks(), strict=True):
            self._copy(source, coords, slot, guard)

    def copy_ragged(self, load: Pending, base: Reg, slot: Slot) -> None:
        """All copies of a tile that may hang over an end of the tensor."""
        e = self.e
        offsets = [Start(wide_index(e, dtype, reg)) for dtype, reg in load.offsets.values()]
        window = Window(e, self.tensor, self.shape, self.layout, offsets)
        for source, (coords, guard) in zip(self.rows(base), self.chunks(), strict=True):
            ok = both(e, [*window.tests(coords), load.comes])
            assert isinstance(ok, Reg)
            # Where nothing is read the address must be aligned all the same: a stride of an axis
            # of extent 1 may be anything.
            aligned = e.make("b64", "selp.b64", source, self.tensor.pointer, ok)
            used = e.make("b32", "selp.b32", self._left(window, coords), Int(0), ok)
            self._copy(aligned, coords, slot, guard, used)

    def _left(self, window: Window, coords: Basis) -> Reg:
        """How many bytes of a chunk lie before the tensor's end: chunks start at multiples of 16 bytes."""
        e, inner = self.e, self.tile.inner
        at, span = window.bound(inner)
        moved = e.make("b32", "add.s32", at, Int(coords[inner]))
        left = e.make("b32", "min.s32", e.make("b32", "sub.s32", span, moved), Int(self.unit))
        return e.make("b32", "shl.b32", left, Int(self.tile.es.bit_length() - 1))

    def rows(self, base: Reg) -> Iterator[Reg]:
        """The address of each chunk, but for what is known along the inner axis: one after the other, for
        all of them at once would take many registers of every loop."""
        thread = self.thread()
        at = base if thread is None else self.e.make("b64", "add.s64", base, thread)
        for step in self.steps():
            at = self.e.make("b64", "add.s64", at, self.distance(step)) if any(step) else at
            yield at

    def _copy(self, source: Reg, coords: Basis, slot: Slot, guard: Reg | None, *used: Reg) -> None:
        where, start = self.places.address(coords, slot), Addr(source, coords[self.tile.inner] * self.tile.es)
        self.e.emit("cp.async.cg.shared.global", where, start, Int(UNIT), *used, pred=guard)


def run(e: Emitter, work: Sequence[tuple[Copies, Pending, Slot]]) -> None:
    """The copies of a put, without tests of each where all tiles lie inside of their tensors."""
    bases = [copies.base(load) for copies, load, _ in work]
    ok = both(e, [test for copies, load, _ in work for test in copies.whole(load)])
    assert isinstance(ok, Reg)
    ragged, done = e.label("ragged"), e.label("done")
    e.emit("bra.uni", ragged, pred=Not(ok))
    with e.scope():
        for base, (copies, _, slot) in zip(bases, work, strict=True):
            copies.copy(base, slot)
    e.emit("bra.uni", done)
    e.place(ragged)
    with e.scope():
        for base, (copies, load, slot) in zip(bases, work, strict=True):
            copies.copy_ragged(load, base, slot)
    e.place(done)
