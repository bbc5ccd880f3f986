"""Grid position, loads and stores of tiles, gather, scatter and atomics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tilec.coerce import (
    Like,
    as_tile,
    const,
    fitting,
    is_number,
    plain,
    scalar_index,
    spread,
    static_int,
    static_shape,
)
from tilec.ir.errors import TilecTypeError, TilecValueError, UnsupportedError
from tilec.ir.types import DType, bool_, broadcast_shapes
from tilec.tile import TensorArg, Tile
from tilec.trace import current

Index = Like | Sequence[Like]


def program_id(axis: int = 0) -> Tile:
    """This program instance's index along a grid axis (0, 1 or 2), an int32 scalar."""
    return _grid("program_id", axis)


def num_programs(axis: int = 0) -> Tile:
    """The extent of the grid along an axis, an int32 scalar."""
    return _grid("num_programs", axis)


def _grid(name: str, axis: int) -> Tile:
    found = static_int(axis, f"the axis of tl.{name}")
    if found not in (0, 1, 2):
        raise TilecValueError("V105", f"tl.{name}: grid axis {found}", help="a grid has the axes 0, 1 and 2")
    return current(f"tl.{name}").emit(name, axis=found)[0]


def load(
    tensor: TensorArg, index: Index | None = None, shape: int | Sequence[int] | None = None, *,
    offset: Index | None = None, pad: float = 0,
) -> Tile:  # fmt: skip
    """Read a tile of ``shape``.

    ``index`` counts in tiles: dimension d starts at ``index[d] * shape[d]``.
    ``offset`` (instead of ``index``) counts in elements. Elements outside of the
    tensor are ``pad``.
    """
    _tensor(tensor, "tl.load")
    if shape is None:
        raise TilecTypeError("T317", "tl.load needs the shape of the tile", help="tl.load(T, index, shape)")
    extents = static_shape(shape, "the shape of tl.load")
    _check_rank("tl.load", tensor, extents)
    starts = _starts("tl.load", tensor, index, offset, extents)
    filler = _pad(pad, tensor.dtype)
    (tile,) = tensor.tracer.emit("load", [tensor, *starts], shape=extents, pad=filler)
    return tile


def store(
    tensor: TensorArg, index: Index | None = None, value: Tile | None = None, *, offset: Index | None = None
) -> None:
    """Write a tile; ``index`` or ``offset`` as in `load`. Elements outside of the tensor are dropped."""
    _tensor(tensor, "tl.store")
    if not isinstance(value, Tile):
        raise TilecTypeError(
            "T318", f"tl.store writes a tile, not {type(value).__name__}",
            help="tl.store(T, index, value); make a tile of a number with tl.full(shape, number, T.dtype)",
        )  # fmt: skip
    if value.dtype != tensor.dtype:
        raise TilecTypeError(
            "T118", f"store of {value.dtype} into the tensor {tensor.name!r} of {tensor.dtype}",
            help=f"convert with value.to({tensor.name}.dtype)",
        )  # fmt: skip
    _check_rank("tl.store", tensor, value.shape)
    starts = _starts("tl.store", tensor, index, offset, value.shape)
    tensor.tracer.emit("store", [tensor, value, *starts])


def _tensor(x: Any, what: str) -> TensorArg:
    if isinstance(x, TensorArg):
        return x
    kind = f"the tile {x.type}" if isinstance(x, Tile) else type(x).__name__
    mend = "arrays must be passed as arguments of the kernel" if hasattr(x, "__array__") else ""
    raise TilecTypeError("T319", f"{what} accesses a tensor argument, not {kind}", help=mend)


def _check_rank(what: str, tensor: TensorArg, shape: tuple[int, ...]) -> None:
    if len(shape) != tensor.ndim:
        raise TilecTypeError(
            "T117", f"{what}: the tensor {tensor.name!r} has rank {tensor.ndim}, the tile has shape {shape}",
            help="give one extent for each dimension (extent 1 to pick one), then tl.reshape",
        )  # fmt: skip


