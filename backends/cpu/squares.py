"""Tiles transposed in registers, a square of vectors at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from tilec.backends.cpu import loops
from tilec.backends.cpu.lanes import I32, Lanes
from tilec.backends.cpu.loops import Index
from tilec.backends.cpu.shapes import is_cosmetic, tile_type
from tilec.backends.cpu.tiles import Code, Lazy
from tilec.backends.cpu.views import Coord, View
from tilec.backends.cpu.workspace import Buffer
from tilec.ir.core import Value


def transpose(b: Any, rows: Sequence[Any]) -> list[Any]:
    """A square of vectors transposed: bit by bit of the lane number, lane and row change places."""
    out, n, step = list(rows), len(rows), 1
    while step < n:
        keep = [lane if not lane & step else n + lane - step for lane in range(n)]
        move = [lane + step if not lane & step else n + lane for lane in range(n)]
        masks = [ir.Constant(ir.VectorType(I32, n), m) for m in (keep, move)]
        for i in range(n):
            if not i & step:
                pair = out[i], out[i + step]
                out[i], out[i + step] = (b.shuffle_vector(*pair, m) for m in masks)
        step *= 2
    return out


def settle_turned(code: Code, value: Value) -> None:
    """Compute what turns a computed matrix of whole squares into a buffer; element by element is slow."""
    found = code.env.get(value)
    while isinstance(found, Lazy) and found.op.name == "reshape" and is_cosmetic(found.op):
        value = found.op.args[0]
        found = code.env.get(value)
    if not isinstance(found, Lazy) or found.op.name != "permute" or value not in code.frames[-1]:
        return
    source, lanes = found.op.args[0], code.target.lanes(4)
    shape, dtype = tile_type(source).shape, tile_type(source).dtype
    whole = len(shape) == 2 and all(n % lanes == 0 for n in shape)
    if whole and lanes > 1 and dtype.is_float and dtype.bytes <= 4 and not isinstance(code.env[source], View):
        code.settle_with(value, lambda into: _fill(code, source, value, into, lanes))


def _fill(code: Code, source: Value, value: Value, into: Buffer, lanes: int) -> None:
    """into = the transposed source."""
    e, type_ = Lanes(code.b, lanes, code.target), tile_type(value)
    rows, columns = tile_type(source).shape

    def square(i: Index, j: Index) -> None:
        spots = [(Coord(loops.add(code.b, i, r)), Coord(j, True)) for r in range(lanes)]
        for r, vector in enumerate(transpose(code.b, [code.element(source, at, lanes) for at in spots])):
            code.write(into, type_, (Coord(loops.add(code.b, j, r)), Coord(i, True)), e, vector)

    def run(_: bool) -> tuple[()]:
        loops.each(
            code.b, 0, rows, lanes, lambda i: loops.each(code.b, 0, columns, lanes, lambda j: square(i, j))
        )
        return ()

    code.versions([source], run)
