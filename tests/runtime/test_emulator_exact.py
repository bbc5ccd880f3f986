"""Exact sums of tensor cores: published vectors, and a model in fractions, number by number."""

from __future__ import annotations

from fractions import Fraction
from math import frexp, ldexp, trunc
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from mma_kit import multiply

from tilec.ir.errors import TilecError
from tilec.ir.ptx.module import Instruction
from tilec.runtime.emulator import exact
from tilec.runtime.emulator.exact import Sum, rule

LEAST = {"f32": -126, "tf32": -126, "bf16": -126, "f16": -14, "e5m2": -14, "e4m3": -6}
DTYPE = {
    "f32": np.float32, "tf32": np.float32, "bf16": ml_dtypes.bfloat16, "f16": np.float16,
    "e4m3": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2,
}  # fmt: skip
INST = Instruction("mma")


def parts(x: float, least: int) -> tuple[Fraction, int]:
    if x == 0:
        return Fraction(0), -126
    exponent = max(frexp(x)[1] - 1, least)
    return Fraction(x) / Fraction(2) ** exponent, exponent


def toward_zero(x: Fraction, bits: int, least: int) -> float:
    """x with ``bits`` fraction bits."""
    if x == 0:
        return 0.0
    exponent = least
    while abs(x) >= Fraction(2) ** (exponent + 1):
        exponent += 1
    return ldexp(trunc(x / Fraction(2) ** (exponent - bits)), exponent - bits)


def scalar(a: Any, b: Any, c: float, types: tuple[str, str, str], fraction: int, kept: int = 23) -> float:
    """One sum of the model, in fractions."""
    terms = [parts(c, LEAST[types[0]])]
    for x, y in zip(a, b, strict=True):
        (sx, ex), (sy, ey) = parts(float(x), LEAST[types[1]]), parts(float(y), LEAST[types[2]])
        terms.append((sx * sy, ex + ey))
    top = max(e for _, e in terms)
    total = sum(trunc(s * Fraction(2) ** (fraction + e - top)) for s, e in terms)
    value = total * Fraction(2) ** (top - fraction)
    if types[0] == "f16":
        return float(np.float16(float(value)))
    return toward_zero(value, kept, -126)


def random_values(rng: Any, type: str, shape: tuple[int, ...]) -> Any:
    """Numbers of many magnitudes, zeros and subnormal ones among them."""
    spread = {"e4m3": 6, "e5m2": 12, "f16": 12}.get(type, 20)
    values = rng.standard_normal(shape) * 2.0 ** rng.integers(-spread, 4, shape)
    values[rng.random(shape) < 0.1] = 0
    held = values.astype(DTYPE[type])
    return (held.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32) if type == "tf32" else held


def floats(x: Any) -> Any:
    return x.astype(np.float32)


@pytest.mark.parametrize("types, k, how", [
    (("f32", "f16", "f16"), 16, Sum(25)),
    (("f16", "f16", "f16"), 16, Sum(24, 2)),
    (("f32", "bf16", "bf16"), 16, Sum(24, 2)),
    (("f32", "tf32", "tf32"), 8, Sum(25)),
    (("f32", "e4m3", "e5m2"), 32, Sum(13, 1, 13)),
    (("f16", "e5m2", "e5m2"), 32, Sum(25)),
])  # fmt: skip
def test_sums_are_those_of_the_model(types, k, how):
    rng = np.random.default_rng(k)
    a, b = random_values(rng, types[1], (16, k)), random_values(rng, types[2], (k, 8))
    c = floats(random_values(rng, types[0], (16, 8)))
    got = exact.multiply(floats(a), floats(b), c, types, how)
    step = k // how.parts
    for i in range(16):
        for j in range(8):
            want = float(c[i, j])
            for at in range(0, k, step):
                span = slice(at, at + step)
                want = scalar(a[i, span], b[span, j], want, types, how.fraction, how.kept)
            assert float(got[i, j]) == want


