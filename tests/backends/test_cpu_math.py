"""Functions of one variable: error against float64 or exact values, in units in the last place."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cpu_kit import both, compiled, load_all, samples, store_all

from tilec.backends.cpu import CpuTarget, host
from tilec.ir.types import DTYPES, float32, float64

EXACT = {
    "exp": np.exp, "exp2": np.exp2, "log": np.log, "log2": np.log2, "sin": np.sin, "cos": np.cos,
    "tanh": np.tanh, "erf": np.vectorize(math.erf, otypes=[np.float64]),
    # The op is 1 / (1 + exp(-x)) in float32, where exp overflows here.
    "sigmoid": lambda x: np.where(x < -math.log(np.finfo(np.float32).max), 0, 1 / (1 + np.exp(-x))),
}  # fmt: skip
BOUND = dict.fromkeys(EXACT, 2.0) | {"sigmoid": 4.0}
RANGES = [(-1e-3, 1e-3), (-1, 1), (-10, 10), (-110, 100), (-1e6, 1e6), (0, 1e38), (-3e38, 3e38)]


def run(name: str, x: np.ndarray[Any, Any], target: CpuTarget | None = None) -> np.ndarray[Any, Any]:
    out = np.zeros_like(x)

    def build(body: Any, out: Any, t: Any) -> None:
        store_all(body, out, body.op(name, load_all(body, t, x.shape)))

    compiled([out, x], build, target).launch((1,), [out, x], 1)
    return out


def ulps(found: Any, exact: Any) -> Any:
    """Distance in units in the last place of the exact value rounded to found's dtype."""
    with np.errstate(all="ignore"):
        near = np.abs(exact.astype(found.dtype))
        unit = np.spacing(np.minimum(near, np.finfo(found.dtype).max)).astype(np.float64)
        same = (found == exact.astype(found.dtype)) | (np.isnan(found) & np.isnan(exact))
        return np.where(same, 0, np.abs(found.astype(np.float64) - exact) / unit)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("limits", RANGES, ids=str)
def test_float32_within_its_bound(name: str, limits: tuple[float, float]) -> None:
    x = np.linspace(*limits, 20011).astype(np.float32)
    with np.errstate(all="ignore"):
        exact = EXACT[name](x.astype(np.float64))
    assert ulps(run(name, x), exact).max() <= BOUND[name]


# Where the largest errors were found, at the joints of pieces and beside multiples of pi / 2.
WORST = [0.69496, 1.4123197, 1.5680912, 504847.66, 315960.97, -53933.543, 260.50177, 3.4652855, 0.14967808]
JOINTS = [0.35, 10.0, 3.99, 2.0**20, *((np.arange(16) + 0.5) * 33 / 128), *(np.arange(1, 400) * np.pi / 2)]
NARROW = replace(host(), vector_bytes=16, scalef=False, fma=False)


def every_exponent() -> np.ndarray[Any, Any]:
    """Float32 numbers of all kinds, evenly in their bits, and those that are hard."""
    even = np.arange(0, 2**32, 131_101, dtype=np.uint64).astype(np.uint32).view(np.float32)
    hard = np.array([*WORST, *JOINTS], np.float32)
    return np.concatenate([even, hard, -hard, np.nextafter(hard, 0), np.nextafter(hard, 9e9)])


@pytest.mark.parametrize("target", [None, NARROW], ids=["host", "narrow"])
@pytest.mark.parametrize("name", [n for n in EXACT if n != "sigmoid"])
def test_float32_of_every_exponent(name: str, target: CpuTarget | None) -> None:
    x = every_exponent()
    with np.errstate(all="ignore"):
        exact = EXACT[name](x.astype(np.float64))
    found = run(name, x, target)
    assert ulps(found, exact).max() <= BOUND[name]
    assert (np.signbit(found) == np.signbit(exact))[~np.isnan(exact)].all()


