"""RMS normalisation of the rows of a matrix, forward and backward.

Forward keeps RSTD, one over each row's root mean square. Backward gives the gradient of X, and
that of the weight as one partial sum per program instance, which `add_rows` adds up: the
result does not depend on timing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from _check import FUNCTION, U32, Case, rounding, run_all

import tilec
import tilec.language as tl

EPS = 1e-5


@tilec.kernel
def rms_norm(X: tl.Tensor, W: tl.Tensor, Y: tl.Tensor, RSTD: tl.Tensor, BN: tl.constexpr[int] = 1024):
    row = tl.program_id(0)
    x = tl.load(X, (row, 0), (1, BN)).to(tl.float32)
    w = tl.load(W, (0,), (BN,)).to(tl.float32)
    rstd = tl.rsqrt(tl.sum(x * x, 1) / X.shape[1].to(tl.float32) + EPS)
    tl.store(Y, (row, 0), (x * rstd[:, None] * w[None, :]).to(Y.dtype))
    tl.store(RSTD, (row,), rstd)


@tilec.kernel
def rms_norm_backward(X: tl.Tensor, W: tl.Tensor, RSTD: tl.Tensor, DY: tl.Tensor, DX: tl.Tensor,
                      DW: tl.Tensor, BN: tl.constexpr[int] = 1024):  # fmt: skip
    w = tl.load(W, (0,), (BN,)).to(tl.float32)[None, :]
    dw = tl.zeros((1, BN), tl.float32)
    for row in tl.range(tl.program_id(0), X.shape[0], tl.num_programs(0)):
        rstd = tl.load(RSTD, (row,), (1,))[:, None]
        x = tl.load(X, (row, 0), (1, BN)).to(tl.float32) * rstd
        dy = tl.load(DY, (row, 0), (1, BN)).to(tl.float32)
        dw += dy * x
        along = tl.sum(dy * w * x, 1, keepdims=True) / X.shape[1].to(tl.float32)
        tl.store(DX, (row, 0), (rstd * (dy * w - x * along)).to(DX.dtype))
    tl.store(DW, (tl.program_id(0), 0), dw)


@tilec.kernel
def add_rows(PARTS: tl.Tensor, OUT: tl.Tensor, BN: tl.constexpr[int] = 128):
    n = tl.program_id(0)
    total = tl.zeros((1, BN), tl.float32)
    for row in tl.range(PARTS.shape[0]):
        total += tl.load(PARTS, (row, n), (1, BN))
    tl.store(OUT, (n,), total.reshape(BN).to(OUT.dtype))


SHAPES = ({"m": 2000, "n": 1000}, {"m": 512, "n": 4096})


def fitted(n: int, meta: Mapping[str, Any]) -> dict[str, Any]:
    """The constants, BN wide enough for a row."""
    return {"BN": 1 << max(n - 1, 0).bit_length(), **meta}


def inputs(m: int, n: int, dtype: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng([m, n])
    x, dy = ((rng.standard_normal((m, n)) + 0.5).astype(dtype) for _ in range(2))
    return x, rng.standard_normal(n).astype(dtype), dy


def rstd_of(x: np.ndarray) -> np.ndarray:
    return 1 / np.sqrt((x * x).mean(axis=1) + EPS)


def case(m: int, n: int, dtype: Any = np.float32, **meta: Any) -> Case:
    x, w, _ = inputs(m, n, dtype)
    y, rstd = np.empty_like(x), np.empty(m, np.float32)
    wide = x.astype(np.float64)
    scale = rstd_of(wide)
    expected = wide * scale[:, None] * w.astype(np.float64)
    relative = (n + 3) * U32 / 2 + FUNCTION  # of a sum of n squares, halved by the root
    bound = (relative + 3 * U32) * np.abs(expected) + rounding(y, expected)

    def baseline() -> np.ndarray:
        return x * rstd_of(x)[:, None] * w

    return Case(
        f"rms_norm {m}x{n}", rms_norm, lambda meta: (m,), (x, w, y, rstd), 2, expected, bound, baseline,
        fitted(n, meta), others={3: (scale, relative * scale)},
    )  # fmt: skip


def backward_case(m: int, n: int, programs: int = 64, dtype: Any = np.float32, **meta: Any) -> Case:
    x, w, dy = inputs(m, n, dtype)
    rstd = rstd_of(x.astype(np.float64)).astype(np.float32)
    dx, dw = np.empty_like(x), np.empty((programs, n), np.float32)
    wide_x, wide_w, wide_dy = (a.astype(np.float64) for a in (x, w, dy))
    scale = rstd.astype(np.float64)[:, None]
    unit_x, up = wide_x * scale, wide_dy * wide_w
    along = (up * unit_x).mean(axis=1, keepdims=True)
    expected = scale * (up - unit_x * along)
    along_error = (n + 4) * U32 * np.abs(up * unit_x).mean(axis=1, keepdims=True)
    bound = scale * (np.abs(unit_x) * (along_error + 3 * U32 * np.abs(along)) + 3 * U32 * np.abs(up))
    terms = wide_dy * unit_x
    parts = [terms[p::programs] for p in range(programs)]
    sums = np.stack([part.sum(axis=0) for part in parts])
    sums_bound = (m / programs + 4) * U32 * np.stack([np.abs(part).sum(axis=0) for part in parts])

    def baseline() -> np.ndarray:
        u, g = x * rstd[:, None], dy * w
        return rstd[:, None] * (g - u * (g * u).mean(axis=1, keepdims=True))

    return Case(
        f"rms_norm_backward {m}x{n} by {programs}", rms_norm_backward, lambda meta: (programs,),
        (x, w, rstd, dy, dx, dw), 4, expected, bound + rounding(dx, expected), baseline, fitted(n, meta),
        others={5: (sums, sums_bound)},
    )  # fmt: skip


def add_case(parts: int, n: int, dtype: Any = np.float32, **meta: Any) -> Case:
    x = np.random.default_rng([parts, n]).standard_normal((parts, n)).astype(np.float32)
    out = np.empty(n, dtype)
    expected = x.sum(axis=0, dtype=np.float64)
    bound = parts * U32 * np.abs(x).sum(axis=0, dtype=np.float64) + rounding(out, expected)

    def grid(meta: Mapping[str, Any]) -> tuple[int, ...]:
        return (tl.cdiv(n, meta["BN"]),)

    baseline = lambda: x.sum(axis=0)  # noqa: E731
    return Case(f"add_rows {parts}x{n}", add_rows, grid, (x, out), 1, expected, bound, baseline, meta)


def main(**options: Any) -> int:
    cases = [make(**shape) for make in (case, backward_case) for shape in SHAPES]
    return run_all([*cases, add_case(64, 1000)], **options)


if __name__ == "__main__":
    raise SystemExit(main())
