"""The least interval of a system of difference constraints: a maximum cycle ratio, no solver.

A system is a list of arcs, times[dst] + delta * ii - times[src] >= d. The intervals at which
it has a solution have no gaps, so the least one is found from below: each cycle that an
interval violates says by how much it must grow.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from tilec.passes.schedule.structure import Arc


class Least(NamedTuple):
    """The least interval, issue times for it, and the cycle that forbids less (empty for 1)."""

    ii: int
    times: dict[str, int]
    cycle: tuple[Arc, ...]


def least_interval(ops: Iterable[str], arcs: Iterable[Arc]) -> Least | None:
    """The least interval >= 1 of a system, None if it has none."""
    names, tightest = list(ops), _tightest(arcs)
    ii = 1
    critical: tuple[Arc, ...] = ()
    while True:
        times, cycle = longest_paths(names, tightest, ii)
        if not cycle:
            return Least(ii, times, critical)
        cycles, distance = sum(a.d for a in cycle), sum(a.delta for a in cycle)
        if distance <= 0:
            return None
        ii, critical = -(-cycles // distance), cycle


def _tightest(arcs: Iterable[Arc]) -> list[Arc]:
    """Of parallel arcs of one distance the longest."""
    best: dict[tuple[str, str, int], int] = {}
    for a in arcs:
        key = (a.src, a.dst, a.delta)
        best[key] = max(best.get(key, a.d), a.d)
    return [Arc(src, dst, d, delta) for (src, dst, delta), d in best.items()]


def longest_paths(names: list[str], arcs: list[Arc], ii: int) -> tuple[dict[str, int], tuple[Arc, ...]]:
    """The least times >= 0, or a cycle that has none."""
    times = dict.fromkeys(names, 0)
    last: dict[str, Arc] = {}
    moved = ""
    for _ in range(len(names) + 1):
        moved = ""
        for a in arcs:
            at = times[a.src] + a.d - a.delta * ii
            if at > times[a.dst]:
                times[a.dst], last[a.dst], moved = at, a, a.dst
        if not moved:
            return times, ()
    return {}, _cycle(last, moved, len(names))


def _cycle(last: dict[str, Arc], v: str, count: int) -> tuple[Arc, ...]:
    """The cycle that the arcs into each op lead back to."""
    for _ in range(count):
        v = last[v].src
    cycle = [last[v]]
    while cycle[-1].src != v:
        cycle.append(last[cycle[-1].src])
    return tuple(reversed(cycle))
