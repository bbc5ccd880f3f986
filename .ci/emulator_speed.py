"""How long checked runs of the emulator take: python .ci/emulator_speed.py, with nothing else running.

A first run parses and decodes the PTX, later ones do not. The ratio is to numpy's own float32 product of
512 x 512 x 512 in the same process. Every result is compared with float64.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilec.backends.artifact import Artifact
from tilec.bench.kernels import attention, gemm
from tilec.runtime.emulator.launch import launch, parsed

PRODUCTS = 20
RUNS = 3


@dataclass(frozen=True)
class Case:
    """A kernel and what to run it with; the last argument is compared with ``expected``."""

    name: str
    artifact: Artifact
    grid: tuple[int, ...]
    args: tuple[Any, ...]
    expected: Any


def numbers(*shape: int) -> Any:
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float16)


def product() -> Case:
    a, b = numbers(512, 512), numbers(512, 512)
    compiled = gemm.compile(("f16[2]",) * 3, target="sm_90a", BM=128, BN=256, BK=64)
    args = (a, b, np.zeros((512, 512), np.float16))
    return Case(
        "GEMM 512 x 512 x 512, float16", compiled.artifact, (4, 2), args, np.float64(a) @ np.float64(b)
    )


def head() -> Case:
    q, k, v = (numbers(1, 1024, 64) + np.float16(i) for i in range(3))
    scores = np.float64(q[0]) @ np.float64(k[0]).T / 8
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    expected = weights @ np.float64(v[0]) / weights.sum(axis=1, keepdims=True)
    compiled = attention.compile(("f16[3]",) * 4, target="sm_90a", D=64)
    return Case("attention, one head of 1024 x 64", compiled.artifact, (8, 1),
                (q, k, v, np.zeros_like(q)), expected[None])  # fmt: skip


def cost(run: Callable[[], Any]) -> tuple[float, float]:
    """(elapsed, CPU) seconds, the latter with those of processes that have ended."""
    begin, used = time.perf_counter(), sum(os.times()[:4])
    run()
    return time.perf_counter() - begin, sum(os.times()[:4]) - used


def measure(case: Case, **options: Any) -> list[tuple[float, float]]:
    """The costs of some runs, the first one cold. AssertionError for a wrong result."""
    parsed.cache_clear()
    costs = []
    for _ in range(RUNS):
        case.args[-1][:] = 0
        costs.append(cost(lambda: launch(case.artifact, case.grid, case.args, **options)))
        np.testing.assert_allclose(np.float64(case.args[-1]), case.expected, rtol=4e-3, atol=4e-3)
    return costs


def numpy_seconds() -> float:
    a = numbers(512, 512).astype(np.float32)
    return min(cost(lambda: a @ a)[0] for _ in range(PRODUCTS))


def main(counts: Sequence[int]) -> None:
    base = numpy_seconds()
    print(f"numpy's float32 product: {1e3 * base:.2f} ms")
    for make in (product, head):
        for count in counts:
            case = make()
            first, *later = measure(case, processes=count)
            again = min(later)
            print(f"{case.name}, {count} processes: first {first[0]:.2f} s, later {again[0]:.2f} s "
                  f"({again[1]:.2f} s of CPU, {again[0] / base:.0f} numpy products)")  # fmt: skip


if __name__ == "__main__":
    main([int(n) for n in sys.argv[1:]] or [1, len(os.sched_getaffinity(0))])
