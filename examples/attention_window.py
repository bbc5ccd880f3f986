"""Attention forward as language models vary it: sliding window, soft-capped scores, log-sum-exp.

Query i sees the last ``window`` keys up to i + keys - queries. With ``cap`` above 0 scores become
cap * tanh(score / cap). LSE gets the logarithm of each row's sum of exponentials, which
backward passes and split attention need; it is -inf where no key is seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attention as plain
import numpy as np
from _check import FUNCTION, U32, Case, rounding, run_all, unit
from attention import LOG2E, LOWEST

import tilec
import tilec.language as tl


@tilec.kernel
def attention_window(Q: tl.Tensor, K: tl.Tensor, V: tl.Tensor, O: tl.Tensor, LSE: tl.Tensor, window: int,
                     cap: tl.constexpr[float] = 0.0, D: tl.constexpr[int] = 64,
                     BM: tl.constexpr[int] = 128, BN: tl.constexpr[int] = 128):  # fmt: skip
    block, head, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    kv_head = head // (Q.shape[1] // K.shape[1])
    last = (block * BM + tl.arange(0, BM) + (K.shape[2] - Q.shape[2]))[:, None]
    first_key = tl.maximum(block * BM + (K.shape[2] - Q.shape[2]) - window + 1, 0)
    stop = tl.minimum(K.shape[2], (block + 1) * BM + (K.shape[2] - Q.shape[2]))

    q = tl.load(Q, (batch, head, block, 0), (1, 1, BM, D)).reshape(BM, D)
    top = tl.full((BM,), LOWEST, tl.float32)
    total = tl.zeros((BM,), tl.float32)
    acc = tl.zeros((BM, D), tl.float32)
    for n in tl.range(first_key // BN, tl.cdiv(stop, BN)):
        k = tl.load(K, (batch, kv_head, n, 0), (1, 1, BN, D)).reshape(BN, D)
        v = tl.load(V, (batch, kv_head, n, 0), (1, 1, BN, D)).reshape(BN, D)
        s = tl.dot(q, k.T) * D**-0.5
        if cap > 0:
            s = cap * tl.tanh(s / cap)
        columns = (n * BN + tl.arange(0, BN))[None, :]
        seen = (columns <= last) & (columns > last - window) & (columns < K.shape[2])
        s = tl.where(seen, s * LOG2E, float("-inf"))
        new_top = tl.maximum(top, tl.max(s, 1))
        p = tl.exp2(s - new_top[:, None])
        fade = tl.exp2(top - new_top)
        total = total * fade + tl.sum(p, 1)
        acc = tl.dot(p.to(V.dtype), v, acc * fade[:, None])
        top = new_top
    out = acc / tl.where(total == 0.0, 1.0, total)[:, None]
    tl.store(O, (batch, head, block, 0), out.to(O.dtype).reshape(1, 1, BM, D))
    lse = (top + tl.log2(total)) / LOG2E
    tl.store(LSE, (batch, head, block), lse.reshape(1, 1, BM))


SHAPES = (
    {"batch": 1, "heads": 8, "kv_heads": 8, "queries": 1024, "keys": 1024, "D": 64, "window": 256},
    {"batch": 2, "heads": 4, "kv_heads": 1, "queries": 333, "keys": 500, "D": 128, "window": 100, "cap": 5.0},
)


def mask_of(queries: int, keys: int, window: int) -> np.ndarray:
    causal = plain.mask_of(queries, keys, True)
    return causal & ~np.tril(np.ones((queries, keys), bool), keys - queries - window)


def capped(s: np.ndarray, cap: float) -> np.ndarray:
    return cap * np.tanh(s / cap) if cap else s


def formula(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, seen: np.ndarray, cap: float
) -> tuple[np.ndarray, np.ndarray]:
    """The result and the log-sum-exp of each row."""
    s = np.where(seen, capped(plain.scores(q, k) / q.shape[-1] ** 0.5, cap), -np.inf)
    top = s.max(axis=-1, keepdims=True, initial=LOWEST)
    e = np.exp(s - top)
    total = e.sum(axis=-1, keepdims=True)
    out = e / np.where(total == 0, 1, total) @ np.repeat(v, q.shape[1] // v.shape[1], axis=1)
    with np.errstate(divide="ignore"):
        return out, (np.log(total) + np.where(total == 0, 0, top))[..., 0]


def error_bound(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, seen: np.ndarray, cap: float, u_p: float
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of both results: errors of scores, tanh, exp2, the rounding of P and the sums, in float64."""
    d, keys = q.shape[-1], k.shape[2]
    s = plain.scores(q, k) / d**0.5
    e = d * U32 * plain.scores(np.abs(q), np.abs(k)) / d**0.5 + 2 * U32 * np.abs(s)
    s = capped(s, cap)
    if cap:
        e = e + (FUNCTION + 2 * U32) * np.abs(s)  # the slope of tanh is at most 1
    p, total = plain.weights(s, seen)
    size = np.where(seen, np.abs(s), 0)
    spread = 2 * size.max(axis=-1, keepdims=True, initial=0)
    e = e + U32 * (2 * size + spread) + FUNCTION
    sums = (keys + 3 * -(-keys // 16)) * U32
    v_size = np.repeat(np.abs(v), q.shape[1] // v.shape[1], axis=1)
    floor = 2.0**-25 * v_size.sum(axis=2, keepdims=True) / np.maximum(total, 1)  # fp16 weights below 2^-14
    denominator = (p * e).sum(axis=-1, keepdims=True) + sums + U32
    out = (p * (e + u_p + sums)) @ v_size + floor + denominator * (p @ v_size)
    with np.errstate(divide="ignore"):
        lse = denominator + FUNCTION * np.abs(np.log(total)) + 4 * U32 * (np.abs(np.log(total)) + spread)
    return out, lse[..., 0]


def case(batch: int, heads: int, kv_heads: int, queries: int, keys: int, D: int, window: int,
         cap: float = 0.0, dtype: Any = np.float16, **meta: Any) -> Case:  # fmt: skip
    rng = np.random.default_rng([batch, heads, kv_heads, queries, keys, D, window])
    q = (2 * rng.standard_normal((batch, heads, queries, D))).astype(dtype)
    k, v = (rng.standard_normal((batch, kv_heads, keys, D)).astype(dtype) for _ in range(2))
    o, lse = np.empty_like(q), np.empty((batch, heads, queries), np.float32)
    seen = mask_of(queries, keys, window)
    wide, single = ([a.astype(t) for a in (q, k, v)] for t in (np.float64, np.float32))
    expected, expected_lse = formula(*wide, seen, cap)
    bound, lse_bound = error_bound(*wide, seen, cap, unit(o))

    def grid(meta: Mapping[str, Any]) -> tuple[int, ...]:
        return (tl.cdiv(queries, meta["BM"]), heads, batch)

    return Case(
        f"attention_window {batch}x{heads}/{kv_heads}x{queries}x{keys}x{D} last {window}"
        + f" capped at {cap:g}" * bool(cap),
        attention_window, grid, (q, k, v, o, lse, window), 3, expected, bound + rounding(o, expected),
        lambda: formula(*single, seen, cap), {"cap": cap, "D": D, **meta},
        others={4: (expected_lse, lse_bound)},
    )  # fmt: skip


def main(**options: Any) -> int:
    return run_all((case(**shape) for shape in SHAPES), **options)


if __name__ == "__main__":
    raise SystemExit(main())
