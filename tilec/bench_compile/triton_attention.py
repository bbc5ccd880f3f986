"""Attention forward of the examples for Triton. See `triton_kernels`.

Strides are those of heads and of rows; a row is contiguous. GROUP query heads share one of K and V.
"""

# Annotations of a kernel are those of its language, which mypy cannot read.
# mypy: ignore-errors

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import triton
import triton.language as tl

from tilec.bench_compile.triton_kernels import Case, attention, types_of

LOG2E: tl.constexpr = tl.constexpr(1.4426950408889634)
WEIGHT: tl.constexpr = tl.constexpr(8.0)


@triton.jit
def read(X, rows, stop, row, D: tl.constexpr):
    """Rows of a matrix of D columns, zero from ``stop`` on."""
    at = X + rows[:, None] * row + tl.arange(0, D)[None, :]
    return tl.load(at, mask=rows[:, None] < stop, other=0.0)


@triton.jit
def write(X, x, rows, stop, row, D: tl.constexpr):
    at = X + rows[:, None] * row + tl.arange(0, D)[None, :]
    tl.store(at, x.to(X.dtype.element_ty), mask=rows[:, None] < stop)


@triton.jit
def tanh(x):
    return 2.0 * tl.sigmoid(2.0 * x) - 1.0


@triton.jit
def softmax_step(s, v, top, total, acc):
    """One tile of keys: scores in units of log2, and V."""
    new_top = tl.maximum(top, tl.max(s, 1))
    p = tl.exp2(s - new_top[:, None])
    fade = tl.exp2(top - new_top)
    acc = tl.dot(p.to(v.dtype), v, acc * fade[:, None])
    return new_top, total * fade + tl.sum(p, 1), acc


@triton.jit
def attention_window(Q, K, V, O, LSE, head, row, queries, keys, window, cap: tl.constexpr,
                     GROUP: tl.constexpr, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):  # fmt: skip
    block, base, shift = tl.program_id(0), tl.program_id(1) * head, keys - queries
    shared = tl.program_id(1) // GROUP * head
    rows = block * BM + tl.arange(0, BM)
    q = read(Q + base, rows, queries, row, D)
    top = tl.full((BM,), -1e30, dtype=tl.float32)
    total = tl.zeros((BM,), dtype=tl.float32)
    acc = tl.zeros((BM, D), dtype=tl.float32)
    first = tl.maximum(block * BM + shift - window + 1, 0) // BN * BN
    for start in range(first, tl.minimum(keys, (block + 1) * BM + shift), BN):
        columns = start + tl.arange(0, BN)
        k = read(K + shared, columns, keys, row, D)
        s = tl.dot(q, tl.trans(k)) * D**-0.5
        if cap > 0:
            s = cap * tanh(s / cap)
        last = rows[:, None] + shift
        seen = (columns[None, :] <= last) & (columns[None, :] > last - window) & (columns[None, :] < keys)
        s = tl.where(seen, s * LOG2E, float("-inf"))
        v = read(V + shared, columns, keys, row, D)
        top, total, acc = softmax_step(s, v, top, total, acc)
    write(O + base, acc / tl.where(total == 0.0, 1.0, total)[:, None], rows, queries, row, D)
    tl.store(LSE + tl.program_id(1) * queries + rows, (top + tl.log2(total)) / LOG2E, mask=rows < queries)


