"""The gradients of attention: K and V by one kernel, a block of keys each; Q by another, a block of queries.

Weights are computed anew from LSE, the log-sum-exp of each row that the forward pass gave. DELTA
is the sum of DO * O over each row, by `row_dots`. With ``causal`` the last query sees the last key.
Every query must see a key. Query heads may share a K and V head: the gradients of K and V are
per query head then. With head size 64 a block of 128 keys fits too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attention as plain
import numpy as np
from _check import FUNCTION, U32, Case, rounding, run_all, unit
from attention import LOG2E

import tilec
import tilec.language as tl


@tilec.kernel
def row_dots(O: tl.Tensor, DO: tl.Tensor, DELTA: tl.Tensor, D: tl.constexpr[int] = 128,
             BM: tl.constexpr[int] = 64):  # fmt: skip
    block, head, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    o = tl.load(O, (batch, head, block, 0), (1, 1, BM, D)).to(tl.float32)
    do = tl.load(DO, (batch, head, block, 0), (1, 1, BM, D)).to(tl.float32)
    tl.store(DELTA, (batch, head, block), tl.sum(o * do, 3))


@tilec.kernel
def attention_dkdv(Q: tl.Tensor, K: tl.Tensor, V: tl.Tensor, DO: tl.Tensor, LSE: tl.Tensor, DELTA: tl.Tensor,
                   DK: tl.Tensor, DV: tl.Tensor, causal: tl.constexpr[bool] = False,
                   D: tl.constexpr[int] = 128, BM: tl.constexpr[int] = 64,
                   BN: tl.constexpr[int] = 64):  # fmt: skip
    block, head, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    kv_head = head // (Q.shape[1] // K.shape[1])
    queries, shift = Q.shape[2], K.shape[2] - Q.shape[2]
    columns = (block * BN + tl.arange(0, BN))[:, None]
    start = tl.maximum(block * BN - shift, 0) // BM if causal else 0
    k = tl.load(K, (batch, kv_head, block, 0), (1, 1, BN, D)).reshape(BN, D)
    v = tl.load(V, (batch, kv_head, block, 0), (1, 1, BN, D)).reshape(BN, D)
    dk, dv = tl.zeros((BN, D), tl.float32), tl.zeros((BN, D), tl.float32)
    for m in tl.range(start, tl.cdiv(queries, BM)):
        q = tl.load(Q, (batch, head, m, 0), (1, 1, BM, D)).reshape(BM, D)
        do = tl.load(DO, (batch, head, m, 0), (1, 1, BM, D)).reshape(BM, D)
        lse = tl.load(LSE, (batch, head, m), (1, 1, BM)).reshape(1, BM) * LOG2E
        delta = tl.load(DELTA, (batch, head, m), (1, 1, BM)).reshape(1, BM)
        p = tl.exp2(tl.dot(k, q.T) * (LOG2E / D**0.5) - lse)
        if causal:
            p = tl.where(columns <= (m * BM + tl.arange(0, BM) + shift)[None, :], p, 0.0)
        dv = tl.dot(p.to(DO.dtype), do, dv)  # rows beyond the queries have do = q = 0
        ds = p * (tl.dot(v, do.T) - delta)
        dk = tl.dot(ds.to(Q.dtype), q, dk)
    tl.store(DK, (batch, head, block, 0), (dk * D**-0.5).to(DK.dtype).reshape(1, 1, BN, D))
    tl.store(DV, (batch, head, block, 0), dv.to(DV.dtype).reshape(1, 1, BN, D))


@tilec.kernel
def attention_dq(Q: tl.Tensor, K: tl.Tensor, V: tl.Tensor, DO: tl.Tensor, LSE: tl.Tensor, DELTA: tl.Tensor,
                 DQ: tl.Tensor, causal: tl.constexpr[bool] = False, D: tl.constexpr[int] = 128,
                 BM: tl.constexpr[int] = 128, BN: tl.constexpr[int] = 64):  # fmt: skip
    block, head, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    kv_head = head // (Q.shape[1] // K.shape[1])
    shift = K.shape[2] - Q.shape[2]
    rows = (block * BM + tl.arange(0, BM) + shift)[:, None]
    stop = tl.minimum(K.shape[2], (block + 1) * BM + shift) if causal else K.shape[2]
    q = tl.load(Q, (batch, head, block, 0), (1, 1, BM, D)).reshape(BM, D)
    do = tl.load(DO, (batch, head, block, 0), (1, 1, BM, D)).reshape(BM, D)
    lse = tl.load(LSE, (batch, head, block), (1, 1, BM)).reshape(BM, 1) * LOG2E
    delta = tl.load(DELTA, (batch, head, block), (1, 1, BM)).reshape(BM, 1)
    dq = tl.zeros((BM, D), tl.float32)
    for n in tl.range(tl.cdiv(stop, BN)):
        k = tl.load(K, (batch, kv_head, n, 0), (1, 1, BN, D)).reshape(BN, D)
        v = tl.load(V, (batch, kv_head, n, 0), (1, 1, BN, D)).reshape(BN, D)
        p = tl.exp2(tl.dot(q, k.T) * (LOG2E / D**0.5) - lse)
        if causal:
            p = tl.where((n * BN + tl.arange(0, BN))[None, :] <= rows, p, 0.0)
        ds = p * (tl.dot(do, v.T) - delta)
        dq = tl.dot(ds.to(K.dtype), k, dq)  # keys beyond the last are 0
    tl.store(DQ, (batch, head, block, 0), (dq * D**-0.5).to(DQ.dtype).reshape(1, 1, BM, D))


SHAPES = (
    {"batch": 1, "heads": 4, "kv_heads": 4, "queries": 512, "keys": 512, "D": 128},
    {"batch": 2, "heads": 4, "kv_heads": 2, "queries": 333, "keys": 400, "D": 64, "causal": True},
)


def inputs(batch: int, heads: int, kv_heads: int, queries: int, keys: int, D: int, causal: bool,
           dtype: Any) -> tuple[list[np.ndarray], np.ndarray]:  # fmt: skip
    """Q, K, V, DO, LSE and DELTA, and which key each query sees."""
    rng = np.random.default_rng([batch, heads, kv_heads, queries, keys, D, causal])
    q, do = (rng.standard_normal((batch, heads, queries, D)).astype(dtype) for _ in range(2))
    k, v = (rng.standard_normal((batch, kv_heads, keys, D)).astype(dtype) for _ in range(2))
    seen = plain.mask_of(queries, keys, causal)
    wide = [a.astype(np.float64) for a in (q, k, v)]
    s = np.where(seen, plain.scores(wide[0], wide[1]) / D**0.5, -np.inf)
    lse = np.log(np.exp(s).sum(axis=-1)).astype(np.float32)
    delta = (plain.formula(*wide, seen) * do).sum(axis=-1).astype(np.float32)
    return [q, k, v, do, lse, delta], seen


def gradients(args: list[np.ndarray], seen: np.ndarray, u: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """The gradients of Q, K and V, each with its bound; ``u``: rounding of the weights to 16 bits."""
    q, k, v, do, lse, delta = (a.astype(np.float64) for a in args)
    k, v = (np.repeat(x, q.shape[1] // x.shape[1], axis=1) for x in (k, v))
    D = q.shape[-1]
    lse, delta, tiny = lse[..., None], delta[..., None], 2.0**-25 * seen
    s, dp = q @ k.swapaxes(-1, -2) / D**0.5, do @ v.swapaxes(-1, -2)
    p = np.where(seen, np.exp(s - lse), 0)
    ds = p * (dp - delta)
    e = D * U32 * (np.abs(q) @ np.abs(k).swapaxes(-1, -2)) / D**0.5 + 3 * U32 * (np.abs(s) + np.abs(lse))
    e = e + FUNCTION  # relative error of a weight
    dp_error = D * U32 * (np.abs(do) @ np.abs(v).swapaxes(-1, -2)) + 2 * U32 * (np.abs(dp) + np.abs(delta))
    ds_error = (e + u + 2 * U32) * np.abs(ds) + p * dp_error + tiny
    p_error = (e + u) * p + tiny

    def total(w: np.ndarray, error: np.ndarray, x: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
        sums = (w.shape[-1] + 2) * U32
        return scale * (w @ x), scale * ((error * (1 + sums) + sums * np.abs(w)) @ np.abs(x))

    across, along = (ds, ds_error), (ds.swapaxes(-1, -2), ds_error.swapaxes(-1, -2))
    dv = total(p.swapaxes(-1, -2), p_error.swapaxes(-1, -2), do, 1.0)
    return [total(*across, k, D**-0.5), total(*along, q, D**-0.5), dv]


def dkdv_case(batch: int, heads: int, kv_heads: int, queries: int, keys: int, D: int,
              causal: bool = False, dtype: Any = np.float16, **meta: Any) -> Case:  # fmt: skip
    args, seen = inputs(batch, heads, kv_heads, queries, keys, D, causal, dtype)
    dk, dv = (np.empty((batch, heads, keys, D), dtype) for _ in range(2))
    _, *found = gradients(args, seen, unit(dk))
    (expected, bound), more = ((x, b + rounding(dk, x)) for x, b in found)

    def grid(meta: Mapping[str, Any]) -> tuple[int, ...]:
        return (tl.cdiv(keys, meta["BN"]), heads, batch)

    return Case(
        f"attention_dkdv {batch}x{heads}/{kv_heads}x{queries}x{keys}x{D}" + " causal" * causal,
        attention_dkdv, grid, (*args, dk, dv), 6, expected, bound,
        lambda: gradients(args, seen, 0.0), {"causal": causal, "D": D, **meta}, others={7: more},
    )  # fmt: skip


def dq_case(batch: int, heads: int, kv_heads: int, queries: int, keys: int, D: int,
            causal: bool = False, dtype: Any = np.float16, **meta: Any) -> Case:  # fmt: skip
    args, seen = inputs(batch, heads, kv_heads, queries, keys, D, causal, dtype)
    dq = np.empty_like(args[0])
    expected, bound = gradients(args, seen, unit(dq))[0]

    def grid(meta: Mapping[str, Any]) -> tuple[int, ...]:
        return (tl.cdiv(queries, meta["BM"]), heads, batch)

    return Case(
        f"attention_dq {batch}x{heads}/{kv_heads}x{queries}x{keys}x{D}" + " causal" * causal,
        attention_dq, grid, (*args, dq), 6, expected, bound + rounding(dq, expected),
        lambda: gradients(args, seen, 0.0), {"causal": causal, "D": D, **meta},
    )  # fmt: skip


def dots_case(batch: int, heads: int, queries: int, D: int, dtype: Any = np.float16, **meta: Any) -> Case:
    rng = np.random.default_rng([batch, heads, queries, D])
    o, do = (rng.standard_normal((batch, heads, queries, D)).astype(dtype) for _ in range(2))
    terms = o.astype(np.float64) * do
    delta = np.empty((batch, heads, queries), np.float32)

    def grid(meta: Mapping[str, Any]) -> tuple[int, ...]:
        return (tl.cdiv(queries, meta["BM"]), heads, batch)

    return Case(
        f"row_dots {batch}x{heads}x{queries}x{D}", row_dots, grid, (o, do, delta), 2, terms.sum(axis=-1),
        D * U32 * np.abs(terms).sum(axis=-1), lambda: (o * do).sum(axis=-1), {"D": D, **meta},
    )  # fmt: skip


def main(**options: Any) -> int:
    cases = [make(**shape) for make in (dkdv_case, dq_case) for shape in SHAPES]
    return run_all([*cases, dots_case(1, 4, 512, 128), dots_case(2, 4, 333, 64)], **options)


if __name__ == "__main__":
    raise SystemExit(main())
