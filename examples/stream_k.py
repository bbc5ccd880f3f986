"""Matrix product whose work is cut in equal shares, wherever tiles end (stream-K).

All blocks of K of all output tiles stand in one line, and each program instance takes an
equal part of it: no instance waits for a last, half-filled wave of tiles. A tile
that several instances share is summed with atomics, so C starts as zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from _check import U32, Case, run_all
from gemm import operands, product

import tilec
import tilec.language as tl


@tilec.kernel
def stream_k(A: tl.Tensor, B: tl.Tensor, C: tl.Tensor, BM: tl.constexpr[int] = 128,
             BN: tl.constexpr[int] = 128, BK: tl.constexpr[int] = 64):  # fmt: skip
    columns, depth = tl.cdiv(B.shape[1], BN), tl.cdiv(A.shape[1], BK)
    work = tl.cdiv(A.shape[0], BM) * columns * depth
    share = tl.cdiv(work, tl.num_programs(0))
    start = tl.minimum(tl.program_id(0) * share, work)
    stop = tl.minimum(start + share, work)
    for tile in tl.range(start // depth, tl.cdiv(stop, depth)):
        m, n = tile // columns, tile % columns
        acc = tl.zeros((BM, BN), tl.float32)
        for k in tl.range(tl.maximum(start - tile * depth, 0), tl.minimum(stop - tile * depth, depth)):
            acc = tl.dot(tl.load(A, (m, k), (BM, BK)), tl.load(B, (k, n), (BK, BN)), acc)
        rows, places = m * BM + tl.arange(0, BM), n * BN + tl.arange(0, BN)
        tl.atomic_add(C, (rows[:, None], places[None, :]), acc)


SHAPES = ({"m": 384, "n": 384, "k": 1024}, {"m": 300, "n": 264, "k": 1000})


def case(m: int, n: int, k: int, dtype: Any = np.float16, programs: int = 4, **meta: Any) -> Case:
    a, b, _ = operands(m, n, k, dtype)
    c = np.empty((m, n), np.float32)
    expected = product(a, b)
    bound = (k + programs) * U32 * product(np.abs(a), np.abs(b))

    def grid(meta: Mapping[str, Any]) -> tuple[int, ...]:
        return (programs,)

    baseline = lambda: product(a, b, np.float32)  # noqa: E731
    title = f"stream_k {m}x{n}x{k} by {programs}"
    return Case(title, stream_k, grid, (a, b, c), 2, expected, bound, baseline, meta, zeroed=True)


def main(**options: Any) -> int:
    return run_all((case(**shape) for shape in SHAPES), **options)


if __name__ == "__main__":
    raise SystemExit(main())
