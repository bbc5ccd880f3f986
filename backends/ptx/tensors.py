"""Addresses and bounds of a tile of a tensor in global memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tilec.backends.ptx.context import Emitter, Tensor
from tilec.backends.ptx.coords import inside, thread_coord
from tilec.ir.core import Value
from tilec.ir.layout import Basis, Layout
from tilec.ir.ptx.module import Addr, Int, Reg
from tilec.ir.types import DType, TileType, int32, uint32
from tilec.passes.layout_rules import VECTOR_BYTES
from tilec.passes.multiples import is_multiple

NATURAL = ("program_id", "num_programs", "dim")  # ops whose results are never negative
VECTORS = (16, 8, 4, 2, 1)  # elements of an access at once
SMALL = 1 << 30


def wide_index(e: Emitter, dtype: DType, x: Reg) -> Reg:
    """An integer of any dtype as a signed 64-bit number."""
    if dtype.bits == 64:
        return x
    opcode = "cvt.s64.s32" if dtype.kind == "int" else "cvt.u64.u32"
    return e.cached((opcode, x), lambda: e.make("b64", opcode, x))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Start:
    """Where a tile starts along an axis: as a signed 64-bit number, as the int32 that it was made of
    (None if there is none), its value if that is known, and of which power of two it is a multiple.
    ``natural``: what lies in the tensor does not start before it, so that its coordinates are never negative.
    """

    wide: Reg
    narrow: Reg | None = None
    known: int | None = None
    multiple: int = 1
    natural: bool = False

    @property
    def small(self) -> bool:
        """Whether it is known, and neither negative nor so large that sums with it may wrap."""
        return self.known is not None and 0 <= self.known < SMALL


def start_of(e: Emitter, value: Value, extent: int) -> Start:
    """The offset that a scalar integer names, of a tile of an extent that is a power of two."""
    t, reg, op = value.type, e.fragment(value).reg, e.defs.get(value)
    assert isinstance(t, TileType)
    multiple = next(n for n in VECTORS if is_multiple(value, n, e.defs))
    if t.dtype != int32:
        return Start(wide_index(e, t.dtype, reg), multiple=multiple)
    known = e.constants.get(value)
    never = op is not None and op.name in NATURAL
    natural = never or (known is not None and known >= 0) or is_multiple(value, extent, e.defs)
    return Start(wide_index(e, uint32 if never else int32, reg), reg, known, multiple, natural)


class Window:
    """A tile of a tensor, spread over threads by a layout."""

    def __init__(
        self, e: Emitter, tensor: Tensor, shape: Sequence[int], layout: Layout, offsets: Sequence[Start]
    ) -> None:
        self.e, self.tensor, self.shape, self.layout = e, tensor, shape, layout
        self.offsets = offsets
        self.size = tensor.type.dtype.bytes
        self.steps = [self._bytes(s) for s in tensor.strides]
        self.base = self._base()
        self._rows: dict[Basis, Reg] = {}
        self._tests: dict[tuple[int, int], list[Reg]] = {}
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
        for axis, step in enumerate(self.steps):
            offset = self.offsets[axis]
            if offset.known == 0 and thread_coord(e, self.layout, axis) is None:
                continue
            if isinstance(step, Int) and offset.narrow is not None:
                at = e.make("b64", f"mad.wide.{'u' if offset.natural else 's'}32", self.first(axis), step, at)
            else:
                at = e.make("b64", "mad.lo.s64", self._wide_first(axis), step, at)
        return at

    def first(self, axis: int) -> Reg:
        """The thread's first coordinate in the tensor, as 32 bits: where it lies outside they may wrap."""
        e, offset = self.e, self.offsets[axis]
        thread = thread_coord(e, self.layout, axis)
        assert offset.narrow is not None
        if thread is None:
            return offset.narrow
        if offset.known == 0:
            return thread
        key = ("first", offset.narrow, thread)
        return e.cached(key, lambda: e.make("b32", "add.s32", offset.narrow, thread))  # type: ignore[no-any-return, arg-type]

    def _wide_first(self, axis: int) -> Reg:
        e, offset = self.e, self.offsets[axis]
        thread = thread_coord(e, self.layout, axis)
        if offset.narrow is not None:
            return wide_index(e, uint32 if offset.natural else int32, self.first(axis))
        if thread is None:
            return offset.wide
        return e.make("b64", "add.s64", offset.wide, wide_index(e, uint32, thread))

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
        return [test for axis, c in enumerate(coords) for test in self._test(axis, c)]

    def _test(self, axis: int, c: int) -> list[Reg]:
        if (axis, c) not in self._tests:
            narrow = self.offsets[axis].narrow is not None
            self._tests[axis, c] = self._narrow_test(axis, c) if narrow else [self._wide_test(axis, c)]
        return self._tests[axis, c]

    def _narrow_test(self, axis: int, c: int) -> list[Reg]:
        """Of a 32-bit offset one comparison, as numbers without sign, tells both ends: what lies before
        the tensor, and what wraps, is larger than any extent."""
        e, dim = self.e, self.tensor.dims[axis]
        padding = inside(e, self.layout, self.shape, [c if a == axis else 0 for a in range(len(self.shape))])
        assert padding is not False
        found = [padding] if isinstance(padding, Reg) else []
        return [e.cached(("inside", self.first(axis), c, dim), lambda: self._below(axis, c)), *found]

    def _below(self, axis: int, c: int) -> Reg:
        e, dim, at = self.e, self.tensor.dims[axis], self.first(axis)
        if self.offsets[axis].small and c:
            left = e.cached(("left", at, dim), lambda: e.make("b32", "sub.s32", dim, at))
            return e.make("pred", "setp.gt.s32", left, Int(c))
        moved = e.make("b32", "add.s32", at, Int(c)) if c else at
        return e.make("pred", "setp.lt.u32", moved, dim)

    def _wide_test(self, axis: int, c: int) -> Reg:
        at, span = self.bound(axis)
        moved = self.e.make("b32", "add.s32", at, Int(c)) if c else at
        return self.e.make("pred", "setp.lt.u32", moved, span)

    def bound(self, axis: int) -> tuple[Reg, Reg]:
        """(thread's coordinate - first coordinate inside, number of coordinates inside)."""
        if axis not in self._bounds:
            e, offset = self.e, self.offsets[axis].wide
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


