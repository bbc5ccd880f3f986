"""Gradients of attention for Triton. See `triton_attention`."""

# Annotations of a kernel are those of its language, which mypy cannot read.
# mypy: ignore-errors

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import triton
import triton.language as tl

from tilec.bench_compile.triton_attention import LOG2E, read, write
from tilec.bench_compile.triton_kernels import Case, types_of


@triton.jit
def row_dots(O, DO, DELTA, head, row, queries, D: tl.constexpr, BM: tl.constexpr):
    base, rows = tl.program_id(1) * head, tl.program_id(0) * BM + tl.arange(0, BM)
    o, do = read(O + base, rows, queries, row, D), read(DO + base, rows, queries, row, D)
    dots = tl.sum(o.to(tl.float32) * do.to(tl.float32), 1)
    tl.store(DELTA + tl.program_id(1) * queries + rows, dots, mask=rows < queries)


@triton.jit
def attention_dkdv(Q, K, V, DO, LSE, DELTA, DK, DV, head, row, queries, keys, causal: tl.constexpr,
                   GROUP: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):  # fmt: skip
    block, base, shift = tl.program_id(0), tl.program_id(1) * head, keys - queries
    shared, stats = tl.program_id(1) // GROUP * head, tl.program_id(1) * queries
    columns = block * BN + tl.arange(0, BN)
    k, v = read(K + shared, columns, keys, row, D), read(V + shared, columns, keys, row, D)
    dk = tl.zeros((BN, D), dtype=tl.float32)
    dv = tl.zeros((BN, D), dtype=tl.float32)
    first = tl.maximum(block * BN - shift, 0) // BM * BM if causal else 0
    for start in range(first, queries, BM):
        rows = start + tl.arange(0, BM)
        q, do = read(Q + base, rows, queries, row, D), read(DO + base, rows, queries, row, D)
        lse = tl.load(LSE + stats + rows, mask=rows < queries, other=0.0) * LOG2E
        delta = tl.load(DELTA + stats + rows, mask=rows < queries, other=0.0)
        p = tl.exp2(tl.dot(k, tl.trans(q)) * (LOG2E / D**0.5) - lse[None, :])
        if causal:
            p = tl.where(columns[:, None] <= rows[None, :] + shift, p, 0.0)
        dv = tl.dot(p.to(do.dtype), do, dv)
        ds = p * (tl.dot(v, tl.trans(do)) - delta[None, :])
        dk = tl.dot(ds.to(q.dtype), q, dk)
    write(DK + base, dk * D**-0.5, columns, keys, row, D)
    write(DV + base, dv, columns, keys, row, D)


@triton.jit
def attention_dq(Q, K, V, DO, LSE, DELTA, DQ, head, row, queries, keys, causal: tl.constexpr,
                 GROUP: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):  # fmt: skip
    block, base, shift = tl.program_id(0), tl.program_id(1) * head, keys - queries
    shared, stats = tl.program_id(1) // GROUP * head, tl.program_id(1) * queries
    rows = block * BM + tl.arange(0, BM)
    q, do = read(Q + base, rows, queries, row, D), read(DO + base, rows, queries, row, D)
    lse = tl.load(LSE + stats + rows, mask=rows < queries, other=0.0) * LOG2E
    delta = tl.load(DELTA + stats + rows, mask=rows < queries, other=0.0)
    dq = tl.zeros((BM, D), dtype=tl.float32)
    for start in range(0, tl.minimum(keys, (block + 1) * BM + shift) if causal else keys, BN):
        columns = start + tl.arange(0, BN)
        k, v = read(K + shared, columns, keys, row, D), read(V + shared, columns, keys, row, D)
        p = tl.exp2(tl.dot(q, tl.trans(k)) * (LOG2E / D**0.5) - lse[:, None])
        if causal:
            p = tl.where(columns[None, :] <= rows[:, None] + shift, p, 0.0)
        ds = p * (tl.dot(do, tl.trans(v)) - delta[:, None])
        dq = tl.dot(ds.to(k.dtype), k, dq)
    write(DQ + base, dq * D**-0.5, rows, queries, row, D)


_GRADIENT = types_of("Q K V DO DK DV DQ", "*fp16", "head row queries keys", LSE="*fp32", DELTA="*fp32")


def _gradient(kernel: Any, D: int, causal: bool, BM: int, BN: int) -> Case:
    return Case(
        kernel,
        _GRADIENT,
        {"D": D, "BM": BM, "BN": BN, "causal": causal, "GROUP": 1},
        {"num_warps": 8, "num_stages": 2},
    )


GRADIENTS: Mapping[str, Case] = {
    **{
        f"{kernel.__name__} f16 D={d} causal={c}{more}": _gradient(kernel, d, c, *tile)
        for kernel, d, tile, more in (
            (attention_dkdv, 64, (64, 128), " BN=128"),
            (attention_dkdv, 128, (64, 64), ""),
            (attention_dq, 64, (128, 64), ""),
            (attention_dq, 128, (128, 64), ""),
        )
        for c in (False, True)
    },
    "row_dots f16": Case(
        row_dots, types_of("O DO", "*fp16", "head row queries", DELTA="*fp32"), {"D": 128, "BM": 64}
    ),
}
