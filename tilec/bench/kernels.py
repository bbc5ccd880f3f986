"""The kernels that are timed: ordinary ones, as a user would write them."""

# Annotations of a kernel are those of the language, which mypy cannot read.
# mypy: ignore-errors

from __future__ import annotations

from math import log2, sqrt

import tilec
import tilec.language as tl

LOG2E = log2(2.718281828459045)
LOWEST = -1e30
EPS = 1e-5


@tilec.kernel
def gemm(A: tl.Tensor, B: tl.Tensor, C: tl.Tensor, total: tl.constexpr = tl.float32,
         BM: tl.constexpr[int] = 256, BN: tl.constexpr[int] = 256, BK: tl.constexpr[int] = 256):  # fmt: skip
    m, n = tl.program_id(0), tl.program_id(1)
    acc = tl.zeros((BM, BN), total)
    for k in tl.range(tl.cdiv(A.shape[1], BK)):
        acc = tl.dot(tl.load(A, (m, k), (BM, BK)), tl.load(B, (k, n), (BK, BN)), acc)
    tl.store(C, (m, n), acc.to(C.dtype))


@tilec.kernel
def gemm_bias_gelu(A: tl.Tensor, B: tl.Tensor, bias: tl.Tensor, C: tl.Tensor,
                   BM: tl.constexpr[int] = 256, BN: tl.constexpr[int] = 256,
                   BK: tl.constexpr[int] = 256):  # fmt: skip
    m, n = tl.program_id(0), tl.program_id(1)
    acc = tl.zeros((BM, BN), tl.float32)
    for k in tl.range(tl.cdiv(A.shape[1], BK)):
        acc = tl.dot(tl.load(A, (m, k), (BM, BK)), tl.load(B, (k, n), (BK, BN)), acc)
    x = acc + tl.load(bias, (n,), (BN,))[None, :]
    tl.store(C, (m, n), 0.5 * x * (1.0 + tl.erf(x * sqrt(0.5))))


@tilec.kernel
def attention(Q: tl.Tensor, K: tl.Tensor, V: tl.Tensor, O: tl.Tensor,
              causal: tl.constexpr[bool] = False, D: tl.constexpr[int] = 64,
              BM: tl.constexpr[int] = 128, BN: tl.constexpr[int] = 128):  # fmt: skip
    block, head = tl.num_programs(0) - 1 - tl.program_id(0), tl.program_id(1)
    rows = block * BM + tl.arange(0, BM)
    keys = K.shape[1]
    stop = tl.minimum(keys, (block + 1) * BM) if causal else keys
    q = tl.load(Q, (head, block, 0), (1, BM, D)).reshape(BM, D)
    top = tl.full((BM,), LOWEST, tl.float32)
    total = tl.zeros((BM,), tl.float32)
    acc = tl.zeros((BM, D), tl.float32)
    for n in tl.range(tl.cdiv(stop, BN)):
        k = tl.load(K, (head, n, 0), (1, BN, D)).reshape(BN, D)
        v = tl.load(V, (head, n, 0), (1, BN, D)).reshape(BN, D)
        s = tl.dot(q, tl.trans(k)) * (LOG2E / D**0.5)
        columns = (n * BN + tl.arange(0, BN))[None, :]
        seen = (columns < keys) & (columns <= rows[:, None]) if causal else columns < keys
        s = tl.where(seen, s, float("-inf"))
        new_top = tl.maximum(top, tl.max(s, 1))
        p = tl.exp2(s - new_top[:, None])
        fade = tl.exp2(top - new_top)
        total = total * fade + tl.sum(p, 1)
        acc = tl.dot(p.to(V.dtype), v, acc * fade[:, None])
        top = new_top
    tl.store(O, (head, block, 0), (acc / total[:, None]).to(O.dtype).reshape(1, BM, D))


@tilec.kernel
def softmax(X: tl.Tensor, Y: tl.Tensor, BN: tl.constexpr[int] = 4096):
    row = tl.program_id(0)
    x = tl.load(X, (row, 0), (1, BN), pad=float("-inf")).to(tl.float32)
    e = tl.exp(x - tl.max(x, 1, keepdims=True))
    tl.store(Y, (row, 0), (e / tl.sum(e, 1, keepdims=True)).to(Y.dtype))


@tilec.kernel
def layer_norm(X: tl.Tensor, W: tl.Tensor, B: tl.Tensor, Y: tl.Tensor, BN: tl.constexpr[int] = 4096):
    row, n = tl.program_id(0), X.shape[1].to(tl.float32)
    x = tl.load(X, (row, 0), (1, BN)).to(tl.float32)
    mean = tl.sum(x, 1, keepdims=True) / n
    d = tl.where(tl.arange(0, BN)[None, :] < X.shape[1], x - mean, 0.0)
    scale = tl.rsqrt(tl.sum(d * d, 1, keepdims=True) / n + EPS)
    w, b = tl.load(W, (0,), (BN,)).to(tl.float32), tl.load(B, (0,), (BN,)).to(tl.float32)
    tl.store(Y, (row, 0), (d * scale * w[None, :] + b[None, :]).to(Y.dtype))


@tilec.kernel
def rms_norm(X: tl.Tensor, W: tl.Tensor, Y: tl.Tensor, BN: tl.constexpr[int] = 4096):
    row, n = tl.program_id(0), X.shape[1].to(tl.float32)
    x = tl.load(X, (row, 0), (1, BN))
    scale = tl.rsqrt(tl.sum(x * x, 1, keepdims=True) / n + EPS)
    tl.store(Y, (row, 0), x * scale * tl.load(W, (0,), (BN,))[None, :])


@tilec.kernel
def stream(A: tl.Tensor, B: tl.Tensor, C: tl.Tensor, kind: tl.constexpr[str], N: tl.constexpr[int] = 16384):
    """The four loops of STREAM with 3 as the scalar: copy and scale read A, the others A and B."""
    i = tl.program_id(0)
    a = tl.load(A, (i,), (N,))
    if kind == "copy":
        out = a
    elif kind == "scale":
        out = 3.0 * a
    elif kind == "add":
        out = a + tl.load(B, (i,), (N,))
    else:
        out = a + 3.0 * tl.load(B, (i,), (N,))
    tl.store(C, (i,), out)
