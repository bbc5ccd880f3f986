"""The kernels whose compilation is timed, and how each is specialised. `triton_kernels` has the same."""

# Annotations of a kernel are those of its language, which mypy cannot read.
# mypy: ignore-errors

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tilec
import tilec.language as tl


@tilec.kernel
def gemm(A: tl.Tensor, B: tl.Tensor, C: tl.Tensor, BM: tl.constexpr[int] = 128, BN: tl.constexpr[int] = 256,
         BK: tl.constexpr[int] = 64):  # fmt: skip
    m, n = tl.program_id(0), tl.program_id(1)
    acc = tl.zeros((BM, BN), tl.float32)
    for k in tl.range(tl.cdiv(A.shape[1], BK)):
        a, b = tl.load(A, (m, k), (BM, BK)), tl.load(B, (k, n), (BK, BN))
        acc = tl.dot(a, b, acc)
    tl.store(C, (m, n), acc.to(C.dtype))


@tilec.kernel
def gemm_nt(A: tl.Tensor, B: tl.Tensor, C: tl.Tensor, BM: tl.constexpr[int] = 128,
            BN: tl.constexpr[int] = 256, BK: tl.constexpr[int] = 128):  # fmt: skip
    m, n = tl.program_id(0), tl.program_id(1)
    acc = tl.zeros((BM, BN), tl.float32)
    for k in tl.range(tl.cdiv(A.shape[1], BK)):
        a, b = tl.load(A, (m, k), (BM, BK)), tl.load(B, (n, k), (BN, BK))
        acc = tl.dot(a, b.T, acc)
    tl.store(C, (m, n), acc.to(C.dtype))


@tilec.kernel
def attention(Q: tl.Tensor, K: tl.Tensor, V: tl.Tensor, O: tl.Tensor, causal: tl.constexpr[bool] = False,
              D: tl.constexpr[int] = 128, BM: tl.constexpr[int] = 128,
              BN: tl.constexpr[int] = 128):  # fmt: skip
    block, head, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    keys, rows = K.shape[2], block * BM + tl.arange(0, BM)
    stop = tl.minimum(keys, (block + 1) * BM) if causal else keys
    q = tl.load(Q, (batch, head, block, 0), (1, 1, BM, D)).reshape(BM, D)
    top, total = tl.full((BM,), -1e30, tl.float32), tl.zeros((BM,), tl.float32)
    acc = tl.zeros((BM, D), tl.float32)
    for n in tl.range(tl.cdiv(stop, BN)):
        k = tl.load(K, (batch, head, n, 0), (1, 1, BN, D)).reshape(BN, D)
        v = tl.load(V, (batch, head, n, 0), (1, 1, BN, D)).reshape(BN, D)
        columns = (n * BN + tl.arange(0, BN))[None, :]
        seen = columns < keys
        if causal:
            seen = seen & (columns <= rows[:, None])
        s = tl.where(seen, tl.dot(q, k.T) * (1.4426950408889634 / D**0.5), float("-inf"))
        new_top = tl.maximum(top, tl.max(s, 1))
        p, fade = tl.exp2(s - new_top[:, None]), tl.exp2(top - new_top)
        total = total * fade + tl.sum(p, 1)
        acc = tl.dot(p.to(V.dtype), v, acc * fade[:, None])
        top = new_top
    tl.store(O, (batch, head, block, 0), (acc / total[:, None]).to(O.dtype).reshape(1, 1, BM, D))


@tilec.kernel
def softmax(X: tl.Tensor, Y: tl.Tensor, BN: tl.constexpr[int] = 1024):
    row = tl.program_id(0)
    x = tl.load(X, (row, 0), (1, BN), pad=float("-inf")).to(tl.float32)
    e = tl.exp(x - tl.max(x, 1, keepdims=True))
    tl.store(Y, (row, 0), (e / tl.sum(e, 1, keepdims=True)).to(Y.dtype))


@tilec.kernel
def layer_norm(X: tl.Tensor, W: tl.Tensor, B: tl.Tensor, Y: tl.Tensor, BN: tl.constexpr[int] = 1024):
    row, n = tl.program_id(0), X.shape[1]
    x = tl.load(X, (row, 0), (1, BN)).to(tl.float32)
    mean = tl.sum(x, 1, keepdims=True) / n.to(tl.float32)
    d = tl.where(tl.arange(0, BN)[None, :] < n, x - mean, 0.0)
    scale = tl.rsqrt(tl.sum(d * d, 1, keepdims=True) / n.to(tl.float32) + 1e-5)
    w, b = tl.load(W, (0,), (BN,)).to(tl.float32), tl.load(B, (0,), (BN,)).to(tl.float32)
    tl.store(Y, (row, 0), (d * scale * w[None, :] + b[None, :]).to(Y.dtype))


@dataclass(frozen=True)
class Case:
    """A kernel, the types of its run-time arguments, and constants."""

    kernel: Any
    signature: tuple[str, ...]
    constants: Mapping[str, Any]


CASES: Mapping[str, Case] = {
    "gemm fp16": Case(gemm, ("f16[2]",) * 3, {}),
    "gemm fp8": Case(gemm_nt, ("float8_e4m3fn[2]", "float8_e4m3fn[2]", "f16[2]"), {}),
    "attention": Case(attention, ("f16[4]",) * 4, {"causal": False}),
    "attention causal": Case(attention, ("f16[4]",) * 4, {"causal": True}),
    "softmax": Case(softmax, ("f16[2]",) * 2, {}),
    "layer norm": Case(layer_norm, ("f16[2]", "f16[1]", "f16[1]", "f16[2]"), {}),
}
