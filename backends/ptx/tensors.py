"""Addresses and bounds of a tile of a tensor in global memory."""

from __future__ import annotations

from collections.abc import Sequence

from tilec.backends.ptx.context import Emitter, Tensor
from tilec.backends.ptx.coords import thread_coord
from tilec.ir.layout import Basis, Layout
from tilec.ir.ptx.module import Addr, Int, Reg
from tilec.ir.types import DType


def wide_index(e: Emitter, dtype: DType, x: Reg) -> Reg:
    """An integer of any dtype as a signed 64-bit number."""
    if dtype.bits == 64:
        return x
    opcode = "cvt.s64.s32" if dtype.kind == "int" else "cvt.u64.u32"
    return e.cached((opcode, x), lambda: e.make("b64", opcode, x))  # type: ignore[no-any-return]


class Window:
    """A tile of a tensor at offsets (64 bits each), spread over threads by a layout."""

    def __init__(
        self, e: Emitter, tensor: Tensor, shape: Sequence[int], layout: Layout, offsets: Sequence[Reg]
    ) -> None:
        self.e, self.tensor, self.shape, self.layout, self.offsets = e, tensor, shape, layout, offsets
        self.size = tensor.type.dtype.bytes
        self.steps = [self._bytes(s) for s in tensor.strides]
        self.base = self._base()
        self._rows: dict[Basis, Reg] = {}
        self._tests: dict[tuple[int, int], Reg] = {}
        self._bounds: dict[int, tuple[Reg, Reg]] = {}

    def _bytes(self, stride: Reg | Int) -> Reg | Int:
        if isinstance(stride, Int):
            return Int(stride.value * self.size)
        key = ("bytes", stride, self.size)
        e = self.e
        return e.cached(key, lambda: e.make("b64", "mul.lo.s64", stride, Int(self.size)))  # type: ignore[no-any-return]

    def _base(self) -> Reg:
        """The address of the thread's element of register 0."""
        e, at = self.e, self.tensor.pointer
        for axis, (offset, step) in enumerate(zip(self.offsets, self.steps, strict=True)):
            thread = thread_coord(e, self.layout, axis)
            if thread is not None:
                offset = e.make("b64", "add.s64", offset, e.make("b64", "cvt.u64.u32", thread))
            at = e.make("b64", "mad.lo.s64", offset, step, at)
        return at

    def fork(self) -> None:
        """Forget what was computed for elements: the code that follows is another branch."""
        self._rows, self._tests, self._bounds = {}, {}, {}

    def address(self, coords: Basis) -> Addr:
        """Where the element of a register with these coordinates lies."""
        constant, row = 0, []
        for c, step in zip(coords, self.steps, strict=True):
            constant += c * step.value if isinstance(step, Int) else 0
            row.append(0 if isinstance(step, Int) else c)
        if tuple(row) not in self._rows:
            self._rows[tuple(row)] = self._row(row)
        return Addr(self._rows[tuple(row)], constant)

    def _row(self, row: Sequence[int]) -> Reg:
        at = self.base
        for c, step in zip(row, self.steps, strict=True):
            if c:
                at = self.e.make("b64", "mad.lo.s64", step, Int(c), at)
        return at

    def tests(self, coords: Basis) -> list[Reg]:
        """Predicates that together say that an element lies in the tensor and in the tile."""
        return [self._test(axis, c) for axis, c in enumerate(coords)]

    def _test(self, axis: int, c: int) -> Reg:
        if (axis, c) not in self._tests:
            at, span = self.bound(axis)
            moved = self.e.make("b32", "add.s32", at, Int(c)) if c else at
            self._tests[axis, c] = self.e.make("pred", "setp.lt.u32", moved, span)
        return self._tests[axis, c]

    def bound(self, axis: int) -> tuple[Reg, Reg]:
        """(thread's coordinate - first coordinate inside, number of coordinates inside)."""
        if axis not in self._bounds:
            e, offset = self.e, self.offsets[axis]
            dim = e.make("b64", "cvt.s64.s32", self.tensor.dims[axis])
            low = self._clamp(e.make("b64", "neg.s64", offset), axis)
            high = self._clamp(e.make("b64", "sub.s64", dim, offset), axis)
            span = e.make("b32", "sub.s32", high, low)
            thread = thread_coord(e, self.layout, axis)
            at = e.make("b32", "sub.s32", Int(0) if thread is None else thread, low)
            self._bounds[axis] = at, span
        return self._bounds[axis]

    def _clamp(self, x: Reg, axis: int) -> Reg:
        """A coordinate in the tile, 0 to its extent, as 32 bits."""
        e = self.e
        x = e.make("b64", "min.s64", e.make("b64", "max.s64", x, Int(0)), Int(self.shape[axis]))
        return e.make("b32", "cvt.u32.u64", x)

    def whole(self, vector: int, axis: int) -> Reg:
        """A uniform predicate: the tile lies inside, and vectors along ``axis`` are aligned."""
        e, ok = self.e, None
        for dim, offset, extent in zip(self.tensor.dims, self.offsets, self.shape, strict=True):
            limit = e.make("b64", "sub.s64", e.make("b64", "cvt.s64.s32", dim), Int(extent))
            below = e.make("pred", "setp.le.s64", offset, limit)
            both = e.make("pred", "setp.ge.and.s64", offset, Int(0), below)
            ok = both if ok is None else e.make("pred", "and.pred", ok, both)
        low = e.make("b64", "and.b64", self.offsets[axis], Int(vector - 1))
        aligned = e.make("pred", "setp.eq.s64", low, Int(0))
        return aligned if ok is None else e.make("pred", "and.pred", ok, aligned)


def vector_width(tensor: Tensor, shape: Sequence[int], layout: Layout) -> tuple[int, int]:
    """(axis, elements) of the widest access of consecutive registers, up to 16 bytes."""
    axis = tensor.type.contiguous
    if axis is None or not tensor.type.aligned:
        return 0, 1
    run = 1
    while run < layout.registers and layout.reg[run.bit_length() - 1][axis] == run:
        run *= 2
    width = min(run, 16 // tensor.type.dtype.bytes)
    while shape[axis] % width:
        width //= 2
    return axis, width
