"""Products of the examples for Triton: other epilogues, orders of work and groups. See `triton_kernels`."""

# Annotations of a kernel are those of its language, which mypy cannot read.
# mypy: ignore-errors

from __future__ import annotations

from collections.abc import Mapping

import triton
import triton.language as tl

from tilec.bench_compile.triton_kernels import Case, types_of


@triton.jit
def product(A, B, rows, columns, M, N, K, am, bk, first, last, BM: tl.constexpr, BN: tl.constexpr,
            BK: tl.constexpr):  # fmt: skip
    """Steps ``first`` to ``last`` along K of a tile of A (M, K) times B (K, N)."""
    ks = first * BK + tl.arange(0, BK)
    a = A + rows[:, None] * am + ks[None, :]
    b = B + ks[:, None] * bk + columns[None, :]
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for k in range(first, last):
        at = k * BK + tl.arange(0, BK)
        x = tl.load(a, mask=(rows[:, None] < M) & (at[None, :] < K), other=0.0)
        y = tl.load(b, mask=(at[:, None] < K) & (columns[None, :] < N), other=0.0)
        acc = tl.dot(x, y, acc)
        a += BK
        b += BK * bk
    return acc


@triton.jit
def put(C, acc, rows, columns, M, N, cm):
    inside = (rows[:, None] < M) & (columns[None, :] < N)
    tl.store(C + rows[:, None] * cm + columns[None, :], acc.to(C.dtype.element_ty), mask=inside)


@triton.jit
def gemm_bias_gelu(A, B, bias, C, M, N, K, am, bk, cm, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    acc = product(A, B, rows, columns, M, N, K, am, bk, 0, tl.cdiv(K, BK), BM, BN, BK)
    x = acc + tl.load(bias + columns, mask=columns < N, other=0.0).to(tl.float32)[None, :]
    put(C, 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476)), rows, columns, M, N, cm)


@triton.jit
def gemm_scaled(A, B, row_scale, column_scale, C, M, N, K, am, bn, cm, BM: tl.constexpr, BN: tl.constexpr,
                BK: tl.constexpr):  # fmt: skip
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    ks = tl.arange(0, BK)
    a = A + rows[:, None] * am + ks[None, :]
    b = B + ks[:, None] + columns[None, :] * bn
    acc = tl.zeros((BM, BN), dtype=tl.int32 if A.dtype.element_ty == tl.int8 else tl.float32)
    for k in range(0, tl.cdiv(K, BK)):
        left = K - k * BK
        x = tl.load(a, mask=(rows[:, None] < M) & (ks[None, :] < left), other=0.0)
        y = tl.load(b, mask=(ks[:, None] < left) & (columns[None, :] < N), other=0.0)
        acc = tl.dot(x, y, acc)
        a += BK
        b += BK
    by_row = tl.load(row_scale + rows, mask=rows < M, other=0.0)
    by_column = tl.load(column_scale + columns, mask=columns < N, other=0.0)
    put(C, acc.to(tl.float32) * by_row[:, None] * by_column[None, :], rows, columns, M, N, cm)


@triton.jit
def persistent_gemm(A, B, C, M, N, K, am, bk, cm, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
                    GROUP: tl.constexpr):  # fmt: skip
    high, wide = tl.cdiv(M, BM), tl.cdiv(N, BN)
    for tile in range(tl.program_id(0), high * wide, tl.num_programs(0)):
        group = tile // (GROUP * wide)
        size = tl.minimum(high - group * GROUP, GROUP)
        within = tile % (GROUP * wide)
        rows = (group * GROUP + within % size) * BM + tl.arange(0, BM)
        columns = within // size * BN + tl.arange(0, BN)
        acc = product(A, B, rows, columns, M, N, K, am, bk, 0, tl.cdiv(K, BK), BM, BN, BK)
        put(C, acc, rows, columns, M, N, cm)


