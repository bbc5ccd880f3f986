"""Python's operators on tiles and numbers."""

from __future__ import annotations

from typing import Any

from tilec.coerce import cast, common_dtype, elementwise, is_number, plain, unify
from tilec.ir.errors import TilecTypeError
from tilec.ir.types import float32
from tilec.tile import TensorArg, Tile

_MAX_POWER = 64


def binary(name: str, symbol: str, a: Any, b: Any) -> Any:
    """``a symbol b`` where at least one is a tile."""
    if name in ("eq", "ne") and (a is None or b is None):
        return NotImplemented
    if name == "matmul":
        return _matmul(a, b)
    if name == "pow":
        return _power(a, b)
    if name == "div" and not common_dtype((a, b), "/").is_float:
        tiles = unify((a, b), "/")
        return elementwise("div", *(cast(t, float32) for t in tiles), what="/")
    return elementwise(name, a, b, what=symbol)


def _matmul(a: Any, b: Any) -> Tile:
    from tilec.language.product import dot

    return dot(a, b)


def _power(a: Any, b: Any) -> Tile:
    """Small whole powers by repeated multiplication, which is exact for integers."""
    if isinstance(a, Tile) and is_number(b):
        n = plain(b)
        if n == 2 or (a.dtype.is_int and isinstance(n, int) and 1 <= n <= _MAX_POWER):
            out = a
            for _ in range(int(n) - 1):
                out = elementwise("mul", out, a, what="**")
            return out
    if not common_dtype((a, b), "**").is_float:
        raise TilecTypeError(
            "T316",
            "** of integers needs a constant exponent of at least 1",
            help="convert with x.to(tl.float32)",
        )
    return elementwise("pow", a, b, what="**")


_NUMPY = {
    "add": "add", "subtract": "sub", "multiply": "mul", "divide": "div", "floor_divide": "floordiv",
    "remainder": "mod", "power": "pow", "bitwise_and": "and", "bitwise_or": "or", "bitwise_xor": "xor",
    "left_shift": "shl", "right_shift": "shr", "less": "lt", "less_equal": "le", "greater": "gt",
    "greater_equal": "ge", "equal": "eq", "not_equal": "ne",
}  # fmt: skip


def numpy_binary(ufunc: str, method: str, inputs: tuple[Any, ...]) -> Any:
    """An operator with a numpy number on its left; other numpy functions are an error."""
    if method == "__call__" and ufunc in _NUMPY and len(inputs) == 2:
        a, b = inputs
        if all(isinstance(x, Tile | TensorArg) or is_number(x) for x in inputs):
            return binary(_NUMPY[ufunc], ufunc, a, b)
    raise TilecTypeError(
        "T311",
        f"np.{ufunc} is called on a tile",
        help=f"numpy works on the host: write tl.{ufunc} or an operator",
    )
