"""Reductions along one axis, or of the whole tile with axis=None.

max, min, argmax and argmin treat NaN as numpy does. Floats below 32 bits are
accumulated in float32 and rounded once.
"""

from __future__ import annotations

from tilec.coerce import Like, as_tile, cast, reshape, static_axis
from tilec.ir.errors import TilecTypeError
from tilec.ir.types import DType, bool_, int32, uint32
from tilec.tile import Tile
from tilec.trace import current


def _reduce(kind: str, x: Like, axis: int | None, keepdims: bool) -> Tile:
    tracer = current(f"tl.{kind}")
    tile = as_tile(x, f"the operand of tl.{kind}")
    shape = tile.shape
    if axis is None:
        tile, where = reshape(tile, (tile.type.size,)), 0
        kept = (1,) * len(shape)
    else:
        where = static_axis(axis, len(shape), f"tl.{kind}")
        kept = (*shape[:where], 1, *shape[where + 1 :])
    (out,) = tracer.emit("reduce", [tile], kind=kind, axis=where)
    return reshape(out, kept) if keepdims else out


def _sum_dtype(dtype: DType) -> DType:
    """Whole numbers are summed in at least 32 bits."""
    if dtype.is_float or dtype.bits >= 32:
        return dtype
    return uint32 if dtype.kind == "uint" else int32


def _summed(kind: str, x: Like, axis: int | None, keepdims: bool) -> Tile:
    current(f"tl.{kind}")
    tile = as_tile(x, f"the operand of tl.{kind}")
    return _reduce(kind, cast(tile, _sum_dtype(tile.dtype)), axis, keepdims)


def _ordered(kind: str, x: Like, axis: int | None, keepdims: bool) -> Tile:
    current(f"tl.{kind}")
    tile = as_tile(x, f"the operand of tl.{kind}")
    if tile.dtype == bool_:
        raise TilecTypeError(
            "T327",
            f"tl.{kind} is not defined for bool",
            help="use tl.any or tl.all, or convert with x.to(tl.int32)",
        )
    return _reduce(kind, tile, axis, keepdims)


def _truth(kind: str, x: Like, axis: int | None, keepdims: bool) -> Tile:
    current(f"tl.{kind}")
    tile = as_tile(x, f"the operand of tl.{kind}")
    return _reduce(kind, tile if tile.dtype == bool_ else tile != 0, axis, keepdims)


def sum(x: Like, axis: int | None = None, *, keepdims: bool = False) -> Tile:
    """The sum; bool and integers below 32 bits give 32 bits."""
    return _summed("sum", x, axis, keepdims)


def prod(x: Like, axis: int | None = None, *, keepdims: bool = False) -> Tile:
    """The product; bool and integers below 32 bits give 32 bits."""
    return _summed("prod", x, axis, keepdims)


def max(x: Like, axis: int | None = None, *, keepdims: bool = False) -> Tile:
    """The largest element; NaN if any is NaN."""
    return _ordered("max", x, axis, keepdims)


def min(x: Like, axis: int | None = None, *, keepdims: bool = False) -> Tile:
    """The smallest element; NaN if any is NaN."""
    return _ordered("min", x, axis, keepdims)


def argmax(x: Like, axis: int | None = None, *, keepdims: bool = False) -> Tile:
    """The first index of the largest element, int32 (row-major with axis=None)."""
    return _ordered("argmax", x, axis, keepdims)


def argmin(x: Like, axis: int | None = None, *, keepdims: bool = False) -> Tile:
    """The first index of the smallest element, int32 (row-major with axis=None)."""
    return _ordered("argmin", x, axis, keepdims)


def any(x: Like, axis: int | None = None, *, keepdims: bool = False) -> Tile:
    """Is any element true (not 0)?"""
    return _truth("any", x, axis, keepdims)


def all(x: Like, axis: int | None = None, *, keepdims: bool = False) -> Tile:
    """Are all elements true (not 0)?"""
    return _truth("all", x, axis, keepdims)


def xor_sum(x: Like, axis: int | None = None, *, keepdims: bool = False) -> Tile:
    """The exclusive or of all elements, on integers."""
    current("tl.xor_sum")
    tile = as_tile(x, "the operand of tl.xor_sum")
    if not tile.dtype.is_int:
        raise TilecTypeError("T327", f"tl.xor_sum is not defined for {tile.dtype}", help="it takes integers")
    return _reduce("xor_sum", tile, axis, keepdims)
