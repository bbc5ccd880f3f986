"""Explanations: each statement is computed, and true."""

from __future__ import annotations

import json
from dataclasses import replace
from math import ceil

import pytest

from tilec.passes.schedule.baselines import baselines
from tilec.passes.schedule.explain import Explanation, explain
from tilec.passes.schedule.loops import fa3_forward, gallery
from tilec.passes.schedule.model import Bound, Edge, Hint, Limits, Op, Problem, Schedule, Segment
from tilec.passes.schedule.query import Query
from tilec.passes.schedule.reasons import of_bound, of_core
from tilec.passes.schedule.registers import pressures
from tilec.passes.schedule.search import solve
from tilec.passes.schedule.smt import Session


def explained(problem: Problem) -> Explanation:
    return explain(problem, solve(problem, polish=False))


def exists(problem: Problem, low: int, high: int, *dropped: str) -> bool:
    """Whether a plan in a range of intervals exists without some classes of constraints."""
    query = Query(problem, low, high, Session(100_000_000), dropped=frozenset(dropped))
    return isinstance(query.ask(), Schedule)


def recurrence(d: int = 50) -> Problem:
    """A carried value that takes longer than any unit is held."""
    ops = (
        Op("A", (Segment("X", 0, 5),), 5, loc="k.py:3"),
        Op("B", (Segment("X", 0, 5),), 5, loc="k.py:4"),
    )
    edges = (Edge("A", "B", d), Edge("B", "A", 7, delta=2))
    return Problem("loop", ops, edges, (), Limits((("X", 1),)))


def test_a_saturated_unit_is_named_with_its_ops_and_their_sum() -> None:
    x = explained(fa3_forward())
    [reason] = x.reasons
    assert (reason.kind, reason.cycles, x.ii) == ("unit", 2048, 2048)
    assert reason.text.endswith("QKa 512 + PVa 512 + QKb 512 + PVb 512 = 2048 cycles")
    assert "no plan has fewer" in x.to_text()


def test_opposite_predicates_count_once_in_the_sum() -> None:
    ops = tuple(Op(v, (Segment("X", 0, 4),), predicate=p) for v, p in (("A", "p"), ("B", "!p"), ("C", None)))
    problem = Problem("branches", ops, (), (), Limits((("X", 1),)))
    [reason] = explained(problem).reasons
    assert reason.cycles == 8
    assert "(opposite predicates count once) = 8 cycles" in reason.text


def test_a_critical_recurrence_is_told_op_by_op_with_its_lines() -> None:
    [reason] = explained(recurrence()).reasons
    assert reason.text == (
        "the recurrence A -50-> B -7, 2 iterations later-> A takes 57 cycles in 2 iterations"
    )
    assert (reason.cycles, reason.locs) == (ceil(57 / 2), ("k.py:3", "k.py:4"))
    assert reason.to_text().endswith("(k.py:3, k.py:4)")


@pytest.mark.parametrize(
    ("loop", "classes"),
    [
        ("fa3-1tile", {"dependence", "together", "registers"}),
        ("fa4-alias", {"dependence", "unit", "ring", "capacity"}),
    ],
)
def test_a_minimal_core_is_told_by_class_and_each_class_is_needed(loop: str, classes: set[str]) -> None:
    problem = gallery[loop]()
    x = explained(problem)
    assert {r.kind for r in x.reasons} == classes
    assert x.ii is not None and not exists(problem, x.bound.low, x.ii - 1)
    for kind in classes:
        assert exists(problem, x.bound.low, x.ii - 1, kind), kind


def test_dependences_are_joined_to_chains() -> None:
    x = explained(gallery["fa3-1tile"]())
    chain = "QKa -552-> MAXa -104-> FMAa -16-> EXPa -532-> CVTa -72-> PVa"
    assert x.reasons[0].text == f"{chain}: 1276 cycles"
    assert x.reasons[0].cycles == 552 + 104 + 16 + 532 + 72


def test_every_label_of_a_core_is_in_the_words() -> None:
    problem = gallery["fa4-free"]()
    labels = [
        "unit TC",
        "wait PVa",
        "ring K",
        "life Sa",
        "capacity smem",
        "columns tmem",
        "registers",
        "file",
    ]
    text = " | ".join(r.text for r in of_core(problem, [*labels, "dependence LK>QKa", "together QKa>PVa"]))
    for word in ("TC runs one", "waits of PVa", "K, a ring", "shared memory has", "Sa, Pa, Sb, Pb", "240"):
        assert word in text
    crossing = of_core(problem, ["dependence STPa>PVa", "crossing STPa>PVa"])
    assert [r.text for r in crossing] == [
        "STPa -169 + 30-> PVa: 169 cycles, and what follows a + where the group changes"
    ]


def test_an_infeasible_loop_is_explained_by_what_is_too_small() -> None:
    x = explained(gallery["fa4-separate"]())
    assert (x.ii, x.status) == (None, "infeasible")
    assert [r.text for r in x.reasons] == ["tensor memory has 256 columns for Sa, Pa, Sb, Pb"]
    rows = explained(gallery["fa3-backward-96"]())
    assert {r.kind for r in rows.reasons} == {"dependence", "together", "registers"}
    assert "there is no plan" in rows.to_text()