def _starts(what: str, tensor: TensorArg, index: Any, offset: Any, shape: tuple[int, ...]) -> list[Tile]:
    """The element offsets of a tile given by tile index or by offset."""
    if (index is None) == (offset is None):
        raise TilecTypeError(
            "T320", f"{what} takes an index or an offset, exactly one of them",
            help="index counts in tiles, offset=(...) in elements",
        )  # fmt: skip
    items = _items(index if offset is None else offset)
    if len(items) != tensor.ndim:
        raise TilecTypeError(
            "T117", f"{what}: {len(items)} indices into the tensor {tensor.name!r} of rank {tensor.ndim}",
            help="give one index for each dimension",
        )  # fmt: skip
    scale = shape if offset is None else (1,) * len(shape)
    return [_start(what, i, x, n, tensor) for i, (x, n) in enumerate(zip(items, scale, strict=True))]


def _start(what: str, axis: int, x: Any, scale: int, tensor: TensorArg) -> Tile:
    name = f"index {axis} of {what}"
    if is_number(x):
        return scalar_index(static_int(x, name) * scale, name, tensor.tracer)
    tile = scalar_index(x, name, tensor.tracer)
    return tile if scale == 1 else tile * scale


def _items(x: Any) -> tuple[Any, ...]:
    return tuple(x) if isinstance(x, tuple | list) else (x,)


def _pad(pad: Any, dtype: DType) -> float:
    if not is_number(pad):
        raise TilecTypeError(
            "T321", f"pad must be a number known when the kernel is compiled, not {type(pad).__name__}",
            help="load with pad=0 and choose with tl.where",
        )  # fmt: skip
    return fitting(plain(pad), dtype)


def _places(
    what: str, tensor: TensorArg, indices: Any, mask: Any, *others: Any
) -> tuple[list[Tile], Tile, tuple[int, ...]]:
    """Indices and mask, broadcast to one shape (which ``others`` may widen)."""
    _tensor(tensor, what)
    found = [as_tile(x, f"an index of {what}") for x in _items(indices)]
    if len(found) != tensor.ndim:
        raise TilecTypeError(
            "T117", f"{what}: {len(found)} indices into the tensor {tensor.name!r} of rank {tensor.ndim}",
            help="give a tuple with one tile of indices for each dimension",
        )  # fmt: skip
    for x in found:
        if not x.dtype.is_int:
            raise TilecTypeError(
                "T322", f"{what}: an index is {x.type}, not an integer tile", help="use x.to(tl.int32)"
            )
    condition = const(True, bool_) if mask is None else as_tile(mask, f"the mask of {what}")
    if condition.dtype != bool_:
        raise TilecTypeError("T119", f"{what}: the mask is {condition.type}, not bool", help="compare first")
    tiles = [x for x in (*found, condition, *others) if isinstance(x, Tile)]
    shape = broadcast_shapes(*(x.shape for x in tiles))
    return [spread(x, shape) for x in found], spread(condition, shape), shape


def _payload(what: str, tensor: TensorArg, value: Any, shape: tuple[int, ...]) -> Tile:
    tile = as_tile(value, f"the value of {what}", tensor.dtype)
    if tile.dtype != tensor.dtype:
        raise TilecTypeError(
            "T119", f"{what}: the value is {tile.type}, the tensor {tensor.name!r} has {tensor.dtype}",
            help=f"convert with value.to({tensor.name}.dtype)",
        )  # fmt: skip
    return spread(tile, shape)


def gather(tensor: TensorArg, indices: Index, *, mask: Like | None = None, other: Like = 0) -> Tile:
    """Read single elements: one integer tile per dimension (a tuple, or one tile for rank 1).

    Indices and ``mask`` broadcast together. Where the mask is false or an index is
    outside of the tensor the result is ``other``.
    """
    found, condition, shape = _places("tl.gather", tensor, indices, mask)
    filler = _payload("tl.gather", tensor, other, shape)
    return tensor.tracer.emit("gather", [tensor, *found, condition, filler])[0]


