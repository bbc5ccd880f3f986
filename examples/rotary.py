"""Rotary position embedding: pairs of a head's features turn by an angle that grows with the position.

X is (batch, positions, heads, D). Feature i is paired with feature i + D / 2, and both turn by
position / base^(2i / D). COS and SIN are tables (positions, D / 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from _check import U32, Case, rounding, run_all

import tilec
import tilec.language as tl


@tilec.kernel
def rotary(X: tl.Tensor, COS: tl.Tensor, SIN: tl.Tensor, OUT: tl.Tensor,
           D: tl.constexpr[int] = 128, BP: tl.constexpr[int] = 4, BH: tl.constexpr[int] = 8):  # fmt: skip
    batch, p, h = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    shape = (1, BP, BH, D // 2)
    cos = tl.load(COS, (p, 0), (BP, D // 2)).reshape(1, BP, 1, D // 2)
    sin = tl.load(SIN, (p, 0), (BP, D // 2)).reshape(1, BP, 1, D // 2)
    left = tl.load(X, (batch, p, h, 0), shape).to(tl.float32)
    right = tl.load(X, (batch, p, h, 1), shape).to(tl.float32)
    tl.store(OUT, (batch, p, h, 0), (left * cos - right * sin).to(OUT.dtype))
    tl.store(OUT, (batch, p, h, 1), (right * cos + left * sin).to(OUT.dtype))


SHAPES = (
    {"batch": 2, "positions": 512, "heads": 16, "D": 128},
    {"batch": 1, "positions": 333, "heads": 6, "D": 64},
)


def turned(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    left, right = np.split(x, 2, axis=-1)
    cos, sin = cos[:, None, :], sin[:, None, :]
    return np.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1)


def case(batch: int, positions: int, heads: int, D: int, dtype: Any = np.float16, **meta: Any) -> Case:
    rng = np.random.default_rng([batch, positions, heads, D])
    x = rng.standard_normal((batch, positions, heads, D)).astype(dtype)
    out = np.empty_like(x)
    angle = np.arange(positions)[:, None] / 10000.0 ** (np.arange(D // 2) * 2 / D)
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    expected = turned(*(a.astype(np.float64) for a in (x, cos, sin)))
    size = 2 * np.abs(x).astype(np.float64).max(axis=-1, keepdims=True)  # of the terms of each sum
    bound = 2 * U32 * size + rounding(out, expected)

    def grid(meta: Mapping[str, Any]) -> tuple[int, ...]:
        return (batch, tl.cdiv(positions, meta["BP"]), tl.cdiv(heads, meta["BH"]))

    title = f"rotary {batch}x{positions}x{heads}x{D}"
    baseline = lambda: turned(x.astype(np.float32), cos, sin)  # noqa: E731
    return Case(title, rotary, grid, (x, cos, sin, out), 3, expected, bound, baseline, {"D": D, **meta})


def main(**options: Any) -> int:
    return run_all((case(**shape) for shape in SHAPES), **options)


if __name__ == "__main__":
    raise SystemExit(main())
