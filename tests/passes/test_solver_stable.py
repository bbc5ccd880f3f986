"""The answer depends on the problem alone: not on seeds, processes or the order of assertions."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest
from schedule_kit import small_problem

from tilec.passes.schedule.checker import violations
from tilec.passes.schedule.encode import Encoding
from tilec.passes.schedule.heuristic import list_schedule
from tilec.passes.schedule.loops import fa4_forward, gallery
from tilec.passes.schedule.model import Answer, Buffer, Edge, Limits, Op, Problem, Segment
from tilec.passes.schedule.query import smt2
from tilec.passes.schedule.search import solve
from tilec.passes.schedule.smt import Session


def outcome(answer: Answer) -> str:
    """All but the work that it took."""
    assert all(proven for _, _, proven in answer.goals)
    return repr((answer.status, answer.schedule, answer.bound.value, answer.goals))


def shuffle(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Another seed of z3, and assertions in another order."""
    take, dice = Encoding.take, random.Random(seed)

    def shuffled(self: Encoding) -> str:
        lines = take(self).splitlines(keepends=True)
        declared = [x for x in lines if x.startswith("(declare")]
        asserted = [x for x in lines if not x.startswith("(declare")]
        dice.shuffle(asserted)
        return "".join(declared + asserted)

    monkeypatch.setattr(Encoding, "take", shuffled)
    monkeypatch.setattr(Session, "seed", seed)


def check_stable(problem: Problem, objective: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = outcome(solve(problem, objective))
    for seed in (3, 11):
        with monkeypatch.context() as patch:
            shuffle(patch, seed)
            assert outcome(solve(problem, objective)) == first


@pytest.mark.parametrize("objective", ["fewest", "balanced"])
@pytest.mark.parametrize("name", ["gemm", "dual-gemm", "fa3", "fa3-1tile", "fa4-knobs"])
def test_seeds_and_order_of_assertions(name: str, objective: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_stable(gallery[name](), objective, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["fewest", "balanced"])
@pytest.mark.parametrize("name", ["fa4-alias", "fa4-free", "fa3-backward", "fa3-backward-80", "graph-22"])
def test_seeds_and_order_of_larger_loops(name: str, objective: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_stable(gallery[name](), objective, monkeypatch)


@pytest.mark.parametrize("seed", range(40))
def test_random_loops(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = small_problem(seed, 7)
    answer = solve(problem)
    if answer.schedule is not None:
        assert list(violations(problem, answer.schedule)) == []
        assert answer.status == "optimal" and answer.schedule.ii == answer.bound.value
    shuffle(monkeypatch, seed)
    assert outcome(solve(problem)) == outcome(answer)


def test_the_text_alone_refutes() -> None:
    """What a certificate carries: the register clauses that were needed are part of it."""
    problem, verdicts = gallery["fa3-1tile"](), []
    for high in (1275, 1276):
        text = smt2(problem, 1024, high)
        assert text == smt2(problem, 1024, high)
        session = Session(10**8)
        session.read(text)
        verdicts.append(session.check())
    assert verdicts == ["unsat", "sat"]
    assert "op 2: 'QKa'" in smt2(problem, 1024, 1275)


def test_two_processes_with_different_hashes() -> None:
    code = (
        "from tilec.passes.schedule.search import solve\n"
        "from tilec.passes.schedule.loops import gallery\n"
        "print([solve(gallery[n]()) for n in ('fa3', 'fa4-knobs', 'gemm')])"
    )
    call = [sys.executable, "-c", code]
    runs = {
        subprocess.run(call, env={"PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1


def test_without_budget_nothing_is_called_optimal() -> None:
    """The list scheduler's plan and the closed-form bound are what is left."""
    problem = fa4_forward()
    answer = solve(problem, rlimit=1000)
    assert answer.status == "feasible" and answer.schedule is not None
    assert (answer.bound.value, answer.bound.kind) == (2064, "unit")
    assert answer.schedule.ii > 2606 and list(violations(problem, answer.schedule)) == []
    assert answer.goals[0][0] == "groups" and not answer.goals[0][2]


def test_without_budget_or_plan_nothing_is_known() -> None:
    answer = solve(gallery["fa3-backward-96"](), rlimit=1000)
    assert (answer.status, answer.schedule, answer.conflicts) == ("unknown", None, ())


@pytest.mark.parametrize("name", [n for n in gallery if not n.startswith("graph-") and n != "fa4-separate"])
def test_the_list_scheduler_is_legal(name: str) -> None:
    problem = gallery[name]()
    plan = list_schedule(problem)
    if plan is None:
        assert name.startswith("fa3-backward-") or name == "fa4-backward"
    else:
        assert list(violations(problem, plan)) == []


LIMITS = Limits((("U", 1),), smem=4, tmem=32)
UNIT = (Segment("U", 0, 3),)
BUFFERS = (Buffer("ring", "smem", 4, "a", ()), Buffer("place", "tmem", 4, "a", (), alloc=True))


@pytest.mark.parametrize(
    ("problem", "ii"),
    [
        (Problem("nothing", (), (), (), LIMITS), 1),
        (Problem("no unit", (Op("a"),), (), (), LIMITS), 1),
        (Problem("stream alone", (Op("a", UNIT, stream=True),), (), (), LIMITS, groups_max=1), 3),
        (Problem("no group", (Op("a", UNIT),), (), (), LIMITS, groups_max=1), None),
        (Problem("nobody reads", (Op("a", UNIT),), (), BUFFERS, LIMITS), 3),
        (Problem("circle", (Op("a"), Op("b")), (Edge("a", "b", 0), Edge("b", "a", 0)), (), LIMITS), None),
        (
            Problem("late circle", (Op("a"), Op("b")), (Edge("a", "b", 1), Edge("b", "a", 0)), (), LIMITS),
            None,
        ),
        (Problem("too wide", (Op("a", (Segment("U", 0, 3, 2),)),), (), (), LIMITS), None),
    ],
)
def test_small_and_odd_loops(problem: Problem, ii: int | None) -> None:
    answer = solve(problem)
    assert (answer.status, answer.schedule and answer.schedule.ii) == (
        ("infeasible", None) if ii is None else ("optimal", ii)
    )
    assert answer.schedule is None or list(violations(problem, answer.schedule)) == []
