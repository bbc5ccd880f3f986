"""`tilec check`: a kernel on small arrays, in every form and many timings, against its definition.

The interpreter runs the sequential program; that is what the kernel means. The scheduled program
must give the same bits in every interleaving of its groups, and the PTX must run on the emulator
without a hazard in every timing. How far the PTX's values are from the definition is told, and
judged only against bounds that the caller gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tilec.ir.core import Kernel
from tilec.ir.errors import TilecError
from tilec.ir.interp import interpret
from tilec.runtime.emulator.asyncops import Mode

POLICIES = ("round_robin", "first", "last")
TIMINGS: tuple[Mode, ...] = ("eager", "lazy")
Values = list[Any]


@dataclass(frozen=True)
class Finding:
    """What one way to run the kernel gave. ``fault`` is empty where it is right.

    ``difference``: the largest from the definition, of any argument; None where bits are compared.
    """

    what: str
    runs: int
    fault: str = ""
    difference: float | None = None

    @property
    def text(self) -> str:
        """A line for people."""
        if self.fault:
            return f"{self.what}: {self.fault}"
        said = "the same bits as the definition"
        if self.difference is not None:
            said = f"values within {self.difference:.3g} of the definition"
        return f"{self.what}, {self.runs} run{'s' * (self.runs != 1)}: {said}"


@dataclass(frozen=True)
class Bounds:
    """How far values may be from the definition: |x - y| <= atol + rtol |y|. None: not judged."""

    rtol: float | None = None
    atol: float | None = None


def check(
    kernel: Kernel, target: str, grid: Sequence[int], values: Values, runs: int, bounds: Bounds
) -> Iterator[Finding]:
    """The findings for a TILE kernel: its scheduled program, its PTX (GPU targets), its CPU code."""
    from tilec.driver import compile

    wanted = _ran(values, lambda held: interpret(kernel, grid, held))
    compiled = compile(kernel, target)
    if target != "cpu":
        yield _interleaved(compiled.scheduled, grid, values, wanted, runs)
        yield _emulated(compiled.artifact, grid, values, wanted, runs, bounds)
    yield _on_cpu(compile(kernel, "cpu").artifact, grid, values, wanted, bounds)


def _ran(values: Values, run: Callable[[Values], object]) -> Values:
    """Copies of the values, as a run leaves them."""
    held = [v.copy() if isinstance(v, np.ndarray) else v for v in values]
    run(held)
    return held


def _interleaved(kernel: Kernel, grid: Sequence[int], values: Values, wanted: Values, runs: int) -> Finding:
    what = "scheduled program"
    tries = [(p, 0) for p in POLICIES] + [("random", seed) for seed in range(max(0, runs - len(POLICIES)))]
    for policy, seed in tries:
        try:
            got = _ran(values, partial(interpret, kernel, grid, policy=policy, seed=seed))
        except TilecError as error:
            return Finding(what, len(tries), f"interleaving {policy} {seed}: {error}")
        for i, (x, y) in enumerate(zip(got, wanted, strict=True)):
            if isinstance(x, np.ndarray) and x.tobytes() != y.tobytes():
                return Finding(what, len(tries), f"interleaving {policy} {seed}: other bits in argument {i}")
    return Finding(what, len(tries))


def _emulated(
    artifact: Any, grid: Sequence[int], values: Values, wanted: Values, runs: int, bounds: Bounds
) -> Finding:
    from tilec.runtime import emulator

    what, largest = "PTX on the emulator", 0.0
    tries: list[tuple[Mode, int]] = [(mode, 0) for mode in TIMINGS]
    tries += [("random", s) for s in range(max(0, runs - len(TIMINGS)))]
    for mode, seed in tries:
        try:
            got = _ran(values, partial(emulator.launch, artifact, grid, mode=mode, seed=seed))
        except TilecError as error:
            return Finding(what, len(tries), f"timing {mode} {seed}: {error}")
        fault, far = _compared(got, wanted, bounds)
        largest = max(largest, far)
        if fault:
            return Finding(what, len(tries), f"timing {mode} {seed}: {fault}", far)
    return Finding(f"{what} without a hazard", len(tries), "", largest)


def _on_cpu(artifact: Any, grid: Sequence[int], values: Values, wanted: Values, bounds: Bounds) -> Finding:
    from tilec.runtime import cpu

    got = _ran(values, lambda held: cpu.load(artifact).launch(tuple(grid), held))
    fault, far = _compared(got, wanted, bounds)
    return Finding("CPU code", 1, fault, far)


def _compared(got: Values, wanted: Values, bounds: Bounds) -> tuple[str, float]:
    """What is too far away, and the largest difference."""
    largest, fault = 0.0, ""
    for i, (x, y) in enumerate(zip(got, wanted, strict=True)):
        if not isinstance(x, np.ndarray) or not x.size:
            continue
        a, b = x.astype(np.float64), y.astype(np.float64)
        if not np.array_equal(np.isnan(a), np.isnan(b)):
            return f"NaN in other places of argument {i}", float("inf")
        away = np.where((a == b) | np.isnan(a), 0.0, np.abs(a - b))
        largest = max(largest, float(away.max()))
        if _judged(bounds) and np.any(away > (bounds.atol or 0) + (bounds.rtol or 0) * np.abs(b)):
            fault = fault or f"argument {i} is {float(away.max()):.3g} away from the definition"
    return fault, largest


def _judged(bounds: Bounds) -> bool:
    return bounds.rtol is not None or bounds.atol is not None
