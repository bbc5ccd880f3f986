"""The same kernels for Triton, as its users write them: pointers, masks, software pipelining by count.

Strides of 1 are constants, as Triton's launcher makes them; pointers and other numbers are
multiples of 16. Of a product's B either the columns or the rows are contiguous.

Imported only where Triton is installed.
"""

# Annotations of a kernel are those of its language, which mypy cannot read.
# mypy: ignore-errors

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import triton
import triton.language as tl


@triton.jit
def gemm(A, B, C, M, N, K, am, bk, bn, cm, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    ks = tl.arange(0, BK)
    a = A + rows[:, None] * am + ks[None, :]
    b = B + ks[:, None] * bk + columns[None, :] * bn
    acc = tl.zeros((BM, BN), dtype=tl.int32 if A.dtype.element_ty == tl.int8 else tl.float32)
    for k in range(0, tl.cdiv(K, BK)):
        left = K - k * BK
        x = tl.load(a, mask=(rows[:, None] < M) & (ks[None, :] < left), other=0.0)
        y = tl.load(b, mask=(ks[:, None] < left) & (columns[None, :] < N), other=0.0)
        acc = tl.dot(x, y, acc)
        a += BK
        b += BK * bk
    inside = (rows[:, None] < M) & (columns[None, :] < N)
    tl.store(C + rows[:, None] * cm + columns[None, :], acc.to(C.dtype.element_ty), mask=inside)


@triton.jit
def attention(Q, K, V, O, head, row, queries, keys, causal: tl.constexpr, D: tl.constexpr, BM: tl.constexpr,
              BN: tl.constexpr):  # fmt: skip
    block, base = tl.program_id(0), tl.program_id(1) * head
    rows, ds, ns = block * BM + tl.arange(0, BM), tl.arange(0, D), tl.arange(0, BN)
    q = tl.load(Q + base + rows[:, None] * row + ds[None, :], mask=rows[:, None] < queries, other=0.0)
    top = tl.full((BM,), -1e30, dtype=tl.float32)
    total = tl.zeros((BM,), dtype=tl.float32)
    acc = tl.zeros((BM, D), dtype=tl.float32)
    stop = tl.minimum(keys, (block + 1) * BM) if causal else keys
    for start in range(0, stop, BN):
        columns = start + ns
        k = tl.load(K + base + columns[None, :] * row + ds[:, None], mask=columns[None, :] < keys, other=0.0)
        s = tl.dot(q, k) * (1.4426950408889634 / D**0.5)
        seen = columns[None, :] < keys
        if causal:
            seen = seen & (columns[None, :] <= rows[:, None])
        s = tl.where(seen, s, float("-inf"))
        new_top = tl.maximum(top, tl.max(s, 1))
        p = tl.exp2(s - new_top[:, None])
        fade = tl.exp2(top - new_top)
        total = total * fade + tl.sum(p, 1)
        v = tl.load(V + base + columns[:, None] * row + ds[None, :], mask=columns[:, None] < keys, other=0.0)
        acc = tl.dot(p.to(v.dtype), v, acc * fade[:, None])
        top = new_top
    out = (acc / total[:, None]).to(O.dtype.element_ty)
    tl.store(O + base + rows[:, None] * row + ds[None, :], out, mask=rows[:, None] < queries)


@triton.jit
def softmax(X, Y, stride, n, BN: tl.constexpr):
    at = tl.arange(0, BN)
    x = tl.load(X + tl.program_id(0) * stride + at, mask=at < n, other=float("-inf")).to(tl.float32)
    e = tl.exp(x - tl.max(x, 0))
    y = e / tl.sum(e, 0)
    tl.store(Y + tl.program_id(0) * stride + at, y.to(Y.dtype.element_ty), mask=at < n)


@triton.jit
def layer_norm(X, W, B, Y, stride, n, BN: tl.constexpr):
    at = tl.arange(0, BN)
    x = tl.load(X + tl.program_id(0) * stride + at, mask=at < n, other=0.0).to(tl.float32)
    d = tl.where(at < n, x - tl.sum(x, 0) / n, 0.0)
    scale = tl.rsqrt(tl.sum(d * d, 0) / n + 1e-5)
    w = tl.load(W + at, mask=at < n, other=0.0).to(tl.float32)
    b = tl.load(B + at, mask=at < n, other=0.0).to(tl.float32)
    tl.store(Y + tl.program_id(0) * stride + at, (d * scale * w + b).to(Y.dtype.element_ty), mask=at < n)


@triton.jit
def rms_norm(X, W, Y, stride, n, BN: tl.constexpr):
    at = tl.arange(0, BN)
    x = tl.load(X + tl.program_id(0) * stride + at, mask=at < n, other=0.0)
    scale = tl.rsqrt(tl.sum(x * x, 0) / n + 1e-5)
    tl.store(
        Y + tl.program_id(0) * stride + at, x * scale * tl.load(W + at, mask=at < n, other=0.0), mask=at < n
    )


@dataclass(frozen=True)
class Case:
    """A kernel, types by parameter, constants, and options of the compiler."""

    kernel: Any
    types: Mapping[str, str]
    constants: Mapping[str, Any]
    options: Mapping[str, int] = field(default_factory=dict)


def types_of(pointers: str, kind: str, numbers: str, **other: str) -> dict[str, str]:
    return {**dict.fromkeys(pointers.split(), kind), **dict.fromkeys(numbers.split(), "i32"), **other}


_WARPS = {"num_warps": 8, "num_stages": 3}
_HEADS = types_of("Q K V O", "*fp16", "head row queries keys")
_TILE = {"D": 128, "BM": 128, "BN": 128}
_SMALL = {"D": 64, "BM": 128, "BN": 128}
_PIPELINED = {"num_warps": 8, "num_stages": 2}
_NN, _NT = ("M N K am bk cm", {"bn": 1}), ("M N K am bn cm", {"bk": 1})


def _gemm(a: str, c: str, numbers: tuple[str, Mapping[str, int]], bn: int, bk: int) -> Case:
    constants = {**numbers[1], "BM": 128, "BN": bn, "BK": bk}
    return Case(gemm, types_of("A B", f"*{a}", numbers[0], C=f"*{c}"), constants, _WARPS)


CASES: Mapping[str, Case] = {
    "gemm fp16": _gemm("fp16", "fp16", _NN, 256, 64),
    "gemm fp8": _gemm("fp8e4nv", "fp16", _NT, 256, 128),
    "attention": Case(attention, _HEADS, {"causal": False, **_TILE}, _PIPELINED),
    "attention causal": Case(attention, _HEADS, {"causal": True, **_TILE}, _PIPELINED),
    "softmax": Case(softmax, types_of("X Y", "*fp16", "stride n"), {"BN": 1024}),
    "layer norm": Case(layer_norm, types_of("X W B Y", "*fp16", "stride n"), {"BN": 1024}),
}
BESIDE_TRITON: Mapping[str, Case] = {
    **CASES,
    "gemm bf16": _gemm("bf16", "bf16", _NN, 256, 64),
    "gemm tf32": _gemm("fp32", "fp32", _NT, 128, 32),
    "gemm int8": _gemm("i8", "i32", _NT, 256, 128),
    "attention 64": Case(attention, _HEADS, {"causal": False, **_SMALL}, _PIPELINED),
    "attention 64 causal": Case(attention, _HEADS, {"causal": True, **_SMALL}, _PIPELINED),
    "rms norm": Case(rms_norm, types_of("X W Y", "*fp32", "stride n"), {"BN": 4096}),
}
