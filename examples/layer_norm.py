"""Layer normalisation of the rows of a matrix, with weight and bias."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from _check import FUNCTION, U32, Case, rounding, run_all

import tilec
import tilec.language as tl

EPS = 1e-5


@tilec.kernel
def layer_norm(X: tl.Tensor, W: tl.Tensor, B: tl.Tensor, Y: tl.Tensor, BN: tl.constexpr[int] = 1024):
    row, n = tl.program_id(0), X.shape[1]
    x = tl.load(X, (row, 0), (1, BN)).to(tl.float32)
    inside = tl.arange(0, BN)[None, :] < n
    mean = tl.sum(x, 1, keepdims=True) / n.to(tl.float32)
    d = tl.where(inside, x - mean, 0.0)  # the padding must not count as values of 0 - mean
    scale = tl.rsqrt(tl.sum(d * d, 1, keepdims=True) / n.to(tl.float32) + EPS)
    w = tl.load(W, (0,), (BN,)).to(tl.float32)
    b = tl.load(B, (0,), (BN,)).to(tl.float32)
    tl.store(Y, (row, 0), (d * scale * w[None, :] + b[None, :]).to(Y.dtype))


SHAPES = ({"m": 2000, "n": 1000}, {"m": 512, "n": 4096})


def formula(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    d = x - x.mean(axis=1, keepdims=True)
    return d / np.sqrt((d * d).mean(axis=1, keepdims=True) + EPS) * w + b


def case(m: int, n: int, dtype: Any = np.float32, **meta: Any) -> Case:
    rng = np.random.default_rng(m * 7919 + n)
    x = (rng.standard_normal((m, n)) + 0.5).astype(dtype)
    w, b = (rng.standard_normal(n).astype(dtype) for _ in range(2))
    y = np.empty_like(x)
    wide = [a.astype(np.float64) for a in (x, w, b)]
    expected = formula(*wide)

    def grid(meta: Mapping[str, Any]) -> tuple[int, ...]:
        return (m,)

    meta = {"BN": 1 << max(n - 1, 0).bit_length(), **meta}
    bound = error_bound(*wide, expected) + rounding(y, expected)
    args = (x, w, b, y)
    title = f"layer_norm {m}x{n}"
    return Case(title, layer_norm, grid, args, 3, expected, bound, lambda: formula(x, w, b), meta)


def error_bound(x: np.ndarray, w: np.ndarray, b: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Follow the rounding errors of mean, difference, variance, scale and result."""
    n = x.shape[1]
    mean_error = (n + 1) * U32 * np.abs(x).mean(axis=1, keepdims=True)
    d = x - x.mean(axis=1, keepdims=True)
    d_error = mean_error + U32 * np.abs(d)
    variance = (d * d).mean(axis=1, keepdims=True)
    square_error = 2 * np.abs(d) * d_error + d_error**2
    variance_error = (n + 2) * U32 * variance + square_error.mean(axis=1, keepdims=True)
    scale = 1 / np.sqrt(variance + EPS)
    scale_error = variance_error / (2 * (variance + EPS)) + FUNCTION  # relative
    product = np.abs(w) * scale * (d_error + np.abs(d) * (scale_error + 2 * U32))
    return product + U32 * (np.abs(y) + np.abs(b))


def main(**options: Any) -> int:
    return run_all((case(**shape) for shape in SHAPES), **options)


if __name__ == "__main__":
    raise SystemExit(main())
