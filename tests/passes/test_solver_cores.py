"""Why a plan is impossible: the constraints, or the hints, and only those."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from tilec.ir.errors import SolverUnknownError
from tilec.passes.schedule.cores import conflicting_hints, why_not
from tilec.passes.schedule.loops import fa3_backward, fa3_forward, fa4_forward, gallery
from tilec.passes.schedule.model import Hint, Problem, Schedule
from tilec.passes.schedule.query import Query
from tilec.passes.schedule.search import solve
from tilec.passes.schedule.smt import Session


def chain(x: str, *ops: str) -> set[str]:
    """The dependences along a path of ops of one sub-tile."""
    return {f"dependence {a}{x}>{b}{x}" for a, b in pairwise(ops)}


def kinds(core: tuple[str, ...], *kept: str) -> set[str]:
    return {label for label in core if label.split()[0] in kept}


def test_one_sub_tile() -> None:
    """S and P of the next iteration do not fit beside O: QK to PV is a chain that cannot overlap itself."""
    core = why_not(gallery["fa3-1tile"](), 1275)
    assert kinds(core, "dependence") == chain("a", "QK", "MAX", "FMA", "EXP", "CVT", "PV")
    assert kinds(core, "together") == {"together QKa>CVTa", "together CVTa>PVa"}
    assert set(core) - kinds(core, "dependence", "together") == {"registers"}


def test_shared_columns() -> None:
    core = why_not(gallery["fa4-alias"](), 2605)
    path = ("QK", "LDS", "MAX", "FMA", "EXP", "CVT", "STP", "PV")
    assert kinds(core, "dependence") == chain("a", *path) | chain("b", *path)
    assert kinds(core, "ring", "capacity") == {"ring SPa", "ring SPb", "capacity tmem"}
    assert kinds(core, "unit") == {"unit ALU", "unit MUFU", "unit TMEM"}
    assert len(core) == 2 * 7 + 3 + 3


def test_columns_side_by_side() -> None:
    assert why_not(gallery["fa4-separate"](), 13000) == ("capacity tmem",)


def test_few_registers() -> None:
    core = why_not(fa3_forward(reg_limit=160), 8000)
    x = core[0][-1]
    assert set(core) == chain(x, "QK", "CVT", "PV") | {
        f"together QK{x}>CVT{x}", f"together CVT{x}>PV{x}", "registers"
    }  # fmt: skip


def test_tall_tiles_of_backward() -> None:
    core = why_not(gallery["fa3-backward-96"](), 11520)
    x = core[0][-1]
    assert "registers" in core and chain(x, "S", "DS") | chain(x, "dP", "DS") <= set(core)
    assert kinds(core, "together", "dependence") == set(core) - {"registers"}


@pytest.mark.parametrize("loop", [fa3_forward, fa3_backward])
def test_too_few_groups_is_a_matter_of_registers(loop: type[Problem]) -> None:
    core = why_not(replace(loop(), groups_max=2), 9000)  # type: ignore[call-arg]
    assert "registers" in core and kinds(core, "dependence", "registers") == set(core)


def test_every_label_is_needed() -> None:
    """All of a core rule the intervals out together, and all but any one do not."""
    problem = gallery["fa3-1tile"]()
    core = why_not(problem, 1275)
    query = Query(problem, 1024, 1275, Session(10**9), tracked=True)
    assert query.ask() == "unsat"
    assert query.ask(labels=core) == "unsat"
    for label in core:
        assert isinstance(query.ask(labels=[x for x in core if x != label]), Schedule), label


def test_no_core_where_a_plan_exists() -> None:
    assert why_not(gallery["fa3-1tile"](), 1276) == ()


FIVE = (
    Hint("stages", "stages", 2),
    Hint("groups", "groups", 3),
    Hint("registers", "registers", 192),
    Hint("interval", "ii", 3000),
    Hint("near", "together", names=("QKa", "PVa")),
)


def hinted(**changes: Hint) -> Problem:
    return replace(fa3_forward(), hints=tuple(changes.get(h.id, h) for h in FIVE), groups_max=4)


def test_hints_are_kept() -> None:
    answer = solve(hinted())
    assert answer.status == "optimal" and answer.schedule is not None and answer.conflicts == ()
    assert answer.schedule.depths == {"K": 2, "V": 2} and answer.schedule.registers == {0: 24, 1: 192, 2: 192}


@pytest.mark.parametrize(
    ("changed", "conflict"),
    [
        (Hint("registers", "registers", 184), ("registers",)),
        (Hint("groups", "groups", 2), ("groups",)),
        (Hint("stages", "stages", 5), ("stages",)),
        (Hint("interval", "ii", 2047), ("interval",)),
        (Hint("near", "together", names=("QKa", "EXPb")), ("near",)),
        (Hint("near", "apart", names=("QKa", "PVb", "MAXa")), ("groups", "near")),
    ],
)
def test_hints_that_conflict_are_named(changed: Hint, conflict: tuple[str, ...]) -> None:
    answer = solve(hinted(**{changed.id: changed}))
    assert (answer.status, answer.conflicts) == ("infeasible", conflict)


def test_a_conflict_of_two_among_five() -> None:
    """Two slots cover a latency of 1000 only at a longer interval."""
    wishes = (
        Hint("groups", "groups", 3),
        Hint("slots", "stages", 2),
        Hint("apart", "apart", names=("MMAa", "MMAb")),
        Hint("interval", "ii", 1030),
        Hint("registers", "registers", 152),
    )
    assert solve(replace(gallery["gemm"](), hints=wishes)).conflicts == ("slots", "interval")
    rest = tuple(h for h in wishes if h.id != "interval")
    assert solve(replace(gallery["gemm"](), hints=rest)).status == "optimal"


def test_hints_do_not_hide_a_loop_without_plans() -> None:
    problem = replace(gallery["fa3-backward-96"](), hints=(Hint("groups", "groups", 3),))
    assert solve(problem).conflicts == () == conflicting_hints(problem)


def test_a_spent_budget_is_no_core() -> None:
    with pytest.raises(SolverUnknownError) as caught:
        why_not(fa4_forward(), 2605, rlimit=1000)
    assert caught.value.code == "N131"
