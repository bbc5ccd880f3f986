"""Matrix product by a fixed number of program instances that loop over the output tiles.

GROUP rows of tiles are taken column by column, so that instances that run at the same
time read few different tiles of A and B, which then come from the L2 cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gemm as plain
import numpy as np
from _check import Case, run_all

import tilec
import tilec.language as tl


def grouped(tile: Any, rows: Any, columns: Any, group: int) -> tuple[Any, Any]:
    """The place of a tile if ``group`` rows of tiles, in the end what is left, are taken column by column."""
    first = tile // (group * columns) * group
    height = tl.minimum(rows - first, group)
    inside = tile - first * columns
    return first + inside % height, inside // height


@tilec.kernel
def persistent_gemm(A: tl.Tensor, B: tl.Tensor, C: tl.Tensor, BM: tl.constexpr[int] = 128,
                    BN: tl.constexpr[int] = 256, BK: tl.constexpr[int] = 64,
                    GROUP: tl.constexpr[int] = 8):  # fmt: skip
    rows, columns = tl.cdiv(A.shape[0], BM), tl.cdiv(B.shape[1], BN)
    for tile in tl.range(tl.program_id(0), rows * columns, tl.num_programs(0)):
        m, n = grouped(tile, rows, columns, GROUP)
        acc = tl.zeros((BM, BN), tl.float32)
        for k in tl.range(tl.cdiv(A.shape[1], BK)):
            a = tl.load(A, (m, k), (BM, BK))
            b = tl.load(B, (k, n), (BK, BN))
            acc = tl.dot(a, b, acc)
        tl.store(C, (m, n), acc.to(C.dtype))


SHAPES = ({"m": 1024, "n": 1024, "k": 512}, {"m": 1000, "n": 1300, "k": 200})


def case(m: int, n: int, k: int, dtype: Any = np.float16, programs: int = 4, **meta: Any) -> Case:
    def grid(meta: Mapping[str, Any]) -> tuple[int, ...]:
        return (programs,)

    title = f"persistent_gemm {m}x{n}x{k} {np.dtype(dtype)}"
    return replace(plain.case(m, n, k, dtype, **meta), title=title, kernel=persistent_gemm, grid=grid)


def main(**options: Any) -> int:
    return run_all((case(**shape) for shape in SHAPES), **options)


if __name__ == "__main__":
    raise SystemExit(main())
