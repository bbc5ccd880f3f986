"""float64 with one rounding: fma to nearest, and all directed modes.

numpy has neither. ``fma`` to nearest is the error-free method of Boldo and Melquiond ("Emulation
of FMA and correctly rounded sums: proved algorithms using rounding to odd", IEEE TC 2008), which
needs exponents far from the ends of the range; the rest is done with exact fractions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from tilec.runtime.emulator.numbers import Array, sum_odd

_SPLIT = 134217729.0  # 2**27 + 1
_LEAST, _MOST = 2.0**-400, 2.0**400


def _two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """a * b as a sum of two floats (Dekker)."""
    product = a * b
    high_a, high_b = ((_SPLIT * x) - ((_SPLIT * x) - x) for x in (a, b))
    low_a, low_b = a - high_a, b - high_b
    return product, low_a * low_b - (((product - high_a * high_b) - low_a * high_b) - high_a * low_b)


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def fma(a: Any, b: Any, c: Any) -> Array:
    """The float64 nearest to a * b + c."""
    a, b, c = (np.atleast_1d(np.asarray(x, np.float64)) for x in np.broadcast_arrays(a, b, c))
    high, low = _two_product(a, b)
    top, rest = _two_sum(c, low)
    total, error = _two_sum(high, top)
    out = np.asarray(total + sum_odd(rest, error))
    safe = np.ones(a.shape, bool)
    for x in (a, b, c):
        safe &= (np.abs(x) > _LEAST) & (np.abs(x) < _MOST)
    # With a zero among them, one of the two roundings of the plain expression is none.
    zero = (a == 0) | (b == 0) | (c == 0)
    out = np.where(zero, a * b + c, out)
    for i in np.flatnonzero(~(safe | zero)):
        out[i] = _fma_slow(float(a[i]), float(b[i]), float(c[i]))
    return out


def _fma_slow(a: float, b: float, c: float) -> float:
    plain = a * b + c
    if not (math.isfinite(a) and math.isfinite(b) and math.isfinite(c)):
        return plain
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    return plain if exact == 0 else _nearest(exact)


def _nearest(exact: Fraction) -> float:
    try:
        return exact.numerator / exact.denominator
    except OverflowError:
        return math.copysign(math.inf, exact)


def _directed(exact: Fraction, mode: str) -> float:
    """The float64 next to an exact value, not zero, in the direction of the mode."""
    near = _nearest(exact)
    up = mode == "rp" or (mode == "rz" and exact < 0)
    if math.isinf(near):
        outward = mode != "rz" and up == (exact > 0)
        return near if outward else math.copysign(float(np.finfo(np.float64).max), exact)
    if up and Fraction(near) < exact:
        return math.nextafter(near, math.inf)
    return math.nextafter(near, -math.inf) if not up and Fraction(near) > exact else near


def _root(a: Fraction, mode: str) -> float:
    """Square root: the integer root of a scaled value, with a sticky bit."""
    scale = max(0, 240 - a.numerator.bit_length() + a.denominator.bit_length())
    scale += scale % 2
    shifted = (a.numerator << scale) // a.denominator
    root = math.isqrt(shifted)
    exact = Fraction(root, 1 << scale // 2)
    return _directed(exact if exact * exact == a else exact + Fraction(1, 1 << (scale // 2 + 1)), mode)


_EXACT: dict[str, Callable[..., Fraction]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "rcp": lambda a: 1 / a,
    "fma": lambda a, b, c: a * b + c,
}


def directed(operation: str, mode: str, nearest: Callable[..., Any]) -> Callable[..., Array]:
    """``nearest`` with another rounding. Zeros, infinities and NaN are as ``nearest`` has them, but
    an exact difference of zero is -0 with rm."""

    def one(plain: float, values: tuple[float, ...]) -> float:
        if not all(map(math.isfinite, values)) or (operation in ("div", "rcp") and values[-1] == 0):
            return plain
        if operation == "sqrt":
            return _root(Fraction(values[0]), mode) if values[0] > 0 else plain
        exact = _EXACT[operation](*map(Fraction, values))
        if exact != 0:
            return _directed(exact, mode)
        return (
            -0.0
            if mode == "rm"
            and operation in ("add", "sub", "fma")
            and plain == 0
            and _mixed(operation, values)
            else plain
        )

    def run(*args: Any) -> Array:
        columns = [np.asarray(x, np.float64) for x in np.broadcast_arrays(*map(np.atleast_1d, args))]
        plain = np.atleast_1d(nearest(*columns))
        rows = zip(*(c.tolist() for c in columns), strict=True)
        return np.array([one(p, row) for p, row in zip(plain.tolist(), rows, strict=True)])

    return run


def _mixed(operation: str, values: tuple[float, ...]) -> bool:
    """Whether a sum of zero has terms of both signs."""
    terms = (values[0] * values[1], values[2]) if operation == "fma" else values
    second = -terms[1] if operation == "sub" else terms[1]
    return math.copysign(1, terms[0]) != math.copysign(1, second)


def fused(mode: str) -> Callable[..., Array]:
    """a * b + c with the rounding of a mode."""
    return fma if mode == "rn" else directed("fma", mode, lambda a, b, c: a * b + c)
