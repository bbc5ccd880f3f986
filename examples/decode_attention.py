"""Attention for decoding: one query per sequence, keys and values in pages, split over instances.

Q is (batch, kv heads, GROUP, D): the query heads that share a kv head are the rows of a product.
K and V are (pages, kv heads, PAGE, D); TABLE[b, i] is the page of sequence b's keys
i * PAGE to (i + 1) * PAGE. Each instance takes a share of the pages and gives its weighted sum,
its total weight, and the exponent (of 2) that both are relative to; `combine` joins them.

`decode_shares` takes each share's maximum as that exponent. `decode_fixed` takes one number
for all rows instead, as FlashDecoding++ does (Hong et al., arXiv 2311.01282): no product
waits for a maximum. PEAK is the largest score above that number; where it is beyond HIGHEST
the weights may leave float16, and the row has to be computed by `decode_shares`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from _check import FUNCTION, U32, Case, rounding, run_all
from attention import LOG2E, LOWEST

import tilec
import tilec.language as tl

ROWS = 64  # of a tensor core product; those beyond GROUP are padding
HIGHEST = 15.0  # 2^15 is a float16


@tilec.kernel
def decode_shares(Q: tl.Tensor, K: tl.Tensor, V: tl.Tensor, TABLE: tl.Tensor, LENGTH: tl.Tensor,
                  O: tl.Tensor, TOP: tl.Tensor, TOTAL: tl.Tensor,
                  D: tl.constexpr[int] = 128, PAGE: tl.constexpr[int] = 64):  # fmt: skip
    share, head, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    length = tl.gather(LENGTH, batch)
    pages = tl.cdiv(length, PAGE)
    per_share = tl.cdiv(pages, tl.num_programs(0))
    q = tl.load(Q, (batch, head, 0, 0), (1, 1, ROWS, D)).reshape(ROWS, D)
    top = tl.full((ROWS,), LOWEST, tl.float32)
    total, acc = tl.zeros((ROWS,), tl.float32), tl.zeros((ROWS, D), tl.float32)
    for i in tl.range(share * per_share, tl.minimum((share + 1) * per_share, pages)):
        page = tl.gather(TABLE, (batch, i))
        k = tl.load(K, (page, head, 0, 0), (1, 1, PAGE, D)).reshape(PAGE, D)
        v = tl.load(V, (page, head, 0, 0), (1, 1, PAGE, D)).reshape(PAGE, D)
        seen = (i * PAGE + tl.arange(0, PAGE) < length)[None, :]
        s = tl.where(seen, tl.dot(q, k.T) * (LOG2E / D**0.5), float("-inf"))
        new_top = tl.maximum(top, tl.max(s, 1))
        p = tl.exp2(s - new_top[:, None])
        fade = tl.exp2(top - new_top)
        total = total * fade + tl.sum(p, 1)
        acc = tl.dot(p.to(V.dtype), v, acc * fade[:, None])
        top = new_top
    tl.store(O, (batch, head, share, 0, 0), acc.reshape(1, 1, 1, ROWS, D))
    tl.store(TOP, (batch, head, share, 0), top.reshape(1, 1, 1, ROWS))
    tl.store(TOTAL, (batch, head, share, 0), total.reshape(1, 1, 1, ROWS))


@tilec.kernel
def decode_fixed(Q: tl.Tensor, K: tl.Tensor, V: tl.Tensor, TABLE: tl.Tensor, LENGTH: tl.Tensor,
                 O: tl.Tensor, PEAK: tl.Tensor, TOTAL: tl.Tensor, exponent: float,
                 D: tl.constexpr[int] = 128, PAGE: tl.constexpr[int] = 64):  # fmt: skip
    share, head, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    length = tl.gather(LENGTH, batch)
    pages = tl.cdiv(length, PAGE)
    per_share = tl.cdiv(pages, tl.num_programs(0))
    q = tl.load(Q, (batch, head, 0, 0), (1, 1, ROWS, D)).reshape(ROWS, D)
    peak = tl.full((ROWS,), LOWEST, tl.float32)
    total, acc = tl.zeros((ROWS,), tl.float32), tl.zeros((ROWS, D), tl.float32)
    for i in tl.range(share * per_share, tl.minimum((share + 1) * per_share, pages)):
        page = tl.gather(TABLE, (batch, i))
        k = tl.load(K, (page, head, 0, 0), (1, 1, PAGE, D)).reshape(PAGE, D)
        v = tl.load(V, (page, head, 0, 0), (1, 1, PAGE, D)).reshape(PAGE, D)
        seen = (i * PAGE + tl.arange(0, PAGE) < length)[None, :]
        s = tl.where(seen, tl.dot(q, k.T) * (LOG2E / D**0.5) - exponent, float("-inf"))
        peak = tl.maximum(peak, tl.max(s, 1))
        p = tl.exp2(s)
        total += tl.sum(p, 1)
        acc = tl.dot(p.to(V.dtype), v, acc)
    tl.store(O, (batch, head, share, 0, 0), acc.reshape(1, 1, 1, ROWS, D))
    tl.store(PEAK, (batch, head, share, 0), peak.reshape(1, 1, 1, ROWS))
    tl.store(TOTAL, (batch, head, share, 0), total.reshape(1, 1, 1, ROWS))


@tilec.kernel
def combine(O: tl.Tensor, TOP: tl.Tensor, TOTAL: tl.Tensor, OUT: tl.Tensor, D: tl.constexpr[int] = 128,
            GROUP: tl.constexpr[int] = 8):  # fmt: skip
    head, batch = tl.program_id(0), tl.program_id(1)
    top = tl.full((GROUP,), LOWEST, tl.float32)
    total, acc = tl.zeros((GROUP,), tl.float32), tl.zeros((GROUP, D), tl.float32)
    for share in tl.range(O.shape[2]):
        part_top = tl.load(TOP, (batch, head, share, 0), (1, 1, 1, GROUP)).reshape(GROUP)
        part_total = tl.load(TOTAL, (batch, head, share, 0), (1, 1, 1, GROUP)).reshape(GROUP)
        part = tl.load(O, (batch, head, share, 0, 0), (1, 1, 1, GROUP, D)).reshape(GROUP, D)
        new_top = tl.maximum(top, part_top)
        fade, scale = tl.exp2(top - new_top), tl.exp2(part_top - new_top)
        total = total * fade + part_total * scale
        acc = acc * fade[:, None] + part * scale[:, None]
        top = new_top
    tl.store(OUT, (batch, head, 0, 0), (acc / total[:, None]).to(OUT.dtype).reshape(1, 1, GROUP, D))


SHAPES = (
    {"lengths": (1000, 4000, 77), "kv_heads": 2, "group": 8, "D": 128, "shares": 8},
    {"lengths": (65, 500), "kv_heads": 3, "group": 5, "D": 64, "shares": 3},
)


EMPTY = float(np.float32(LOWEST))


def inputs(
    lengths: Sequence[int], kv_heads: int, group: int, D: int, page: int, dtype: Any
) -> list[np.ndarray]:
    """Q, K, V, a table of shuffled pages (-1 where a sequence has no more), and the lengths."""
    rng = np.random.default_rng([*lengths, kv_heads, group, D])
    counts = [tl.cdiv(n, page) for n in lengths]
    order = rng.permutation(sum(counts)).astype(np.int32)
    table = np.full((len(lengths), max(counts)), -1, np.int32)
    for row, count, end in zip(table, counts, np.cumsum(counts), strict=True):
        row[:count] = order[end - count : end]
    q = rng.standard_normal((len(lengths), kv_heads, group, D)).astype(dtype)
    k, v = (rng.standard_normal((sum(counts), kv_heads, page, D)).astype(dtype) for _ in range(2))
    return [q, k, v, table, np.array(lengths, np.int32)]


def in_shares(
    x: np.ndarray, table: np.ndarray, lengths: np.ndarray, shares: int
) -> tuple[np.ndarray, np.ndarray]:
    """Keys or values as (batch, heads, shares, keys, D), and which a share has: (batch, shares, keys)."""
    page = x.shape[2]
    width = np.array([tl.cdiv(tl.cdiv(int(n), page), shares) for n in lengths]) * page
    place = np.arange(width.max())[None, None, :]
    key = np.arange(shares)[None, :, None] * width[:, None, None] + place
    has = (place < width[:, None, None]) & (key < lengths[:, None, None])
    key = np.where(has, key, 0)
    found = x[table[np.arange(len(lengths))[:, None, None], key // page], :, key % page]
    return found.transpose(0, 3, 1, 2, 4), has


def weighed(args: list[np.ndarray], shares: int, base: float | None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Sum, exponent and total weight of each share with its bound, in float64; ``base`` None: the maximum."""
    q, k, v = (a.astype(np.float64) for a in args[:3])
    k, has = in_shares(k, *args[3:], shares)
    v, _ = in_shares(v, *args[3:], shares)
    D, has = q.shape[-1], has[:, None, :, None, :]
    s, size = (f(q)[:, :, None] @ f(k).swapaxes(-1, -2) * (LOG2E / D**0.5) for f in (np.asarray, np.abs))
    size = np.where(has, np.maximum(size, np.abs(s)), 0)
    peak = np.where(has, s, EMPTY).max(axis=-1)
    top = peak if base is None else np.full_like(peak, base)
    p = np.where(has, np.exp2(np.where(has, s, EMPTY) - top[..., None]), 0)
    error = D * U32 * size.max(axis=-1) + 2 * U32 * np.where(peak == EMPTY, 0, np.abs(top))  # of a score
    e = 2 * error[..., None] + FUNCTION + (s.shape[-1] + s.shape[-1] // 8) * U32  # of a weight, and of sums
    half = 2.0**-11 * p + 2.0**-25 * has  # weights in float16
    exponent = peak if base is None else np.where(peak == EMPTY, EMPTY, peak - base)
    return [
        (p @ v, (p * e + half) @ np.abs(v)),
        (exponent, error),
        (p.sum(axis=-1), (p * e).sum(axis=-1)),
    ]


def shares_case(lengths: Sequence[int], kv_heads: int, group: int, D: int, shares: int,
                exponent: float | None = None, dtype: Any = np.float16, **meta: Any) -> Case:  # fmt: skip
    """Each share's results, by `decode_fixed` if an exponent is given."""
    args = inputs(lengths, kv_heads, group, D, meta.get("PAGE", 64), dtype)
    shape = (len(lengths), kv_heads, shares, group)
    parts = [np.empty((*shape, D), np.float32), np.empty(shape, np.float32), np.empty(shape, np.float32)]
    (expected, bound), top, total = weighed(args, shares, exponent)
    kernel = decode_shares if exponent is None else decode_fixed
    scalars = () if exponent is None else (exponent,)

    def grid(meta: Mapping[str, Any]) -> tuple[int, ...]:
        return (shares, kv_heads, len(lengths))

    return Case(
        f"{kernel.__name__} {'+'.join(map(str, lengths))} keys, {kv_heads}x{group} heads, {shares} shares",
        kernel, grid, (*args, *parts, *scalars), 5, expected, bound, lambda: weighed(args, shares, exponent),
        {"D": D, **meta}, others={6: top, 7: total},
    )  # fmt: skip


def combine_case(lengths: Sequence[int], kv_heads: int, group: int, D: int, shares: int,
                 dtype: Any = np.float16, page: int = 64, **meta: Any) -> Case:  # fmt: skip
    args = inputs(lengths, kv_heads, group, D, page, dtype)
    parts = [values.astype(np.float32) for values, _ in weighed(args, shares, None)]
    out = np.empty((len(lengths), kv_heads, group, D), dtype)
    o, top, total = (a.astype(np.float64) for a in parts)
    scale = np.exp2(top - top.max(axis=2, keepdims=True))
    weight = (scale * total).sum(axis=2)[..., None]
    expected = (scale[..., None] * o).sum(axis=2) / weight
    spread = np.where(top == EMPTY, 0, np.abs(top)).max(axis=2)[..., None]
    relative = 2 * shares * (2 * U32 * spread + FUNCTION + 4 * U32)
    bound = relative * (scale[..., None] * np.abs(o)).sum(axis=2) / weight + rounding(out, expected)

    def grid(meta: Mapping[str, Any]) -> tuple[int, ...]:
        return (kv_heads, len(lengths))

    title = f"combine {len(lengths)}x{kv_heads}x{group}x{D} of {shares} shares"
    meta = {"D": D, "GROUP": group, **meta}
    baseline = lambda: (scale[..., None] * o).sum(axis=2) / weight  # noqa: E731
    return Case(title, combine, grid, (*parts, out), 3, expected, bound, baseline, meta)


def main(**options: Any) -> int:
    cases = [make(**shape) for make in (shares_case, combine_case) for shape in SHAPES]
    return run_all([*cases, *(shares_case(**shape, exponent=2.0) for shape in SHAPES)], **options)


if __name__ == "__main__":
    raise SystemExit(main())
