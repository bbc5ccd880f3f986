"""Elementwise functions. Operands promote and broadcast as for the operators."""

from __future__ import annotations

from typing import Any, overload

from tilec.coerce import (
    Like,
    as_tile,
    cast,
    common_dtype,
    elementwise,
    is_number,
    plain,
    spread,
    unify,
)
from tilec.ir.errors import TilecTypeError
from tilec.ir.types import DType, bool_, broadcast_shapes, float32
from tilec.tile import Tile
from tilec.trace import current


def where(condition: Like, a: Like, b: Like) -> Tile:
    """``a`` where the bool tile is true, else ``b``."""
    current("tl.where")
    mask = as_tile(condition, "the condition of tl.where")
    if mask.dtype != bool_:
        raise TilecTypeError(
            "T324", f"the condition of tl.where is {mask.type}, not bool", help="compare first"
        )
    dtype = common_dtype((a, b), "tl.where")
    tiles = [as_tile(x, "an operand of tl.where", dtype) for x in (a, b)]
    shape = broadcast_shapes(mask.shape, *(t.shape for t in tiles))
    left, right = (spread(cast(t, dtype), shape) for t in tiles)
    return mask.tracer.emit("where", [spread(mask, shape), left, right])[0]


def minimum(a: Like, b: Like) -> Tile:
    """The smaller of each pair; NaN if either is NaN."""
    return elementwise("minimum", a, b)


def maximum(a: Like, b: Like) -> Tile:
    """The larger of each pair; NaN if either is NaN."""
    return elementwise("maximum", a, b)


def abs(x: Like) -> Tile:
    """The absolute value; the most negative integer wraps to itself."""
    return elementwise("abs", x)


def clamp(x: Like, low: Like, high: Like) -> Tile:
    """minimum(maximum(x, low), high)."""
    return minimum(maximum(x, low), high)


def fma(a: Like, b: Like, c: Like) -> Tile:
    """a * b + c on floats, rounded once."""
    return _floats("fma", a, b, c)


def pow(a: Like, b: Like) -> Tile:
    """a to the power b, on floats."""
    return _floats("pow", a, b)


@overload
def cdiv(a: int, b: int) -> int: ...
@overload
def cdiv(a: Like, b: Like) -> Any: ...
def cdiv(a: Like, b: Like) -> Any:
    """a / b rounded up, for b > 0. Python ints give a Python int, also outside of kernels."""
    if is_number(a) and is_number(b):
        x, y = plain(a), plain(b)
        if isinstance(x, float) or isinstance(y, float) or y == 0:
            raise TilecTypeError("T325", f"tl.cdiv({x}, {y}) needs ints and a divisor that is not 0")
        return -(-x // y)
    dtype = common_dtype((a, b), "tl.cdiv")
    if not dtype.is_int:
        raise TilecTypeError("T325", f"tl.cdiv is not defined for {dtype}", help="it divides integers")
    if dtype.kind == "uint":
        return (a + b - 1) // b
    return (a - 1) // b + 1


def _floats(name: str, *operands: Any) -> Tile:
    current(f"tl.{name}")
    dtype: DType = common_dtype(operands, f"tl.{name}")
    if all(is_number(x) for x in operands) or not dtype.is_float:
        dtype = _float_dtype(name, dtype, operands)
    tiles = unify(operands, f"tl.{name}", dtype)
    return tiles[0].tracer.emit(name, tiles)[0]


def _float_dtype(name: str, dtype: DType, operands: tuple[Any, ...]) -> DType:
    if all(is_number(x) for x in operands):
        return float32
    raise TilecTypeError(
        "T326", f"tl.{name} is not defined for {dtype}", help="convert first: x.to(tl.float32)"
    )


def exp(x: Like) -> Tile:
    """e to the x."""
    return _floats("exp", x)


def exp2(x: Like) -> Tile:
    """2 to the x."""
    return _floats("exp2", x)


def log(x: Like) -> Tile:
    """Natural logarithm."""
    return _floats("log", x)


def log2(x: Like) -> Tile:
    """Logarithm to base 2."""
    return _floats("log2", x)


def sqrt(x: Like) -> Tile:
    """Square root, IEEE."""
    return _floats("sqrt", x)


def rsqrt(x: Like) -> Tile:
    """1 / sqrt(x)."""
    return _floats("rsqrt", x)


def sin(x: Like) -> Tile:
    """Sine of radians."""
    return _floats("sin", x)


def cos(x: Like) -> Tile:
    """Cosine of radians."""
    return _floats("cos", x)


def tanh(x: Like) -> Tile:
    """Hyperbolic tangent."""
    return _floats("tanh", x)


def sigmoid(x: Like) -> Tile:
    """1 / (1 + exp(-x))."""
    return _floats("sigmoid", x)


def erf(x: Like) -> Tile:
    """The error function."""
    return _floats("erf", x)


def floor(x: Like) -> Tile:
    """Round down."""
    return _floats("floor", x)


def ceil(x: Like) -> Tile:
    """Round up."""
    return _floats("ceil", x)


def rint(x: Like) -> Tile:
    """Round to nearest, ties to even."""
    return _floats("rint", x)
