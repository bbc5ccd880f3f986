"""From what a user writes to tiles: numbers, promotion, broadcasting, static arguments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeGuard

import numpy as np

from tilec.ir.errors import TilecTypeError, TilecValueError
from tilec.ir.types import (
    DTYPES,
    DType,
    bool_,
    broadcast_shapes,
    dtype_of,
    float32,
    int32,
    int64,
    promote,
)
from tilec.tile import TensorArg, Tile
from tilec.trace import Tracer, current

Number = int | float | bool
_NUMBER_HELP = "tiles come from tl.load, tl.gather, tl.full and the like"
_INTEGERS_ONLY = ("&", "|", "^", "<<", ">>", "~")
_BITS_HELP = "it takes integers: x.to(tl.int32) converts the value, x.bitcast(tl.int32) takes the bits"
Like = Tile | int | float | bool


def is_number(x: object) -> TypeGuard[Number]:
    """A Python (or numpy) number, known while tracing."""
    return isinstance(x, int | float | np.bool_ | np.integer | np.floating)


def plain(x: Any) -> Number:
    """A number as bool, int or float of Python."""
    value: Number = x.item() if isinstance(x, np.generic) else x
    return value


def number_dtype(x: Number) -> DType:
    """The dtype of a number that meets no tile: bool, int32 (int64 if large), float32."""
    if isinstance(x, bool):
        return bool_
    if isinstance(x, float):
        return float32
    return int32 if -(2**31) <= x < 2**31 else int64


def weak(x: Number, dtype: DType) -> DType:
    """The dtype in which a number meets tiles of ``dtype``: it never widens it."""
    if isinstance(x, float) and not dtype.is_float:
        return float32
    if not isinstance(x, bool) and dtype.kind == "bool":
        return number_dtype(x)
    return dtype


def const(value: Any, dtype: DType, shape: Sequence[int] = ()) -> Tile:
    """A tile filled with a number, which must fit an integer dtype."""
    number = fitting(plain(value), dtype)
    (tile,) = current("a constant").emit("const", dtype=dtype, shape=tuple(shape), value=number)
    return tile


def fitting(number: Number, dtype: DType) -> Number:
    """The number as one of ``dtype``; an error if an integer dtype cannot hold it."""
    if dtype.is_float:
        return float(number)
    if dtype.kind == "bool":
        return bool(number)
    if isinstance(number, float) and not number.is_integer():
        raise TilecTypeError("T302", f"{number} is not a value of {dtype}", help="use a float dtype")
    low = -(2 ** (dtype.bits - 1)) if dtype.kind == "int" else 0
    high = 2 ** (dtype.bits - (dtype.kind == "int")) - 1
    if not low <= number <= high:
        raise TilecValueError(
            "V307",
            f"{number} does not fit in {dtype}",
            help=f"{dtype} holds {low} to {high}: convert the tile",
        )
    return int(number)


def as_tile(x: Any, what: str = "an operand", dtype: DType | None = None) -> Tile:
    """A tile as it is; a number as a scalar of ``dtype`` (or its own dtype)."""
    if isinstance(x, Tile):
        return x
    if is_number(x):
        number = plain(x)
        return const(number, dtype or number_dtype(number))
    raise wrong_kind(x, what)


def wrong_kind(x: Any, what: str) -> TilecTypeError:
    """The error for something that is neither tile nor number."""
    if isinstance(x, TensorArg):
        return TilecTypeError(
            "T303",
            f"{what} is the tensor {x.name!r}, which is no tile",
            help="read a tile of it with tl.load",
        )
    kind = type(x).__name__
    mend = (
        "pass arrays as arguments of the kernel and tl.load them" if hasattr(x, "__array__") else _NUMBER_HELP
    )
    return TilecTypeError("T304", f"{what} must be a tile or a number, not {kind}", help=mend)


def common_dtype(operands: Iterable[Any], what: str) -> DType:
    """The dtype in which tiles and numbers meet."""
    items = list(operands)
    for x in items:
        if not isinstance(x, Tile) and not is_number(x):
            raise wrong_kind(x, f"an operand of {what}")
    tiles = [x.dtype for x in items if isinstance(x, Tile)]
    numbers = [plain(x) for x in items if not isinstance(x, Tile)]
    dtype = tiles[0] if tiles else number_dtype(numbers[0])
    for other in tiles[1:]:
        dtype = promote(dtype, other)
    for number in numbers:
        dtype = weak(number, dtype)
    return dtype


def unify(operands: Sequence[Any], what: str, dtype: DType | None = None) -> list[Tile]:
    """The operands as tiles of one dtype and one shape."""
    dtype = dtype or common_dtype(operands, what)
    shape = broadcast_shapes(*(x.shape for x in operands if isinstance(x, Tile)))
    return [spread(cast(as_tile(x, what, dtype), dtype), shape) for x in operands]


def cast(x: Tile, dtype: DType) -> Tile:
    """The tile in another dtype; nothing if it has it."""
    return x if x.dtype == dtype else x.tracer.emit("cast", [x], dtype=dtype)[0]


def reshape(x: Tile, shape: Sequence[int]) -> Tile:
    """The tile under another shape; nothing if it has it."""
    return x if x.shape == tuple(shape) else x.tracer.emit("reshape", [x], shape=tuple(shape))[0]


def spread(x: Tile, shape: Sequence[int]) -> Tile:
    """Broadcast as numpy: add extents of 1 on the left, then repeat."""
    shape = tuple(shape)
    if x.shape == shape:
        return x
    if not _reaches(x.shape, shape):
        raise TilecTypeError(
            "T101", f"shape {x.shape} does not broadcast to {shape}", help="align it with x[:, None]"
        )
    if x.shape:
        x = reshape(x, (1,) * (len(shape) - len(x.shape)) + x.shape)
    return x if x.shape == shape else x.tracer.emit("broadcast", [x], shape=shape)[0]


def _reaches(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Does numpy's rule broadcast ``shape`` to exactly ``target``?"""
    tail = target[len(target) - len(shape) :]
    return len(shape) <= len(target) and all(n in (1, m) for n, m in zip(shape, tail, strict=True))


