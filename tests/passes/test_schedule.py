"""The solver against exhaustive search, and the checker against wrong schedules."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import product

import pytest
from pass_kernels import attention, gemm

from tilec.ir.errors import InternalError
from tilec.passes import lower
from tilec.passes.schedule.check import check, check_memory, violations
from tilec.passes.schedule.problem import Edge, Node, Problem
from tilec.passes.schedule.schedule import Schedule
from tilec.passes.schedule.solve import query, solve

UNITS = ("A", "B")


def random_problem(seed: int) -> Problem:
    """Up to four nodes on two units, with forward edges and a carried one."""
    rng = random.Random(seed)
    count = rng.randint(2, 4)
    nodes = tuple(
        Node(i, "op", i, ((rng.choice(UNITS), rng.randint(1, 3)),), rng.randint(1, 4)) for i in range(count)
    )
    pairs = [(a, b) for a in range(count) for b in range(a + 1, count) if rng.random() < 0.6]
    edges = [Edge(a, b, nodes[a].latency, 0) for a, b in pairs]
    a, b = sorted(rng.sample(range(count), 2))
    edges.append(Edge(b, a, nodes[b].latency, rng.randint(1, 2)))
    return Problem("k", 0, 1, UNITS, nodes, tuple(edges), ())


def feasible(problem: Problem, ii: int) -> bool:
    """Try every residue of every node; stages then follow from the dependences."""
    return any(_fits(problem, ii, residues) for residues in product(range(ii), repeat=len(problem.nodes)))


def _fits(problem: Problem, ii: int, residues: tuple[int, ...]) -> bool:
    for unit in problem.units:
        held: list[int] = []
        for node in problem.nodes:
            for name, cycles in node.reserve:
                held += [(residues[node.id] + c) % ii for c in range(cycles) if name == unit]
        if len(set(held)) != len(held):
            return False
    stage = [0] * len(residues)
    for _ in range(len(stage) + 1):
        before = list(stage)
        for e in problem.edges:
            missing = e.latency + residues[e.src] - residues[e.dst] - ii * e.distance
            while ii * (stage[e.dst] - stage[e.src]) < missing:
                stage[e.dst] += 1
        if stage == before:
            return True
    return False


@pytest.mark.parametrize("seed", range(60))
def test_least_interval_is_that_of_exhaustive_search(seed: int) -> None:
    problem = random_problem(seed)
    schedule = solve(problem)
    check(problem, schedule)
    assert schedule.status == "optimal"
    least = next(ii for ii in range(1, 50) if feasible(problem, ii))
    assert schedule.ii == least


def test_some_of_them_need_a_search() -> None:
    reasons = {solve(random_problem(seed)).reason for seed in range(60)}
    assert {"recurrence", "search"} <= reasons and reasons & set(UNITS)


def test_the_solver_without_budget_does_not_claim_optimality() -> None:
    (problem,) = lower(attention()).problems
    assert query(problem, 1_000_000, rlimit=1) == "unknown"
    schedule = solve(problem, rlimit=1)
    check(problem, schedule)
    assert schedule.status == "heuristic" and schedule.bound < schedule.ii


@pytest.mark.parametrize("kernel", [gemm(128, 256, 64), attention(True, 2)], ids=["gemm", "attention"])
def test_schedules_are_deterministic_and_json(kernel: object) -> None:
    first, second = lower(kernel), lower(kernel)  # type: ignore[arg-type]
    assert [s.to_json() for s in first.schedules] == [s.to_json() for s in second.schedules]
    assert [p.to_json() for p in first.problems] == [p.to_json() for p in second.problems]


def good() -> tuple[Problem, Schedule]:
    stages = lower(attention(False, 1, 128, 64))
    return stages.problems[0], stages.schedules[0]


def shifted(schedule: Schedule, node: int, by: int) -> Schedule:
    starts = list(schedule.starts)
    starts[node] += by
    return replace(schedule, starts=tuple(starts))


def test_checker_accepts_the_solution() -> None:
    assert list(violations(*good())) == []


def test_checker_refuses_a_consumer_that_comes_too_early() -> None:
    problem, schedule = good()
    tight = [
        e for e in problem.edges
        if schedule.starts[e.dst] + e.distance * schedule.ii - schedule.starts[e.src] == e.latency
    ]  # fmt: skip
    for e in tight:
        assert any("issues" in v for v in violations(problem, shifted(schedule, e.dst, -1)))
    assert tight


def test_checker_refuses_a_shared_unit() -> None:
    problem, schedule = good()
    users = [n.id for n in problem.nodes if any(u == "TC" for u, _ in n.reserve)]
    moved = shifted(schedule, users[0], schedule.starts[users[1]] - schedule.starts[users[0]])
    assert any("hold TC at once" in v for v in violations(problem, moved))


@pytest.mark.parametrize(
    "change",
    [
        {"ii": 1},
        {"starts": ()},
        {"bound": 1 << 20},
        {"bound": 1},
        {"depths": (("k", 0), ("v", 1))},
        {"in_flight": (("k", 9), ("v", 1))},
        {"in_flight": (("k", 2), ("v", 1))},
        {"sustained": 1},
        {"reason": "XU"},
        {"depths": (("k", 2), ("w", 2))},
    ],
    ids=str,
)  # fmt: skip
def test_checker_refuses(change: dict[str, object]) -> None:
    problem, schedule = good()
    with pytest.raises(InternalError, match="X301"):
        check(problem, replace(schedule, **change))  # type: ignore[arg-type]


def test_checker_refuses_too_much_memory() -> None:
    check_memory([(100, 3)], 300)
    with pytest.raises(InternalError, match="X302"):
        check_memory([(100, 3), (1, 1)], 300)


def test_a_false_recurrence_is_refused() -> None:
    problem = replace(random_problem(0), edges=(Edge(0, 1, 4, 0), Edge(1, 0, 3, 1)))
    schedule = solve(problem)
    check(problem, schedule)
    assert (schedule.ii, schedule.reason) == (7, "recurrence")
    with pytest.raises(InternalError, match="no dependence cycle"):
        check(replace(problem, edges=problem.edges[:1]), schedule)
