"""Grouped GEMM of a mixture of experts: rows of X are sorted by expert, each with its own W.

Groups may have any number of rows, also none. The host cuts them in tiles of BM rows and
lists each tile's expert and its number among those of the expert. A section gives each group
bounds of its own: a last tile hangs over them as over the end of a tensor, so that the next
expert's rows are neither read nor written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from _check import U32, Case, rounding, run_all

import tilec
import tilec.language as tl


@tilec.kernel
def grouped_gemm(X: tl.Tensor, W: tl.Tensor, OFFSETS: tl.Tensor, EXPERT: tl.Tensor, TILE: tl.Tensor,
                 OUT: tl.Tensor, BM: tl.constexpr[int] = 128, BN: tl.constexpr[int] = 128,
                 BK: tl.constexpr[int] = 64):  # fmt: skip
    expert, m = tl.gather(EXPERT, tl.program_id(0)), tl.gather(TILE, tl.program_id(0))
    n = tl.program_id(1)
    start, stop = tl.gather(OFFSETS, expert), tl.gather(OFFSETS, expert + 1)
    rows, out = tl.section(X, start, stop), tl.section(OUT, start, stop)
    acc = tl.zeros((BM, BN), tl.float32)
    for k in tl.range(tl.cdiv(X.shape[1], BK)):
        x = tl.load(rows, (m, k), (BM, BK))
        w = tl.load(W, (expert, k, n), (1, BK, BN)).reshape(BK, BN)
        acc = tl.dot(x, w, acc)
    tl.store(out, (m, n), acc.to(OUT.dtype))


@tilec.kernel
def grouped_weights(X: tl.Tensor, DOUT: tl.Tensor, OFFSETS: tl.Tensor, DW: tl.Tensor,
                    BM: tl.constexpr[int] = 128, BN: tl.constexpr[int] = 128,
                    BK: tl.constexpr[int] = 64):  # fmt: skip
    """The gradient of W: for each expert the product of its rows of X and of DOUT."""
    m, n, expert = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    start, stop = tl.gather(OFFSETS, expert), tl.gather(OFFSETS, expert + 1)
    rows, grads = tl.section(X, start, stop), tl.section(DOUT, start, stop)
    acc = tl.zeros((BM, BN), tl.float32)
    for k in tl.range(tl.cdiv(stop - start, BK)):
        x, d = tl.load(rows, (k, m), (BK, BM)), tl.load(grads, (k, n), (BK, BN))
        acc = tl.dot(x.T, d, acc)
    tl.store(DW, (expert, m, n), acc.to(DW.dtype).reshape(1, BM, BN))


SHAPES = (
    {"rows": (300, 0, 128, 77, 519), "n": 256, "k": 256},
    {"rows": (1, 130, 0, 45), "n": 200, "k": 136},
)


def tiles_of(rows: Sequence[int], BM: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the groups begin and the last one ends; each tile's expert and its number there."""
    offsets = np.concatenate([[0], np.cumsum(rows)]).astype(np.int32)
    tiles = [(expert, m) for expert, count in enumerate(rows) for m in range(tl.cdiv(count, BM))]
    experts, numbers = np.array(tiles, np.int32).T
    return offsets, np.ascontiguousarray(experts), np.ascontiguousarray(numbers)


def arrays(rows: Sequence[int], n: int, k: int, dtype: Any) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng([*rows, n, k])
    shapes = (sum(rows), k), (len(rows), k, n), (sum(rows), n)
    return tuple(rng.standard_normal(shape).astype(dtype) for shape in shapes)


def parts_of(offsets: np.ndarray) -> list[slice]:
    return [slice(start, stop) for start, stop in pairwise(offsets.tolist())]


def case(rows: Sequence[int], n: int, k: int, dtype: Any = np.float16, **meta: Any) -> Case:
    x, w, out = arrays(rows, n, k, dtype)
    offsets, experts, numbers = tiles_of(rows, meta.get("BM", 128))

    def each(x: np.ndarray, w: np.ndarray) -> np.ndarray:
        return np.concatenate([x[part] @ w[e] for e, part in enumerate(parts_of(offsets))])

    wide = [a.astype(np.float64) for a in (x, w)]
    expected = each(*wide)
    bound = k * U32 * each(*map(np.abs, wide)) + rounding(out, expected)

    def grid(meta: Mapping[str, Any]) -> tuple[int, ...]:
        return (len(experts), tl.cdiv(n, meta["BN"]))

    args = (x, w, offsets, experts, numbers, out)
    baseline = lambda: each(x.astype(np.float32), w.astype(np.float32))  # noqa: E731
    title = f"grouped_gemm {'+'.join(map(str, rows))} rows x{n}x{k}"
    return Case(title, grouped_gemm, grid, args, 5, expected, bound, baseline, meta)


def weights_case(rows: Sequence[int], n: int, k: int, dtype: Any = np.float16, **meta: Any) -> Case:
    x, w, grads = arrays(rows, n, k, dtype)
    offsets = tiles_of(rows, 128)[0]

    def each(x: np.ndarray, d: np.ndarray) -> np.ndarray:
        return np.stack([x[part].T @ d[part] for part in parts_of(offsets)])

    wide = [a.astype(np.float64) for a in (x, grads)]
    expected, out = each(*wide), np.empty_like(w)
    bound = max(rows) * U32 * each(*map(np.abs, wide)) + rounding(out, expected)

    def grid(meta: Mapping[str, Any]) -> tuple[int, ...]:
        return (tl.cdiv(k, meta["BM"]), tl.cdiv(n, meta["BN"]), len(rows))

    baseline = lambda: each(x.astype(np.float32), grads.astype(np.float32))  # noqa: E731
    title = f"grouped_weights {'+'.join(map(str, rows))} rows x{n}x{k}"
    return Case(title, grouped_weights, grid, (x, grads, offsets, out), 3, expected, bound, baseline, meta)


def main(**options: Any) -> int:
    made = [make(**shape) for shape in SHAPES for make in (case, weights_case)]
    return run_all(made, **options)


if __name__ == "__main__":
    raise SystemExit(main())
