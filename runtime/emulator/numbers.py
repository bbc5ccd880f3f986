"""Number formats as numpy arrays: exact rounding into every float type that PTX has.

Formats without a numpy dtype are kept as raw bits; arithmetic on them runs in float64,
which holds every product of two of them exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Format:
    """A binary float format. ``finite`` formats have no infinity: their top exponent holds numbers,
    but for one NaN (``nan``)."""

    bits: int
    exponent: int
    mantissa: int
    finite: bool = False
    nan: bool = True

    @property
    def bias(self) -> int:
        return int(2 ** (self.exponent - 1)) - 1

    @property
    def largest(self) -> float:
        """The largest finite value."""
        if self.finite:
            below = 2.0 ** ((1 if self.nan else 0) - self.mantissa)
            return float((2 - below) * 2.0 ** (2**self.exponent - 1 - self.bias))
        return float((2 - 2.0**-self.mantissa) * 2.0**self.bias)


FORMATS = {
    "f16": Format(16, 5, 10),
    "bf16": Format(16, 8, 7),
    "f32": Format(32, 8, 23),
    "tf32": Format(32, 8, 10),
    "e4m3": Format(8, 4, 3, finite=True),
    "e5m2": Format(8, 5, 2),
    "e2m3": Format(6, 2, 3, finite=True, nan=False),
    "e3m2": Format(6, 3, 2, finite=True, nan=False),
    "e2m1": Format(4, 2, 1, finite=True, nan=False),
}


def round_to(x: Array, fmt: str, mode: str = "rn", saturate: bool = False) -> Array:
    """float64 values rounded to a format, still as float64. Modes: rn, rz, rm, rp, rna."""
    f = FORMATS[fmt]
    x = np.asarray(x, np.float64)
    _, exponent = np.frexp(x)
    quantum = np.ldexp(1.0, np.maximum(exponent - 1, 1 - f.bias) - f.mantissa)
    y = _ROUND[mode](x / quantum) * quantum
    y = _overflow(x, y, f, mode, saturate)
    y = np.where(np.isfinite(x), y, x)
    if not f.nan:
        y = np.where(np.isnan(y), f.largest, y)
    return np.clip(y, -f.largest, f.largest) if saturate or not f.nan else y


def _away(x: Array) -> Array:
    return np.copysign(np.floor(np.abs(x) + 0.5), x)


_ROUND: dict[str, Callable[[Array], Array]] = {
    "rn": np.rint,
    "rz": np.trunc,
    "rm": np.floor,
    "rp": np.ceil,
    "rna": _away,
}


def _overflow(x: Array, y: Array, f: Format, mode: str, saturate: bool) -> Array:
    if saturate:
        return y
    over = np.abs(y) > f.largest
    if not over.any():
        return y
    inward = (mode == "rz") | ((mode == "rm") & (x > 0)) | ((mode == "rp") & (x < 0))
    beyond = np.nan if f.finite else np.inf
    return np.where(over, np.where(inward, np.copysign(f.largest, x), np.copysign(beyond, x)), y)


def encode(x: Array, fmt: str) -> Array:
    """The bits (uint8, uint16, uint32) of float64 values that the format represents exactly."""
    if fmt == "f16":
        return np.where(np.isnan(x), np.uint16(0x7FFF), x.astype(np.float16).view(np.uint16))
    if fmt in ("f32", "tf32"):
        return x.astype(np.float32).view(np.uint32)
    if fmt == "bf16":
        bits = x.astype(np.float32).view(np.uint32)
        return np.where(np.isnan(x), np.uint16(0x7FFF), (bits >> np.uint32(16)).astype(np.uint16))
    return _encode_small(x, FORMATS[fmt])


def _encode_small(x: Array, f: Format) -> Array:
    magnitude = np.abs(np.where(np.isnan(x), 0.0, x))
    finite = np.where(np.isinf(magnitude), 0.0, magnitude)
    _, exponent = np.frexp(finite)
    exponent = np.where(finite == 0, 1 - f.bias, np.maximum(exponent - 1, 1 - f.bias))
    mantissa = np.rint(np.ldexp(finite, f.mantissa - exponent)).astype(np.int64)
    bits = mantissa + ((exponent + f.bias - 1) << f.mantissa)
    bits = np.where(np.isinf(magnitude), ((1 << f.exponent) - 1) << f.mantissa, bits)
    bits = np.where(np.isnan(x), (1 << (f.bits - 1)) - 1, bits)
    signed: Array = bits | (np.signbit(x).astype(np.int64) << (f.bits - 1))
    return signed.astype(np.uint8)


def _table(fmt: str) -> Array:
    """Values of all bytes; formats of fewer bits ignore the upper ones."""
    f = FORMATS[fmt]
    raw = np.arange(256)
    exponent, mantissa = (raw >> f.mantissa) & ((1 << f.exponent) - 1), raw & ((1 << f.mantissa) - 1)
    normal = np.ldexp(1.0 + mantissa * 2.0**-f.mantissa, exponent - f.bias)
    value = np.where(exponent == 0, np.ldexp(mantissa * 2.0**-f.mantissa, 1 - f.bias), normal)
    top = exponent == (1 << f.exponent) - 1
    if not f.finite:
        value = np.where(top, np.where(mantissa == 0, np.inf, np.nan), value)
    elif f.nan:
        value = np.where(top & (mantissa == (1 << f.mantissa) - 1), np.nan, value)
    return np.asarray(np.where(raw >> (f.bits - 1) & 1, -value, value), np.float32)


def _exponents() -> Array:
    """ue8m0: powers of two, the last code is NaN."""
    value = np.ldexp(1.0, np.arange(256) - 127)
    return np.where(np.arange(256) == 255, np.nan, value).astype(np.float32)


_SMALL = {fmt: _table(fmt) for fmt in ("e4m3", "e5m2", "e2m3", "e3m2", "e2m1")}
_SMALL["ue8m0"] = _exponents()
_SMALL["ue4m3"] = np.abs(_SMALL["e4m3"])


def decode(bits: Array, fmt: str) -> Array:
    """Bits of a format -> float32 values (exact for every format here)."""
    if fmt == "f16":
        return bits.view(np.float16).astype(np.float32)
    if fmt == "bf16":
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if fmt == "tf32":
        return (bits & np.uint32(0xFFFFE000)).view(np.float32)
    if fmt == "f32":
        return bits.view(np.float32)
    small: Array = _SMALL[fmt][bits]
    return small


def flush(x: Array) -> Array:
    """float32 with subnormals replaced by zeros of the same sign (.ftz)."""
    return np.where(np.abs(x) < np.float32(2.0**-126), np.copysign(np.float32(0), x), x)


def sum_odd(a: Array, b: Array) -> Array:
    """a + b in float64 rounded to odd, so that rounding the result again to a shorter format
    equals rounding the exact sum once."""
    s = a + b
    t = s - a
    error = (a - (s - t)) + (b - t)
    bits = s.view(np.int64)
    inexact = (error != 0) & np.isfinite(s) & ((bits & 1) == 0)
    if not inexact.any():
        return s
    toward = np.where((error > 0) == (s > 0), 1, -1)
    return np.where(inexact, bits + toward, bits).view(np.float64)


def fma32(a: Array, b: Array, c: Array) -> Array:
    """The float32 nearest to the exact a * b + c."""
    product = np.asarray(a, np.float64) * np.asarray(b, np.float64)
    return sum_odd(np.atleast_1d(product), np.atleast_1d(np.asarray(c, np.float64))).astype(np.float32)


def unpack_units(raw: Array, bits: int) -> Array:
    """Rows of 16-byte units whose first bytes hold 16 values of 4 or 6 bits -> a byte for each
    value, which has it in its lowest bits."""
    units = raw.reshape(len(raw), -1, 16)[:, :, : 2 * bits]
    stream = np.unpackbits(np.ascontiguousarray(units), axis=2, bitorder="little")
    weights = np.uint8(1) << np.arange(bits, dtype=np.uint8)
    values: Array = (stream.reshape(*stream.shape[:2], 16, bits) * weights).sum(axis=3, dtype=np.uint8)
    return values.reshape(len(raw), -1)
