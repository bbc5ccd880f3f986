"""The inner loops of a product: a block of rows by vectors of columns held in registers over k.

The left operand is read one element at a time and repeated over the lanes; the
right one is read in vectors from panels. Order of summation: k ascending over the depth
of a panel, with fused multiply-add where the host has it; then the tile's sum is added.
So the error grows with the depth of a panel and the number of panels, not with k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tilec.backends.cpu import loops
from tilec.backends.cpu.access import load, prefetch, store
from tilec.backends.cpu.lanes import I16, I32, Lanes, element_constant, register
from tilec.backends.cpu.loops import Index
from tilec.backends.cpu.target import CpuTarget
from tilec.backends.cpu.tiles import Code
from tilec.backends.cpu.views import Coord
from tilec.backends.cpu.workspace import Buffer
from tilec.ir.core import Value
from tilec.ir.types import DType, TileType

VECTORS = 2


@dataclass(frozen=True)
class Form:
    """What a panel holds: elements of the sum's dtype, or pairs of int16 along k (``pairs``)."""

    total: DType
    pairs: bool = False

    @property
    def depth(self) -> int:
        """How many steps of k one element covers."""
        return 2 if self.pairs else 1


@dataclass(frozen=True)
class Left:
    """The left operand; element (i, k) is at i * row + k * step behind the pointer.

    ``buffer``: where it was packed; None where it is read in the tensor.
    """

    pointer: Any
    row: Index
    step: Index
    buffer: Buffer | None = None


@dataclass(frozen=True)
class Right:
    """The right operand in panels: the one from column j begins at j * depth, row-major inside."""

    buffer: Buffer
    depth: int


@dataclass(frozen=True)
class Sums:
    """The tile that grows; ``zero``: it begins at zero, whatever the buffer holds.

    ``before``: what the product is added to, computed element by element; None: what the buffer holds.
    """

    buffer: Buffer
    type: TileType
    zero: bool
    before: Value | None = None


def block_rows(target: CpuTarget) -> int:
    """Rows of a block: with 2 vectors of columns, all sums and operands fit the registers."""
    return 12 if target.registers >= 32 else 6


def panel_widths(columns: int, lanes: int) -> list[tuple[tuple[int, int], int, int]]:
    """((lanes, vectors), start, stop): pairs of vectors, then single ones, then parts."""
    pairs = columns // (lanes * VECTORS) * lanes * VECTORS
    parts = [((lanes, VECTORS), 0, pairs)] if pairs else []
    rest = loops.segments(columns - pairs, lanes)
    return parts + [((n, 1), pairs + start, pairs + stop) for n, start, stop in rest]


def multiply(code: Code, form: Form, operands: tuple[Left, Right], sums: Sums, depth: Index,
             needed: Sequence[Index]) -> None:  # fmt: skip
    """sums += left @ right over ``depth`` elements of k, at least in the ``needed`` rows and columns."""
    rows, columns = sums.type.shape
    lanes = code.target.lanes(form.total.bytes)
    for width, start, stop in panel_widths(columns, lanes):
        last = loops.least(code.b, stop, needed[1])

        def panel(j: Index, width: tuple[int, int] = width) -> None:
            for count, first, end in _heights(rows, block_rows(code.target)):

                def block(i: Index, count: int = count) -> None:
                    _block(code, form, operands, sums, (i, count), (j, *width), depth)

                loops.each(code.b, first, loops.least(code.b, end, needed[0]), count, block)

        loops.each(code.b, start, last, width[0] * width[1], panel)


def _heights(rows: int, block: int) -> list[tuple[int, int, int]]:
    whole = rows // block * block
    parts = [(block, 0, whole)] if whole else []
    return parts + ([(rows - whole, whole, rows)] if rows > whole else [])


def _block(code: Code, form: Form, operands: tuple[Left, Right], sums: Sums,
           rows: tuple[Index, int], columns: tuple[Index, int, int], depth: Index) -> None:  # fmt: skip
    """One block of sums, held in registers over the depth of the panels."""
    b, (left, right) = code.b, operands
    (i, count), (j, lanes, vectors) = rows, columns
    e, width, element = Lanes(b, lanes, code.target), lanes * vectors, register(form.total)
    spots = [(r, loops.add(b, j, v * lanes)) for r in range(count) for v in range(vectors)]
    places = [_sum_at(code, sums, i, *spot) for spot in spots]
    none = e.splat_constant(element_constant(form.total, 0))
    plus = b.fadd if form.total.is_float else b.add
    for place in () if sums.zero else places:
        prefetch(b, place)
    rights = code.pointer_to(right.buffer, element, loops.mul(b, j, right.depth))

    def at(pointer: Any, offset: Index) -> Any:
        return b.gep(pointer, [loops.i64(offset)], source_etype=element, inbounds=True)

    lefts = at(left.pointer, loops.mul(b, i, left.row))

    def step(k: Index, totals: Sequence[Any]) -> list[Any]:
        row = at(rights, loops.mul(b, k, width))
        ys = [load(e, at(row, v * lanes), element, 1) for v in range(vectors)]
        column, out = at(lefts, loops.mul(b, k, left.step)), []
        for r in range(count):
            x = e.splat(load(Lanes(b, 1, code.target), at(column, loops.mul(b, left.row, r)), element, 1))
            out += [accumulate(e, form, x, y, totals[r * vectors + v]) for v, y in enumerate(ys)]
        return out

    def before(row: int, column: Index) -> Any:
        at = Coord(loops.add(b, i, row)), Coord(column, lanes > 1)
        if sums.before is None:
            return code.read(sums.buffer, sums.type, at, e)
        return code.element(sums.before, at, lanes)

    found = loops.loop(b, 0, depth, 1, [none] * len(places), step)
    for spot, place, total in zip(spots, places, found, strict=True):
        store(e, place, total if sums.zero else plus(before(*spot), total), 1)


def _sum_at(code: Code, sums: Sums, first: Index, row: int, column: Index) -> Any:
    """The address of a sum in a row below the first one of a block."""
    at = loops.add(code.b, loops.mul(code.b, first, sums.type.shape[1]), column)
    at = loops.add(code.b, at, row * sums.type.shape[1])
    return code.pointer_to(sums.buffer, register(sums.type.dtype), at)


def accumulate(e: Lanes, form: Form, x: Any, y: Any, total: Any) -> Any:
    """total + x * y, or for pairs total + x0 * y0 + x1 * y1."""
    if form.pairs:
        return _add_pairs(e, x, y, total)
    return e.fma(x, y, total) if form.total.is_float else e.b.add(total, e.b.mul(x, y))


def _add_pairs(e: Lanes, x: Any, y: Any, total: Any) -> Any:
    bits = 32 * e.lanes
    if bits in (128, 256, 512) and e.target.vnni:
        return e.call(f"llvm.x86.avx512.vpdpwssd.{bits}", total.type, total, x, y)
    if bits in (128, 256, 512) and e.target.x86:
        name = {128: "sse2.pmadd.wd", 256: "avx2.pmadd.wd", 512: "avx512.pmaddw.d.512"}[bits]
        words = Lanes(e.b, 2 * e.lanes, e.target).vec(I16)
        pair = e.call(f"llvm.x86.{name}", total.type, e.b.bitcast(x, words), e.b.bitcast(y, words))
        return e.b.add(total, pair)
    sixteen = e.const(I32, 16)
    for low in (True, False):
        a, b = (e.b.ashr(e.b.shl(v, sixteen) if low else v, sixteen) for v in (x, y))
        total = e.b.add(total, e.b.mul(a, b))
    return total
