"""Elementwise ops: operands have one shape and dtype, casts and broadcasts are explicit.

Floats below 32 bits are computed in float32 and rounded once per op. Integers
wrap. Division by zero gives 0 for integers; shifts by the width or more give 0
(or the sign for arithmetic right shifts).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tilec.ir.core import Block, Op
from tilec.ir.errors import TilecTypeError
from tilec.ir.ops.rounding import round_once, sum_to_odd
from tilec.ir.ops.table import Args, TypeRule, op, tile
from tilec.ir.types import DType, Type, bool_

Array = np.ndarray[Any, Any]

NUMBER = ("int", "uint", "float")
INTEGER = ("int", "uint")
BITS = ("int", "uint", "bool")
FLOAT = ("float",)
ANY = ("int", "uint", "float", "bool")
# Ops that a GPU computes with ex2.
EXPONENTIALS = ("exp", "exp2", "tanh", "sigmoid", "erf")
LARGEST = {"float8_e4m3": 448.0, "float8_e5m2": 57344.0}
WIDER = ("float16", "bfloat16", "float32")
SHARE = " `share`: a GPU computes so many of 16 elements of a thread by a polynomial."


def _same(name: str, kinds: tuple[str, ...], result: DType | None = None) -> TypeRule:
    def infer(args: Args, attrs: Mapping[str, Any], blocks: tuple[Block, ...]) -> tuple[Type, ...]:
        tiles = [tile(a, f"operand of {name}") for a in args]
        first = tiles[0]
        for other in tiles[1:]:
            if (other.shape, other.dtype) != (first.shape, first.dtype):
                raise TilecTypeError("T107", f"{name}: operands {first} and {other} differ")
        if first.dtype.kind not in kinds:
            raise TilecTypeError(
                "T108", f"{name} is not defined for {first.dtype}", help=f"it takes {'/'.join(kinds)}"
            )
        return (first.with_(dtype=result or first.dtype, space="reg"),)

    return infer


def _elementwise(
    name: str, kinds: tuple[str, ...], arity: int, result: DType | None = None, family: str = "",
    optional: Mapping[str, Any] | None = None,
) -> Callable[[Callable[..., Any]], Any]:  # fmt: skip
    """Register a numpy function as the meaning of an elementwise op."""

    def wrap(fn: Callable[..., Any]) -> Any:
        def meaning(rt: Any, node: Op, *values: Array) -> Array:
            out = node.results[0].type.dtype  # type: ignore[union-attr]
            small = values[0].dtype.kind in "fV" and values[0].dtype.itemsize < 4
            inputs = [v.astype(np.float32) for v in values] if small else values
            found = np.asarray(fn(*inputs))
            return round_once(found, out) if out.is_float else found.astype(out.np)

        meaning.__doc__ = fn.__doc__
        rule = _same(name, kinds, result)
        operands = ("a", "b", "c")[:arity]
        return op(name, rule, operands, family=family or f"elementwise{arity}", optional=optional)(meaning)

    return wrap


def _binary(name: str, kinds: tuple[str, ...], doc: str, fn: Callable[..., Any]) -> None:
    def meaning(a: Array, b: Array) -> Any:
        return fn(a, b)

    meaning.__doc__ = doc
    _elementwise(name, kinds, 2)(meaning)


def _unary(name: str, kinds: tuple[str, ...], doc: str, fn: Callable[..., Any]) -> None:
    def meaning(a: Array) -> Any:
        return fn(a)

    shared = name in EXPONENTIALS
    meaning.__doc__ = doc + SHARE * shared
    _elementwise(name, kinds, 1, optional={"share": 0} if shared else None)(meaning)


def _compare(name: str, fn: Callable[..., Any], kinds: tuple[str, ...] = NUMBER) -> None:
    def meaning(a: Array, b: Array) -> Any:
        return fn(a, b)

    meaning.__doc__ = f"Elementwise comparison `{name}`; false on NaN except `ne`."
    _elementwise(name, kinds, 2, bool_, family="compare")(meaning)


def _floordiv(a: Array, b: Array) -> Any:
    if a.dtype.kind == "f":
        return np.floor(a / b)
    return np.where(b == 0, 0, np.floor_divide(a, np.where(b == 0, 1, b)))


def _mod(a: Array, b: Array) -> Any:
    if a.dtype.kind == "f":
        return np.mod(a, b)
    return np.where(b == 0, 0, np.mod(a, np.where(b == 0, 1, b)))


def _shift(fn: Callable[..., Any]) -> Callable[[Array, Array], Any]:
    def shifted(a: Array, b: Array) -> Any:
        bits = a.dtype.itemsize * 8
        wide = (b >= bits) | (b < 0)
        overflow = np.right_shift(a, bits - 1) if fn is np.right_shift and a.dtype.kind == "i" else 0
        return np.where(wide, overflow, fn(a, np.where(wide, 0, b)))

    return shifted


def _erf(a: Array) -> Any:
    return np.vectorize(math.erf, otypes=[np.float64])(a) if a.size else a


def _sigmoid(a: Array) -> Any:
    one = a.dtype.type(1)
    return one / (one + np.exp(-a))


_BINARY: tuple[tuple[str, tuple[str, ...], str, Callable[..., Any]], ...] = (
    ("add", NUMBER, "a + b; integers wrap.", np.add),
    ("sub", NUMBER, "a - b; integers wrap.", np.subtract),
    ("mul", NUMBER, "a * b; integers wrap.", np.multiply),
    ("div", FLOAT, "a / b, IEEE.", np.divide),
    ("floordiv", NUMBER, "floor(a / b); integers: 0 where b is 0.", _floordiv),
    ("mod", NUMBER, "a - b * floor(a / b); integers: 0 where b is 0.", _mod),
    ("pow", FLOAT, "a to the power b.", np.power),
    ("minimum", NUMBER, "The smaller; NaN if either is NaN.", np.minimum),
    ("maximum", NUMBER, "The larger; NaN if either is NaN.", np.maximum),
    ("and", BITS, "Bitwise and.", np.bitwise_and),
    ("or", BITS, "Bitwise or.", np.bitwise_or),
    ("xor", BITS, "Bitwise exclusive or.", np.bitwise_xor),
    ("shl", INTEGER, "a << b; 0 where b >= width.", _shift(np.left_shift)),
    ("shr", INTEGER, "a >> b, arithmetic for signed; sign or 0 where b >= width.", _shift(np.right_shift)),
)  # fmt: skip
for _row in _BINARY:
    _binary(*_row)

_UNARY: tuple[tuple[str, tuple[str, ...], str, Callable[..., Any]], ...] = (
    ("neg", NUMBER, "-a; integers wrap.", np.negative),
    ("not", BITS, "Bitwise complement; logical for bool.", np.invert),
    ("abs", NUMBER, "|a|; the most negative integer wraps to itself.", np.abs),
    ("exp", FLOAT, "e to the a.", np.exp),
    ("exp2", FLOAT, "2 to the a.", np.exp2),
    ("log", FLOAT, "Natural logarithm.", np.log),
    ("log2", FLOAT, "Logarithm to base 2.", np.log2),
    ("sqrt", FLOAT, "Square root, IEEE.", np.sqrt),
    ("rsqrt", FLOAT, "1 / sqrt(a).", lambda a: a.dtype.type(1) / np.sqrt(a)),
    ("sin", FLOAT, "Sine of radians.", np.sin),
    ("cos", FLOAT, "Cosine of radians.", np.cos),
    ("tanh", FLOAT, "Hyperbolic tangent.", np.tanh),
    ("sigmoid", FLOAT, "1 / (1 + exp(-a)).", _sigmoid),
    ("erf", FLOAT, "Error function.", _erf),
    ("floor", FLOAT, "Round down.", np.floor),
    ("ceil", FLOAT, "Round up.", np.ceil),
    ("rint", FLOAT, "Round to nearest, ties to even.", np.rint),
)
for _row in _UNARY:
    _unary(*_row)

_compare("lt", np.less)
_compare("le", np.less_equal)
_compare("gt", np.greater)
_compare("ge", np.greater_equal)
_compare("eq", np.equal, ANY)
_compare("ne", np.not_equal, ANY)


@_elementwise("fma", FLOAT, 3)
def _fma(a: Array, b: Array, c: Array) -> Any:
    """a * b + c, rounded once (float64: twice)."""
    if a.dtype.itemsize < 8:
        return sum_to_odd(a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64))
    return a * b + c


def _infer_where(args: Args, attrs: Mapping[str, Any], blocks: tuple[Block, ...]) -> tuple[Type, ...]:
    cond, a, b = (tile(t, "operand of where") for t in args)
    if cond.dtype != bool_ or cond.shape != a.shape or (a.shape, a.dtype) != (b.shape, b.dtype):
        raise TilecTypeError("T107", f"where: operands {cond}, {a} and {b} do not fit")
    return (a.with_(space="reg"),)


@op("where", _infer_where, ("cond", "a", "b"), family="elementwise3")
def _where(rt: Any, node: Op, cond: Array, a: Array, b: Array) -> Array:
    """a where cond is true, else b."""
    return np.asarray(np.where(cond, a, b))


def _infer_cast(args: Args, attrs: Mapping[str, Any], blocks: tuple[Block, ...]) -> tuple[Type, ...]:
    source, to = tile(args[0], "operand of cast"), attrs["dtype"]
    if attrs.get("saturate") and not (to.name in LARGEST and source.dtype.name in WIDER):
        raise TilecTypeError(
            "T108",
            f"cast from {source.dtype} to {to} does not saturate",
            help="`saturate` is for float8_e4m3 and float8_e5m2, from floats of 16 or 32 bits",
        )
    return (source.with_(dtype=to, space="reg"),)


@op("cast", _infer_cast, ("x",), attrs=("dtype",), optional={"saturate": False}, family="cast")
def _cast(rt: Any, node: Op, x: Array) -> Array:
    """Convert: floats round to nearest even; float to int truncates and saturates, NaN gives 0.

    Too large a number becomes infinity, or NaN in float8_e4m3, which has none; with `saturate`,
    which is for 8-bit floats, the largest number of its sign.
    """
    to = node.attrs["dtype"]
    if node.attrs.get("saturate"):
        x = np.clip(x.astype(np.float32), -LARGEST[to.name], LARGEST[to.name])
    return convert(x, to)


def convert(x: Array, to: DType) -> Array:
    """The meaning of `cast` on an array."""
    is_float = x.dtype.kind in "fV"
    if to.kind == "bool":
        return np.asarray(x != 0)
    if is_float and to.is_int:
        return _saturate(x.astype(np.float64), to)
    if is_float and x.dtype.itemsize < 4:
        x = x.astype(np.float32)
    return round_once(x, to) if to.is_float else np.asarray(x).astype(to.np)


def _saturate(x: Array, to: DType) -> Array:
    info = np.iinfo(to.np)
    clean = np.trunc(np.where(np.isnan(x), 0.0, x))
    # The limits of 64-bit types are not floats: decide by comparison, then patch.
    inside = (clean >= float(info.min)) & (clean < float(info.max) + 1.0)
    value = np.where(inside, clean, 0.0).astype(to.np)
    return np.asarray(np.where(inside, value, np.where(clean < 0, info.min, info.max)).astype(to.np))


def _infer_bitcast(args: Args, attrs: Mapping[str, Any], blocks: tuple[Block, ...]) -> tuple[Type, ...]:
    source, to = tile(args[0], "operand of bitcast"), attrs["dtype"]
    if source.dtype.bits != to.bits:
        raise TilecTypeError("T109", f"bitcast from {source.dtype} to {to}: widths differ")
    return (source.with_(dtype=to, space="reg"),)


@op("bitcast", _infer_bitcast, ("x",), attrs=("dtype",), family="cast")
def _bitcast(rt: Any, node: Op, x: Array) -> Array:
    """The same bits as another dtype of equal width."""
    same: Array = np.array(x, order="C").view(node.attrs["dtype"].np)
    return same.reshape(x.shape)
