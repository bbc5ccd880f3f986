"""A scheduled loop, executed cycle by cycle: does it work, and how long does an iteration take?

Two modes. *timed*: each op issues in its scheduled cycle and every broken rule is a fault, by
counting, with nothing taken from the solver or the checker. *free*: the groups run on their
own, in order, as fast as values, slots and units allow. A valid schedule has no faults and
never runs slower than its interval; the free run shows whether it is really needed.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

from tilec.passes.schedule.model import Problem, Schedule
from tilec.passes.schedule.simulate_free import Arbiter, Free
from tilec.passes.schedule.simulate_plan import Plan
from tilec.passes.schedule.simulate_run import Event, Fault, Run, Stall
from tilec.passes.schedule.simulate_shape import misfits, statics
from tilec.passes.schedule.simulate_timed import faults, settled

__all__ = ["Event", "Fault", "Run", "Stall", "execute", "simulate"]

Mode = Literal["free", "timed"]
LONGEST_PERIOD = 12


def simulate(
    problem: Problem,
    schedule: Schedule,
    iterations: int,
    *,
    mode: Mode = "free",
    arbiter: Arbiter = "schedule",
    jitter: int = 0,
    seed: int = 0,
) -> Run:
    """Run ``iterations`` iterations; streams arrive up to ``jitter`` cycles late, drawn from ``seed``.

    ``arbiter``: in a free run the units serve in the schedule's order (as with barriers between
    the groups), or who comes first. Ops of opposite predicates: the dearer arm runs.
    """
    wrong = tuple(misfits(problem, schedule))
    if wrong:
        return Run(None, 0, wrong)
    plan = Plan(problem, schedule, iterations, jitter, seed)
    return _timed(plan) if mode == "timed" else _free(plan, arbiter)


def execute(problem: Problem, schedule: Schedule) -> Run:
    """Both modes with as many iterations as show everything: timed faults, free deadlock and interval."""
    wrong = tuple(misfits(problem, schedule))
    if wrong:
        return Run(None, 0, wrong)
    enough = settled(Plan(problem, schedule, 1))
    timed = simulate(problem, schedule, enough, mode="timed")
    free = simulate(problem, schedule, max(enough, 4 * LONGEST_PERIOD))
    return Run(free.ii, free.cycles, timed.faults, free.deadlock, free.busy, free.stalls, free.trace)


def _timed(plan: Plan) -> Run:
    problem = plan.problem
    trace = [
        Event(lane, o.id, i, plan.at(o.id, i) + start, plan.at(o.id, i) + end)
        for i in range(plan.iterations)
        for o in problem.ops
        for lane, start, end in [
            (f"group {plan.schedule.groups[o.id]}", 0, o.cyc),
            *((s.unit, s.offset, s.offset + s.length) for s in o.reserve),
        ]
    ]
    ii, found = Fraction(plan.schedule.ii), (*statics(plan), *faults(plan))
    return Run(ii, _span(trace), found, (), _busy(plan, trace), (), tuple(sorted(trace, key=_by_start)))


def _free(plan: Plan, arbiter: Arbiter) -> Run:
    free = Free(plan, arbiter)
    deadlock = free.run()
    trace = tuple(sorted(free.trace, key=_by_start))
    ii = None if deadlock else _interval(plan, free)
    return Run(ii, _span(free.trace), (), deadlock, _busy(plan, free.trace), free.stalls(), trace)


def _by_start(e: Event) -> tuple[int, str, int]:
    return (e.start, e.lane, e.iteration)


def _span(trace: list[Event]) -> int:
    return max((e.end for e in trace), default=0) - min((e.start for e in trace), default=0)


def _interval(plan: Plan, free: Free) -> Fraction | None:
    """Cycles per iteration once issues repeat: the least period after which all ops moved on alike.

    The last quarter is left out: there the loop runs dry. Where nothing repeats: the slowest op.
    """
    ops = [o.id for o in plan.problem.ops if o.id not in plan.skipped]
    last = plan.iterations * 3 // 4
    if not ops or last < 2:
        return None
    for period in range(1, min(LONGEST_PERIOD, last // 2) + 1):
        ends = range(max(period, last // 2), last)
        steps = {free.issued[v, i] - free.issued[v, i - period] for v in ops for i in ends}
        if len(steps) == 1:
            return Fraction(steps.pop(), period)
    first = last // 2
    return max(Fraction(free.issued[v, last] - free.issued[v, first], last - first) for v in ops)


def _busy(plan: Plan, trace: list[Event]) -> tuple[tuple[str, float], ...]:
    """Share of each unit's instances that is held between the first issues of iterations n/2 and n - 1."""
    starts = [
        min((e.start for e in trace if e.iteration == i), default=0)
        for i in (plan.iterations // 2, plan.iterations - 1)
    ]
    first, last = starts
    amounts = {(o.id, s.unit): s.amount for o in plan.problem.ops for s in o.reserve}
    shares = []
    for unit, count in plan.problem.limits.units:
        held = sum(
            max(0, min(e.end, last) - max(e.start, first)) * amounts[e.op, unit]
            for e in trace
            if e.lane == unit
        )
        shares.append((unit, held / (count * (last - first)) if last > first else 0.0))
    return tuple(shares)
