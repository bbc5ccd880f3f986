"""The answer to a Problem, and bounds that need no search. Frozen data."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from math import ceil
from typing import Literal

from tilec.passes.schedule.problem import Buffer, Problem

Status = Literal["optimal", "feasible", "heuristic"]


@dataclass(frozen=True)
class Schedule:
    """Iteration i issues node v in cycle ``starts[v] + i * ii``.

    ``bound`` is a proven lower bound of ii and ``reason`` what it comes from: a
    unit, "recurrence", or "search". "optimal" says ii == bound. ``depths`` and
    ``in_flight`` map the loop's rings to slots and to products that run at once.
    ``sustained`` is the interval that these slots allow: more than ii where memory
    did not give a ring all the slots that it would like (0: not chosen yet).

    ``ii`` and ``sustained`` are what the loop admits. The compute group runs its ops
    in program order, so where products do not overlap by themselves an iteration of
    the emitted code takes up to ``in_order`` cycles: every op after the one before.
    """

    loop: int
    ii: int
    starts: tuple[int, ...]
    status: Status
    bound: int
    reason: str
    depths: tuple[tuple[str, int], ...] = ()
    in_flight: tuple[tuple[str, int], ...] = ()
    sustained: int = 0
    in_order: int = 0

    def to_json(self) -> str:
        """The schedule as canonical JSON."""
        return json.dumps(asdict(self), sort_keys=True)


def resource_bound(problem: Problem) -> tuple[int, str]:
    """The most loaded unit's cycles per iteration, and the unit."""
    load = dict.fromkeys(problem.units, 0)
    for node in problem.nodes:
        for unit, cycles in node.reserve:
            load[unit] += cycles
    unit = max(load, key=lambda u: load[u])
    return load[unit], unit


def recurrence_bound(problem: Problem) -> int:
    """The least II that no dependence cycle forbids: ceil(latency / distance) of the worst one."""
    low, high = 1, max(1, sum(e.latency for e in problem.edges))
    while low < high:
        middle = (low + high) // 2
        if earliest(problem, middle) is None:
            low = middle + 1
        else:
            high = middle
    return low


def earliest(problem: Problem, ii: int) -> list[int] | None:
    """The earliest start of each node by dependences alone; None if they contradict each other."""
    starts = [0] * len(problem.nodes)
    for _ in range(len(starts) + 1):
        changed = False
        for e in problem.edges:
            least = starts[e.src] + e.latency - e.distance * ii
            if starts[e.dst] < least:
                starts[e.dst], changed = least, True
        if not changed:
            return starts
    return None


def minimum_ii(problem: Problem) -> tuple[int, str]:
    """A lower bound of II in closed form, and its reason."""
    by_unit, unit = resource_bound(problem)
    by_cycle = recurrence_bound(problem)
    return (by_unit, unit) if by_unit >= by_cycle else (by_cycle, "recurrence")


def lifetime(problem: Problem, starts: tuple[int, ...], buffer: Buffer) -> int:
    """Cycles from the first write of a slot until its last reader is done."""
    first = min((starts[w] for w in buffer.writers), default=0)
    last = max((starts[r] + hold for r, hold in buffer.readers), default=first)
    return last - first


def least_depth(life: int, ii: int, in_flight: int) -> int:
    """Slots that do not slow the loop down. With P products in flight a slot is
    known to be read P - 1 iterations later."""
    return max(in_flight, ceil(life / ii) + in_flight - 1)


def least_interval(life: int, depth: int, in_flight: int) -> int:
    """The interval that a depth allows: `least_depth` the other way round."""
    return ceil(life / (depth - in_flight + 1))


def serial_length(problem: Problem) -> int:
    """Cycles of an iteration in which every op of the compute group waits for the one before."""
    filling = {w for buffer in problem.buffers for w in buffer.writers}
    return sum(node.latency for node in problem.nodes if node.id not in filling)


def overlap(a: int, length_a: int, b: int, length_b: int, ii: int) -> bool:
    """Whether two spans that repeat every ``ii`` cycles ever meet."""
    return (b - a) % ii < length_a or (a - b) % ii < length_b
