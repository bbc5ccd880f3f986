"""Emit rule of `dot`: a register-blocked product on row-major operands.

Operands are converted to the accumulation type once (float32 for narrower floats).
The product runs over blocks of rows by two vectors of columns that stay in
registers while k runs; b is read in whole vectors, a one element at a time.
Order of summation: k ascending, with fused multiply-add where the host has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tilec.backends.cpu import loops
from tilec.backends.cpu.floats import convert
from tilec.backends.cpu.lanes import F32, I32, Lanes, element_constant, is_small
from tilec.backends.cpu.rules import emits
from tilec.backends.cpu.tiles import Code, Lazy, tile_type
from tilec.backends.cpu.views import At, Coord
from tilec.backends.cpu.workspace import Buffer
from tilec.ir.core import Op, Value
from tilec.ir.ops import attr
from tilec.ir.types import DType, TileType, float32

ROWS = 8
VECTORS = 2


@dataclass(frozen=True)
class Operand:
    """A buffer of the accumulation dtype; element (i, j) is at i * rows + j * columns."""

    buffer: Buffer
    type: TileType


@emits("dot")
def _dot(code: Code, op: Op) -> None:
    a, b, acc = op.args
    out = tile_type(op.result)
    wide = float32 if is_small(out.dtype) else out.dtype
    tf32 = attr(op, "precision") == "tf32" and tile_type(a).dtype == float32
    left, right = (_operand(code, v, wide, tf32) for v in (a, b))
    zero = _is_zero(code, acc)
    if wide == out.dtype:
        buffer = code.memory.allocate(out) if zero else code.owned(acc)
        _multiply(code, left, right, Operand(buffer, out), zero)
    else:
        total = out.with_(dtype=wide)
        work = code.temporary(total)
        _convert(code, acc, work, total)
        _multiply(code, left, right, Operand(work, total), False)
        buffer = code.memory.allocate(out)
        _round(code, work, total, buffer, out)
    buffer.live = 0
    code.bind(op.result, buffer)


def _is_zero(code: Code, acc: Value) -> bool:
    found = code.env[acc]
    while isinstance(found, Lazy) and found.op.name == "broadcast":
        found = code.env[found.op.args[0]]
    return isinstance(found, Lazy) and found.op.name == "const" and found.op.attrs["value"] == 0


def _operand(code: Code, value: Value, wide: DType, tf32: bool) -> Operand:
    type_ = tile_type(value)
    total = type_.with_(dtype=wide)
    if type_.dtype == wide and not tf32:
        return Operand(code.buffer(value), total)
    work = code.temporary(total)
    _convert(code, value, work, total, tf32)
    return Operand(work, total)


def _convert(code: Code, value: Value, work: Buffer, total: TileType, tf32: bool = False) -> None:
    source = tile_type(value).dtype

    def one(at: At, lanes: int) -> None:
        e = Lanes(code.b, lanes, code.target)
        found = convert(e, code.element(value, at, lanes), source, total.dtype)
        code.write(work, total, at, e, _truncate(e, found) if tf32 else found)

    code.over(total.shape, one)


def _truncate(e: Lanes, value: Any) -> Any:
    """tf32: drop the low 13 bits of the mantissa."""
    bits = e.b.and_(e.b.bitcast(value, e.vec(I32)), e.const(I32, 0xFFFFE000))
    return e.b.bitcast(bits, e.vec(F32))


def _round(code: Code, work: Buffer, total: TileType, buffer: Buffer, out: TileType) -> None:
    def one(at: At, lanes: int) -> None:
        e = Lanes(code.b, lanes, code.target)
        found = code.read(work, total, at, e)
        code.write(buffer, out, at, e, convert(e, found, total.dtype, out.dtype))

    code.over(out.shape, one)


def _multiply(code: Code, a: Operand, b: Operand, c: Operand, zero: bool) -> None:
    """c = (0 if zero else c) + a @ b."""
    rows, columns = c.type.shape
    lanes = code.target.lanes(c.type.dtype.bytes)
    for width, start, stop in _widths(columns, lanes):

        def panel(j: Any, width: tuple[int, int] = width) -> None:
            for count, first, last in _heights(rows):

                def block(i: Any, count: int = count) -> None:
                    _block(code, (a, b, c), (i, count), (j, *width), zero)

                loops.each(code.b, first, last, count, block)

        loops.each(code.b, start, stop, width[0] * width[1], panel)


def _widths(columns: int, lanes: int) -> list[tuple[tuple[int, int], int, int]]:
    """((lanes, vectors), start, stop): pairs of vectors, then single ones, then parts."""
    pairs = columns // (lanes * VECTORS) * lanes * VECTORS
    parts = [((lanes, VECTORS), 0, pairs)] if pairs else []
    rest = loops.segments(columns - pairs, lanes)
    return parts + [((n, 1), pairs + start, pairs + stop) for n, start, stop in rest]


def _heights(rows: int) -> list[tuple[int, int, int]]:
    whole = rows // ROWS * ROWS
    parts = [(ROWS, 0, whole)] if whole else []
    return parts + ([(rows - whole, whole, rows)] if rows > whole else [])


def _block(
    code: Code, abc: tuple[Operand, Operand, Operand], rows: tuple[Any, int], columns: tuple[Any, int, int],
    zero: bool,
) -> None:  # fmt: skip
    """One block of c, held in registers over all of k."""
    a, b, c = abc
    (i, count), (j, lanes, vectors) = rows, columns
    e, one = Lanes(code.b, lanes, code.target), Lanes(code.b, 1, code.target)

    def at(row: Any, column: Any, lane: bool) -> At:
        return (Coord(row), Coord(column, lane))

    tops = [loops.add(code.b, i, r) for r in range(count)]
    lefts = [loops.add(code.b, j, v * lanes) for v in range(vectors)]
    spots = [(row, column) for row in tops for column in lefts]
    none = e.splat_constant(element_constant(c.type.dtype, 0))
    start = [none if zero else code.read(c.buffer, c.type, at(*s, lanes > 1), e) for s in spots]

    def step(k: Any, sums: list[Any]) -> list[Any]:
        row = [code.read(b.buffer, b.type, at(k, left, lanes > 1), e) for left in lefts]
        out = []
        for r, top in enumerate(tops):
            x = e.splat(code.read(a.buffer, a.type, at(top, k, False), one))
            for v in range(vectors):
                out.append(_accumulate(e, c.type.dtype, x, row[v], sums[r * vectors + v]))
        return out

    for spot, total in zip(spots, loops.loop(code.b, 0, a.type.shape[1], 1, start, step), strict=True):
        code.write(c.buffer, c.type, at(*spot, lanes > 1), e, total)


def _accumulate(e: Lanes, dtype: DType, x: Any, y: Any, total: Any) -> Any:
    return e.fma(x, y, total) if dtype.is_float else e.b.add(total, e.b.mul(x, y))
