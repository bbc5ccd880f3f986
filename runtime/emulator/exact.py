"""Sums of tensor cores bit by bit: products are aligned to the largest exponent and truncated.

Source of the model and its widths: Xie, Wang, Yang, Yang, "MMA-Sim: Bit-Accurate Reference
Model of Tensor Cores and Matrix Cores", arXiv 2511.10909, and its simulator
(github.com/microsoft/MMA-Sim, mmasim/simulator/nv_ptx.py and arithmetic.py). Its authors
compared it with hardware; nobody here has. Where it has no width, exact products are D404:
mma.sync of 8-bit floats on sm_90 and sm_100.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import reduce

import numpy as np

from tilec.ir.ptx.module import Instruction
from tilec.runtime.emulator.numbers import FORMATS, Array
from tilec.runtime.emulator.report import fault

_ZERO = -126  # the exponent that a zero takes part with
_NAN = np.array([0x7FFFFFFF], np.uint32).view(np.float32)[0]
_GROUP = 16  # products of 4-bit floats that are summed without loss before they are aligned


@dataclass(frozen=True)
class Sum:
    """How the k products of one instruction are added: each term keeps ``fraction`` bits below
    the leading bit of the largest, in ``parts`` sums one after another; an f32 result keeps
    ``kept`` fraction bits, an f16 result is rounded to nearest."""

    fraction: int
    parts: int = 1
    kept: int = 23


def rule(unit: str, target: str, types: tuple[str, ...], k: int, inst: Instruction) -> Sum:
    """The widths of a product. ``unit`` is mma, wgmma or tcgen05, ``types`` those of D, A and B."""
    narrow = FORMATS[types[1]].bits <= 8
    if unit == "wgmma":
        return Sum(13, 1, 13) if narrow else Sum(25)
    if unit == "tcgen05":
        return Sum(25)
    return _warp(int(re.findall(r"\d+", target)[0]), narrow, types, k, inst)


def _warp(level: int, narrow: bool, types: tuple[str, ...], k: int, inst: Instruction) -> Sum:
    whole = k * FORMATS[types[1]].bits == 256
    if level >= 90:
        if narrow and level < 120:
            raise fault("D404", f"no exact sum of {types[1]} is published for mma.sync on sm_{level}", inst)
        return Sum(25)
    halves = 2 if whole else 1
    return Sum(13, halves, 13) if narrow else Sum(24, halves)


def multiply(a: Array, b: Array, c: Array, types: tuple[str, ...], how: Sum) -> Array:
    """a (m, k) times b (k, n) plus c, as float32 numbers of the type of D."""
    total = c
    for part in range(how.parts):
        k = a.shape[1] // how.parts
        span = slice(part * k, part * k + k)
        total = _add(a[:, span], b[span], total, types, how)
    return total


def _add(a: Array, b: Array, c: Array, types: tuple[str, ...], how: Sum) -> Array:
    sa, ea = _parts(a, types[1])
    sb, eb = _parts(b, types[2])
    terms = [_parts(c, types[0])]
    terms += [(sa[:, i, None] * sb[i], ea[:, i, None] + eb[i]) for i in range(a.shape[1])]
    plain = a.astype(np.float64) @ b.astype(np.float64) + c
    return _result(_aligned(terms, how.fraction), plain, types[0], how.kept)


def scaled(a: Array, b: Array, c: Array, scales: tuple[Array, Array], types: tuple[str, ...]) -> Array:
    """A product with factors for the elements of A and B, (m, k) and (n, k): 8-bit ones, where factors
    are powers of two, or (k = 64) 4-bit ones."""
    fa, fb = scales[0].astype(np.float64), scales[1].T.astype(np.float64)
    plain = (a * fa) @ (b * fb) + c
    narrow = a.shape[1] == 64
    terms = [_parts(c, "f32")]
    terms += _grouped(a, b, fa, fb) if narrow else _shifted(a, b, fa, fb, types)
    return _result(_aligned(terms, 35 if narrow else 25), plain, "f32", 23)


def _grouped(a: Array, b: Array, fa: Array, fb: Array) -> list[tuple[Array, Array]]:
    """Sums of 16 products; the exponents of the factors alone align them."""
    found = []
    for i in range(0, a.shape[1], _GROUP):
        (sa, ea), (sb, eb) = _split(fa[:, i]), _split(fb[i])
        total = a[:, i : i + _GROUP].astype(np.float64) @ b[i : i + _GROUP].astype(np.float64)
        found.append((total * sa[:, None] * sb, ea[:, None] + eb))
    return found


def _shifted(a: Array, b: Array, fa: Array, fb: Array, types: tuple[str, ...]) -> list[tuple[Array, Array]]:
    (sa, ea), (sb, eb) = _parts(a, types[1]), _parts(b, types[2])
    ea, eb = ea + _split(fa)[1], eb + _split(fb)[1]
    return [(sa[:, i, None] * sb[i], ea[:, i, None] + eb[i]) for i in range(a.shape[1])]


def _split(x: Array) -> tuple[Array, Array]:
    significand, exponent = np.frexp(x.astype(np.float64))
    return significand * 2, exponent - 1


def _parts(x: Array, type: str) -> tuple[Array, Array]:
    """Significands and exponents. Subnormal numbers keep their type's least exponent."""
    significand, exponent = _split(x)
    least = 1 - FORMATS[type].bias
    significand = np.ldexp(significand, np.minimum(exponent - least, 0))
    return significand, np.where(significand == 0, _ZERO, np.maximum(exponent, least))


def _aligned(terms: list[tuple[Array, Array]], fraction: int) -> Array:
    """The sum of terms that are cut ``fraction`` bits below the largest exponent, as float64."""
    top = reduce(np.maximum, (e for _, e in terms))
    total: Array = np.zeros(np.broadcast(*(s for s, _ in terms)).shape)
    for significand, exponent in terms:
        total += np.trunc(np.ldexp(significand, fraction + exponent - top))
    scaled: Array = np.ldexp(total, top - fraction)
    return scaled


def _result(total: Array, plain: Array, type: str, kept: int) -> Array:
    """``total`` in the type of D; infinities and NaNs are those of the plain sum."""
    rounded = total.astype(np.float16).astype(np.float32) if type == "f16" else _cut(total, kept)
    special = ~np.isfinite(plain)
    out = np.where(special, plain.astype(np.float32), rounded)
    return np.where(np.isnan(plain), _NAN, out)


def _cut(x: Array, kept: int) -> Array:
    """float64 to float32 with ``kept`` fraction bits, toward zero."""
    significand, exponent = _parts(x, "f32")
    cut: Array = np.ldexp(np.trunc(np.ldexp(significand, kept)), exponent - kept)
    return cut.astype(np.float32)
