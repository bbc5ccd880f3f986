"""Products of groups of rows, and of few rows, for Triton. See `triton_gemm`."""

# Annotations of a kernel are those of its language, which mypy cannot read.
# mypy: ignore-errors

from __future__ import annotations

from collections.abc import Mapping

import triton
import triton.language as tl

from tilec.bench_compile.triton_gemm import product, put
from tilec.bench_compile.triton_kernels import Case, types_of


@triton.jit
def grouped_gemm(X, W, OFFSETS, EXPERT, TILE, OUT, N, K, xm, w0, wk, om, BM: tl.constexpr, BN: tl.constexpr,
                 BK: tl.constexpr):  # fmt: skip
    expert, tile = tl.load(EXPERT + tl.program_id(0)), tl.load(TILE + tl.program_id(0))
    start, stop = tl.load(OFFSETS + expert), tl.load(OFFSETS + expert + 1)
    rows = start + tile * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    acc = product(X, W + expert * w0, rows, columns, stop, N, K, xm, wk, 0, tl.cdiv(K, BK), BM, BN, BK)
    put(OUT, acc, rows, columns, stop, N, om)


@triton.jit
def grouped_weights(X, DOUT, OFFSETS, DW, M, N, xm, dm, w0, wm, BM: tl.constexpr, BN: tl.constexpr,
                    BK: tl.constexpr):  # fmt: skip
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns, expert = tl.program_id(1) * BN + tl.arange(0, BN), tl.program_id(2)
    start, stop = tl.load(OFFSETS + expert), tl.load(OFFSETS + expert + 1)
    ks = start + tl.arange(0, BK)
    x, d = X + ks[:, None] * xm + rows[None, :], DOUT + ks[:, None] * dm + columns[None, :]
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for k in range(start, stop, BK):
        left = (k + tl.arange(0, BK))[:, None] < stop
        a = tl.load(x, mask=left & (rows[None, :] < M), other=0.0)
        acc = tl.dot(tl.trans(a), tl.load(d, mask=left & (columns[None, :] < N), other=0.0), acc)
        x += BK * xm
        d += BK * dm
    put(DW + expert * w0, acc, rows, columns, M, N, wm)


@triton.jit
def gemv(W, x, y, N, K, wn, BN: tl.constexpr, BK: tl.constexpr):
    rows, ks = tl.program_id(0) * BN + tl.arange(0, BN), tl.arange(0, BK)
    total = tl.zeros((BN, BK), dtype=tl.float32)
    for k in range(0, K, BK):
        at = k + ks
        w = tl.load(
            W + rows[:, None] * wn + at[None, :], mask=(rows[:, None] < N) & (at[None, :] < K), other=0.0
        )
        total += w.to(tl.float32) * tl.load(x + at, mask=at < K, other=0.0).to(tl.float32)[None, :]
    tl.store(y + rows, tl.sum(total, 1).to(y.dtype.element_ty), mask=rows < N)


@triton.jit
def flat_gemm(W, X, Y, BATCHES, N, K, wn, xm, ym, BATCH: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rows, batch = tl.program_id(0) * BN + tl.arange(0, BN), tl.program_id(1) * BATCH + tl.arange(0, BATCH)
    ks = tl.arange(0, BK)
    w, x = W + rows[:, None] * wn + ks[None, :], X + batch[None, :] * xm + ks[:, None]
    acc = tl.zeros((BN, BATCH), dtype=tl.float32)
    for k in range(0, tl.cdiv(K, BK)):
        left = K - k * BK
        a = tl.load(w, mask=(rows[:, None] < N) & (ks[None, :] < left), other=0.0)
        acc = tl.dot(a, tl.load(x, mask=(batch[None, :] < BATCHES) & (ks[:, None] < left), other=0.0), acc)
        w += BK
        x += BK
    put(Y, tl.trans(acc), batch, rows, BATCHES, N, ym)


_WARPS = {"num_warps": 8, "num_stages": 3}
_TILE = {"BM": 128, "BN": 128, "BK": 64}
GROUPED: Mapping[str, Case] = {
    "grouped_gemm f16": Case(
        grouped_gemm,
        types_of("X W OUT", "*fp16", "N K xm w0 wk om", OFFSETS="*i32", EXPERT="*i32", TILE="*i32"),
        _TILE,
        _WARPS,
    ),
    "grouped_weights f16": Case(
        grouped_weights, types_of("X DOUT DW", "*fp16", "M N xm dm w0 wm", OFFSETS="*i32"), _TILE, _WARPS
    ),
    "gemv f16": Case(gemv, types_of("W x y", "*fp16", "N K wn"), {"BN": 16, "BK": 512}, {"num_warps": 8}),
    "flat_gemm f16": Case(
        flat_gemm,
        types_of("W X Y", "*fp16", "BATCHES N K wn xm ym"),
        {"BATCH": 16, "BN": 64, "BK": 128},
        {"num_warps": 4, "num_stages": 3},
    ),
}
