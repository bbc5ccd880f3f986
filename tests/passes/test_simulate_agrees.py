"""The checker refuses a schedule exactly if its simulation breaks, and for the same reasons."""

from __future__ import annotations

from functools import cache

import pytest
from schedule_kit import mutants, small_problem

from tilec.passes.schedule import checker
from tilec.passes.schedule.model import Edge, Limits, Op, Problem, Schedule
from tilec.passes.schedule.search import solve
from tilec.passes.schedule.simulate import Run, execute

COMMON = {
    "dependence": ("dependence", "crossing"),
    "group": ("group", "groups", "same", "together", "stream"),
    "registers": ("registers", "budget"),
    "room": ("ring", "depth", "alloc", "place", "capacity", "memory", "names", "form", "shape"),
}
CLASSES = {name: common for common, names in COMMON.items() for name in names}


@cache
def schedules(first: int, last: int, most: int) -> list[tuple[Problem, Schedule, Run]]:
    """Answers of random problems, their mutants, and how they run."""
    found = []
    for seed in range(first, last):
        problem = small_problem(seed, most)
        plan = solve(problem, "fewest", polish=False).schedule
        if plan is not None:
            found += [(problem, s, execute(problem, s)) for s in (plan, *mutants(seed, problem, plan, 12))]
    return found


def judged(problem: Problem, schedule: Schedule) -> set[str]:
    found = {v[1 : v.index("]")] for v in checker.violations(problem, schedule)}
    return {CLASSES.get(name, name) for name in found}


def simulated(run: Run) -> set[str]:
    return {CLASSES.get(f.kind, f.kind) for f in run.faults} | ({"deadlock"} if run.deadlock else set())


def test_refused_if_and_only_if_broken() -> None:
    cases = schedules(0, 60, 6)
    verdicts = [(bool(judged(p, s)), run.broken) for p, s, run in cases]
    assert set(verdicts) == {(True, True), (False, False)}
    assert min(verdicts.count((True, True)), verdicts.count((False, False))) > 60


def test_for_the_same_reasons() -> None:
    """Apart from deadlocks, and from what else the checker says of a schedule that is wrong in itself."""
    for problem, schedule, run in schedules(0, 60, 6):
        refused, broken = judged(problem, schedule), simulated(run)
        if refused == {"room"}:  # a malformed schedule is judged no further
            continue
        assert broken - refused <= {"deadlock"}, (problem.name, schedule)
        if len(broken) == 1:
            assert refused - broken <= {"deadlock", "registers", "room"}, (problem.name, schedule)


@pytest.mark.parametrize("name", [*COMMON, "unit", "wait"])
def test_each_class_of_faults_is_needed(name: str) -> None:
    """Some schedules break for one reason only: a checker without that rule would let them pass."""
    assert any(run.broken and judged(p, s) == {name} for p, s, run in schedules(0, 60, 6))


@pytest.mark.parametrize("first", ["A", "B"])
def test_of_two_ops_at_one_cycle_the_writer_must_come_first(first: str) -> None:
    ops = (Op(first, (), 0), Op("B" if first == "A" else "A", (), 0))
    problem = Problem("tie", ops, (Edge("A", "B", 0, mem="smem"),), (), Limits(()), groups_max=2)
    schedule = Schedule(4, {"A": 0, "B": 0}, {"A": 1, "B": 1}, {}, {}, {1: 24})
    run, wrong = execute(problem, schedule), {"deadlock"} if first == "B" else set()
    assert not run.faults and simulated(run) == judged(problem, schedule) == wrong


@pytest.mark.slow
def test_refused_if_and_only_if_broken_on_many() -> None:
    """What docs/machine-model.md says: more than 1600 schedules."""
    cases = schedules(1000, 1300, 8)
    assert len(cases) > 1600
    for problem, schedule, run in cases:
        assert bool(judged(problem, schedule)) == run.broken, (problem.name, schedule)