def test_scaled_sums_are_those_of_the_model():
    rng = np.random.default_rng(8)
    a, b = random_values(rng, "e4m3", (4, 32)), random_values(rng, "e5m2", (32, 4))
    c = floats(random_values(rng, "f32", (4, 4)))
    powers = rng.integers(-8, 9, (2, 4))
    factors = [np.repeat(2.0 ** p[:, None], 32, axis=1) for p in powers]
    got = exact.scaled(floats(a), floats(b), c, (factors[0], factors[1]), ("f32", "e4m3", "e5m2"))
    for i in range(4):
        for j in range(4):
            terms = [parts(float(c[i, j]), -126)]
            for x, y in zip(a[i], b[:, j], strict=True):
                (sx, ex), (sy, ey) = parts(float(x), -6), parts(float(y), -14)
                terms.append((sx * sy, ex + ey + int(powers[0, i] + powers[1, j])))
            top = max(e for _, e in terms)
            total = sum(trunc(s * Fraction(2) ** (25 + e - top)) for s, e in terms)
            assert float(got[i, j]) == toward_zero(total * Fraction(2) ** (top - 25), 23, -126)


@pytest.mark.parametrize("power, left", [(-35, 2.0**-35), (-36, 0.0)])
def test_sums_of_four_bits_keep_35_bits_below_the_largest_scales(power, left):
    """1 - 1 + 2^power: the first 1 is a group of 16 products, the last term another group."""
    a, b = np.zeros((1, 64), np.float32), np.ones((64, 1), np.float32)
    a[0, 0], a[0, 16] = 1, 1
    scales = np.ones((1, 64))
    scales[0, 16:32] = 2.0**power
    types = ("f32", "e2m1", "e2m1")
    assert exact.scaled(a, b, np.full((1, 1), -1.0), (scales, np.ones((1, 64))), types) == left


@pytest.mark.parametrize("small, count, c, hopper, ampere", [
    (2.0**-25, 15, 0.0, 1 + 3 * 2.0**-23, 1.0),
    (1.0, 15, 2.0**25, 2.0**25 + 16, 2.0**25),
])  # fmt: skip
def test_published_vectors_of_f16(small, count, c, hopper, ampere):
    a = np.zeros((16, 16), np.float16)
    b = np.zeros((16, 8), np.float16)
    a[:, 0], b[0] = 1, 1
    a[:, 1 : 1 + count] = 2.0**-12 if small != 1 else 1
    b[1 : 1 + count] = 2.0**-13 if small != 1 else 1
    start = np.full((16, 8), c, np.float32).view(np.uint32)
    opcode, types = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", ("f32", "f16", "f16", "f32")
    for target, want in (("sm_90a", hopper), ("sm_100a", hopper), ("sm_80", ampere), ("sm_89", ampere)):
        got = multiply(opcode, a.view(np.uint16), b.view(np.uint16), start, types, target=target, exact=True)
        assert (got.view(np.float32) == want).all(), target


@pytest.mark.parametrize("small, wgmma, tcgen05", [
    (2.0**-13, 1 + 31 * 2.0**-13, 1 + 31 * 2.0**-13), (2.0**-14, 1.0, 1 + 31 * 2.0**-14),
])  # fmt: skip
def test_published_vectors_of_fp8(small, wgmma, tcgen05):
    a, b = np.ones((1, 32), np.float32), np.ones((32, 1), np.float32)
    a[0, 1:], b[1:] = 2.0**-7, small * 2.0**7
    types = ("f32", "e5m2", "e5m2")
    for unit, target, want in (("wgmma", "sm_90a", wgmma), ("tcgen05", "sm_100a", tcgen05)):
        got = exact.multiply(a, b, np.zeros((1, 1)), types, rule(unit, target, types, 32, INST))
        assert got == want


def test_infinities_and_nans():
    types, how = ("f32", "f16", "f16"), Sum(25)
    a, b = np.array([[np.inf, 1], [np.inf, -np.inf], [60000, 60000]], np.float32), np.ones((2, 1), np.float32)
    with np.errstate(all="ignore"):
        got = exact.multiply(a, b, np.zeros((3, 1), np.float32), types, how)
        half = exact.multiply(a[2:], b, np.zeros((1, 1), np.float32), ("f16", "f16", "f16"), how)
    assert got[0] == np.inf and got[2] == 120000
    assert got[1].view(np.uint32) == 0x7FFFFFFF
    assert half == np.inf


@pytest.mark.parametrize("target", ["sm_90a", "sm_100a"])
def test_products_without_published_widths_are_refused(target):
    types = ("f32", "e4m3", "e4m3", "f32")
    a, b = np.zeros((16, 32), np.uint8), np.zeros((32, 8), np.uint8)
    opcode, c = "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32", np.zeros((16, 8), np.uint32)
    with pytest.raises(TilecError, match="no exact sum of e4m3"):
        multiply(opcode, a, b, c, types, target=target, exact=True)
    assert not multiply(opcode, a, b, c, types, target=target).any()
