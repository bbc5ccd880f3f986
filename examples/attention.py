"""Flash attention, forward: causal or not, with grouped query heads and ragged lengths.

Q is (batch, heads, queries, D), K and V are (batch, kv heads, keys, D); several
query heads may share a K and V head. With ``causal`` the last query sees the last key.
A query that sees no key gives zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log2
from typing import Any

import numpy as np
from _check import FUNCTION, U32, Case, rounding, run_all, unit

import tilec
import tilec.language as tl

LOG2E = log2(np.e)
LOWEST = -1e30  # below every score, but finite: a row of only -inf must not make NaN


@tilec.kernel
def attention(Q: tl.Tensor, K: tl.Tensor, V: tl.Tensor, O: tl.Tensor,
              causal: tl.constexpr[bool] = False, D: tl.constexpr[int] = 64,
              BM: tl.constexpr[int] = 128, BN: tl.constexpr[int] = 128):  # fmt: skip
    block, head, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    kv_head = head // (Q.shape[1] // K.shape[1])
    keys = K.shape[2]
    shift = keys - Q.shape[2]  # query i sees keys up to i + shift
    rows = block * BM + tl.arange(0, BM)
    stop = tl.minimum(keys, (block + 1) * BM + shift) if causal else keys

    q = tl.load(Q, (batch, head, block, 0), (1, 1, BM, D)).reshape(BM, D)
    top = tl.full((BM,), LOWEST, tl.float32)
    total = tl.zeros((BM,), tl.float32)
    acc = tl.zeros((BM, D), tl.float32)
    for n in tl.range(tl.cdiv(stop, BN)):
        k = tl.load(K, (batch, kv_head, n, 0), (1, 1, BN, D)).reshape(BN, D)
        v = tl.load(V, (batch, kv_head, n, 0), (1, 1, BN, D)).reshape(BN, D)
        s = tl.dot(q, tl.trans(k)) * (LOG2E / D**0.5)
        columns = (n * BN + tl.arange(0, BN))[None, :]
        seen = columns < keys
        if causal:
            seen = seen & (columns <= (rows + shift)[:, None])
        s = tl.where(seen, s, float("-inf"))
        new_top = tl.maximum(top, tl.max(s, 1))
        p = tl.exp2(s - new_top[:, None])
        fade = tl.exp2(top - new_top)
        total = total * fade + tl.sum(p, 1)
        acc = tl.dot(p.to(V.dtype), v, acc * fade[:, None])
        top = new_top
    out = acc / tl.where(total == 0.0, 1.0, total)[:, None]
    tl.store(O, (batch, head, block, 0), out.to(O.dtype).reshape(1, 1, BM, D))


SHAPES = (
    {"batch": 1, "heads": 8, "kv_heads": 8, "queries": 1024, "keys": 1024, "D": 64},
    {"batch": 1, "heads": 8, "kv_heads": 2, "queries": 1024, "keys": 1024, "D": 128, "causal": True},
    {"batch": 2, "heads": 4, "kv_heads": 1, "queries": 333, "keys": 500, "D": 64, "causal": True},
)


def mask_of(queries: int, keys: int, causal: bool) -> np.ndarray:
    """Which key each query sees."""
    every = np.ones((queries, keys), bool)
    return np.tril(every, keys - queries) if causal else every


def scores(q: np.ndarray, k: np.ndarray) -> np.ndarray:
    """q @ k^T per head, K's heads repeated for their group."""
    return q @ np.repeat(k, q.shape[1] // k.shape[1], axis=1).swapaxes(-1, -2)


def weights(s: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Softmax over the seen keys, and the sum before the division (0 where nothing is seen)."""
    s = np.where(seen, s, -np.inf)
    top = s.max(axis=-1, keepdims=True, initial=LOWEST)
    e = np.exp(s - top)
    total = e.sum(axis=-1, keepdims=True)
    return e / np.where(total == 0, 1, total), total


def formula(q: np.ndarray, k: np.ndarray, v: np.ndarray, seen: np.ndarray) -> np.ndarray:
    scale = q.dtype.type(1 / q.shape[-1] ** 0.5)
    p, _ = weights(scores(q, k) * scale, seen)
    return p @ np.repeat(v, q.shape[1] // v.shape[1], axis=1)


def error_bound(q: np.ndarray, k: np.ndarray, v: np.ndarray, seen: np.ndarray, u_p: float) -> np.ndarray:
    """Errors of the scores, of exp2, of P's rounding to 16 bits and of both sums, in float64.

    Each weight p has a relative error `e`; numerator and denominator are sums over
    the keys and are rescaled at most once per block.
    """
    d, keys = q.shape[-1], k.shape[2]
    s = scores(q, k) / d**0.5
    p, total = weights(s, seen)
    size = np.where(seen, np.abs(s), 0)
    spread = 2 * size.max(axis=-1, keepdims=True, initial=0)
    e = d * U32 * scores(np.abs(q), np.abs(k)) / d**0.5 + U32 * (2 * size + spread) + FUNCTION
    sums = (keys + 3 * -(-keys // 16)) * U32
    v_size = np.repeat(np.abs(v), q.shape[1] // v.shape[1], axis=1)
    numerator = (p * (e + u_p + sums)) @ v_size
    floor = 2.0**-25 * v_size.sum(axis=2, keepdims=True) / np.maximum(total, 1)  # fp16 weights below 2^-14
    denominator = (p * e).sum(axis=-1, keepdims=True) + sums + U32
    return numerator + (floor if u_p else 0) + denominator * (p @ v_size)


def case(batch: int, heads: int, kv_heads: int, queries: int, keys: int, D: int,
         causal: bool = False, dtype: Any = np.float16, **meta: Any) -> Case:  # fmt: skip
    rng = np.random.default_rng([batch, heads, kv_heads, queries, keys, D, causal])
    q = rng.standard_normal((batch, heads, queries, D)).astype(dtype)
    k, v = (rng.standard_normal((batch, kv_heads, keys, D)).astype(dtype) for _ in range(2))
    o = np.empty_like(q)
    seen = mask_of(queries, keys, causal)
    wide, single = ([a.astype(t) for a in (q, k, v)] for t in (np.float64, np.float32))
    expected = formula(*wide, seen)

    def grid(meta: Mapping[str, Any]) -> tuple[int, ...]:
        return (tl.cdiv(queries, meta["BM"]), heads, batch)

    u_p = 0.0 if np.dtype(dtype) == np.float32 else unit(o)
    bound = error_bound(*wide, seen, u_p) + rounding(o, expected)
    group = "" if heads == kv_heads else f"/{kv_heads}"
    title = f"attention {batch}x{heads}{group}x{queries}x{keys}x{D} {o.dtype}" + " causal" * causal
    meta = {"causal": causal, "D": D, **meta}
    baseline = lambda: formula(*single, seen)  # noqa: E731
    return Case(title, attention, grid, (q, k, v, o), 3, expected, bound, baseline, meta)


def main(**options: Any) -> int:
    return run_all((case(**shape) for shape in SHAPES), **options)


if __name__ == "__main__":
    raise SystemExit(main())