def vector_width(tensor: Tensor, shape: Sequence[int], layout: Layout) -> tuple[int, int]:
    """(axis, elements) of the widest access of consecutive registers, up to 16 bytes."""
    axis = tensor.type.contiguous
    if axis is None or not tensor.type.aligned:
        return 0, 1
    width = min(run_along(layout, axis), VECTOR_BYTES // tensor.type.dtype.bytes)
    while shape[axis] % width:
        width //= 2
    return axis, width


def run_along(layout: Layout, axis: int) -> int:
    """How many registers, from a multiple of their number on, hold neighbours along an axis."""
    run = 1
    while run < layout.registers and layout.reg[run.bit_length() - 1][axis] == run:
        run *= 2
    return run


def torn(e: Emitter, tensor: Tensor, width: int, start: Start | None = None) -> Reg | None:
    """A uniform predicate: accesses of ``width`` elements in a row of a tensor may cross its end, or begin
    where they must not. None: it is known that they never do.

    ``start``: where the tile begins along the row, if not at a multiple of ``width``.
    """
    tests: list[Reg] = []
    if width > 1 and not tensor.type.divisible and tensor.type.contiguous is not None:
        tests.append(e.make("b32", "and.b32", tensor.dims[tensor.type.contiguous], Int(width - 1)))
    if start is not None and start.multiple < width:
        tests.append(e.make("b32", "cvt.u32.u64", e.make("b64", "and.b64", start.wide, Int(width - 1))))
    if not tests:
        return None
    bits = tests[0] if len(tests) == 1 else e.make("b32", "or.b32", *tests)
    return e.make("pred", "setp.ne.s32", bits, Int(0))
