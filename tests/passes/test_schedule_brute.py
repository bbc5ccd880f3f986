"""The solver's least interval is that of exhaustive search, on random small loops."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from schedule_brute import a_plan
from schedule_kit import small_problem

from tilec.passes.schedule.checker import violations
from tilec.passes.schedule.encode import Encoding
from tilec.passes.schedule.model import Answer, Edge, Limits, Op, Problem, Segment
from tilec.passes.schedule.search import solve
from tilec.passes.schedule.smt import Clause, Sum

FAR = 6  # an infeasible problem is searched up to this interval


def least(problem: Problem, answer: Answer) -> int | None:
    """The least interval that exhaustive search finds, not above the answer's."""
    most = answer.schedule.ii if answer.schedule else FAR
    return next((ii for ii in range(1, most + 1) if a_plan(problem, ii)), None)


def differences(seeds: range, most: int) -> Iterator[str]:
    """Where an answer is not what exhaustive search says. Stages up to its span do for these loops."""
    for seed in seeds:
        problem = small_problem(seed, most)
        answer = solve(problem, polish=False)
        ii = answer.schedule.ii if answer.schedule else None
        if answer.status != ("infeasible" if ii is None else "optimal"):
            yield f"{seed}: {answer.status}"
        if answer.schedule and any(violations(problem, answer.schedule)):
            yield f"{seed}: refused"
        if (found := least(problem, answer)) != ii:
            yield f"{seed}: {ii}, but exhaustive search says {found}"


def test_a_hundred_loops_of_up_to_seven_ops() -> None:
    assert list(differences(range(100), 7)) == []


@pytest.mark.slow
def test_six_hundred_loops_of_up_to_eight_ops() -> None:
    """More than three hundred of them have a plan."""
    assert list(differences(range(1000, 1600), 8)) == []


def test_the_loops_are_worth_it() -> None:
    """Many have a plan, of an interval that no closed form gives; all classes of ops and buffers occur."""
    problems = [small_problem(seed, 6) for seed in range(60)]
    answers = [solve(p, polish=False) for p in problems]
    optimal = [a for a in answers if a.status == "optimal"]
    assert len(optimal) > 30 and sum(a.bound.kind == "range" for a in optimal) > 15
    assert {a.status for a in answers} == {"optimal", "infeasible"}
    assert any(o.stream for p in problems for o in p.ops) and any(
        o.predicate for p in problems for o in p.ops
    )
    assert {b.alloc for p in problems for b in p.buffers} == {True, False}


def test_too_strict_an_encoding_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """One cycle more than needed: every plan is right, the claim that none is shorter is not."""
    exact = Encoding.at_least

    def strict(self: Encoding, k: Sum, rho: Sum, d: int) -> Iterator[Clause]:
        return exact(self, k, rho, d + 1)

    monkeypatch.setattr(Encoding, "at_least", strict)
    assert any("exhaustive" in x and "refused" not in x for x in differences(range(20), 6))


def test_a_longer_interval_may_be_infeasible() -> None:
    """A unit that one op holds in its cycles 0 and 3: 2 is possible, 3 is not, 4 is."""
    op = Op("a", (Segment("U", 0, 1), Segment("U", 3, 1)))
    problem = Problem("gap", (op,), (), (), Limits((("U", 1),)), groups_max=2)
    assert [ii for ii in range(1, 6) if a_plan(problem, ii)] == [2, 4, 5]
    assert solve(problem).bound.value == 2


def test_stages_are_not_bounded() -> None:
    """An op that waits for nineteen intervals is found by both."""
    ops = (Op("a", (Segment("U", 0, 1),)), Op("b", (Segment("U", 0, 1),)))
    problem = Problem("far", ops, (Edge("a", "b", 38, mem="ord"),), (), Limits((("U", 1),)), groups_max=2)
    plan = a_plan(problem, 2)
    assert plan and plan.stage("b") >= 19 and solve(problem).bound.value == 2
