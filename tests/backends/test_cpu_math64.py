"""Functions of float64 against mpmath in units in the last place, and no libm in their loops."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import mpmath
import numpy as np
import pytest
from cpu_kit import compiled, kernel, load_all, store_all

from tilec.backends.cpu import compile_kernel, host

EXACT = {
    "exp": mpmath.exp, "exp2": lambda x: mpmath.power(2, x), "log": mpmath.log,
    "log2": lambda x: mpmath.log(x) / mpmath.log(2), "sin": mpmath.sin, "cos": mpmath.cos,
    "tanh": mpmath.tanh, "erf": mpmath.erf,
}  # fmt: skip
BOUND = 2.0
POSITIVE = ("log", "log2")
LARGEST = {"exp": 709.7, "exp2": 1023.9, "sin": 2.0**20, "cos": 2.0**20, "tanh": 25.0, "erf": 6.5}


def _apply(name: str) -> Any:
    def build(body: Any, out: Any, x: Any) -> None:
        store_all(body, out, body.op(name, load_all(body, x, (x_size,))))

    x_size = 0

    def run(x: np.ndarray[Any, Any], target: Any = None) -> np.ndarray[Any, Any]:
        nonlocal x_size
        x_size, out = len(x), np.zeros_like(x)
        compiled([out, x], build, target).launch((1,), [out, x], 1)
        return out

    return run


def _points(name: str) -> np.ndarray[Any, Any]:
    """Every exponent that matters, the joints of the pieces, and where results are near 0 or 1."""
    rng = np.random.default_rng(list(name.encode()))
    if name in POSITIVE:
        exponents = np.concatenate([np.arange(-1074, 1024, 3), np.zeros(60), -np.ones(60)])
        spread = np.ldexp(1 + rng.random(len(exponents)), exponents.astype(int))
        near = 1 + np.ldexp(rng.random(200) - 0.5, -rng.integers(0, 50, 200))
        return np.concatenate([spread, near, [5e-324, 2.0**-1022, 2**0.5, 0.5**0.5, 1.7e308]])
    top = LARGEST[name]
    sizes = np.ldexp(1 + rng.random(700), rng.integers(-1074, int(np.log2(top)), 700))
    even = np.concatenate([np.linspace(-top, top, 400), np.linspace(-2, 2, 401)])
    turns = np.arange(1, 200) * (np.pi / 2) if name in ("sin", "cos") else np.empty(0)
    many = np.rint(2.0 ** np.linspace(8, 19, 40)) * (np.pi / 2) if len(turns) else np.empty(0)
    joints = np.array([0.55, 1.0, np.nextafter(0.55, 0), np.nextafter(1.0, 0), 5.9, 6.0])
    return np.concatenate([sizes, -sizes[::7], even, turns, many, joints])


def _ulps(found: np.ndarray[Any, Any], x: np.ndarray[Any, Any], exact: Any) -> float:
    worst = 0.0
    with mpmath.workdps(60):
        for value, at in zip(found.tolist(), x.tolist(), strict=True):
            true = exact(mpmath.mpf(at))
            unit = np.spacing(abs(float(true)))
            worst = max(worst, float(abs(mpmath.mpf(value) - true) / mpmath.mpf(float(unit))))
    return worst


@pytest.mark.parametrize("name", EXACT)
def test_within_two_ulp_of_the_exact_value(name: str) -> None:
    x = _points(name)
    assert _ulps(_apply(name)(x), x, EXACT[name]) <= BOUND


@pytest.mark.parametrize("name", EXACT)
def test_vectors_of_other_widths_agree_with_the_bound(name: str) -> None:
    x = _points(name)[::9]
    narrow = replace(host(), vector_bytes=16, scalef=False)
    assert _ulps(_apply(name)(x, narrow), x, EXACT[name]) <= BOUND


@pytest.mark.parametrize("name", EXACT)
def test_what_numpy_makes_of_special_values(name: str) -> None:
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 800.0, -800.0, 1100.0, -1100.0, -1.0, 30.0, -30.0])
    with np.errstate(all="ignore"):
        if name == "erf":
            expected = np.array([float(mpmath.erf(v)) if np.isfinite(v) else np.copysign(1, v) for v in x])
            expected[np.isnan(x)] = np.nan
            expected[1] = -0.0
        else:
            expected = getattr(np, name)(x)
    found = _apply(name)(x)
    np.testing.assert_array_max_ulp(found, expected, 3)
    plain = ~np.isnan(expected)
    assert (np.signbit(found) == np.signbit(expected))[plain].all()


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_large_angles(name: str) -> None:
    x = np.array([2.0**20, -(2.0**20) - 0.25, 1e9, 1e22, -1e300, 3.0, 0.5, -2.0])
    assert _ulps(_apply(name)(x), x, EXACT[name]) <= BOUND


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", EXACT)
def test_loops_call_no_library(name: str, dtype: Any) -> None:
    """But for sine and cosine of large angles, in a block of their own; float32 stays float32."""

    def build(body: Any, out: Any, x: Any) -> None:
        store_all(body, out, body.op(name, load_all(body, x, (64,))))

    text = compile_kernel(kernel([np.zeros(64, dtype), np.zeros(64, dtype)], build)).text
    called = [
        line for line in text.splitlines() if f"@llvm.{name}." in line.replace('"', "") or f"@{name}(" in line
    ]
    assert (dtype == np.float64) == (" double" in text)
    if name in ("sin", "cos"):
        assert called and "llvm.vector.reduce.or" in text
    else:
        assert not called
