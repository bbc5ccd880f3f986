"""Kernels of the families of the examples, written otherwise: what a reader of the language page may try."""

from __future__ import annotations

from typing import Any

import tilec
import tilec.language as tl

LOG2E = 1.4426950408889634


@tilec.kernel
def while_gemm(A: tl.Tensor, B: tl.Tensor, C: tl.Tensor):
    m, n, k = tl.program_id(0), tl.program_id(1), 0
    acc = tl.zeros((64, 32), tl.float32)
    while k * 32 < A.shape[1]:
        acc = tl.dot(tl.load(A, (m, k), (64, 32)), tl.load(B, (k, n), (32, 32)), acc)
        k += 1
    tl.store(C, (m, n), acc.to(C.dtype))


@tilec.kernel
def gathered_rows(A: tl.Tensor, ROWS: tl.Tensor, B: tl.Tensor, C: tl.Tensor):
    """The rows of A in another order: no TMA for A, which several stages of the loop hold in registers."""
    m, n = tl.program_id(0), tl.program_id(1)
    rows = tl.load(ROWS, (m,), (64,), pad=-1)
    acc = tl.zeros((64, 32), tl.float32)
    for k in tl.range(tl.cdiv(A.shape[1], 32)):
        a = tl.gather(A, (rows[:, None], (k * 32 + tl.arange(0, 32))[None, :]))
        acc = tl.dot(a, tl.load(B, (k, n), (32, 32)), acc)
    tl.store(C, (m, n), acc.to(C.dtype))


@tilec.kernel
def skipped_blocks(A: tl.Tensor, B: tl.Tensor, MASK: tl.Tensor, C: tl.Tensor):
    m, n = tl.program_id(0), tl.program_id(1)
    acc = tl.zeros((64, 32), tl.float32)
    for k in tl.range(tl.cdiv(A.shape[1], 32)):
        if tl.gather(MASK, (m, k)) != 0:
            acc = tl.dot(tl.load(A, (m, k), (64, 32)), tl.load(B, (k, n), (32, 32)), acc)
    tl.store(C, (m, n), acc.to(C.dtype))


@tilec.kernel
def small_weights(A: tl.Tensor, W: tl.Tensor, SCALE: tl.Tensor, C: tl.Tensor):
    """Weights of 8 bits are converted in registers."""
    m, n = tl.program_id(0), tl.program_id(1)
    acc = tl.zeros((64, 64), tl.float32)
    for k in tl.range(tl.cdiv(A.shape[1], 32)):
        w = tl.load(W, (k, n), (32, 64)).to(tl.float16)
        acc = tl.dot(tl.load(A, (m, k), (64, 32)), w, acc)
    tl.store(C, (m, n), (acc * tl.load(SCALE, (n,), (64,))[None, :]).to(C.dtype))


@tilec.kernel
def block_scales(A: tl.Tensor, B: tl.Tensor, SA: tl.Tensor, SB: tl.Tensor, C: tl.Tensor):
    """float8 with a scale per row and 32 columns of A, and one per tile of B."""
    m, n = tl.program_id(0), tl.program_id(1)
    acc = tl.zeros((64, 32), tl.float32)
    for k in tl.range(tl.cdiv(A.shape[1], 32)):
        part = tl.dot(tl.load(A, (m, k), (64, 32)), tl.load(B, (n, k), (32, 32)).T)
        acc += part * tl.load(SA, (m, k), (64, 1)) * tl.gather(SB, (n, k))
    tl.store(C, (m, n), acc.to(C.dtype))


