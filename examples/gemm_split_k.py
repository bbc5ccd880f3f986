"""Matrix product with the sum over K split among program instances: for small M and N, long K.

Each instance writes the partial sum of its share of K; a second kernel adds the shares
in order, so the result does not depend on timing. `gemm_atomic` adds them at once
with atomics instead, in whatever order they come.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from _check import U32, Case, rounding, run_all
from gemm import operands, product

import tilec
import tilec.language as tl


def share_of(A: Any, B: Any, m: Any, n: Any, share: Any, BM: int, BN: int, BK: int) -> Any:
    """The product over this share of the blocks of K; ``share`` counts along grid axis 2."""
    per_share = tl.cdiv(tl.cdiv(A.shape[1], BK), tl.num_programs(2))
    stop = tl.minimum((share + 1) * per_share, tl.cdiv(A.shape[1], BK))
    acc = tl.zeros((BM, BN), tl.float32)
    for k in tl.range(share * per_share, stop):
        acc = tl.dot(tl.load(A, (m, k), (BM, BK)), tl.load(B, (k, n), (BK, BN)), acc)
    return acc


@tilec.kernel
def gemm_shares(A: tl.Tensor, B: tl.Tensor, PARTS: tl.Tensor,
                BM: tl.constexpr[int] = 128, BN: tl.constexpr[int] = 128,
                BK: tl.constexpr[int] = 64):  # fmt: skip
    m, n, share = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    acc = share_of(A, B, m, n, share, BM, BN, BK)
    tl.store(PARTS, (share, m, n), acc.reshape(1, BM, BN))


@tilec.kernel
def add_shares(PARTS: tl.Tensor, C: tl.Tensor, BM: tl.constexpr[int] = 16, BN: tl.constexpr[int] = 128):
    m, n = tl.program_id(0), tl.program_id(1)
    total = tl.zeros((BM, BN), tl.float32)
    for share in tl.range(PARTS.shape[0]):
        total += tl.load(PARTS, (share, m, n), (1, BM, BN)).reshape(BM, BN)
    tl.store(C, (m, n), total.to(C.dtype))


@tilec.kernel
def gemm_atomic(A: tl.Tensor, B: tl.Tensor, C: tl.Tensor,
                BM: tl.constexpr[int] = 128, BN: tl.constexpr[int] = 128,
                BK: tl.constexpr[int] = 64):  # fmt: skip
    m, n, share = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    acc = share_of(A, B, m, n, share, BM, BN, BK)
    rows, columns = m * BM + tl.arange(0, BM), n * BN + tl.arange(0, BN)
    tl.atomic_add(C, (rows[:, None], columns[None, :]), acc)


SHAPES = ({"m": 128, "n": 256, "k": 8192, "shares": 8}, {"m": 100, "n": 72, "k": 5000, "shares": 5})


def blocks_of_each(k: int, shares: int, BK: int) -> list[slice]:
    """The part of K that each share sums over."""
    per_share = tl.cdiv(tl.cdiv(k, BK), shares) * BK
    return [slice(i * per_share, (i + 1) * per_share) for i in range(shares)]


def shares_case(m: int, n: int, k: int, shares: int, dtype: Any = np.float16, **meta: Any) -> Case:
    a, b, _ = operands(m, n, k, dtype)
    parts = np.empty((shares, m, n), np.float32)
    cuts = blocks_of_each(k, shares, meta.get("BK", 64))
    expected = np.stack([product(a[:, s], b[s]) for s in cuts])
    bound = k * U32 * np.stack([product(np.abs(a[:, s]), np.abs(b[s])) for s in cuts])

    def grid(meta: Mapping[str, Any]) -> tuple[int, ...]:
        return (tl.cdiv(m, meta["BM"]), tl.cdiv(n, meta["BN"]), shares)

    baseline = lambda: product(a, b, np.float32)  # noqa: E731
    title = f"gemm_shares {m}x{n}x{k} in {shares}"
    return Case(title, gemm_shares, grid, (a, b, parts), 2, expected, bound, baseline, meta)


def add_case(m: int, n: int, shares: int, dtype: Any = np.float16, **meta: Any) -> Case:
    parts = np.random.default_rng([m, n, shares]).standard_normal((shares, m, n)).astype(np.float32)
    c = np.empty((m, n), dtype)
    expected = parts.astype(np.float64).sum(axis=0)
    bound = shares * U32 * np.abs(parts).sum(axis=0, dtype=np.float64) + rounding(c, expected)

    def grid(meta: Mapping[str, Any]) -> tuple[int, ...]:
        return (tl.cdiv(m, meta["BM"]), tl.cdiv(n, meta["BN"]))

    title = f"add_shares {m}x{n} of {shares}"
    return Case(title, add_shares, grid, (parts, c), 1, expected, bound, lambda: parts.sum(axis=0), meta)


def atomic_case(m: int, n: int, k: int, shares: int, dtype: Any = np.float16, **meta: Any) -> Case:
    a, b, _ = operands(m, n, k, dtype)
    c = np.empty((m, n), np.float32)
    expected = product(a, b)
    bound = (k + shares) * U32 * product(np.abs(a), np.abs(b))

    def grid(meta: Mapping[str, Any]) -> tuple[int, ...]:
        return (tl.cdiv(m, meta["BM"]), tl.cdiv(n, meta["BN"]), shares)

    baseline = lambda: product(a, b, np.float32)  # noqa: E731
    title = f"gemm_atomic {m}x{n}x{k} in {shares}"
    return Case(title, gemm_atomic, grid, (a, b, c), 2, expected, bound, baseline, meta, zeroed=True)


def main(**options: Any) -> int:
    cases = [make(**shape) for make in (shares_case, atomic_case) for shape in SHAPES]
    return run_all([*cases, add_case(128, 256, 8), add_case(100, 72, 5)], **options)


if __name__ == "__main__":
    raise SystemExit(main())
