"""What a plan has decided, as difference constraints; the least interval that allows it.

Once it is fixed which op comes first on each unit, on each side of a wait and of a register's
last read, only t_dst + delta * II - t_src >= d remain, and the least II is the largest ratio
of a cycle's d to its delta. No solver is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import NamedTuple

from tilec.passes.schedule.model import Buffer, Op, Problem, Schedule, exclusive, waits
from tilec.passes.schedule.registers import budgets


class Arc(NamedTuple):
    """times[dst] + delta * ii - times[src] >= d."""

    src: str
    dst: str
    d: int
    delta: int


def compact(problem: Problem, plan: Schedule, low: int) -> Schedule:
    """The plan with its interval as small as its structure allows, but not below ``low``.

    Plans with a unit of several instances, or of several reservations an op, stay as they are.
    """
    if not all(_simple(problem, unit) for unit, _ in problem.limits.units):
        return plan
    arcs = list(decided(problem, plan))
    best = plan
    while low < best.ii:
        middle = (low + best.ii - 1) // 2
        times = least_times(problem, arcs, middle)
        if times is None:
            low = middle + 1
        else:
            best = replace(plan, ii=middle, times=times)
    return replace(best, registers=budgets(problem, best))


def least_times(
    problem: Problem, arcs: list[Arc], ii: int, fixed: dict[str, int] | None = None
) -> dict[str, int] | None:
    """The least issue times >= 0 that satisfy the arcs, None if a cycle or a fixed time forbids them."""
    fixed = fixed or {}
    times = {o.id: fixed.get(o.id, 0) for o in problem.ops}
    lengths = [(a.src, a.dst, a.d - a.delta * ii) for a in arcs]
    for _ in range(len(times) + 1):
        moved = False
        for src, dst, length in lengths:
            if times[src] + length > times[dst]:
                if dst in fixed:
                    return None
                times[dst], moved = times[src] + length, True
        if not moved:
            return times
    return None


def decided(problem: Problem, plan: Schedule) -> Iterator[Arc]:
    """All that must stay true for the plan's groups, orders, depths and live values to stay legal."""
    for e in problem.edges:
        far = plan.groups[e.src] != plan.groups[e.dst]
        yield Arc(e.src, e.dst, e.d + (problem.crossing(e) if far else 0), e.delta)
    for unit, _ in problem.limits.units:
        users = [o for o in problem.ops if any(s.unit == unit and s.length for s in o.reserve)]
        for a, b in combinations(users, 2):
            if not exclusive(a, b):
                yield from _in_order(plan, a.id, b.id, _held(a, unit), _held(b, unit))
    for v in problem.ops:
        if does_wait(problem, plan.groups, v):
            for o in problem.ops:
                if o.id != v.id and o.cyc and plan.groups[o.id] == plan.groups[v.id]:
                    yield from _in_order(plan, o.id, v.id, o.cyc, 1)
    for b in problem.buffers:
        yield from (Arc(r.op, b.writer, r.rd, plan.depths.get(b.id, 1)) for r in b.readers)
    for one, other in combinations([b for b in problem.buffers if b.alloc], 2):
        if one.mem == other.mem and _overlap(plan, one, other):
            yield from _one_after_other(plan, one, other)
    yield from _live(problem, plan)


def does_wait(problem: Problem, groups: dict[str, int], v: Op) -> bool:
    """Whether an op waits in these groups: see `model.waits`, and the writers of rings."""
    group = groups[v.id]
    if any(e.blocking or groups[e.src] != group for e in waits(problem, v.id)):
        return True
    rings = [b for b in problem.buffers if b.writer == v.id and not b.alloc]
    return not v.stream and any(groups[r.op] != group for b in rings for r in b.readers)


def _simple(problem: Problem, unit: str) -> bool:
    held = [s for o in problem.ops for s in o.reserve if s.unit == unit and s.length]
    users = [o for o in problem.ops if any(s.unit == unit and s.length for s in o.reserve)]
    one = dict(problem.limits.units)[unit] == 1 and len(held) == len(users)
    return one and len({s.offset for s in held}) <= 1


def _held(o: Op, unit: str) -> int:
    return sum(s.length for s in o.reserve if s.unit == unit)


def _in_order(plan: Schedule, a: str, b: str, la: int, lb: int) -> Iterator[Arc]:
    """b comes la after a, and lb before the a that follows it."""
    windows = (plan.times[b] - plan.times[a]) // plan.ii
    yield Arc(a, b, la, -windows)
    yield Arc(b, a, lb, windows + 1)


def _overlap(plan: Schedule, a: Buffer, b: Buffer) -> bool:
    first, second = plan.offsets[a.id], plan.offsets[b.id]
    return first < second + b.size and second < first + a.size


def _one_after_other(plan: Schedule, a: Buffer, b: Buffer) -> Iterator[Arc]:
    """Each is written when the other's readers have read."""
    windows = (plan.times[b.writer] - plan.times[a.writer]) // plan.ii
    yield Arc(a.writer, b.writer, 1, -windows)
    yield Arc(b.writer, a.writer, 1, windows + 1)
    yield from (Arc(r.op, b.writer, r.rd, -windows) for r in a.readers)
    yield from (Arc(r.op, a.writer, r.rd, windows + 1) for r in b.readers)


def _live(problem: Problem, plan: Schedule) -> Iterator[Arc]:
    """No op sees more copies of a value of its group than in the plan."""
    for u in (o for o in problem.ops if o.regs):
        readers = [(e.dst, e.delta, max(1, e.rd)) for e in problem.edges if e.src == u.id and e.mem == "reg"]
        readers = readers or [(u.id, 0, 1)]
        end = max(plan.times[v] + delta * plan.ii + rd for v, delta, rd in readers)
        for e in problem.ops:
            if plan.groups[e.id] != plan.groups[u.id] or e.stream:
                continue
            started = (plan.times[e.id] - plan.times[u.id]) // plan.ii
            yield Arc(e.id, u.id, 1, started + 1)
            free = (plan.times[e.id] - end) // plan.ii
            yield from (Arc(v, e.id, rd, -free - delta) for v, delta, rd in readers)
