"""Baselines: their figures, that they are legal plans of the loop, and that they are what they claim."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tilec.ir.errors import InternalError
from tilec.passes.schedule import baselines as module
from tilec.passes.schedule.baselines import Baseline, baselines, in_order, sentence
from tilec.passes.schedule.checker import violations
from tilec.passes.schedule.loops import fa3_forward, fa4_forward, gallery, gemm
from tilec.passes.schedule.model import Answer, Bound, Problem, Schedule
from tilec.passes.schedule.search import solve

FIGURES = {
    "fa3": {
        "FA3": 2048,
        "FA3 (one group hoists)": 2048,
        "ping-pong only": 2128,
        "no overlap": 2440,
        "one sub-tile": 2 * 1276,
        "plain pipeline": 3520,
    },
    "fa4-alias": {"FA4": 2666, "no overlap": 3638},
    "fa4-free": {"FA4": 2064},
    "fa4-knobs": {"FA4": 2158},
    "gemm": {"plain pipeline": 1024, "list scheduler": 1024},
}


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, Baseline]]:
    return {name: {b.name: b for b in baselines(gallery[name]())} for name in FIGURES}


@pytest.mark.parametrize("loop", FIGURES)
def test_figures(found: dict[str, dict[str, Baseline]], loop: str) -> None:
    intervals = {name: found[loop][name].interval for name in FIGURES[loop]}
    assert intervals == FIGURES[loop]
    solved = [found[loop][name].answer.status for name in FIGURES[loop] if name != "list scheduler"]
    assert set(solved) == {"optimal"}


@pytest.mark.parametrize("loop", FIGURES)
def test_a_baseline_is_a_legal_plan_of_the_loop_and_never_better(
    found: dict[str, dict[str, Baseline]], loop: str
) -> None:
    problem = replace(gallery[loop](), groups_max=6)
    best = solve(problem, polish=False)
    for b in found[loop].values():
        plan = b.answer.schedule
        assert plan is not None and b.interval is not None
        assert list(violations(problem if b.copies == 1 else b.problem, plan)) == []
        assert b.interval >= best.bound.value


def tensor_cores(problem: Problem, plan: Schedule) -> list[str]:
    """The ops of the tensor cores as one interval runs them, from the first in the problem on."""
    mine = [o.id for o in problem.ops if any(s.unit == "TC" for s in o.reserve)]
    line = sorted(mine, key=lambda v: plan.times[v] % plan.ii)
    at = line.index(mine[0])
    return line[at:] + line[:at]


def test_the_published_plan_of_flash_attention_3(found: dict[str, dict[str, Baseline]]) -> None:
    """Each group's turn is QK of the next iteration and PV of this one; softmax follows its own turn."""
    plan = found["fa3"]["FA3"].answer.schedule
    assert plan is not None
    assert tensor_cores(fa3_forward(), plan) == ["QKa", "PVa", "QKb", "PVb"]
    for x in "ab":
        qk, pv, mx = (plan.times[v + x] for v in ("QK", "PV", "MAX"))
        assert qk + plan.ii < pv < mx + plan.ii


def test_one_group_hoists(found: dict[str, dict[str, Baseline]]) -> None:
    plan = found["fa3"]["FA3 (one group hoists)"].answer.schedule
    assert plan is not None
    assert tensor_cores(fa3_forward(), plan) == ["QKa", "PVb", "QKb", "PVa"]


def test_without_overlap_no_sub_tile_starts_before_the_last_is_done(
    found: dict[str, dict[str, Baseline]],
) -> None:
    plan = found["fa3"]["no overlap"].answer.schedule
    assert plan is not None
    first = min(plan.times[v] for v in ("QKa", "QKb")) + plan.ii
    assert first >= max(plan.times[v] for v in ("PVa", "PVb")) + 552


def test_the_five_groups_of_flash_attention_4(found: dict[str, dict[str, Baseline]]) -> None:
    plan = found["fa4-knobs"]["FA4"].answer.schedule
    assert plan is not None
    teams = {frozenset(plan.order(g)) for g in set(plan.groups.values())}
    assert len(teams) == 5
    assert {frozenset(("QKa", "QKb", "PVa", "PVb")), frozenset(("LK", "LV"))} < teams
    assert frozenset(v + x for v in ("LDO", "MUL", "STO") for x in "ab") in teams


@pytest.mark.parametrize("name", ["fa3-1tile", "fa3-backward", "fa4-1tile"])
def test_the_plain_pipeline_issues_in_order(name: str) -> None:
    problem = gallery[name]()
    [plain] = [b for b in baselines(problem) if b.name == "plain pipeline"]
    plan = plain.answer.schedule
    assert plan is not None
    line = [plan.times[v] for v in in_order(problem)]
    assert line == sorted(line)
    assert line[-1] < line[0] + plan.ii


@pytest.mark.parametrize("problem", [fa3_forward(1), fa3_forward(1, d=64), gemm()], ids=lambda p: p.name)
def test_the_plain_pipeline_is_what_in_order_issue_gives(problem: Problem) -> None:
    """Execute 40 iterations, each op as early as its inputs, its units and the ops before it allow.

    Loads are always there: these loops' rings are deep enough. One that waits for a product
    comes after all code before it.
    """
    [plain] = [b for b in baselines(problem) if b.name == "plain pipeline"]
    waiting = {e.dst for e in problem.edges if e.blocking}
    ends: list[int] = []
    times: list[dict[str, int]] = []
    free: dict[str, int] = {}
    last = code = 0
    for i in range(40):
        times.append({})
        for v in in_order(problem):
            at = max(last + 1, code if v in waiting else 0)
            for e in problem.edges:
                if e.dst == v and e.delta <= i and e.src in times[i - e.delta]:
                    at = max(at, times[i - e.delta][e.src] + e.d)
            at = max([at, *(free.get(s.unit, 0) for s in problem.op[v].reserve)])
            free.update({s.unit: at + s.length for s in problem.op[v].reserve})
            times[i][v] = last = at
            code = max(code, at + problem.op[v].cyc)
        ends.append(last)
    assert plain.interval == ends[-1] - ends[-2] == ends[-2] - ends[-3]


def test_a_rule_that_does_not_fit_is_told() -> None:
    found = {b.name: b for b in baselines(gallery["fa3-backward-96"]())}
    assert found["plain pipeline"].interval is None
    assert found["plain pipeline"].text == "plain pipeline does not fit"


def test_an_illegal_baseline_is_an_internal_error(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = gemm()
    plan = solve(problem).schedule
    assert plan is not None
    wrong = replace(plan, ii=plan.ii - 1)
    monkeypatch.setattr(module, "solve", lambda *_, **__: Answer("optimal", wrong, Bound(1023, "none")))
    with pytest.raises(InternalError, match="X301"):
        baselines(problem)


def test_the_sentence(found: dict[str, dict[str, Baseline]]) -> None:
    problem = fa4_forward()
    answer = solve(problem, polish=False)
    three = tuple(found["fa4-alias"][n] for n in ("FA4", "no overlap"))
    assert sentence(problem, answer, three) == (
        "FA4 forward 2x128x128x128 alias: optimal II 2606, FA4 2666, no overlap 3638"
    )
    open_ = Answer("feasible", replace(answer.schedule, ii=2700), Bound(2600, "range"))  # type: ignore[type-var]
    assert "II 2700, not proven (no less than 2600)" in sentence(problem, open_, ())
