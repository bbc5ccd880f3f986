"""Timing two functions in turns, so that what disturbs the machine disturbs both."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

Run = Callable[[], object]
Clock = Callable[[], float]
# Seconds: threads of OpenBLAS spin for 2**28 cycles (0.1 s) before they sleep, those of OpenMP less.
SETTLE = 0.2


def timed(run: Run, calls: int, clock: Clock = time.perf_counter) -> float:
    """Seconds of one call, as the mean of some."""
    start = clock()
    for _ in range(calls):
        run()
    return (clock() - start) / calls


def calls_for(run: Run, least: float = 20e-3) -> int:
    """How many calls last so long that the clock and a wake-up do not matter."""
    return max(1, min(1000, int(least / max(timed(run, 1), 1e-9))))


def in_turns(
    runs: list[Run], samples: int, clock: Clock = time.perf_counter, settle: float = SETTLE
) -> list[float]:
    """The median seconds of a call of each, measured alternately after a warm-up.

    Before each sample nothing runs for ``settle`` seconds, and as many calls as it has are not timed:
    idle threads of the other side look for work on our cores for a while, and those of this side sleep.
    """
    calls = []
    for run in runs:
        timed(run, 2)
        calls.append(calls_for(run))
    times: list[list[float]] = [[] for _ in runs]
    for i in range(samples):
        order = list(range(len(runs)))
        for r in order if i % 2 == 0 else order[::-1]:
            time.sleep(settle)
            timed(runs[r], calls[r])
            times[r].append(timed(runs[r], calls[r], clock))
    return [median(t) for t in times]
