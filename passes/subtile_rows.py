"""Where the rows of products lie: which dimension of which value, and what each op does to it.

A dimension is cut in equal parts; a part is a contiguous piece of it. Maps are for whole
tiles: part p of a result comes from part p of the operands along the dimensions given here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod

from tilec.ir.core import Block, Op, Value
from tilec.ir.ops import opdef
from tilec.ir.types import TileType
from tilec.passes.rewrite import where
from tilec.passes.sweep import CARRIED, carried_sources, carried_values

Shape = tuple[int, ...]
# Ops whose tile operands, and result if there is one, all have one shape.
SAME_SHAPE = ("elementwise1", "elementwise2", "elementwise3", "compare", "cast")
POINTWISE = ("gather", "scatter", "atomic")


class CannotSplit(Exception):
    """Why rows cannot be split, as a sentence for the user."""


class Whole(Exception):
    """A carried value of which parts are wanted along a dimension: it must be carried in parts."""

    def __init__(self, value: Value, dim: int) -> None:
        self.value, self.dim = value, dim


def shape_of(value: Value) -> Shape:
    """The shape of a tile; () for scalars and tensors."""
    return value.type.shape if isinstance(value.type, TileType) else ()


def rows_of(body: Block, parts: int, known: Mapping[Value, int]) -> dict[Value, int]:
    """The values made from products, or from ``known`` ones, each with the dimension that holds its rows.

    CannotSplit where rows meet, are summed over, or become part of another dimension.
    """
    rows = dict(known)
    while True:
        before = len(rows)
        _spread(body, rows, parts)
        if len(rows) == before:
            return rows


def _spread(block: Block, rows: dict[Value, int], parts: int) -> None:
    for op in block.ops:
        if op.name in CARRIED:
            _spread_carried(op, rows)
        elif op.name == "dot":
            _note(rows, op.result, 0, op)
        for n, arg in enumerate(op.args):
            if arg in rows and not op.blocks and op.name != "yield":
                dim = forward(op, n, rows[arg], parts)
                for result in op.results:
                    _note(rows, result, dim, op)
        for inner in op.blocks:
            _spread(inner, rows, parts)


def _note(rows: dict[Value, int], value: Value, dim: int, op: Op) -> None:
    if rows.setdefault(value, dim) != dim:
        raise CannotSplit(f"{where(op)}: rows of products meet along two dimensions of this {op.name}")


def _spread_carried(op: Op, rows: dict[Value, int]) -> None:
    """A carried value has its rows in one dimension under all its names; what it starts as may have none."""
    for n in range(len(op.results)):
        names = carried_values(op, n)
        dims = [rows[v] for v in (*names, *carried_sources(op, n)) if v in rows]
        for dim in dims:
            for name in names:
                _note(rows, name, dim, op)


def forward(op: Op, n: int, dim: int, parts: int) -> int:
    """The dimension of the result (of the effect, for a write) that has the rows of operand ``n``."""
    if op.name == "dot" and (n == 1 or dim != 0):
        raise CannotSplit(f"{where(op)}: this dot reads rows of a product as columns or sums over them")
    if op.name in ("dot", "store", *POINTWISE) or opdef(op.name).family in SAME_SHAPE:
        return dim
    if op.name == "broadcast":
        return dim
    if op.name == "permute":
        return int(tuple(op.attrs["perm"]).index(dim))
    if op.name == "reshape":
        found = same_part(shape_of(op.args[0]), dim, shape_of(op.result), parts)
        if found is None:
            raise CannotSplit(f"{where(op)}: this reshape mixes rows with what is before them")
        return found
    if op.name == "reduce" and op.attrs["axis"] != dim:
        return dim - int(op.attrs["axis"] < dim)
    raise CannotSplit(f"{where(op)}: this {op.name} needs all rows at once")


def backward(op: Op, n: int, dim: int, parts: int) -> int | None:
    """The dimension of operand ``n`` whose parts give the parts of the result; None: all parts share it.

    CannotSplit where no dimension of a tile does.
    """
    shape = shape_of(op.args[n])
    if not shape or op.name == "load":
        return None
    if op.name == "dot":
        if dim != 0:
            raise CannotSplit(f"{where(op)}: the columns of this dot are not made in parts")
        return None if n == 1 else 0
    if op.name in POINTWISE or op.name == "store" or opdef(op.name).family in SAME_SHAPE:
        return dim
    if op.name == "broadcast":
        return dim if shape[dim] != 1 else None
    if op.name == "permute":
        return int(op.attrs["perm"][dim])
    if op.name == "reshape":
        found = same_part(shape_of(op.result), dim, shape, parts)
        if found is None:
            raise CannotSplit(f"{where(op)}: this reshape does not make its rows in parts")
        return found
    if op.name == "reduce":
        return dim + int(op.attrs["axis"] <= dim)
    raise CannotSplit(f"{where(op)}: this {op.name} is not made in parts")


def same_part(old: Shape, dim: int, new: Shape, parts: int) -> int | None:
    """The dimension of a reshaped tile whose equal parts hold the same elements, in row-major order."""
    before = prod(old[:dim])
    fits: Iterator[int] = (d for d, n in enumerate(new) if prod(new[:d]) == before and n % parts == 0)
    return next(fits, None)
