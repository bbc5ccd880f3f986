"""Grouped GEMM of a mixture of experts: rows of X are sorted by expert, each with its own W.

Groups may have any number of rows, also none. The host cuts them in tiles of BM rows and
lists each tile's expert and first row. A tile's last rows may belong to the next
expert: such a tile is written element by element with a mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from _check import U32, Case, rounding, run_all

import tilec
import tilec.language as tl


@tilec.kernel
def grouped_gemm(X: tl.Tensor, W: tl.Tensor, ENDS: tl.Tensor, EXPERT: tl.Tensor, ROW: tl.Tensor,
                 OUT: tl.Tensor, BM: tl.constexpr[int] = 128, BN: tl.constexpr[int] = 128,
                 BK: tl.constexpr[int] = 64):  # fmt: skip
    tile, n = tl.program_id(0), tl.program_id(1)
    expert, row = tl.gather(EXPERT, tile), tl.gather(ROW, tile)
    end = tl.gather(ENDS, expert)
    acc = tl.zeros((BM, BN), tl.float32)
    for k in tl.range(tl.cdiv(X.shape[1], BK)):
        x = tl.load(X, offset=(row, k * BK), shape=(BM, BK))
        w = tl.load(W, (expert, k, n), (1, BK, BN)).reshape(BK, BN)
        acc = tl.dot(x, w, acc)
    out = acc.to(OUT.dtype)
    if row + BM <= end:
        tl.store(OUT, offset=(row, n * BN), value=out)
    else:
        rows, columns = (row + tl.arange(0, BM))[:, None], (n * BN + tl.arange(0, BN))[None, :]
        tl.scatter(OUT, (rows, columns), out, mask=rows < end)


SHAPES = (
    {"rows": (300, 0, 128, 77, 519), "n": 256, "k": 256},
    {"rows": (1, 130, 0, 45), "n": 200, "k": 136},
)


def tiles_of(rows: Sequence[int], BM: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ends of the groups, and each tile's expert and first row."""
    ends = np.cumsum(rows, dtype=np.int32)
    tiles = [(e, r) for e, end in enumerate(ends) for r in range(end - rows[e], end, BM)]
    experts, starts = np.array(tiles, np.int32).T
    return ends, np.ascontiguousarray(experts), np.ascontiguousarray(starts)


def case(rows: Sequence[int], n: int, k: int, dtype: Any = np.float16, **meta: Any) -> Case:
    rng = np.random.default_rng([*rows, n, k])
    x = rng.standard_normal((sum(rows), k)).astype(dtype)
    w = rng.standard_normal((len(rows), k, n)).astype(dtype)
    out = np.empty((sum(rows), n), dtype)
    ends, experts, starts = tiles_of(rows, meta.get("BM", 128))
    parts = [slice(end - count, end) for end, count in zip(ends, rows, strict=True)]

    def each(x: np.ndarray, w: np.ndarray) -> np.ndarray:
        return np.concatenate([x[part] @ w[e] for e, part in enumerate(parts)])

    wide = [a.astype(np.float64) for a in (x, w)]
    expected = each(*wide)
    bound = k * U32 * each(*map(np.abs, wide)) + rounding(out, expected)

    def grid(meta: Mapping[str, Any]) -> tuple[int, ...]:
        return (len(starts), tl.cdiv(n, meta["BN"]))

    args = (x, w, ends, experts, starts, out)
    baseline = lambda: each(x.astype(np.float32), w.astype(np.float32))  # noqa: E731
    title = f"grouped_gemm {'+'.join(map(str, rows))} rows x{n}x{k}"
    return Case(title, grouped_gemm, grid, args, 5, expected, bound, baseline, meta)


def main(**options: Any) -> int:
    return run_all((case(**shape) for shape in SHAPES), **options)


if __name__ == "__main__":
    raise SystemExit(main())
