"""Functions of one variable: error against float64 or exact values, in units in the last place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from cpu_kit import both, compiled, load_all, samples, store_all

from tilec.ir.types import DTYPES, float32, float64

EXACT = {
    "exp": np.exp, "exp2": np.exp2, "log": np.log, "log2": np.log2, "sin": np.sin, "cos": np.cos,
    "tanh": np.tanh, "erf": np.vectorize(math.erf, otypes=[np.float64]),
    # The op is 1 / (1 + exp(-x)) in float32, where exp overflows here.
    "sigmoid": lambda x: np.where(x < -math.log(np.finfo(np.float32).max), 0, 1 / (1 + np.exp(-x))),
}  # fmt: skip
BOUND = dict.fromkeys(EXACT, 2.0) | {"sigmoid": 4.0}
RANGES = [(-1e-3, 1e-3), (-1, 1), (-10, 10), (-110, 100), (-1e6, 1e6), (0, 1e38), (-3e38, 3e38)]


def run(name: str, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    out = np.zeros_like(x)

    def build(body: Any, out: Any, t: Any) -> None:
        store_all(body, out, body.op(name, load_all(body, t, x.shape)))

    compiled([out, x], build).launch((1,), [out, x], 1)
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


@pytest.mark.parametrize("dtype", [float32, float64], ids=str)
def test_pow(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    a = (np.abs(rng.standard_normal(301)) * 3).astype(dtype.np)
    b = (rng.standard_normal(301) * 5).astype(dtype.np)
    a[:4], b[:4] = [0, 1, np.inf, np.nan], [0, np.nan, 0, 0]

    def build(body: Any, out: Any, x: Any, y: Any) -> None:
        store_all(body, out, body.op("pow", load_all(body, x, a.shape), load_all(body, y, a.shape)))

    found, expected = both([np.zeros_like(a), a, b], build)
    np.testing.assert_array_max_ulp(found[0], expected[0], 2)