@pytest.mark.parametrize("name", EXACT)
def test_the_place_in_a_tile_does_not_matter(name: str) -> None:
    """Vectors and the parts of vectors at the end of a row give the same bits."""
    x = np.full(31, 0.3, np.float32)
    x[::2] = 1.7
    found = run(name, x)
    assert len(set(found[::2].tolist())) == len(set(found[1::2].tolist())) == 1


@pytest.mark.parametrize("name", EXACT)
def test_special_values(name: str) -> None:
    tiny = np.float32(1e-45)
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, tiny, -tiny, 1e-38, -1e-38, 1, -1], np.float32)
    with np.errstate(all="ignore"):
        exact = EXACT[name](x.astype(np.float64)).astype(np.float32)
    found = run(name, x)
    assert ulps(found, exact.astype(np.float64)).max() <= BOUND[name]
    signed = (exact == 0) & (name != "sigmoid")
    assert (np.signbit(found) == np.signbit(exact))[signed].all()


@pytest.mark.parametrize("name", EXACT)
def test_float64(name: str) -> None:
    x = np.concatenate([np.linspace(-700, 700, 5001), np.linspace(-2, 2, 5001)])
    if name == "sigmoid":
        x = x[x > -80]
    with np.errstate(all="ignore"):
        exact = EXACT[name](x)
    assert ulps(run(name, x), exact).max() <= 4


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("small", ["float16", "bfloat16", "float8_e4m3", "float8_e5m2"])
def test_small_floats_round_once(name: str, small: str) -> None:
    x = samples(DTYPES[small], 301)
    with np.errstate(all="ignore"):
        exact = EXACT[name](x.astype(np.float64)).astype(np.float32).astype(x.dtype).astype(np.float64)
        found = run(name, x).astype(np.float64)
    # One step of the type where float32's error crosses a tie; equal nearly always.
    equal = (found == exact) | (np.isnan(found) & np.isnan(exact))
    assert equal.mean() > 0.98


def power(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    """a to the power b on the CPU, and in the interpreter."""

    def build(body: Any, out: Any, x: Any, y: Any) -> None:
        store_all(body, out, body.op("pow", load_all(body, x, a.shape), load_all(body, y, a.shape)))

    found, expected = both([np.zeros_like(a), a, b], build)
    return found[0], expected[0]


@pytest.mark.parametrize("dtype", [float32, float64], ids=str)
def test_pow(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    a = (np.abs(rng.standard_normal(301)) * 3).astype(dtype.np)
    b = (rng.standard_normal(301) * 5).astype(dtype.np)
    np.testing.assert_array_max_ulp(*power(a, b), 2)


@pytest.mark.parametrize("dtype", [float32, float64], ids=str)
def test_pow_of_special_values(dtype: Any) -> None:
    """Each pair of them: signs of odd powers, NaN of fractions, overflow, subnormal results."""
    inf, tiny = float("inf"), float(np.finfo(dtype.np).smallest_subnormal)
    values = [0, 1, 2, 3, 0.5, 1.5, 1e-3, 30, 127, 149, 2**24 - 1, 2**24 + 2, 1e30, tiny, inf, float("nan")]
    both_signs = np.array([*values, *(-v for v in values)], dtype.np)
    a, b = (m.ravel().copy() for m in np.meshgrid(both_signs, both_signs))
    with np.errstate(all="ignore"):
        found, expected = power(a, b)
    np.testing.assert_array_max_ulp(found, expected, 2)
    plain = ~np.isnan(expected)
    assert (np.signbit(found) == np.signbit(expected))[plain].all()


def test_pow_of_float32_is_within_two_ulp_of_float64() -> None:
    rng = np.random.default_rng(1)
    a = np.exp(rng.uniform(-80, 80, 20011)).astype(np.float32) * rng.choice([-1, 1], 20011).astype(np.float32)
    b = rng.uniform(-3, 3, 20011).astype(np.float32)
    b[::2] = np.rint(b[::2])
    with np.errstate(all="ignore"):
        exact = np.power(a.astype(np.float64), b.astype(np.float64))
    assert ulps(power(a, b)[0], exact).max() <= 2