@triton.jit
def share_of(A, B, rows, columns, M, N, K, am, bk, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """The steps along K that are this program's on the third axis of the grid."""
    share, steps = tl.program_id(2), tl.cdiv(K, BK)
    each = tl.cdiv(steps, tl.num_programs(2))
    last = tl.minimum((share + 1) * each, steps)
    return product(A, B, rows, columns, M, N, K, am, bk, share * each, last, BM, BN, BK)


@triton.jit
def gemm_shares(A, B, PARTS, M, N, K, am, bk, part, pm, BM: tl.constexpr, BN: tl.constexpr,
                BK: tl.constexpr):  # fmt: skip
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    acc = share_of(A, B, rows, columns, M, N, K, am, bk, BM, BN, BK)
    put(PARTS + tl.program_id(2) * part, acc, rows, columns, M, N, pm)


@triton.jit
def add_shares(PARTS, C, shares, M, N, part, pm, cm, BM: tl.constexpr, BN: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    inside = (rows[:, None] < M) & (columns[None, :] < N)
    at = PARTS + rows[:, None] * pm + columns[None, :]
    total = tl.zeros((BM, BN), dtype=tl.float32)
    for share in range(shares):
        total += tl.load(at + share * part, mask=inside, other=0.0)
    put(C, total, rows, columns, M, N, cm)


@triton.jit
def gemm_atomic(A, B, C, M, N, K, am, bk, cm, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    acc = share_of(A, B, rows, columns, M, N, K, am, bk, BM, BN, BK)
    inside = (rows[:, None] < M) & (columns[None, :] < N)
    tl.atomic_add(C + rows[:, None] * cm + columns[None, :], acc, mask=inside, sem="relaxed")


@triton.jit
def stream_k(A, B, C, M, N, K, am, bk, cm, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    wide, depth = tl.cdiv(N, BN), tl.cdiv(K, BK)
    work = tl.cdiv(M, BM) * wide * depth
    share = tl.cdiv(work, tl.num_programs(0))
    start = tl.minimum(tl.program_id(0) * share, work)
    stop = tl.minimum(start + share, work)
    for tile in range(start // depth, tl.cdiv(stop, depth)):
        rows = tile // wide * BM + tl.arange(0, BM)
        columns = tile % wide * BN + tl.arange(0, BN)
        first, last = tl.maximum(start - tile * depth, 0), tl.minimum(stop - tile * depth, depth)
        acc = product(A, B, rows, columns, M, N, K, am, bk, first, last, BM, BN, BK)
        inside = (rows[:, None] < M) & (columns[None, :] < N)
        tl.atomic_add(C + rows[:, None] * cm + columns[None, :], acc, mask=inside, sem="relaxed")


@triton.jit
def batched_gemm(A, B, C, M, N, K, a0, am, b0, bk, c0, cm, BM: tl.constexpr, BN: tl.constexpr,
                 BK: tl.constexpr):  # fmt: skip
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns, batch = tl.program_id(1) * BN + tl.arange(0, BN), tl.program_id(2)
    a, b = A + batch * a0, B + batch * b0
    acc = product(a, b, rows, columns, M, N, K, am, bk, 0, tl.cdiv(K, BK), BM, BN, BK)
    put(C + batch * c0, acc, rows, columns, M, N, cm)


@triton.jit
def swiglu(X, GATE, UP, OUT, M, N, K, xm, gk, uk, om, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    ks = tl.arange(0, BK)
    x = X + rows[:, None] * xm + ks[None, :]
    g, u = GATE + ks[:, None] * gk + columns[None, :], UP + ks[:, None] * uk + columns[None, :]
    gate = tl.zeros((BM, BN), dtype=tl.float32)
    up = tl.zeros((BM, BN), dtype=tl.float32)
    for k in range(0, tl.cdiv(K, BK)):
        left = K - k * BK
        a = tl.load(x, mask=(rows[:, None] < M) & (ks[None, :] < left), other=0.0)
        there = (ks[:, None] < left) & (columns[None, :] < N)
        gate = tl.dot(a, tl.load(g, mask=there, other=0.0), gate)
        up = tl.dot(a, tl.load(u, mask=there, other=0.0), up)
        x += BK
        g += BK * gk
        u += BK * uk
    put(OUT, gate * tl.sigmoid(gate) * up, rows, columns, M, N, om)


_WARPS = {"num_warps": 8, "num_stages": 3}
_TILE = {"BM": 128, "BN": 128, "BK": 64}
_WIDE = {"BM": 128, "BN": 256, "BK": 64}
_AB = "M N K am bk cm"


def _scaled(kind: str, **tile: int) -> Case:
    types = types_of("A B", f"*{kind}", "M N K am bn cm", row_scale="*fp32", column_scale="*fp32", C="*bf16")
    return Case(gemm_scaled, types, {**_TILE, **tile}, _WARPS)


GEMM: Mapping[str, Case] = {
    "gemm_bias_gelu f16": Case(gemm_bias_gelu, types_of("A B bias C", "*fp16", _AB), _WIDE, _WARPS),
    "persistent_gemm f16": Case(
        persistent_gemm, types_of("A B C", "*fp16", _AB), {**_WIDE, "GROUP": 8}, _WARPS
    ),
    "gemm_scaled e4m3 BN=256 BK=128": _scaled("fp8e4nv", BN=256, BK=128),
    "gemm_scaled e5m2 BK=128": _scaled("fp8e5", BK=128),
    "gemm_scaled i8 BN=256 BK=128": _scaled("i8", BN=256, BK=128),
    "gemm_scaled f32 BN=256 BK=32": _scaled("fp32", BN=256, BK=32),
    "gemm_scaled bf16 BN=256": _scaled("bf16", BN=256),
    "gemm_shares f16": Case(
        gemm_shares, types_of("A B", "*fp16", "M N K am bk part pm", PARTS="*fp32"), _TILE, _WARPS
    ),
    "add_shares f32": Case(
        add_shares, types_of("", "", "shares M N part pm cm", PARTS="*fp32", C="*fp16"), {"BM": 16, "BN": 128}
    ),
    "gemm_atomic f16": Case(gemm_atomic, types_of("A B", "*fp16", _AB, C="*fp32"), _TILE, _WARPS),
    "stream_k f16": Case(stream_k, types_of("A B", "*fp16", _AB, C="*fp32"), _TILE, _WARPS),
    "batched_gemm f16": Case(
        batched_gemm, types_of("A B C", "*fp16", "M N K a0 am b0 bk c0 cm"), _TILE, _WARPS
    ),
    "swiglu f16": Case(swiglu, types_of("X GATE UP OUT", "*fp16", "M N K xm gk uk om"), _TILE, _WARPS),
}
