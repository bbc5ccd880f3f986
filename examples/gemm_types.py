"""Matrix products of every type that the tensor cores take, with a scale per row and column.

A is (M, K); B is (N, K), as weights are stored, so that operands of 8 bits are contiguous
along the sum. bfloat16, float8 and tf32 are summed in float32, int8 exactly in int32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from _check import U32, Case, rounding, run_all
from gemm import grid_of, product

import tilec
import tilec.language as tl


@tilec.kernel
def gemm_scaled(A: tl.Tensor, B: tl.Tensor, row_scale: tl.Tensor, column_scale: tl.Tensor, C: tl.Tensor,
                BM: tl.constexpr[int] = 128, BN: tl.constexpr[int] = 128,
                BK: tl.constexpr[int] = 64):  # fmt: skip
    m, n = tl.program_id(0), tl.program_id(1)
    acc = tl.zeros((BM, BN), tl.float32 if A.dtype.is_float else tl.int32)
    for k in tl.range(tl.cdiv(A.shape[1], BK)):
        a = tl.load(A, (m, k), (BM, BK))
        b = tl.load(B, (n, k), (BN, BK))
        acc = tl.dot(a, b.T, acc, input_precision="tf32")
    rows, columns = tl.load(row_scale, (m,), (BM,)), tl.load(column_scale, (n,), (BN,))
    tl.store(C, (m, n), (acc.to(tl.float32) * rows[:, None] * columns[None, :]).to(C.dtype))


SHAPES = tuple(
    {"m": m, "n": n, "k": k, "dtype": dtype}
    for dtype in ("bfloat16", "float8_e4m3fn", "float8_e5m2", "int8", "float32")
    for m, n, k in ((512, 512, 512), (300, 200, 272))
)


def operand(rng: np.random.Generator, shape: tuple[int, int], dtype: Any) -> np.ndarray:
    if np.dtype(dtype) == np.int8:
        return rng.integers(-128, 128, shape, np.int8)
    return rng.standard_normal(shape).astype(dtype)


def case(m: int, n: int, k: int, dtype: Any = "float8_e4m3fn", out: Any = "bfloat16", **meta: Any) -> Case:
    rng = np.random.default_rng([m, n, k])
    kind = np.dtype(dtype)
    a, b = operand(rng, (m, k), kind), operand(rng, (n, k), kind)
    rows, columns = (rng.uniform(0.5, 2, size).astype(np.float32) for size in (m, n))
    c = np.empty((m, n), out)
    wide = [x.astype(np.float64) for x in (a, b)]
    scale = rows.astype(np.float64)[:, None] * columns
    expected = product(wide[0], wide[1].T) * scale
    size = product(np.abs(wide[0]), np.abs(wide[1].T)) * scale
    # tf32 drops 13 of 23 bits of each operand; products of the others are exact, and so are sums of int8.
    sums = {"float32": 2 * 2.0**-10 + k * U32, "int8": 0.0}.get(kind.name, k * U32)
    bound = (sums + 3 * U32) * size + rounding(c, expected)

    def baseline() -> np.ndarray:
        return product(a, b.T, np.float32) * rows[:, None] * columns

    title = f"gemm_scaled {m}x{n}x{k} {kind} to {c.dtype}"
    args = (a, b, rows, columns, c)
    return Case(title, gemm_scaled, grid_of(m, n), args, 4, expected, bound, baseline, meta)


def main(**options: Any) -> int:
    return run_all((case(**shape) for shape in SHAPES), **options)


if __name__ == "__main__":
    raise SystemExit(main())
