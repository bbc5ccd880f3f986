"""cp.async: a tile of a tensor into shared memory, 16 bytes a copy.

Where the whole tile lies in the tensor the copies need no tests. Elsewhere each copy has the
number of bytes that lie inside, 0 to 16; the rest of its 16 bytes in shared memory are zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tilec.backends.ptx.ampere_place import Places
from tilec.backends.ptx.ampere_ring import Slot
from tilec.backends.ptx.arith import dtype_of_operand
from tilec.backends.ptx.context import Emitter, Tensor
from tilec.backends.ptx.coords import both, inside, is_first_holder, thread_coord
from tilec.backends.ptx.hopper_smem import SmemTile
from tilec.backends.ptx.hopper_views import identity
from tilec.backends.ptx.tensors import Window, wide_index
from tilec.ir.core import Op, Value
from tilec.ir.layout import Basis, blocked
from tilec.ir.ptx.module import Addr, Int, Not, Reg
from tilec.ir.types import DType

UNIT = 16  # bytes of a copy


@dataclass(frozen=True)
class Pending:
    """A load that cp.async will do where it is put into a ring: its offsets with their dtypes."""

    tensor: Value
    offsets: tuple[tuple[DType, Reg], ...]


def pending(e: Emitter, load: Op) -> Pending:
    """The load as it will be done by a put."""
    places = range(1, len(load.args))
    return Pending(
        load.args[0], tuple((dtype_of_operand(load, i), e.fragment(load.args[i]).reg) for i in places)
    )


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
        for coords, _ in self.chunks():
            self.row(coords)
            self.places.register(coords)

    def row(self, coords: Basis) -> Reg:
        """Bytes (b64) from the tile's first element to a chunk, but what is known along the inner axis."""
        key = tuple(0 if a == self.tile.inner else c for a, c in enumerate(coords))
        name = ("row", self.tensor.pointer, self.layout, key)
        return self.e.cached(name, lambda: self._row(key))  # type: ignore[no-any-return]

    def _row(self, coords: Basis) -> Reg:
        """The thread's part; other rows are multiples of the strides away from it."""
        e, at = self.e, None
        if any(coords):
            at = self.row((0,) * len(coords))
        for axis, c in enumerate(coords):
            if at is not None and any(coords):
                at = e.make("b64", "mad.lo.s64", self.stride(axis), Int(c), at) if c else at
                continue
            thread = thread_coord(e, self.layout, axis)
            if thread is not None:
                wide = e.make("b64", "cvt.u64.u32", thread)
                parts = (wide, self.stride(axis))
                at = e.make("b64", "mad.lo.s64", *parts, at) if at else e.make("b64", "mul.lo.s64", *parts)
        return at if at is not None else e.make("b64", "mov.b64", Int(0))

    def stride(self, axis: int) -> Reg | Int:
        """Bytes (b64)."""
        stride, size = self.tensor.strides[axis], self.tile.es
        if isinstance(stride, Int):
            return Int(stride.value * size)
        key = ("bytes", stride, size)
        return self.e.cached(key, lambda: self.e.make("b64", "mul.lo.s64", stride, Int(size)))  # type: ignore[no-any-return]

    def run(self, load: Pending, slot: Slot) -> None:
        """Copy the tile into a slot, with tests only where it does not lie inside of the tensor."""
        e = self.e
        base = self._base(load)
        ragged, done = e.label("ragged"), e.label("done")
        e.emit("bra.uni", ragged, pred=Not(self._whole(load)))
        with e.scope():
            for coords, guard in self.chunks():
                self._copy(base, coords, slot, None, guard)
        e.emit("bra.uni", done)
        e.place(ragged)
        with e.scope():
            offsets = [wide_index(e, dtype, reg) for dtype, reg in load.offsets]
            window = Window(e, self.tensor, self.shape, self.layout, offsets)
            for coords, guard in self.chunks():
                self._copy(base, coords, slot, self._used(window, coords), guard)
        e.place(done)

    def _base(self, load: Pending) -> Reg:
        """The address of the tile's first element."""
        at = self.tensor.pointer
        for axis, (dtype, reg) in enumerate(load.offsets):
            at = self.e.make("b64", "mad.lo.s64", wide_index(self.e, dtype, reg), self.stride(axis), at)
        return at

    def _whole(self, load: Pending) -> Reg:
        """A uniform predicate: the tile lies inside of the tensor."""
        e, ok = self.e, None
        for (dtype, reg), dim, extent in zip(load.offsets, self.tensor.dims, self.shape, strict=True):
            if dtype.bits == 64:
                typed, limit = "s64", e.make("b64", "cvt.s64.s32", dim)
                limit = e.make("b64", "sub.s64", limit, Int(extent))
            else:
                typed, limit = "s32", e.make("b32", "sub.s32", dim, Int(extent))
            below = e.make("pred", f"setp.le.{typed}", reg, limit)
            if ok is not None:
                below = e.make("pred", "and.pred", ok, below)
            ok = e.make("pred", f"setp.ge.and.{typed}", reg, Int(0), below)
        assert ok is not None
        return ok

    def _used(self, window: Window, coords: Basis) -> Reg:
        """How many bytes of a chunk lie inside of the tensor: chunks start at multiples of 16 bytes."""
        e, inner = self.e, self.tile.inner
        at, span = window.bound(inner)
        moved = e.make("b32", "add.s32", at, Int(coords[inner]))
        left = e.make("b32", "min.s32", e.make("b32", "sub.s32", span, moved), Int(self.unit))
        size = e.make("b32", "shl.b32", left, Int(self.tile.es.bit_length() - 1))
        ok = both(e, window.tests(coords))
        return e.make("b32", "selp.b32", size, Int(0), ok) if isinstance(ok, Reg) else size

    def _copy(self, base: Reg, coords: Basis, slot: Slot, used: Reg | None, guard: Reg | None) -> None:
        e, inner = self.e, self.tile.inner
        source = Addr(e.make("b64", "add.s64", base, self.row(coords)), coords[inner] * self.tile.es)
        rest = () if used is None else (used,)
        where = self.places.address(coords, slot)
        e.emit("cp.async.cg.shared.global", where, source, Int(UNIT), *rest, pred=guard)
