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
from tilec.passes.schedule.wheel import Held, held, units_suffice


class Arc(NamedTuple):
    """times[dst] + delta * ii - times[src] >= d."""

    src: str
    dst: str
    d: int
    delta: int


def compact(problem: Problem, plan: Schedule, low: int) -> Schedule:
    """The plan with its interval as small as its structure allows, but not below ``low``."""
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
    """The least times >= 0 that satisfy the arcs, None if a cycle, a fixed time or a unit forbids them."""
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
            return times if units_suffice(problem, times, ii) else None
    return None


def decided(problem: Problem, plan: Schedule) -> Iterator[Arc]:
    """All that must stay true for the plan's groups, orders, depths and live values to stay legal."""
    for e in problem.edges:
        far = plan.groups[e.src] != plan.groups[e.dst]
        d = e.d + (problem.crossing(e) if far else 0)
        yield Arc(e.src, e.dst, after(problem, e.src, e.dst, d), e.delta)
    for unit, _ in problem.limits.units:
        for one, other in combinations(held(problem, plan.times, unit), 2):
            yield from _reserved(plan, one, other)
    for v in problem.ops:
        if does_wait(problem, plan.groups, v):
            for o in problem.ops:
                if o.id != v.id and o.cyc and plan.groups[o.id] == plan.groups[v.id]:
                    yield from _in_order(plan, o.id, v.id, o.cyc, 1)
    for b in problem.buffers:
        depth = plan.depths.get(b.id, 1)
        yield from (Arc(r.op, b.writer, after(problem, r.op, b.writer, r.rd), depth) for r in b.readers)
    for a, b in combinations([b for b in problem.buffers if b.alloc], 2):
        if a.mem == b.mem and _overlap(plan, a, b):
            yield from _one_after_other(plan, a, b)
    yield from _live(problem, plan)


def after(problem: Problem, src: str, dst: str, d: int) -> int:
    """At least d, and at least 1 against the order of ops: then no ring of waits closes within a cycle."""
    ids = list(problem.op)
    return max(d, int(ids.index(src) >= ids.index(dst)))


def _reserved(plan: Schedule, one: Held, other: Held) -> Iterator[Arc]:
    """Reservations that do not meet keep their order; those that do are checked afterwards."""
    (start, a, x), (then, b, y) = one, other
    gap = (then - start) % plan.ii
    if a is not b and gap >= x.length and plan.ii - gap >= y.length and not exclusive(a, b):
        windows = (then - start) // plan.ii
        yield Arc(a.id, b.id, x.length + x.offset - y.offset, -windows)
        yield Arc(b.id, a.id, y.length + y.offset - x.offset, windows + 1)


def does_wait(problem: Problem, groups: dict[str, int], v: Op) -> bool:
    """Whether an op waits in these groups: see `model.waits`, and the writers of rings."""
    group = groups[v.id]
    if any(e.blocking or groups[e.src] != group for e in waits(problem, v.id)):
        return True
    rings = [b for b in problem.buffers if b.writer == v.id and not b.alloc]
    return not v.stream and any(groups[r.op] != group for b in rings for r in b.readers)


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