@triton.jit
def attention_varlen(Q, K, V, Q_START, K_START, O, head, row, GROUP: tl.constexpr, D: tl.constexpr,
                     BM: tl.constexpr, BN: tl.constexpr):  # fmt: skip
    block, base, sequence = tl.program_id(0), tl.program_id(1) * head, tl.program_id(2)
    shared = tl.program_id(1) // GROUP * head
    q_start, k_start = tl.load(Q_START + sequence), tl.load(K_START + sequence)
    queries, keys = tl.load(Q_START + sequence + 1) - q_start, tl.load(K_START + sequence + 1) - k_start
    rows = block * BM + tl.arange(0, BM)
    if block * BM < queries:
        q = read(Q + base + q_start * row, rows, queries, row, D)
        top = tl.full((BM,), -1e30, dtype=tl.float32)
        total = tl.zeros((BM,), dtype=tl.float32)
        acc = tl.zeros((BM, D), dtype=tl.float32)
        for start in range(0, tl.minimum(keys, (block + 1) * BM + keys - queries), BN):
            columns = start + tl.arange(0, BN)
            k = read(K + shared + k_start * row, columns, keys, row, D)
            seen = (columns[None, :] < keys) & (columns[None, :] <= rows[:, None] + keys - queries)
            s = tl.where(seen, tl.dot(q, tl.trans(k)) * (LOG2E / D**0.5), float("-inf"))
            v = read(V + shared + k_start * row, columns, keys, row, D)
            top, total, acc = softmax_step(s, v, top, total, acc)
        out = acc / tl.where(total == 0.0, 1.0, total)[:, None]
        write(O + base + q_start * row, out, rows, queries, row, D)


@triton.jit
def attention_fp8(Q, K, VT, O, scale, v_scale, head, row, v_head, v_row, queries, keys, D: tl.constexpr,
                  BM: tl.constexpr, BN: tl.constexpr):  # fmt: skip
    base, rows = tl.program_id(1) * head, tl.program_id(0) * BM + tl.arange(0, BM)
    values = VT + tl.program_id(1) * v_head + tl.arange(0, D)[None, :] * v_row
    q, scale2 = read(Q + base, rows, queries, row, D), scale * (LOG2E / D**0.5)
    top = tl.full((BM,), -1e30, dtype=tl.float32)
    total = tl.zeros((BM,), dtype=tl.float32)
    acc = tl.zeros((BM, D), dtype=tl.float32)
    for start in range(0, keys, BN):
        columns = start + tl.arange(0, BN)
        k = read(K + base, columns, keys, row, D)
        s = tl.where(columns[None, :] < keys, tl.dot(q, tl.trans(k)), float("-inf"))
        new_top = tl.maximum(top, tl.max(s, 1) * scale2)
        p = tl.exp2(s * scale2 + (WEIGHT - new_top)[:, None])
        fade = tl.exp2(top - new_top)
        total = total * fade + tl.sum(p, 1)
        v = tl.load(values + columns[:, None], mask=columns[:, None] < keys, other=0.0)
        acc = tl.dot(p.to(v.dtype), v, acc * fade[:, None])
        top = new_top
    write(O + base, acc * (v_scale / total)[:, None], rows, queries, row, D)


_PIPELINED = {"num_warps": 8, "num_stages": 2}
_HALF, _SIZES = "*fp16", "head row queries keys"


def _tile(D: int, BM: int = 128, BN: int = 128, **more: Any) -> dict[str, Any]:
    return {"D": D, "BM": BM, "BN": BN, **more}


def _fp8(D: int) -> Case:
    types = types_of("Q K VT", "*fp8e4nv", f"{_SIZES} v_head v_row", O="*bf16", scale="fp32", v_scale="fp32")
    return Case(attention_fp8, types, _tile(D), _PIPELINED)


ATTENTION: Mapping[str, Case] = {
    "attention bf16 D=256 causal=True BN=64": Case(
        attention, types_of("Q K V O", "*bf16", _SIZES), _tile(256, BN=64, causal=True), _PIPELINED
    ),
    **{
        f"attention_window f16 D={d} cap={cap}": Case(
            attention_window,
            types_of("Q K V O", _HALF, f"{_SIZES} window", LSE="*fp32"),
            _tile(d, cap=cap, GROUP=1),
            _PIPELINED,
        )
        for d in (64, 128)
        for cap in (0.0, 30.0)
    },
    **{
        f"attention_varlen f16 D={d}": Case(
            attention_varlen,
            types_of("Q K V O", _HALF, "head row", Q_START="*i32", K_START="*i32"),
            _tile(d, GROUP=1),
            _PIPELINED,
        )
        for d in (64, 128)
    },
    **{f"attention_fp8 e4m3 D={d}": _fp8(d) for d in (64, 128)},
}
