"""SwiGLU, the gated half of a transformer's MLP: silu(X @ GATE) * (X @ UP) in one pass over X."""

from __future__ import annotations

from typing import Any

import numpy as np
from _check import FUNCTION, U32, Case, rounding, run_all
from gemm import grid_of, product

import tilec
import tilec.language as tl


@tilec.kernel
def swiglu(X: tl.Tensor, GATE: tl.Tensor, UP: tl.Tensor, OUT: tl.Tensor,
           BM: tl.constexpr[int] = 128, BN: tl.constexpr[int] = 128,
           BK: tl.constexpr[int] = 64):  # fmt: skip
    m, n = tl.program_id(0), tl.program_id(1)
    gate, up = tl.zeros((BM, BN), tl.float32), tl.zeros((BM, BN), tl.float32)
    for k in tl.range(tl.cdiv(X.shape[1], BK)):
        x = tl.load(X, (m, k), (BM, BK))
        gate = tl.dot(x, tl.load(GATE, (k, n), (BK, BN)), gate)
        up = tl.dot(x, tl.load(UP, (k, n), (BK, BN)), up)
    tl.store(OUT, (m, n), (gate * tl.sigmoid(gate) * up).to(OUT.dtype))


SHAPES = ({"m": 512, "n": 512, "k": 512}, {"m": 300, "n": 200, "k": 264})


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def case(m: int, n: int, k: int, dtype: Any = np.float16, **meta: Any) -> Case:
    rng = np.random.default_rng([m, n, k])
    x = rng.standard_normal((m, k)).astype(dtype)
    gate, up = ((rng.standard_normal((k, n)) / k**0.5).astype(dtype) for _ in range(2))
    out = np.empty((m, n), dtype)
    g, u = product(x, gate), product(x, up)
    expected = silu(g) * u
    g_error, u_error = (k * U32 * product(np.abs(x), np.abs(w)) for w in (gate, up))
    # |silu'| < 1.1; sigmoid is 1 / (1 + e^-g), whose exponent is rounded like g.
    relative = FUNCTION + U32 * (4 + np.abs(g))
    bound = 1.1 * g_error * np.abs(u) + np.abs(silu(g)) * u_error + np.abs(expected) * relative
    bound += rounding(out, expected)

    def baseline() -> np.ndarray:
        return silu(product(x, gate, np.float32)) * product(x, up, np.float32)

    args = (x, gate, up, out)
    title = f"swiglu {m}x{n}x{k} {out.dtype}"
    return Case(title, swiglu, grid_of(m, n), args, 3, expected, bound, baseline, meta)


def main(**options: Any) -> int:
    return run_all((case(**shape) for shape in SHAPES), **options)


if __name__ == "__main__":
    raise SystemExit(main())
