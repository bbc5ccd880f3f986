"""Running the works, and their results as rows of a table."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from math import prod
from typing import Any

import numpy as np

from tilec.bench import kernels
from tilec.bench.measure import SETTLE, Clock, in_turns, timed
from tilec.bench.peers import keep_memory
from tilec.bench.works import Work, works


@dataclass(frozen=True)
class Row:
    """``ours`` and ``theirs`` in ``unit``; ``ratio`` is ours over theirs (speed), None without the peer.

    ``error`` and ``peer_error``: the largest error against float64 over the largest value.
    """

    work: str
    peer: str
    ours: float
    theirs: float | None
    unit: str
    ratio: float | None
    target: float | None
    error: float | None = None
    peer_error: float | None = None

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None where there is nothing to compare."""
        return None if self.ratio is None or self.target is None else self.ratio >= self.target


def run_all(
    only: str = "", samples: int = 9, quick: bool = False, told: Callable[[Row], None] = lambda row: None,
    clock: Clock = time.perf_counter, settle: float = SETTLE,
) -> dict[str, Any]:  # fmt: skip
    """Time every work whose name contains ``only``; gives what the JSON form has."""
    keep_memory()
    rows: list[Row] = []
    for row in _rows([w for w in works(quick) if only in w.name], samples, clock, settle):
        rows.append(row)
        told(row)
    return {"host": host(), "launch_us": launch_microseconds(), "rows": [asdict(r) for r in rows]}


def _rows(chosen: Sequence[Work], samples: int, clock: Clock, settle: float) -> Iterator[Row]:
    grouped: dict[str, list[float]] = {}
    for work in chosen:
        row = measure(work, samples, clock, settle)
        yield row
        if work.group and row.ratio is not None:
            grouped.setdefault(work.group, []).append(row.ratio)
    for group, ratios in grouped.items():
        mean = prod(ratios) ** (1 / len(ratios))
        yield Row(f"{group}, geometric mean", "numpy", mean, 1.0, "x", mean, 1.0)


def measure(work: Work, samples: int, clock: Clock = time.perf_counter, settle: float = SETTLE) -> Row:
    """One work, in turns with its peer."""
    found = work.prepare()
    runs = [r for r in (found.ours, found.theirs) if r is not None]
    seconds = in_turns(runs, samples, clock, settle)
    apart = None if found.apart is None else found.apart()
    speeds = [work.amount / s / 1e9 for s in (*seconds, *(() if apart is None else (apart,)))]
    theirs = speeds[1] if len(speeds) > 1 else None
    ratio = None if theirs is None else speeds[0] / theirs
    errors = [None if e is None else e() for e in (found.error, found.peer_error)]
    return Row(work.name, work.peer, speeds[0], theirs, work.unit, ratio, work.target, *errors)


def launch_microseconds() -> float:
    """The time of a launch of one small program, after the first."""
    a = np.zeros(1024)
    b, c = a.copy(), a.copy()
    launch = kernels.stream[(1,)]
    run = lambda: launch(a, b, c, kind="copy", N=1024)  # noqa: E731
    timed(run, 10)
    return min(timed(run, 200) for _ in range(5)) * 1e6


def host() -> dict[str, Any]:
    """What the figures depend on."""
    from tilec.backends.cpu import host as target
    from tilec.runtime.cpu import default_threads

    versions = {n: _version(n) for n in ("numpy", "torch", "numba", "triton")}
    return {
        "cpu": asdict(target()), "threads": default_threads(), "machine": platform.machine(),
        "python": platform.python_version(), "libraries": versions, "time": int(time.time()),
    }  # fmt: skip


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def table(rows: Iterable[Row]) -> Iterator[str]:
    """The rows as lines of text."""
    for r in rows:
        theirs = "not installed" if r.theirs is None else f"{r.theirs:9.2f} {r.unit:<8}"
        ratio = "" if r.ratio is None else f"{r.ratio:6.2f}x"
        wanted = "" if r.target is None else f"  at least {r.target:.2f}x"
        verdict = {True: "  yes", False: "  NO", None: ""}[r.reached]
        yield f"{r.work:<34} {r.ours:9.2f} {r.unit:<8} {r.peer:<12} {theirs:<18} {ratio:>8}{wanted}{verdict}"
