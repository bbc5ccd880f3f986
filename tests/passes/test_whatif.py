"""What-if, thresholds, slack, sensitivity: against solving from scratch, brute force and the checker."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache

import pytest
import schedule_kit

from tilec.passes.schedule.checker import violations
from tilec.passes.schedule.goals import slower
from tilec.passes.schedule.loops import fa3_forward, gallery
from tilec.passes.schedule.maps import Cell, Map, exp2_and_split, tile_rows
from tilec.passes.schedule.model import Answer, Bound, Hint, Problem, Schedule
from tilec.passes.schedule.ratio import least_interval, longest_paths
from tilec.passes.schedule.search import solve
from tilec.passes.schedule.sensitivity import (
    FACTORS,
    Moved,
    costs,
    fixed_structure,
    latencies,
    scale,
    sensitivity,
    slower_unit,
)
from tilec.passes.schedule.structure import Arc
from tilec.passes.schedule.study import study
from tilec.passes.schedule.whatif import (
    Threshold,
    WhatIf,
    most_slack,
    thresholds,
    what_if,
    with_registers,
    with_smem,
    with_tmem,
)

MOVED = {"registers": with_registers, "shared memory": with_smem, "tensor memory": with_tmem}


def interval(problem: Problem) -> int | None:
    """The least interval, from scratch."""
    answer = solve(problem, polish=False)
    assert answer.status in ("optimal", "infeasible")
    return answer.schedule.ii if answer.schedule else None


@cache
def solved(loop: str) -> tuple[Problem, Answer]:
    problem = gallery[loop]()
    return problem, solve(problem)


def asked(loop: str, what: str) -> WhatIf:
    return next(w for w in what_if(*solved(loop)) if w.what == what)


@cache
def needs(loop: str) -> dict[str, Threshold]:
    return {t.what: t for t in thresholds(*solved(loop))}


@pytest.mark.parametrize(
    ("loop", "what", "ii"),
    [
        ("fa3", "one group fewer than now", None),
        ("fa4-free", "one group fewer than now", 3152),
        ("fa4-knobs", "one group fewer than now", 2129),
        ("fa3", "one step more registers", 2048),
        ("fa3", "crossing groups for free", 2048),
    ],
)
def test_what_if_figures(loop: str, what: str, ii: int | None) -> None:
    assert asked(loop, what).ii == ii


def test_what_if_is_told_in_words() -> None:
    assert asked("fa3", "one group fewer than now").text == "no plan"
    assert asked("fa3", "one KB more shared memory").text == "2048, no change"
    assert WhatIf("x", 1, 2048, 2000, 1990, "feasible").text == "2000 (not proven, no less than 1990)"
    assert WhatIf("x", 1, 2048, None, 1990, "unknown").text == "no plan found within the budget"


@pytest.mark.parametrize("loop", ["fa3", "fa3-1tile", "fa4-alias", "gemm"])
def test_a_threshold_is_where_the_answer_changes(loop: str) -> None:
    """One step less than what the interval needs is too little; one less than what gives fewer gives none."""
    problem, answer = solved(loop)
    assert answer.schedule is not None
    ii = answer.schedule.ii
    for t in needs(loop).values():
        assert t.proven
        moved, step = MOVED[t.what], 8 if t.what == "registers" else 1
        assert interval(moved(problem, t.needs)) == ii
        if t.needs:
            less = interval(moved(problem, t.needs - step))
            assert less is None or less > ii
        if t.more is not None:
            assert interval(moved(problem, t.more)) == t.then
            assert t.then is not None and t.then < ii
            assert interval(moved(problem, t.more - step)) == ii


def test_threshold_figures() -> None:
    assert needs("fa3")["registers"].needs == 192
    assert needs("fa3-backward")["registers"].needs == 216
    alias = needs("fa4-alias")["tensor memory"]
    assert (alias.needs, alias.more, alias.then) == (256, 384, 2546)
    assert alias.text == "needs 256 of 256 columns, 384 (128 more) would give 2546"
    assert needs("fa3")["shared memory"].text.endswith("no amount gives fewer cycles")


@pytest.mark.parametrize(("loop", "slack"), [("fa3", 772), ("fa4-free", 161), ("fa4-knobs", 0)])
def test_most_slack(loop: str, slack: int) -> None:
    problem, answer = solved(loop)
    assert answer.schedule is not None
    ii = answer.schedule.ii
    assert most_slack(problem, ii) == (slack, True)
    wish = (Hint("ii", "ii", ii),)
    assert interval(replace(slower(problem, slack), hints=wish)) is not None
    assert interval(replace(slower(problem, slack + 1), hints=wish)) is None


def arcs_of(dice: random.Random, names: list[str]) -> list[Arc]:
    count = dice.randint(2, 9)
    ends = [(dice.choice(names), dice.choice(names)) for _ in range(count)]
    return [Arc(a, b, dice.randint(-3, 9), dice.choice((-1, 0, 0, 1, 1, 2))) for a, b in ends]


@pytest.mark.parametrize("seed", range(200))
def test_the_least_interval_is_that_of_brute_force(seed: int) -> None:
    dice = random.Random(seed)
    names = list("abcd")
    arcs = arcs_of(dice, names)
    feasible = [ii for ii in range(1, 60) if not longest_paths(names, arcs, ii)[1]]
    least = least_interval(names, arcs)
    assert (least.ii if least else None) == (feasible[0] if feasible else None)
    if least:
        assert all(least.times[a.dst] + a.delta * least.ii - least.times[a.src] >= a.d for a in arcs)
        assert all(a.dst == b.src for a, b in zip(least.cycle, least.cycle[1:], strict=False))
        cycles, distance = sum(a.d for a in least.cycle), sum(a.delta for a in least.cycle)
        assert least.ii == 1 or -(-cycles // distance) == least.ii


def test_longest_paths_are_the_least_times() -> None:
    arcs = [Arc("a", "b", 3, 0), Arc("b", "c", 2, 0), Arc("a", "c", 7, 1)]
    assert longest_paths(list("abc"), arcs, 10) == ({"a": 0, "b": 3, "c": 5}, ())
    assert longest_paths(list("abc"), arcs, 1)[0]["c"] == 6


@pytest.mark.parametrize("loop", ["fa3", "fa3-1tile", "fa4-alias", "fa4-free", "fa3-backward", "gemm"])
def test_a_structure_under_its_own_costs_gives_the_plan_interval(loop: str) -> None:
    problem, answer = solved(loop)
    plan = answer.schedule
    assert plan is not None
    kept = fixed_structure(problem, plan, problem)
    assert kept is not None and kept.ii == plan.ii


@pytest.mark.parametrize("loop", ["fa3", "fa4-alias", "fa3-backward"])
def test_a_kept_structure_is_legal_and_not_better_than_solving_again(loop: str) -> None:
    problem, answer = solved(loop)
    plan = answer.schedule
    assert plan is not None
    for cost in list(costs(problem))[:4]:
        for factor in FACTORS:
            moved = cost.scaled(factor)
            kept = fixed_structure(problem, plan, moved)
            assert kept is not None
            assert list(violations(moved, kept)) == []
            assert (kept.groups, kept.depths) == (plan.groups, plan.depths)
            best = interval(moved)
            assert best is not None and best <= kept.ii


@pytest.mark.parametrize("start", range(0, 120, 30))
def test_kept_structures_of_random_loops(start: int) -> None:
    """With several instances, segments, predicates, places: never illegal, never better than the best."""
    kept = 0
    for seed in range(start, start + 30):
        problem = schedule_kit.small_problem(seed)
        plan = solve(problem, polish=False).schedule
        if plan is None:
            continue
        same = fixed_structure(problem, plan, problem)
        assert same is not None and same.ii == plan.ii
        for cost in costs(problem):
            moved = cost.scaled(2.0)
            found = fixed_structure(problem, plan, moved)
            if found is not None:
                kept += 1
                assert list(violations(moved, found)) == []
                assert solve(moved, polish=False).bound.value <= found.ii
    assert kept > 30


def test_only_the_tensor_cores_move_the_interval_of_flash_attention_3() -> None:
    problem = fa3_forward()
    found = list(sensitivity(problem, solve(problem)))
    assert {(m.cost, m.factor): m.solved for m in found if m.solved != 2048} == {
        ("TC", 0.8): 1640,
        ("TC", 1.2): 2456,
    }
    assert [(m.cost, m.factor) for m in found if not m.stays] == [("TC", 0.8)]
    assert all(m.proven for m in found)


def test_without_solving_again_nothing_is_claimed() -> None:
    problem = fa3_forward()
    answer = solve(problem)
    assert all(m.solved is None and not m.stays for m in sensitivity(problem, answer, resolve=False))
    assert list(sensitivity(problem, Answer("unknown", None, Bound(1, "none")))) == []
    assert not Moved("x", 1.2, None, 5, True).stays


def test_a_unit_moves_what_contains_it() -> None:
    moved = slower_unit(fa3_forward(), "TC", 1.2)
    edges = {(e.src, e.dst): e for e in moved.edges}
    assert moved.op["QKa"].reserve[0].length == scale(512, 1.2) == 614
    assert edges["QKa", "MAXa"].d == 552 + 102  # its own cycles, and the 40 after them
    assert moved.op["QKa"].cyc == 32  # the issue slot stays
    assert edges["CVTa", "PVa"].rd == 552 + 102  # the product reads its operand longer
    assert [r.rd for b in moved.buffers if b.id == "K" for r in b.readers] == [614, 614]
    assert edges["MAXa", "FMAa"].d == 104
    half = slower_unit(gallery["fa4-knobs"](), "MUFU", 1.5)
    assert {(e.src, e.dst): e.d for e in half.edges}[
        "EXPa", "CVTa"
    ] == 720  # 480 of 768: a reader on its heels


def test_latencies_are_those_of_the_loop() -> None:
    problem = fa3_forward()
    table = latencies(problem)
    assert set(table["latency 532 of MUFU (EXPa, EXPb)"]) == {e for e in problem.edges if e.d == 532}
    assert {e for edges in table.values() for e in edges} == {
        e for e in problem.edges if e.mem != "ord" and e.d > 1
    }


def test_the_largest_tile_of_the_backward_pass_has_80_rows() -> None:
    found = tile_rows()
    largest = found.largest()
    assert largest is not None and largest.parameters == (("rows", "80"),)
    assert [c.ii for c in found.cells] == [640, 1280, 1920, 2560, 3200, None, None, None]
    assert "rows 96: -" in found.to_text()


@pytest.mark.slow
def test_the_map_of_exp2_and_split() -> None:
    assert [c.ii for c in exp2_and_split().cells] == [
        *(2606, 2533, 2330, 2091),
        *(2330, 2243, 2128, 2091),
        *(2108, 2092, 2092, 2091),
    ]


def test_a_cell_that_is_not_proven_says_so() -> None:
    assert Cell((), 1, "feasible", 7, 5).text == "7?"
    assert Cell((), 1, "unknown", None, 5).text == "-?"
    assert Map("m", "row", ()).largest() is None


def test_a_study_has_what_was_asked_for() -> None:
    problem = gallery["fa3-1tile"]()
    answer = solve(problem)
    bare = study(problem, answer)
    assert (bare.what_if, bare.sensitivity, bare.baselines) == ((), (), ())
    whole = study(problem, answer, ("baselines", "what_if", "sensitivity"), resolve=False)
    text = whole.to_text()
    for heading in ("baselines", "what if", "sensitivity:", "slack: some plan of this interval"):
        assert f"\n{heading}" in text or f"\n  {heading}" in text
    data = whole.to_json()
    assert [b["name"] for b in data["baselines"]] == ["plain pipeline", "list scheduler"]
    assert {m["solved"] for m in data["sensitivity"]} == {None}


def test_without_a_plan_it_says_what_would_give_one() -> None:
    problem = gallery["fa4-separate"]()
    whole = study(problem, solve(problem), ("what_if", "sensitivity"))
    assert {w.text for w in whole.what_if} == {"no plan"}
    found = {t.what: t for t in whole.thresholds}
    tmem = found["tensor memory"]
    assert (tmem.needs, tmem.more) == (None, 384)
    assert tmem.then == interval(with_tmem(problem, 384))
    assert interval(with_tmem(problem, 384 - 1)) is None
    assert found["registers"].text == "there are 240 per thread, no amount gives a plan"
    assert (whole.most_slack, whole.sensitivity) == (None, ())


def test_registers_that_a_tile_of_96_rows_would_need() -> None:
    found = {t.what: t for t in thresholds(*solved("fa3-backward-96"))}["registers"]
    assert found.needs is None
    assert (
        found.more is None or interval(with_registers(gallery["fa3-backward-96"](), found.more)) == found.then
    )


def test_a_wish_that_is_too_short_is_not_helped_by_more_memory() -> None:
    problem = replace(fa3_forward(), hints=(Hint("ii", "ii", 2000),))
    assert {t.more for t in thresholds(problem, solve(problem))} == {None}


def test_what_is_not_known_is_not_studied() -> None:
    whole = study(fa3_forward(), Answer("unknown", None, Bound(2048, "none")), ("what_if", "sensitivity"))
    assert (whole.what_if, whole.thresholds, whole.sensitivity) == ((), (), ())


def test_schedules_of_a_structure_are_schedules() -> None:
    problem = gallery["gemm"]()
    plan = solve(problem).schedule
    assert plan is not None
    assert isinstance(fixed_structure(problem, plan, slower_unit(problem, "TMA", 2.0)), Schedule)