def test_too_few_groups_are_a_reason() -> None:
    problem = replace(recurrence(), groups_max=1)
    assert [r.text for r in explained(problem).reasons] == ["at most 1 group, that of the loads counted"]


def test_hints_that_cannot_be_met_are_named_with_what_stands_against_them() -> None:
    hints = (
        Hint("a", "stages", 2, loc="k.py:7"),
        Hint("b", "registers", 160, loc="k.py:8"),
        Hint("c", "groups", 3),
    )
    x = explained(replace(fa3_forward(), hints=hints))
    assert [r.text for r in x.reasons if r.kind == "hint"] == ["b: registers 160"]
    assert "together" in {r.kind for r in x.reasons}
    assert "b: registers 160 (k.py:8)" in x.to_text()


def test_a_loop_that_no_interval_suits() -> None:
    problem = recurrence()
    problem = replace(problem, edges=(*problem.edges, Edge("B", "A", 1)))
    [reason] = explained(problem).reasons
    assert reason.text == "A -> B wait for each other in one iteration"
    big = Problem("big", (Op("A", (Segment("X", 0, 1, 3),)),), (), (), Limits((("X", 2),)))
    assert explained(big).reasons[0].text == "A takes more of X than there is"


def test_what_is_not_proven_is_not_claimed() -> None:
    problem = fa3_forward()
    answer = solve(problem)
    assert answer.schedule is not None
    slow = replace(answer, status="feasible", schedule=replace(answer.schedule, ii=2100))
    text = explain(problem, slow).to_text()
    assert "every 2100 cycles; proven is that no plan has fewer than 2048" in text
    assert "why not fewer than 2048:" in text
    none = explain(problem, replace(answer, status="unknown", schedule=None)).to_text()
    assert "no plan was found within the budget" in none


@pytest.mark.parametrize("loop", ["fa3", "fa4-free", "fa3-backward", "gemm"])
def test_the_tables_are_those_of_the_plan(loop: str) -> None:
    problem = gallery[loop]()
    answer = solve(problem, polish=False)
    plan, x = answer.schedule, explain(problem, answer)
    assert plan is not None
    for u in x.units:
        held = sum(s.length * s.amount for o in problem.ops for s in o.reserve if s.unit == u.unit)
        assert (u.cycles, u.share) == (held, held / (u.count * plan.ii))
    for g in x.groups:
        names = [step.partition("@")[0] for step in g.order]
        assert names == plan.order(g.number)
        assert g.busy == sum(problem.op[v].cyc for v in names)
        peaks = {p.op.id: p.total for p in pressures(problem, plan) if p.group == g.number}
        assert g.registers == max(peaks.values(), default=0) <= g.budget
        assert not g.peak or peaks[g.peak] == g.registers
    for r in x.rings:
        [buffer] = [b for b in problem.buffers if b.id == r.id]
        ends = [plan.times[reader.op] + reader.rd for reader in buffer.readers]
        assert r.life == max(ends) - plan.times[buffer.writer] <= r.depth * plan.ii
    for mem, used, size in x.memory:
        rings = sum(r.size * r.depth for r in x.rings if r.mem == mem and r.offset is None)
        placed = max((r.offset + r.size for r in x.rings if r.mem == mem and r.offset is not None), default=0)
        assert used == rings + placed <= size


def test_a_person_can_read_it_at_a_glance_and_a_machine_all_of_it() -> None:
    problem = fa3_forward()
    x = explain(problem, solve(problem), baselines(problem))
    lines = x.to_text().splitlines()
    assert len(lines) <= 16
    assert "compared: optimal II 2048, FA3 2048" in lines[-1]
    data = json.loads(json.dumps(x.to_json()))
    assert data["ii"] == 2048 and data["reasons"][0]["kind"] == "unit"


def test_many_ops_are_summed_up() -> None:
    ops = tuple(Op(f"v{i}", (Segment("X", 0, 2),)) for i in range(20))
    problem = Problem("long", ops, (), (), Limits((("X", 1),)))
    [reason] = of_bound(problem, Bound(40, "unit", ("X", *(o.id for o in ops))))
    assert reason.text.endswith("v11 2 + 16 by 8 more = 40 cycles")


def test_without_a_core_the_solver_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = gallery["fa3-1tile"]()
    answer = solve(problem)
    monkeypatch.setattr("tilec.passes.schedule.explain.small_core", None)
    x = explain(problem, answer, core=False)
    assert x.reasons == ()
    assert "z3 refuted 1024 to 1275 cycles" in x.to_text()


def test_a_budget_that_ends_is_told() -> None:
    """With little the core is found, but not made minimal; with less it is not found."""
    problem = gallery["fa4-alias"]()
    answer = solve(problem, polish=False)
    some = explain(problem, answer, rlimit=2_000_000)
    assert some.reasons[-1].text == "not proven is that each of these is needed"
    assert "these rule out 2064 to 2605 cycles:" in some.to_text()
    none = explain(problem, answer, rlimit=10_000)
    assert [r.kind for r in none.reasons] == ["open"]
    assert "budget ended" in none.to_text()
