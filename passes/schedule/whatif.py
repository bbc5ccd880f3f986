"""What more or less of a resource would give: each line is the problem with one limit moved, solved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import gcd

from tilec.passes.schedule.bounds import NEVER, lower_bound, recurrence_bound
from tilec.passes.schedule.goals import slower
from tilec.passes.schedule.heuristic import serial_length
from tilec.passes.schedule.model import Answer, Problem, Schedule
from tilec.passes.schedule.query import Query
from tilec.passes.schedule.search import RLIMIT, solve
from tilec.passes.schedule.smt import Session

KB, COLUMNS = 1024, 32
MOST_REGISTERS = 256  # per thread, the most that setmaxnreg gives (PTX ISA)

SLACK_RLIMIT = 5_000_000


@dataclass(frozen=True)
class WhatIf:
    """One limit moved to ``value``: what comes out, beside ``before`` (None: no plan).

    ``bound``: no plan has a smaller interval then; ``ii`` is None where there is no plan.
    """

    what: str
    value: int
    before: int | None
    ii: int | None
    bound: int
    status: str

    @property
    def text(self) -> str:
        """What it gives, in words."""
        if self.ii is None:
            return "no plan" if self.status == "infeasible" else "no plan found within the budget"
        if self.ii == self.before and self.status == "optimal":
            return f"{self.ii}, no change"
        open_ = "" if self.status == "optimal" else f" (not proven, no less than {self.bound})"
        return f"{self.ii}{open_}"


@dataclass(frozen=True)
class Threshold:
    """The least amount of a resource that keeps the interval, and the least that makes it smaller.

    ``now`` is what the problem has. ``more`` is None if no amount changes the interval;
    ``then`` is the interval that it gives. For a problem without a plan ``needs`` is None, and
    ``more`` the least that gives one. ``proven``: every question had an answer.
    """

    what: str
    unit: str
    now: int
    needs: int | None
    more: int | None
    then: int | None
    proven: bool

    @property
    def text(self) -> str:
        """As "needs 192 of 240 per thread, no amount gives fewer cycles"."""
        gives = "no amount gives " + ("a plan" if self.needs is None else "fewer cycles")
        if self.more is not None:
            gives = f"{self.more} ({self.more - self.now} more) would give {self.then}"
        has = "there are" if self.needs is None else f"needs {self.needs} of"
        return f"{has} {self.now} {self.unit}, {gives}{'' if self.proven else ' (not proven)'}"


def what_if(problem: Problem, answer: Answer, rlimit: int = RLIMIT) -> Iterator[WhatIf]:
    """A KB of shared memory, a group, a step of registers, 32 columns, free crossings: more, or one less."""
    if answer.status == "unknown":
        return
    plan = answer.schedule
    used = len(set(plan.groups.values())) if plan else 0
    for what, value, moved in _questions(problem, used):
        found = solve(moved, rlimit=rlimit, polish=False)
        ii = found.schedule.ii if found.schedule else None
        yield WhatIf(what, value, plan.ii if plan else None, ii, found.bound.value, found.status)


def _questions(problem: Problem, used: int) -> Iterator[tuple[str, int, Problem]]:
    """Which limit, its value, and the problem with it; ``used`` groups, 0 where there is no plan."""
    limits = problem.limits
    if any(b.mem == "smem" for b in problem.buffers):
        yield "one KB more shared memory", limits.smem + KB, with_smem(problem, limits.smem + KB)
    yield (
        "one more group allowed",
        problem.groups_max + 1,
        replace(problem, groups_max=problem.groups_max + 1),
    )
    if used > 1 + any(o.stream for o in problem.ops):
        yield "one group fewer than now", used - 1, replace(problem, groups_max=used - 1)
    more, less = limits.reg_limit + limits.reg_step, limits.reg_limit - limits.reg_step
    yield "one step more registers", more, with_registers(problem, more)
    if used and less >= 0:
        yield "one step fewer registers", less, with_registers(problem, less)
    if any(b.mem == "tmem" for b in problem.buffers):
        columns = limits.tmem + COLUMNS
        yield "32 columns more tensor memory", columns, with_tmem(problem, columns)
    free = replace(limits, hop=0, hop_per_reg=0, sync=0)
    yield "crossing groups for free", 0, replace(problem, limits=free)


def with_smem(problem: Problem, size: int) -> Problem:
    return replace(problem, limits=replace(problem.limits, smem=size))


def with_tmem(problem: Problem, columns: int) -> Problem:
    return replace(problem, limits=replace(problem.limits, tmem=columns))


def with_registers(problem: Problem, registers: int) -> Problem:
    return replace(problem, limits=replace(problem.limits, reg_limit=registers))


def thresholds(problem: Problem, answer: Answer, rlimit: int = RLIMIT) -> Iterator[Threshold]:
    """For each resource, how much of it this interval needs and how much more would lower it.

    Without a plan, how much more would give one.
    """
    if answer.status == "unknown" or answer.bound.value == NEVER:
        return
    ii = answer.schedule.ii if answer.schedule else None
    for r in _resources(problem):
        yield _Ask(problem, ii, rlimit, r).threshold()


@dataclass(frozen=True)
class _Resource:
    """Amounts that differ are multiples of ``step``; beyond ``most`` nothing is asked."""

    name: str
    unit: str
    now: int
    step: int
    most: int
    moved: Callable[[Problem, int], Problem]


def _resources(problem: Problem) -> Iterator[_Resource]:
    limits = problem.limits
    most = max(MOST_REGISTERS, limits.reg_limit)
    yield _Resource("registers", "per thread", limits.reg_limit, limits.reg_step, most, with_registers)
    for mem, name, unit, now, moved in (
        ("smem", "shared memory", "bytes", limits.smem, with_smem),
        ("tmem", "tensor memory", "columns", limits.tmem, with_tmem),
    ):
        mine = [b for b in problem.buffers if b.mem == mem]
        step = gcd(*(b.size for b in mine), *(b.align for b in mine if b.alloc))
        most = sum(b.size + b.align if b.alloc else b.size * b.max_depth for b in mine)
        if mine:
            yield _Resource(name, unit, now, step, max(most, now), moved)


@dataclass
class _Ask:
    """Questions about one resource; ``proven`` falls if one of them has no answer."""

    problem: Problem
    ii: int | None
    rlimit: int
    resource: _Resource
    proven: bool = True

    def threshold(self) -> Threshold:
        r = self.resource
        top, now = -(-r.most // r.step), r.now // r.step
        needs = None if self.ii is None else r.step * self._least(0, now, self.ii, self.ii)
        first, last = self._wanted()
        more = then = None
        if first <= last and self._exists(top, first, last):
            more = r.step * self._least(now + 1, top, first, last)
            found = solve(r.moved(self.problem, more), rlimit=self.rlimit, polish=False)
            then = found.schedule.ii if found.schedule else None
            self.proven = self.proven and found.status == "optimal"
        return Threshold(r.name, r.unit, r.now, needs, more, then, self.proven)

    def _wanted(self) -> tuple[int, int]:
        """The intervals that would be better; without a plan, one that has a plan if any has."""
        if self.ii is not None:
            return lower_bound(self.problem).value, self.ii - 1
        wished = [h.value for h in self.problem.hints if h.kind == "ii"]
        longest = serial_length(self.problem)
        return (lower_bound(self.problem).value, min(wished)) if wished else (longest, longest)

    def _least(self, low: int, high: int, first: int, last: int) -> int:
        """The least number of steps that allow an interval in [first, last], where ``high`` does."""
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self._exists(middle, first, last) else (middle + 1, high)
        return low

    def _exists(self, steps: int, first: int, last: int) -> bool:
        moved = self.resource.moved(self.problem, steps * self.resource.step)
        found = Query(moved, first, last, Session(self.rlimit)).ask()
        self.proven = self.proven and found != "unknown"
        return isinstance(found, Schedule)


def most_slack(problem: Problem, ii: int, rlimit: int = SLACK_RLIMIT) -> tuple[int, bool]:
    """The most cycles, up to ii, that all waits and crossings may take more in some plan of this interval.

    And whether that is proven: each question has the budget ``rlimit``.
    """
    low, high, proven = 0, _dependences_allow(problem, ii), True
    while low < high:
        middle = (low + high + 1) // 2
        found = Query(slower(problem, middle), ii, ii, Session(rlimit)).ask()
        proven = proven and found != "unknown"
        low, high = (middle, high) if isinstance(found, Schedule) else (low, middle - 1)
    return low, proven


def _dependences_allow(problem: Problem, ii: int) -> int:
    """Beyond this, up to ii, the dependences alone need a larger interval."""
    low, high = 0, ii
    while low < high:
        middle = (low + high + 1) // 2
        fits = recurrence_bound(slower(problem, middle)).value <= ii
        low, high = (middle, high) if fits else (low, middle - 1)
    return low
