"""Rounding once: numpy and ml_dtypes reach the narrow floats through float32,
which rounds twice. Rounding to odd on the way keeps the last rounding right
(Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tilec.ir.types import DType

Array = np.ndarray[Any, Any]


def round_once(x: Array, to: DType) -> Array:
    """Numbers as a float dtype, to nearest, ties to even, whatever their dtype."""
    if to.bits < 32 and to.name != "float16":
        if x.dtype.kind in "iu":
            x = _integer_to_odd(x)
        if x.dtype == np.float64:
            x = _float32_odd(x)
    return np.asarray(np.asarray(x).astype(to.np))


def sum_to_odd(a: Array, b: Array) -> Array:
    """a + b of float64 arrays, rounded to odd: exact for a later rounding to 51 bits or less."""
    total = a + b
    part = total - a
    rest = (a - (total - part)) + (b - part)
    return _step_to_odd(total, np.where(np.isfinite(rest), rest, 0.0), np.int64)


def _integer_to_odd(x: Array) -> Array:
    high = (x >> 16).astype(np.float64) * 65536.0 if x.dtype.itemsize == 8 else x.astype(np.float64)
    low = (x & 0xFFFF).astype(np.float64) if x.dtype.itemsize == 8 else np.zeros(x.shape)
    return sum_to_odd(high, low)


def _float32_odd(x: Array) -> Array:
    near = x.astype(np.float32)
    rest = np.where(np.isfinite(x), x - near.astype(np.float64), 0.0)
    return _step_to_odd(near, rest, np.int32)


def _step_to_odd(near: Array, rest: Array, bits: Any) -> Array:
    """The odd one of the two neighbours around near + rest, or near where it is exact."""
    even = np.asarray(near).view(bits) & 1 == 0
    towards = np.where(rest > 0, np.inf, -np.inf).astype(near.dtype)
    return np.asarray(np.where((rest != 0) & even, np.nextafter(near, towards), near))