def elementwise(name: str, *operands: Any, what: str = "") -> Tile:
    """An elementwise op on operands that promote and broadcast; ``what`` is how the user wrote it."""
    tiles = unify(operands, what or f"tl.{name}")
    if what in _INTEGERS_ONLY and tiles[0].dtype.is_float:
        raise TilecTypeError("T108", f"{what} is not defined for {tiles[0].dtype}", help=_BITS_HELP)
    return tiles[0].tracer.emit(name, tiles)[0]


def static_int(x: Any, what: str) -> int:
    """An int known while tracing."""
    if isinstance(x, Tile):
        raise TilecTypeError(
            "T305", f"{what} must be known when the kernel is compiled, not a run-time value",
            help="make it a parameter annotated tl.constexpr[int]",
        )  # fmt: skip
    if isinstance(x, bool) or not isinstance(x, int | np.integer):
        raise TilecTypeError(
            "T306", f"{what} must be an int, not {type(x).__name__} {x!r}", help="use // for whole numbers"
        )
    return int(x)


def static_shape(shape: Any, what: str) -> tuple[int, ...]:
    """An int or a sequence of ints as a shape."""
    if isinstance(shape, Tile | int | np.integer):
        shape = (shape,)
    if not isinstance(shape, tuple | list):
        raise TilecTypeError(
            "T307", f"{what} must be a tuple of ints, not {type(shape).__name__}", help="write (4, 8)"
        )
    found = tuple(static_int(n, f"{what}[{i}]") for i, n in enumerate(shape))
    if any(n < 1 for n in found):
        raise TilecValueError(
            "V102", f"a tile needs positive extents, not {found}", help="every extent is at least 1"
        )
    return found


def static_axis(axis: Any, rank: int, what: str) -> int:
    """An axis in [-rank, rank) as one in [0, rank)."""
    found = static_int(axis, f"the axis of {what}")
    if not -rank <= found < rank:
        raise TilecValueError(
            "V101", f"{what}: axis {found} is outside a tile of rank {rank}",
            help=f"use an axis from 0 to {rank - 1}" if rank else "a scalar has no axis",
        )  # fmt: skip
    return found % rank


def as_dtype(x: Any, what: str) -> DType:
    """A DType, or the one that a string or numpy dtype names."""
    if isinstance(x, DType | str | np.dtype | type):
        try:
            return dtype_of(x)
        except TypeError:
            pass
    raise TilecTypeError(
        "T308", f"{what} must be a dtype, not {type(x).__name__} {x!r}", help=f"one of {', '.join(DTYPES)}"
    )


def scalar_index(x: Any, what: str, tracer: Tracer) -> Tile:
    """A tile index or offset: an integer scalar of at least 32 bits."""
    if is_number(x):
        return const(static_int(x, what), number_dtype(plain(x)))
    tile = as_tile(x, what)
    if tile.shape != () or not tile.dtype.is_int:
        raise TilecTypeError(
            "T105", f"{what} must be an integer scalar, not {tile.type}",
            help="tl.gather and tl.scatter take tiles of indices",
        )  # fmt: skip
    return cast(tile, int32) if tile.dtype.bits < 32 else tile
