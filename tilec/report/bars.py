"""A plan as bars and rings: the geometry that the page, the SVG file and the Perfetto trace share.

All cycles count from the start of the interval in which the first op of an iteration issues.
Iteration i is the same picture, i intervals later.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tilec.passes.schedule.model import Buffer, Problem, Schedule


class Bar(NamedTuple):
    """``lane`` ("g1": a group, else a unit) is busy with ``op`` from ``start`` for ``length`` cycles.

    kind "code": the group's own cycles. "flight": an asynchronous op from its issue until its
    result is there. "unit": a reservation.
    """

    lane: str
    op: str
    start: int
    length: int
    kind: str


class Life(NamedTuple):
    """A slot of a buffer: filled from ``fill`` on, there at ``there``, read from ``read`` to ``end``."""

    fill: int
    there: int
    read: int
    end: int


def origin(plan: Schedule) -> int:
    """The cycle that all pictures count from."""
    return plan.ii * min((plan.stage(v) for v in plan.times), default=0)


def bars(problem: Problem, plan: Schedule) -> Iterator[Bar]:
    """The bars of one iteration, op by op."""
    zero = origin(plan)
    for o in problem.ops:
        start, lane = plan.times[o.id] - zero, f"g{plan.groups[o.id]}"
        flight = _flight(problem, o.id)
        if flight > o.cyc:
            yield Bar(lane, o.id, start, flight, "flight")
        yield Bar(lane, o.id, start, max(o.cyc, 1), "code")
        for s in o.reserve:
            yield Bar(s.unit, o.id, start + s.offset, s.length, "unit")


def _flight(problem: Problem, op: str) -> int:
    """Cycles until the result of an asynchronous op is there; 0 for other ops."""
    return max((e.d for e in problem.edges if e.src == op and e.blocking), default=0)


def life(problem: Problem, plan: Schedule, buffer: Buffer) -> Life:
    """When a slot is filled and read by one iteration."""
    zero = origin(plan)
    fill = plan.times[buffer.writer] - zero
    readers = {r.op: plan.times[r.op] - zero for r in buffer.readers}
    waits = [
        e.d for e in problem.edges if e.src == buffer.writer and e.dst in readers and e.mem == buffer.mem
    ]
    first = min(readers.values(), default=fill)
    end = max((readers[r.op] + r.rd for r in buffer.readers), default=fill + 1)
    return Life(fill, min(fill + max(waits, default=0), first), first, max(end, fill + 1))


def length(problem: Problem, plan: Schedule) -> int:
    """Cycles from the start of an iteration until its last op has ended."""
    return max((b.start + b.length for b in bars(problem, plan)), default=0)


def lanes(problem: Problem, plan: Schedule, names: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """(id, label) of each group that runs ops and of each unit that is used."""
    groups = sorted(set(plan.groups.values()))
    units = [u for u, _ in problem.limits.units if problem.load[u]]
    return [(f"g{g}", group_name(i, g, names)) for i, g in enumerate(groups)] + [(u, u) for u in units]


def group_name(index: int, group: int, names: tuple[str, ...]) -> str:
    """The name that the compiled kernel gives a group, else its number."""
    if index < len(names):
        return names[index]
    return "loads" if group == 0 else f"group {group}"
