"""Softmax over the rows of a matrix, one row per program instance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from _check import FUNCTION, TINY, U32, Case, rounding, run_all

import tilec
import tilec.language as tl


@tilec.kernel
def softmax(X: tl.Tensor, Y: tl.Tensor, BN: tl.constexpr[int] = 1024):
    row = tl.program_id(0)
    x = tl.load(X, (row, 0), (1, BN), pad=float("-inf")).to(tl.float32)
    e = tl.exp(x - tl.max(x, 1, keepdims=True))
    tl.store(Y, (row, 0), (e / tl.sum(e, 1, keepdims=True)).to(Y.dtype))


SHAPES = ({"m": 2000, "n": 1000}, {"m": 512, "n": 4096})


def formula(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def case(m: int, n: int, dtype: Any = np.float32, **meta: Any) -> Case:
    rng = np.random.default_rng(m * 7919 + n)
    x = (3 * rng.standard_normal((m, n))).astype(dtype)
    y = np.empty_like(x)
    wide = x.astype(np.float64)
    expected = formula(wide)

    def grid(meta: Mapping[str, Any]) -> tuple[int, ...]:
        return (m,)

    # exp(x - max): the roundings of the difference, and of its product with log2(e) in
    # a backend that computes 2^(x log2 e), become relative errors of the result.
    term = 2.5 * U32 * np.abs(wide - wide.max(axis=1, keepdims=True)) + FUNCTION
    total = (expected * term).sum(axis=1, keepdims=True) + n * U32  # n additions
    bound = expected * (term + total + U32) + rounding(y, expected) + TINY
    meta = {"BN": 1 << max(n - 1, 0).bit_length(), **meta}
    title = f"softmax {m}x{n}"
    return Case(title, softmax, grid, (x, y), 1, expected, bound, lambda: formula(x), meta)


def main(**options: Any) -> int:
    return run_all((case(**shape) for shape in SHAPES), **options)


if __name__ == "__main__":
    raise SystemExit(main())
