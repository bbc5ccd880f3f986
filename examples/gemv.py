"""Products for decoding, where M is the batch: one row (GEMV) and few rows (flat GEMM).

Both are bound by reading the weights W, (N, K) row by row. The flat product computes the
transpose, so that the 64 rows of a tensor core instruction are outputs and the
batch is its N, a multiple of 8 instead of 64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from _check import U32, Case, rounding, run_all
from gemm import product

import tilec
import tilec.language as tl


@tilec.kernel
def gemv(W: tl.Tensor, x: tl.Tensor, y: tl.Tensor, BN: tl.constexpr[int] = 16, BK: tl.constexpr[int] = 512):
    n = tl.program_id(0)
    total = tl.zeros((BN, BK), tl.float32)
    for k in tl.range(tl.cdiv(W.shape[1], BK)):
        row = tl.load(x, (k,), (BK,)).to(tl.float32)
        total = tl.fma(tl.load(W, (n, k), (BN, BK)).to(tl.float32), row[None, :], total)
    tl.store(y, (n,), tl.sum(total, 1).to(y.dtype))


@tilec.kernel
def flat_gemm(W: tl.Tensor, X: tl.Tensor, Y: tl.Tensor, BATCH: tl.constexpr[int] = 16,
              BN: tl.constexpr[int] = 64, BK: tl.constexpr[int] = 128):  # fmt: skip
    n, m = tl.program_id(0), tl.program_id(1)
    acc = tl.zeros((BN, BATCH), tl.float32)
    for k in tl.range(tl.cdiv(W.shape[1], BK)):
        acc = tl.dot(tl.load(W, (n, k), (BN, BK)), tl.load(X, (m, k), (BATCH, BK)).T, acc)
    tl.store(Y, (m, n), acc.T.to(Y.dtype))


SHAPES = ({"n": 4096, "k": 4096}, {"n": 1000, "k": 1400})


def gemv_case(n: int, k: int, dtype: Any = np.float16, **meta: Any) -> Case:
    rng = np.random.default_rng([n, k])
    w, x = rng.standard_normal((n, k)).astype(dtype), rng.standard_normal(k).astype(dtype)
    y = np.empty(n, dtype)
    expected = product(w, x)
    bound = k * U32 * product(np.abs(w), np.abs(x)) + rounding(y, expected)

    def grid(meta: Mapping[str, Any]) -> tuple[int, ...]:
        return (tl.cdiv(n, meta["BN"]),)

    baseline = lambda: product(w, x, np.float32)  # noqa: E731
    return Case(f"gemv {n}x{k}", gemv, grid, (w, x, y), 2, expected, bound, baseline, meta)


def flat_case(n: int, k: int, batch: int = 11, dtype: Any = np.float16, **meta: Any) -> Case:
    rng = np.random.default_rng([n, k, batch])
    w, x = rng.standard_normal((n, k)).astype(dtype), rng.standard_normal((batch, k)).astype(dtype)
    y = np.empty((batch, n), dtype)
    expected = product(x, w.T)
    bound = k * U32 * product(np.abs(x), np.abs(w.T)) + rounding(y, expected)

    def grid(meta: Mapping[str, Any]) -> tuple[int, ...]:
        return (tl.cdiv(n, meta["BN"]), tl.cdiv(batch, meta["BATCH"]))

    baseline = lambda: product(x, w.T, np.float32)  # noqa: E731
    return Case(f"flat_gemm {batch}x{n}x{k}", flat_gemm, grid, (w, x, y), 2, expected, bound, baseline, meta)


def main(**options: Any) -> int:
    return run_all([make(**shape) for make in (gemv_case, flat_case) for shape in SHAPES], **options)


if __name__ == "__main__":
    raise SystemExit(main())
