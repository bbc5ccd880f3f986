"""Shape and dtype of tiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tilec import coerce
from tilec.coerce import Like, as_dtype, as_tile, spread, static_axis, static_int, static_shape
from tilec.ir.errors import TilecTypeError, UnsupportedError
from tilec.ir.types import DType
from tilec.tile import Tile
from tilec.trace import current


def reshape(x: Like, shape: int | Sequence[int]) -> Tile:
    """The same elements in row-major order under another shape; one extent may be -1."""
    current("tl.reshape")
    tile = as_tile(x, "the operand of tl.reshape")
    return coerce.reshape(tile, _resolved(tile, shape))


def _resolved(tile: Tile, shape: Any) -> tuple[int, ...]:
    raw = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    if not any(isinstance(n, Tile) for n in raw) and raw.count(-1) == 1:
        known = math.prod(static_int(n, "an extent of tl.reshape") for n in raw if n != -1)
        raw = tuple(tile.type.size // max(known, 1) if n == -1 else n for n in raw)
    found = static_shape(raw, "the shape of tl.reshape")
    if math.prod(found) != tile.type.size:
        raise TilecTypeError(
            "T111", f"tl.reshape from {tile.shape} to {found}: {tile.type.size} elements do not fill it",
            help="the product of the extents must stay the same",
        )  # fmt: skip
    return found


def permute(x: Like, *axes: Any) -> Tile:
    """Reorder axes: axis i of the result is axis axes[i] of x. Takes a tuple or single ints."""
    current("tl.permute")
    tile = as_tile(x, "the operand of tl.permute")
    given = axes[0] if len(axes) == 1 and isinstance(axes[0], tuple | list) else axes
    perm = tuple(static_axis(a, tile.ndim, "tl.permute") for a in given)
    if sorted(perm) != list(range(tile.ndim)):
        raise TilecTypeError(
            "T112", f"tl.permute: {tuple(given)} does not name each axis of {tile.shape} once",
            help=f"give a permutation of {tuple(range(tile.ndim))}",
        )  # fmt: skip
    return tile.tracer.emit("permute", [tile], perm=perm)[0]


def trans(x: Like) -> Tile:
    """Swap the axes of a tile of rank 2."""
    current("tl.trans")
    tile = as_tile(x, "the operand of tl.trans")
    if tile.ndim != 2:
        raise TilecTypeError(
            "T328", f"tl.trans takes a tile of rank 2, not {tile.shape}", help="use tl.permute(x, axes)"
        )
    return permute(tile, (1, 0))


def expand_dims(x: Like, axis: int) -> Tile:
    """Insert an axis of extent 1 at ``axis`` of the result."""
    current("tl.expand_dims")
    tile = as_tile(x, "the operand of tl.expand_dims")
    where = static_axis(axis, tile.ndim + 1, "tl.expand_dims")
    return coerce.reshape(tile, (*tile.shape[:where], 1, *tile.shape[where:]))


def broadcast_to(x: Like, shape: int | Sequence[int]) -> Tile:
    """Repeat to a shape by numpy's rule."""
    current("tl.broadcast_to")
    extents = static_shape(shape, "the shape of tl.broadcast_to")
    return spread(as_tile(x, "the operand of tl.broadcast_to"), extents)


def cast(x: Like, dtype: DType | str, saturate: bool = False) -> Tile:
    """Convert: floats round to nearest even; float to int truncates and saturates, NaN gives 0.

    ``saturate``, of floats to float8: too large a number becomes the largest, not NaN or infinity.
    """
    current("tl.cast")
    tile, to = as_tile(x, "the operand of tl.cast"), as_dtype(dtype, "dtype")
    return tile.tracer.emit("cast", [tile], dtype=to, saturate=True)[0] if saturate else coerce.cast(tile, to)


def bitcast(x: Like, dtype: DType | str) -> Tile:
    """The same bits as another dtype of equal width."""
    current("tl.bitcast")
    tile, to = as_tile(x, "the operand of tl.bitcast"), as_dtype(dtype, "dtype")
    if tile.dtype.bits != to.bits:
        raise TilecTypeError(
            "T109", f"bitcast from {tile.dtype} to {to}: widths differ", help="x.to(dtype) converts the value"
        )
    return tile if tile.dtype == to else tile.tracer.emit("bitcast", [tile], dtype=to)[0]


def subscript(x: Tile, index: Any) -> Tile:
    """``x[:, None]``: None inserts an axis, : keeps one, ... keeps the rest."""
    items = list(index) if isinstance(index, tuple) else [index]
    kept = sum(1 for i in items if isinstance(i, slice))
    if Ellipsis in [i for i in items if not isinstance(i, Tile)]:
        where = next(n for n, i in enumerate(items) if i is Ellipsis)
        items[where : where + 1] = [slice(None)] * (x.ndim - kept)
    else:
        items += [slice(None)] * (x.ndim - kept)
    shape: list[int] = []
    axes = iter(x.shape)
    for item in items:
        shape.append(1 if item is None else _kept(x, item, axes))
    return coerce.reshape(x, shape)


def _kept(x: Tile, item: Any, axes: Any) -> int:
    if not isinstance(item, slice) or item != slice(None):
        raise UnsupportedError(
            "U302", f"a tile is indexed with {_text(item)}",
            help="only None and : work: load the part you need, or select with tl.where and reduce",
        )  # fmt: skip
    extent = next(axes, None)
    if extent is None:
        raise TilecTypeError("T329", f"too many indices for a tile of shape {x.shape}")
    return int(extent)


def _text(item: Any) -> str:
    if not isinstance(item, slice):
        return repr(item)
    return "a slice" if item.step is None else "a strided slice"
