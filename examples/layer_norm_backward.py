"""The gradients of layer normalisation: of X, and of weight and bias as partial sums per instance.

`rms_norm.add_rows` adds the partial sums up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from _check import U32, Case, rounding, run_all
from rms_norm import fitted, inputs

import tilec
import tilec.language as tl

EPS = 1e-5


@tilec.kernel
def layer_norm_backward(X: tl.Tensor, W: tl.Tensor, MEAN: tl.Tensor, RSTD: tl.Tensor, DY: tl.Tensor,
                        DX: tl.Tensor, DW: tl.Tensor, DB: tl.Tensor,
                        BN: tl.constexpr[int] = 1024):  # fmt: skip
    program, n = tl.program_id(0), X.shape[1].to(tl.float32)
    w = tl.load(W, (0,), (BN,)).to(tl.float32)[None, :]
    dw, db = tl.zeros((1, BN), tl.float32), tl.zeros((1, BN), tl.float32)
    for row in tl.range(program, X.shape[0], tl.num_programs(0)):
        mean, rstd = tl.load(MEAN, (row,), (1,))[:, None], tl.load(RSTD, (row,), (1,))[:, None]
        x = (tl.load(X, (row, 0), (1, BN)).to(tl.float32) - mean) * rstd
        dy = tl.load(DY, (row, 0), (1, BN)).to(tl.float32)  # 0 beyond the row, where x is not
        dw += dy * x
        db += dy
        up = dy * w
        across = tl.sum(up, 1, keepdims=True) / n
        along = tl.sum(up * x, 1, keepdims=True) / n
        tl.store(DX, (row, 0), (rstd * (up - across - x * along)).to(DX.dtype))
    tl.store(DW, (program, 0), dw)
    tl.store(DB, (program, 0), db)


SHAPES = ({"m": 2000, "n": 1000}, {"m": 512, "n": 4096})


def case(m: int, n: int, programs: int = 64, dtype: Any = np.float32, **meta: Any) -> Case:
    x, w, dy = inputs(m, n, dtype)
    wide_x, wide_w, wide_dy = (a.astype(np.float64) for a in (x, w, dy))
    mean = wide_x.mean(axis=1).astype(np.float32)
    rstd = (1 / np.sqrt(wide_x.var(axis=1) + EPS)).astype(np.float32)
    dx = np.empty_like(x)
    dw, db = (np.empty((programs, n), np.float32) for _ in range(2))

    scale = rstd.astype(np.float64)[:, None]
    unit_x, up = (wide_x - mean.astype(np.float64)[:, None]) * scale, wide_dy * wide_w
    across, along = up.mean(axis=1, keepdims=True), (up * unit_x).mean(axis=1, keepdims=True)
    expected = scale * (up - across - unit_x * along)
    across_error = (n + 3) * U32 * np.abs(up).mean(axis=1, keepdims=True)
    along_error = (n + 5) * U32 * np.abs(up * unit_x).mean(axis=1, keepdims=True)
    bound = scale * (across_error + np.abs(unit_x) * (along_error + 5 * U32 * np.abs(along)))
    bound += 4 * U32 * scale * (np.abs(up) + np.abs(across)) + rounding(dx, expected)

    def partial(terms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Each instance's sum over its rows, and how far rounding may carry it."""
        parts = [terms[p::programs] for p in range(programs)]
        sizes = np.stack([np.abs(part).sum(axis=0) for part in parts])
        return np.stack([part.sum(axis=0) for part in parts]), (m / programs + 4) * U32 * sizes

    def baseline() -> np.ndarray:
        u, g = (x - mean[:, None]) * rstd[:, None], dy * w
        return rstd[:, None] * (g - g.mean(axis=1)[:, None] - u * (g * u).mean(axis=1)[:, None])

    return Case(
        f"layer_norm_backward {m}x{n} by {programs}", layer_norm_backward, lambda meta: (programs,),
        (x, w, mean, rstd, dy, dx, dw, db), 5, expected, bound, baseline, fitted(n, meta),
        others={6: partial(wide_dy * unit_x), 7: partial(wide_dy)},
    )  # fmt: skip


def main(**options: Any) -> int:
    return run_all((case(**shape) for shape in SHAPES), **options)


if __name__ == "__main__":
    raise SystemExit(main())
