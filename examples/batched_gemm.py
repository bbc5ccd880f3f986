"""Products of many pairs of matrices at once; a batch of one B may be shared by all of A."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from _check import U32, Case, rounding, run_all

import tilec
import tilec.language as tl


@tilec.kernel
def batched_gemm(A: tl.Tensor, B: tl.Tensor, C: tl.Tensor,
                 BM: tl.constexpr[int] = 128, BN: tl.constexpr[int] = 128,
                 BK: tl.constexpr[int] = 64):  # fmt: skip
    m, n, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    b_batch = tl.minimum(batch, B.shape[0] - 1)
    acc = tl.zeros((BM, BN), tl.float32)
    for k in tl.range(tl.cdiv(A.shape[2], BK)):
        a = tl.load(A, (batch, m, k), (1, BM, BK)).reshape(BM, BK)
        b = tl.load(B, (b_batch, k, n), (1, BK, BN)).reshape(BK, BN)
        acc = tl.dot(a, b, acc)
    tl.store(C, (batch, m, n), acc.to(C.dtype).reshape(1, BM, BN))


SHAPES = (
    {"batch": 8, "m": 256, "n": 256, "k": 256},
    {"batch": 3, "m": 100, "n": 136, "k": 200},
    {"batch": 4, "m": 200, "n": 72, "k": 120, "shared": True},
)


def case(batch: int, m: int, n: int, k: int, shared: bool = False, dtype: Any = np.float16,
         **meta: Any) -> Case:  # fmt: skip
    rng = np.random.default_rng([batch, m, n, k])
    a = rng.standard_normal((batch, m, k)).astype(dtype)
    b = rng.standard_normal((1 if shared else batch, k, n)).astype(dtype)
    c = np.empty((batch, m, n), dtype)
    wide = [x.astype(np.float64) for x in (a, b)]
    expected = wide[0] @ wide[1]
    bound = k * U32 * (np.abs(wide[0]) @ np.abs(wide[1])) + rounding(c, expected)

    def grid(meta: Mapping[str, Any]) -> tuple[int, ...]:
        return (tl.cdiv(m, meta["BM"]), tl.cdiv(n, meta["BN"]), batch)

    baseline = lambda: a.astype(np.float32) @ b.astype(np.float32)  # noqa: E731
    title = f"batched_gemm {batch}x{m}x{n}x{k}" + " one B" * shared
    return Case(title, batched_gemm, grid, (a, b, c), 2, expected, bound, baseline, meta)


def main(**options: Any) -> int:
    return run_all((case(**shape) for shape in SHAPES), **options)


if __name__ == "__main__":
    raise SystemExit(main())