def scatter(tensor: TensorArg, indices: Index, value: Like, *, mask: Like | None = None) -> None:
    """Write single elements; masked or outside ones are dropped. Of equal indices any one wins."""
    found, condition, shape = _places("tl.scatter", tensor, indices, mask, value)
    payload = _payload("tl.scatter", tensor, value, shape)
    tensor.tracer.emit("scatter", [tensor, *found, payload, condition])


def _atomic(
    kind: str, tensor: TensorArg, indices: Index, value: Like, mask: Like | None, sem: str, scope: str
) -> Tile:
    what = f"tl.atomic_{kind}"
    if sem != "relaxed" or scope != "gpu":
        raise UnsupportedError(
            "U301", f"{what} with sem={sem!r}, scope={scope!r}", help='use sem="relaxed", scope="gpu"'
        )
    found, condition, shape = _places(what, tensor, indices, mask, value)
    if kind in ("and", "or", "xor") and not tensor.dtype.is_int:
        raise TilecTypeError("T108", f"{what} is not defined for {tensor.dtype}", help="it takes integers")
    if tensor.dtype == bool_ and kind != "xchg":
        raise TilecTypeError("T108", f"{what} is not defined for bool", help="keep the flags in int32")
    payload = _payload(what, tensor, value, shape)
    return tensor.tracer.emit("atomic", [tensor, *found, payload, condition], kind=kind)[0]


def atomic_add(
    tensor: TensorArg, indices: Index, value: Like, *, mask: Like | None = None,
    sem: str = "relaxed", scope: str = "gpu",
) -> Tile:  # fmt: skip
    """Add to single elements, each at once; gives the old values (0 where masked or outside)."""
    return _atomic("add", tensor, indices, value, mask, sem, scope)


def atomic_max(
    tensor: TensorArg, indices: Index, value: Like, *, mask: Like | None = None,
    sem: str = "relaxed", scope: str = "gpu",
) -> Tile:  # fmt: skip
    """Keep the larger of element and value; gives the old values."""
    return _atomic("max", tensor, indices, value, mask, sem, scope)


def atomic_min(
    tensor: TensorArg, indices: Index, value: Like, *, mask: Like | None = None,
    sem: str = "relaxed", scope: str = "gpu",
) -> Tile:  # fmt: skip
    """Keep the smaller of element and value; gives the old values."""
    return _atomic("min", tensor, indices, value, mask, sem, scope)


def atomic_and(
    tensor: TensorArg, indices: Index, value: Like, *, mask: Like | None = None,
    sem: str = "relaxed", scope: str = "gpu",
) -> Tile:  # fmt: skip
    """Bitwise and into single elements; gives the old values."""
    return _atomic("and", tensor, indices, value, mask, sem, scope)


def atomic_or(
    tensor: TensorArg, indices: Index, value: Like, *, mask: Like | None = None,
    sem: str = "relaxed", scope: str = "gpu",
) -> Tile:  # fmt: skip
    """Bitwise or into single elements; gives the old values."""
    return _atomic("or", tensor, indices, value, mask, sem, scope)


def atomic_xor(
    tensor: TensorArg, indices: Index, value: Like, *, mask: Like | None = None,
    sem: str = "relaxed", scope: str = "gpu",
) -> Tile:  # fmt: skip
    """Bitwise exclusive or into single elements; gives the old values."""
    return _atomic("xor", tensor, indices, value, mask, sem, scope)


def atomic_xchg(
    tensor: TensorArg, indices: Index, value: Like, *, mask: Like | None = None,
    sem: str = "relaxed", scope: str = "gpu",
) -> Tile:  # fmt: skip
    """Write single elements and give what was there before."""
    return _atomic("xchg", tensor, indices, value, mask, sem, scope)
