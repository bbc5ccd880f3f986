"""Matrix product, plain and with a fused bias and GELU. All extents may be ragged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from _check import FUNCTION, U32, Case, rounding, run_all

import tilec
import tilec.language as tl


@tilec.kernel
def gemm(A: tl.Tensor, B: tl.Tensor, C: tl.Tensor,
         BM: tl.constexpr[int] = 128, BN: tl.constexpr[int] = 256, BK: tl.constexpr[int] = 64):  # fmt: skip
    m, n = tl.program_id(0), tl.program_id(1)
    acc = tl.zeros((BM, BN), tl.float32)
    for k in tl.range(tl.cdiv(A.shape[1], BK)):
        a = tl.load(A, (m, k), (BM, BK))
        b = tl.load(B, (k, n), (BK, BN))
        acc = tl.dot(a, b, acc)
    tl.store(C, (m, n), acc.to(C.dtype))


@tilec.kernel
def gemm_bias_gelu(A: tl.Tensor, B: tl.Tensor, bias: tl.Tensor, C: tl.Tensor,
                   BM: tl.constexpr[int] = 128, BN: tl.constexpr[int] = 256,
                   BK: tl.constexpr[int] = 64):  # fmt: skip
    m, n = tl.program_id(0), tl.program_id(1)
    acc = tl.zeros((BM, BN), tl.float32)
    for k in tl.range(tl.cdiv(A.shape[1], BK)):
        acc = tl.dot(tl.load(A, (m, k), (BM, BK)), tl.load(B, (k, n), (BK, BN)), acc)
    x = acc + tl.load(bias, (n,), (BN,)).to(tl.float32)[None, :]
    gelu = 0.5 * x * (1.0 + tl.erf(x * 0.5**0.5))
    tl.store(C, (m, n), gelu.to(C.dtype))


SHAPES = (
    {"m": 1024, "n": 1024, "k": 1024},
    {"m": 1000, "n": 520, "k": 777},
    {"m": 512, "n": 512, "k": 512, "columns_first": "AB"},
)


def grid_of(m: int, n: int) -> Any:
    def grid(meta: Mapping[str, Any]) -> tuple[int, ...]:
        return (tl.cdiv(m, meta["BM"]), tl.cdiv(n, meta["BN"]))

    return grid


def operands(m: int, n: int, k: int, dtype: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng([m, n, k])
    a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    return a, b, np.empty((m, n), dtype)


def product(a: np.ndarray, b: np.ndarray, dtype: Any = np.float64) -> np.ndarray:
    return a.astype(dtype) @ b.astype(dtype)


def case(m: int, n: int, k: int, dtype: Any = np.float16, columns_first: str = "", **meta: Any) -> Case:
    """``columns_first`` names the matrices of "ABC" that lie column by column in memory."""
    matrices = zip("ABC", operands(m, n, k, dtype), strict=True)
    a, b, c = (np.asfortranarray(x) if name in columns_first else x for name, x in matrices)
    expected = product(a, b)
    bound = k * U32 * product(np.abs(a), np.abs(b)) + rounding(c, expected)
    baseline = lambda: product(a, b, np.float32).astype(dtype)  # noqa: E731
    title = f"gemm {m}x{n}x{k} {c.dtype}" + f" {columns_first} by columns" * bool(columns_first)
    return Case(title, gemm, grid_of(m, n), (a, b, c), 2, expected, bound, baseline, meta)


def gelu_of(x: np.ndarray) -> np.ndarray:
    from math import erf

    values = [0.5 * v * (1.0 + erf(v * 0.5**0.5)) for v in x.ravel().tolist()]
    return np.array(values, np.float64).reshape(x.shape)


def gelu_case(m: int, n: int, k: int, dtype: Any = np.float16, **meta: Any) -> Case:
    a, b, c = operands(m, n, k, dtype)
    a /= np.asarray(max(k, 1) ** 0.5, dtype)  # keep x where GELU is neither 0 nor x
    bias = np.random.default_rng(n).standard_normal(n).astype(dtype)
    x = product(a, b) + bias
    expected = gelu_of(x)
    x_error = (k + 1) * U32 * (product(np.abs(a), np.abs(b)) + np.abs(bias))
    # |GELU'| < 1.13; erf's own error counts times x / 2.
    bound = 1.13 * x_error + (FUNCTION + 4 * U32) * np.abs(x) + rounding(c, expected)
    title = f"gemm_bias_gelu {m}x{n}x{k} {c.dtype}"

    def baseline() -> np.ndarray:
        y = product(a, b, np.float32) + bias  # numpy has no erf: the tanh form costs about the same
        return 0.5 * y * (1 + np.tanh(0.7978845608 * (y + 0.044715 * y**3)))

    return Case(title, gemm_bias_gelu, grid_of(m, n), (a, b, bias, c), 3, expected, bound, baseline, meta)


def main(**options: Any) -> int:
    cases = [case(**shape) for shape in SHAPES] + [gelu_case(**shape) for shape in SHAPES[:2]]
    return run_all(cases, **options)


if __name__ == "__main__":
    raise SystemExit(main())
