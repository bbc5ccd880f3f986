"""Tiles from numbers."""

from __future__ import annotations

from collections.abc import Sequence

from tilec.coerce import Like, as_dtype, as_tile, cast, const, is_number, spread, static_int, static_shape
from tilec.ir.errors import TilecTypeError, TilecValueError
from tilec.ir.types import DType
from tilec.tile import Tile
from tilec.trace import current

Shape = int | Sequence[int]


def zeros(shape: Shape, dtype: DType | str) -> Tile:
    """A tile of zeros; shape () gives a scalar."""
    return full(shape, 0, dtype)


def full(shape: Shape, value: Like, dtype: DType | str) -> Tile:
    """A tile filled with a number or a scalar."""
    current("tl.full")
    extents, kind = static_shape(shape, "the shape"), as_dtype(dtype, "dtype")
    if is_number(value):
        return const(value, kind, extents)
    filler = as_tile(value, "the value of tl.full")
    if filler.shape != ():
        raise TilecTypeError(
            "T323", f"tl.full repeats a scalar, not {filler.type}", help="use tl.broadcast_to(x, shape)"
        )
    return spread(cast(filler, kind), extents)


def arange(start: int, stop: int | None = None) -> Tile:
    """start, start + 1, ..., stop - 1 as an int32 tile of rank 1; one argument starts at 0."""
    low, high = (0, start) if stop is None else (start, stop)
    first, last = static_int(low, "start of tl.arange"), static_int(high, "stop of tl.arange")
    if last <= first:
        raise TilecValueError("V103", f"arange({first}, {last}) is empty", help="stop must exceed start")
    return current("tl.arange").emit("arange", start=first, stop=last)[0]
