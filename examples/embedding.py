"""Embedding lookup: gather rows of a table by token number. An unknown token gives zeros."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from _check import Case, run_all

import tilec
import tilec.language as tl


@tilec.kernel
def embedding(TABLE: tl.Tensor, TOKENS: tl.Tensor, OUT: tl.Tensor,
              BM: tl.constexpr[int] = 32, BD: tl.constexpr[int] = 128):  # fmt: skip
    m, d = tl.program_id(0), tl.program_id(1)
    tokens = tl.load(TOKENS, (m,), (BM,), pad=-1)
    columns = d * BD + tl.arange(0, BD)
    rows, columns = tl.broadcast_to(tokens[:, None], (BM, BD)), tl.broadcast_to(columns[None, :], (BM, BD))
    tl.store(OUT, (m, d), tl.gather(TABLE, (rows, columns), mask=rows >= 0, other=0.0))


SHAPES = ({"tokens": 4000, "words": 5000, "width": 300},)


def case(tokens: int, words: int, width: int, dtype: Any = np.float16, **meta: Any) -> Case:
    rng = np.random.default_rng([tokens, words, width])
    table = rng.standard_normal((words, width)).astype(dtype)
    ids = rng.integers(-1, words + 1, tokens).astype(np.int32)  # -1 and `words` are no words
    out = np.empty((tokens, width), dtype)
    known = (ids >= 0) & (ids < words)
    expected = np.where(known[:, None], table[np.where(known, ids, 0)], 0).astype(np.float64)

    def grid(meta: Mapping[str, Any]) -> tuple[int, ...]:
        return (tl.cdiv(tokens, meta["BM"]), tl.cdiv(width, meta["BD"]))

    bound = np.zeros_like(expected)  # a copy is exact
    title = f"embedding {tokens} of {words}x{width}"
    safe = np.where(known, ids, 0)
    return Case(title, embedding, grid, (table, ids, out), 2, expected, bound, lambda: table[safe], meta)


def main(**options: Any) -> int:
    return run_all((case(**shape) for shape in SHAPES), **options)


if __name__ == "__main__":
    raise SystemExit(main())
