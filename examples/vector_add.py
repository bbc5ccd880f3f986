"""Vector addition: the smallest kernel. The last tile may hang over the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from _check import Case, rounding, run_all

import tilec
import tilec.language as tl


@tilec.kernel
def vector_add(X: tl.Tensor, Y: tl.Tensor, Z: tl.Tensor, BLOCK: tl.constexpr[int] = 1024):
    i = tl.program_id(0)
    tl.store(Z, (i,), tl.load(X, (i,), (BLOCK,)) + tl.load(Y, (i,), (BLOCK,)))


SHAPES = ({"n": 1_000_003}, {"n": 1 << 22})


def case(n: int, dtype: Any = np.float32, **meta: Any) -> Case:
    rng = np.random.default_rng(n)
    x, y = (rng.standard_normal(n).astype(dtype) for _ in range(2))
    z = np.empty(n, dtype)
    expected = x.astype(np.float64) + y.astype(np.float64)

    def grid(meta: Mapping[str, Any]) -> tuple[int, ...]:
        return (tl.cdiv(n, meta["BLOCK"]),)

    bound = rounding(z, expected)  # one rounding
    return Case(f"vector_add {n}", vector_add, grid, (x, y, z), 2, expected, bound, lambda: x + y, meta)


def main(**options: Any) -> int:
    return run_all((case(**shape) for shape in SHAPES), **options)


if __name__ == "__main__":
    raise SystemExit(main())
