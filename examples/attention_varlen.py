"""Causal attention over sequences of different lengths that lie one after the other, without padding.

Q is (all queries, heads, D), K and V are (all keys, kv heads, D). Sequence b has the queries
Q_START[b] to Q_START[b + 1] and the keys K_START[b] to K_START[b + 1]. Sections give each
sequence bounds of its own: of the next one nothing is read or written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attention as plain
import numpy as np
from _check import Case, rounding, run_all, unit
from attention import LOG2E, LOWEST

import tilec
import tilec.language as tl


@tilec.kernel
def attention_varlen(Q: tl.Tensor, K: tl.Tensor, V: tl.Tensor, Q_START: tl.Tensor, K_START: tl.Tensor,
                     O: tl.Tensor, D: tl.constexpr[int] = 64, BM: tl.constexpr[int] = 128,
                     BN: tl.constexpr[int] = 128):  # fmt: skip
    block, head, sequence = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    kv_head = head // (Q.shape[1] // K.shape[1])
    q_start, q_stop = tl.gather(Q_START, sequence), tl.gather(Q_START, sequence + 1)
    k_start, k_stop = tl.gather(K_START, sequence), tl.gather(K_START, sequence + 1)
    queries, keys = q_stop - q_start, k_stop - k_start
    own_q, own_o = tl.section(Q, q_start, q_stop), tl.section(O, q_start, q_stop)
    own_k, own_v = tl.section(K, k_start, k_stop), tl.section(V, k_start, k_stop)
    if block * BM >= queries:
        return
    rows = block * BM + tl.arange(0, BM)
    stop = tl.minimum(keys, (block + 1) * BM + keys - queries)

    q = tl.load(own_q, (block, head, 0), (BM, 1, D)).reshape(BM, D)
    top = tl.full((BM,), LOWEST, tl.float32)
    total = tl.zeros((BM,), tl.float32)
    acc = tl.zeros((BM, D), tl.float32)
    for n in tl.range(tl.cdiv(stop, BN)):
        k = tl.load(own_k, (n, kv_head, 0), (BN, 1, D)).reshape(BN, D)
        v = tl.load(own_v, (n, kv_head, 0), (BN, 1, D)).reshape(BN, D)
        columns = (n * BN + tl.arange(0, BN))[None, :]
        seen = (columns < keys) & (columns <= (rows + keys - queries)[:, None])
        s = tl.where(seen, tl.dot(q, k.T) * (LOG2E / D**0.5), float("-inf"))
        new_top = tl.maximum(top, tl.max(s, 1))
        p = tl.exp2(s - new_top[:, None])
        fade = tl.exp2(top - new_top)
        total = total * fade + tl.sum(p, 1)
        acc = tl.dot(p.to(V.dtype), v, acc * fade[:, None])
        top = new_top
    out = (acc / tl.where(total == 0.0, 1.0, total)[:, None]).to(O.dtype)
    tl.store(own_o, (block, head, 0), out.reshape(BM, 1, D))


SHAPES = (
    {"queries": (512, 256, 700), "keys": (512, 300, 700), "heads": 4, "kv_heads": 4, "D": 64},
    {"queries": (1, 333, 40), "keys": (200, 333, 77), "heads": 4, "kv_heads": 2, "D": 128},
)


def case(queries: Sequence[int], keys: Sequence[int], heads: int, kv_heads: int, D: int,
         dtype: Any = np.float16, **meta: Any) -> Case:  # fmt: skip
    rng = np.random.default_rng([*queries, *keys, heads, kv_heads, D])
    q = rng.standard_normal((sum(queries), heads, D)).astype(dtype)
    k, v = (rng.standard_normal((sum(keys), kv_heads, D)).astype(dtype) for _ in range(2))
    o = np.empty_like(q)
    q_start, k_start = (np.cumsum([0, *n], dtype=np.int32) for n in (queries, keys))

    def each(compute: Any, dtype: Any) -> np.ndarray:
        """``compute`` on each sequence as a batch of one, put together again."""
        found = []
        for b, (m, n) in enumerate(zip(queries, keys, strict=True)):
            parts = ((q, q_start), (k, k_start), (v, k_start))
            inputs = (x[s[b] : s[b + 1]].astype(dtype).swapaxes(0, 1)[None] for x, s in parts)
            found.append(compute(*inputs, plain.mask_of(m, n, True))[0].swapaxes(0, 1))
        return np.concatenate(found)

    expected = each(plain.formula, np.float64)
    bound = each(lambda *a: plain.error_bound(*a, unit(o)), np.float64) + rounding(o, expected)

    def grid(meta: Mapping[str, Any]) -> tuple[int, ...]:
        return (tl.cdiv(max(queries), meta["BM"]), heads, len(queries))

    title = f"attention_varlen {heads}/{kv_heads}x{'+'.join(map(str, queries))}x{D}"
    args = (q, k, v, q_start, k_start, o)
    baseline = lambda: each(plain.formula, np.float32)  # noqa: E731
    return Case(title, attention_varlen, grid, args, 5, expected, bound, baseline, {"D": D, **meta})


def main(**options: Any) -> int:
    return run_all((case(**shape) for shape in SHAPES), **options)


if __name__ == "__main__":
    raise SystemExit(main())
