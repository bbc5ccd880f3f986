"""An oracle for numbers that shares nothing with numpy: integers and rationals only."""

from __future__ import annotations

import math
from fractions import Fraction

from tilec.ir.types import DType

# float8_e4m3 spends its largest mantissa on NaN and has no infinity.
LARGEST = {"float8_e4m3": 448.0}


def largest(dtype: DType) -> float:
    """The largest finite number of a float dtype."""
    top = (1 << (dtype.exponent - 1)) - 1
    return LARGEST.get(dtype.name, math.ldexp(2 - math.ldexp(1, -dtype.mantissa), top))


def decode(bits: int, dtype: DType) -> float:
    """The number that a bit pattern of a float dtype of up to 32 bits stands for."""
    mantissa = bits & ((1 << dtype.mantissa) - 1)
    exponent = bits >> dtype.mantissa & ((1 << dtype.exponent) - 1)
    sign = -1.0 if bits >> (dtype.bits - 1) else 1.0
    bias = (1 << (dtype.exponent - 1)) - 1
    if exponent == (1 << dtype.exponent) - 1:
        if dtype.name == "float8_e4m3":
            if mantissa == 7:
                return math.nan
        else:
            return sign * (math.nan if mantissa else math.inf)
    if exponent == 0:
        return sign * math.ldexp(mantissa, 1 - bias - dtype.mantissa)
    return sign * math.ldexp((1 << dtype.mantissa) + mantissa, exponent - bias - dtype.mantissa)


def round_to(x: float | int | Fraction, dtype: DType) -> float:
    """The nearest number of a float dtype, ties to even; too large: infinity (NaN where there is none)."""
    if isinstance(x, float) and (math.isnan(x) or math.isinf(x)):
        return math.nan if math.isnan(x) or dtype.name in LARGEST else x
    n, d = x.as_integer_ratio()
    if n == 0:
        return x if isinstance(x, float) else 0.0
    sign, n = (-1.0 if n < 0 else 1.0), abs(n)
    exponent = n.bit_length() - d.bit_length()
    if (n << max(-exponent, 0)) < (d << max(exponent, 0)):
        exponent -= 1
    lowest = 2 - (1 << (dtype.exponent - 1))
    quantum = max(exponent, lowest) - dtype.mantissa
    steps, rest = divmod(n << max(-quantum, 0), d << max(quantum, 0))
    twice, unit = 2 * rest, d << max(quantum, 0)
    steps += twice > unit or (twice == unit and steps & 1)
    try:
        value = math.ldexp(steps, quantum)
    except OverflowError:
        value = math.inf
    if value > largest(dtype):
        value = math.nan if dtype.name in LARGEST else math.inf
    return sign * value


def wrap(x: int, dtype: DType) -> int:
    """An integer modulo 2^bits, in the range of an integer dtype."""
    x &= (1 << dtype.bits) - 1
    return x - (1 << dtype.bits) if dtype.kind == "int" and x >> (dtype.bits - 1) else x


def bounds(dtype: DType) -> tuple[int, int]:
    """The smallest and the largest integer of an integer dtype."""
    if dtype.kind == "uint":
        return 0, (1 << dtype.bits) - 1
    return -(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1


def saturate(x: float, dtype: DType) -> int:
    """A float truncated into the range of an integer dtype; NaN is 0."""
    low, high = bounds(dtype)
    if math.isnan(x):
        return 0
    if math.isinf(x):
        return low if x < 0 else high
    return min(max(math.trunc(x), low), high)


def same(found: float, expected: float) -> bool:
    """Equal numbers, NaN with NaN, and zeros with their sign."""
    if math.isnan(expected):
        return math.isnan(found)
    return found == expected and math.copysign(1, found) == math.copysign(1, expected)
