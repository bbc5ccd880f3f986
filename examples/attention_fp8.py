"""Attention forward of float8: both products on 8-bit operands, sums in float32, the result in bfloat16.

8-bit operands must be contiguous along the sum: V comes as VT, (batch, kv heads, D, keys). Each of Q, K
and V was divided by a scale before it was rounded: ``scale`` is that of Q times that of K, positive, and
``v_scale`` that of V. Weights are at most 1 and are rounded to float8 too, times 2**WEIGHT so
that fewer of them are subnormal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attention as plain
import numpy as np
from _check import FUNCTION, U32, Case, rounding, run_all
from attention import LOG2E, LOWEST

import tilec
import tilec.language as tl

WEIGHT = 8.0  # float8_e4m3 ends at 448


@tilec.kernel
def attention_fp8(Q: tl.Tensor, K: tl.Tensor, VT: tl.Tensor, O: tl.Tensor, scale: float, v_scale: float,
                  D: tl.constexpr[int] = 128, BM: tl.constexpr[int] = 128,
                  BN: tl.constexpr[int] = 128):  # fmt: skip
    block, head, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    kv_head = head // (Q.shape[1] // K.shape[1])
    keys, scale2 = K.shape[2], scale * (LOG2E / D**0.5)
    q = tl.load(Q, (batch, head, block, 0), (1, 1, BM, D)).reshape(BM, D)
    top = tl.full((BM,), LOWEST, tl.float32)
    total = tl.zeros((BM,), tl.float32)
    acc = tl.zeros((BM, D), tl.float32)
    for n in tl.range(tl.cdiv(keys, BN), stages=2):  # more would be held in more registers than there are
        k = tl.load(K, (batch, kv_head, n, 0), (1, 1, BN, D)).reshape(BN, D)
        vt = tl.load(VT, (batch, kv_head, 0, n), (1, 1, D, BN)).reshape(D, BN)
        s = tl.where((n * BN + tl.arange(0, BN) < keys)[None, :], tl.dot(q, k.T), float("-inf"))
        new_top = tl.maximum(top, tl.max(s, 1) * scale2)
        p = tl.exp2(tl.fma(s, scale2, (WEIGHT - new_top)[:, None]))
        fade = tl.exp2(top - new_top)
        total = total * fade + tl.sum(p, 1)
        acc = tl.dot(p.to(VT.dtype, saturate=True), vt.T, acc * fade[:, None])
        top = new_top
    out = acc * (v_scale / total)[:, None]
    tl.store(O, (batch, head, block, 0), out.to(O.dtype).reshape(1, 1, BM, D))


SHAPES = (
    {"batch": 1, "heads": 4, "kv_heads": 4, "queries": 512, "keys": 512, "D": 128},
    {"batch": 2, "heads": 4, "kv_heads": 2, "queries": 333, "keys": 400, "D": 64},
)


def scaled(x: np.ndarray, dtype: Any) -> tuple[np.ndarray, float]:
    """A tensor in float8 and what it has to be multiplied with: the largest becomes 240."""
    scale = float(np.float32(np.abs(x).max() / 240))
    return (x / scale).astype(dtype), scale


def case(batch: int, heads: int, kv_heads: int, queries: int, keys: int, D: int,
         dtype: Any = "float8_e4m3fn", **meta: Any) -> Case:  # fmt: skip
    rng = np.random.default_rng([batch, heads, kv_heads, queries, keys, D])
    q, q_scale = scaled(2 * rng.standard_normal((batch, heads, queries, D)), dtype)
    k, k_scale = scaled(rng.standard_normal((batch, kv_heads, keys, D)), dtype)
    vt, v_scale = scaled(rng.standard_normal((batch, kv_heads, D, keys)), dtype)
    scale = float(np.float32(q_scale * k_scale))
    wide_q, wide_k = q.astype(np.float64) * scale, k.astype(np.float64)
    v = vt.astype(np.float64).swapaxes(-1, -2) * v_scale
    o = np.empty((batch, heads, queries, D), "bfloat16")
    seen = np.ones((queries, keys), bool)
    expected = plain.formula(wide_q, wide_k, v, seen)
    # As for 16 bits, but for the weights: half of the last of 3 or 2 bits, or of the least step there is.
    unit, least = (2.0**-4, 2.0**-10) if q.dtype == "float8_e4m3fn" else (2.0**-3, 2.0**-17)
    bound = plain.error_bound(wide_q, wide_k, v, seen, unit) + 4 * (U32 + FUNCTION) * np.abs(expected)
    _, total = plain.weights(plain.scores(wide_q, wide_k) / D**0.5, seen)
    v_sum = np.repeat(np.abs(v), heads // kv_heads, axis=1).sum(axis=2, keepdims=True)
    bound += least / 2**WEIGHT * v_sum / total + rounding(o, expected)

    def grid(meta: Mapping[str, Any]) -> tuple[int, ...]:
        return (tl.cdiv(queries, meta["BM"]), heads, batch)

    title = f"attention_fp8 {batch}x{heads}/{kv_heads}x{queries}x{keys}x{D} {q.dtype}"
    args = (q, k, vt, o, scale, v_scale)
    single = [x.astype(np.float32) for x in (wide_q, wide_k, v)]
    baseline = lambda: plain.formula(*single, seen)  # noqa: E731
    return Case(title, attention_fp8, grid, args, 3, expected, bound, baseline, {"D": D, **meta})


def main(**options: Any) -> int:
    return run_all((case(**shape) for shape in SHAPES), **options)


if __name__ == "__main__":
    raise SystemExit(main())