@tilec.kernel
def convolution(X: tl.Tensor, W: tl.Tensor, Y: tl.Tensor):
    """Along the rows of X, with W.shape[0] taps: tiles begin before the first row."""
    m, n = tl.program_id(0), tl.program_id(1)
    acc = tl.zeros((64, 32), tl.float32)
    for t in tl.range(W.shape[0]):
        for c in tl.range(tl.cdiv(X.shape[1], 32)):
            x = tl.load(X, offset=(m * 64 + t - W.shape[0] // 2, c * 32), shape=(64, 32))
            acc = tl.dot(x, tl.load(W, (t, c, n), (1, 32, 32)).reshape(32, 32), acc)
    tl.store(Y, (m, n), acc.to(Y.dtype))


@tilec.kernel
def linear_attention(Q: tl.Tensor, K: tl.Tensor, V: tl.Tensor, O: tl.Tensor):
    """Causal, without softmax: a state is carried from block to block and read as an operand."""
    h, i = tl.program_id(0), tl.arange(0, 64)
    state = tl.zeros((64, 64), tl.float32)
    for n in tl.range(tl.cdiv(Q.shape[1], 64)):
        q, k, v = (tl.load(T, (h, n, 0), (1, 64, 64)).reshape(64, 64) for T in (Q, K, V))
        s = tl.where(i[:, None] >= i[None, :], tl.dot(q, k.T), 0.0)
        out = tl.dot(s.to(tl.float16), v) + tl.dot(q, state.to(tl.float16))
        tl.store(O, (h, n, 0), out.to(O.dtype).reshape(1, 64, 64))
        state = tl.dot(k.T, v, state)


def softmax_step(q: Any, K: Any, V: Any, n: Any, mask: Any, state: Any) -> Any:
    acc, top, total = state
    s = tl.dot(q, tl.load(K, (n, 0), (32, 64)).T) * (LOG2E / 8)
    s = s if mask is None else tl.where(mask, s, float("-inf"))
    new_top = tl.maximum(top, tl.max(s, 1))
    p, fade = tl.exp2(s - new_top[:, None]), tl.exp2(top - new_top)
    acc = tl.dot(p.to(tl.float16), tl.load(V, (n, 0), (32, 64)), acc * fade[:, None])
    return acc, new_top, total * fade + tl.sum(p, 1)


def nothing_yet() -> Any:
    return tl.zeros((64, 64), tl.float32), tl.full((64,), -1e30, tl.float32), tl.zeros((64,), tl.float32)


@tilec.kernel
def two_loops(Q: tl.Tensor, K: tl.Tensor, V: tl.Tensor, O: tl.Tensor):
    """Causal attention: the blocks that are seen whole, then those on the diagonal."""
    m = tl.program_id(0)
    q, state, whole = tl.load(Q, (m, 0), (64, 64)), nothing_yet(), m * 2
    for n in tl.range(whole):
        state = softmax_step(q, K, V, n, None, state)
    for n in tl.range(whole, tl.cdiv(tl.minimum((m + 1) * 64, K.shape[0]), 32)):
        columns = (n * 32 + tl.arange(0, 32))[None, :]
        mask = (columns <= (m * 64 + tl.arange(0, 64))[:, None]) & (columns < K.shape[0])
        state = softmax_step(q, K, V, n, mask, state)
    tl.store(O, (m, 0), (state[0] / state[2][:, None]).to(O.dtype))


@tilec.kernel
def two_passes(Q: tl.Tensor, K: tl.Tensor, V: tl.Tensor, O: tl.Tensor, limit: float):
    """Attention without maxima, done again with them if a score is too large: what is loaded depends
    on what was computed."""
    m = tl.program_id(0)
    q, (acc, peak, total) = tl.load(Q, (m, 0), (64, 64)), nothing_yet()
    for n in tl.range(tl.cdiv(K.shape[0], 32)):
        inside = (n * 32 + tl.arange(0, 32) < K.shape[0])[None, :]
        s = tl.where(inside, tl.dot(q, tl.load(K, (n, 0), (32, 64)).T) * (LOG2E / 8), float("-inf"))
        peak, p = tl.maximum(peak, tl.max(s, 1)), tl.exp2(s)
        acc, total = tl.dot(p.to(tl.float16), tl.load(V, (n, 0), (32, 64)), acc), total + tl.sum(p, 1)
    if tl.max(peak) > limit:
        acc, peak, total = nothing_yet()
        for n in tl.range(tl.cdiv(K.shape[0], 32)):
            inside = (n * 32 + tl.arange(0, 32) < K.shape[0])[None, :]
            acc, peak, total = softmax_step(q, K, V, n, inside, (acc, peak, total))
    tl.store(O, (m, 0), (acc / total[:, None]).to(O.dtype))


@tilec.kernel
def odd_tiles(A: tl.Tensor, B: tl.Tensor, C: tl.Tensor, BM: tl.constexpr[int] = 48,
              BN: tl.constexpr[int] = 40, BK: tl.constexpr[int] = 24):  # fmt: skip
    m, n = tl.program_id(0), tl.program_id(1)
    acc = tl.zeros((BM, BN), tl.float32)
    for k in tl.range(tl.cdiv(A.shape[1], BK)):
        acc = tl.dot(tl.load(A, (m, k), (BM, BK)), tl.load(B, (k, n), (BK, BN)), acc)
    tl.store(C, (m, n), acc.to(C.dtype))
