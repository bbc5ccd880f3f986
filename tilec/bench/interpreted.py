"""Kernels of Triton run by its interpreter, in a process of its own.

Prints the median seconds of a call. The kernels are those of `bench_compile/triton_kernels.py`, with
the tiles that ours have in the same work.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from tilec.bench import kernels
from tilec.bench.measure import Run, in_turns
from tilec.bench.peers import library

SAMPLES = 3
ROWS = 256  # of softmax and norms


def _arrays(*shapes: tuple[int, ...], dtype: str = "float16") -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(s, np.float32).astype(dtype) for s in shapes]


def _gemm(triton: Any | None, m: int, n: int, k: int) -> Run:
    a, b, c = _arrays((m, k), (k, n), (m, n))
    grid = -(-m // 128), -(-n // 256)
    tile: dict[str, Any] = {"BM": 128, "BN": 256, "BK": 64}
    if triton is None:
        launch = kernels.gemm[grid]
        return lambda: launch(a, b, c, **tile)
    x, y, z = map(_tensor, (a, b, c))
    return lambda: triton.gemm[grid](x, y, z, m, n, k, k, n, 1, n, **tile)


def _attention(triton: Any | None, heads: int, s: int, d: int, causal: bool) -> Run:
    arrays = _arrays(*[(heads, s, d)] * 4)
    grid = -(-s // 128), heads
    rest: dict[str, Any] = {"causal": causal, "D": d, "BM": 128, "BN": 128}
    if triton is None:
        launch = kernels.attention[grid]
        return lambda: launch(*arrays, **rest)
    q, k, v, o = map(_tensor, arrays)
    return lambda: triton.attention[grid](q, k, v, o, s * d, d, s, s, **rest)


def _rows(triton: Any | None, kind: str, n: int) -> Run:
    x, w, b, y = _arrays((ROWS, n), (n,), (n,), (ROWS, n), dtype="float32")
    chosen = {"softmax": (x, y), "layer_norm": (x, w, b, y), "rms_norm": (x, w, y)}[kind]
    if triton is None:
        launch = getattr(kernels, kind)[(ROWS,)]
        return lambda: launch(*chosen, BN=n)
    kernel, tensors = getattr(triton, kind)[(ROWS,)], [_tensor(v) for v in chosen]
    return lambda: kernel(*tensors, n, n, BN=n)


def _tensor(array: np.ndarray[Any, Any]) -> Any:
    torch = library("torch")
    assert torch is not None, "see `installed`"
    return torch.from_numpy(array)


@dataclass(frozen=True)
class Case:
    """``make`` gives a run of our kernel, or of Triton's if it gets their module; ``amount``: of one call."""

    make: Callable[[Any | None], Run]
    amount: float
    unit: str


CASES: Mapping[str, Case] = {
    "gemm f16 512x512x512": Case(lambda t: _gemm(t, 512, 512, 512), 2.0 * 512**3, "GFLOP/s"),
    "gemm f16 128x256x64": Case(lambda t: _gemm(t, 128, 256, 64), 2.0 * 128 * 256 * 64, "GFLOP/s"),
    "attention f16 2x512x128": Case(
        lambda t: _attention(t, 2, 512, 128, False), 4.0 * 2 * 512**2 * 128, "GFLOP/s"),
    "attention f16 2x512x128 causal": Case(
        lambda t: _attention(t, 2, 512, 128, True), 2.0 * 2 * 512**2 * 128, "GFLOP/s"),
    "softmax f32 256x1024": Case(lambda t: _rows(t, "softmax", 1024), 8.0 * ROWS * 1024, "GB/s"),
    "layer norm f32 256x1024": Case(lambda t: _rows(t, "layer_norm", 1024), 8.0 * ROWS * 1024, "GB/s"),
    "RMS norm f32 256x1024": Case(lambda t: _rows(t, "rms_norm", 1024), 8.0 * ROWS * 1024, "GB/s"),
}  # fmt: skip


def installed() -> bool:
    """Whether Triton, and torch for its arguments, are there."""
    return find_spec("triton") is not None and find_spec("torch") is not None


@cache
def seconds(name: str) -> float | None:
    """The median seconds of a call by Triton's interpreter; None where it does not run."""
    if not installed():
        return None
    command = [sys.executable, "-m", "tilec.bench.interpreted", name]
    done = subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True,
                          text=True, check=False)  # fmt: skip
    return float(done.stdout) if done.returncode == 0 else None


def main() -> None:
    """Print the seconds of a call of the work that is named."""
    from tilec.bench_compile import triton_kernels

    print(in_turns([CASES[sys.argv[1]].make(triton_kernels)], SAMPLES, settle=0.0)[0])


if __name__ == "__main__":
    main()
