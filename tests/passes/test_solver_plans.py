"""Plans that experts published come out without a hint."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from tilec.ir.errors import TilecValueError
from tilec.passes.schedule.loops import fa3_forward, fa4_backward, fa4_forward, gallery
from tilec.passes.schedule.model import Schedule
from tilec.passes.schedule.search import solve


def order_on(plan: Schedule, *ops: str) -> list[str]:
    return sorted(ops, key=lambda v: plan.times[v] % plan.ii)


def test_flash_attention_3() -> None:
    plan = solve(fa3_forward()).schedule
    assert plan is not None
    products = ("QKa", "PVa", "QKb", "PVb")
    assert order_on(plan, *products) == ["QKa", "PVb", "QKb", "PVa"]
    assert [plan.times[v] % plan.ii for v in ("QKa", "PVb", "QKb", "PVa")] == [0, 512, 1024, 1536]
    # Ping-pong: each sub-tile has a group of its own, and nothing crosses.
    assert {v[-1]: g for v, g in plan.groups.items() if g} == {"a": 1, "b": 2}
    # The next product runs ahead of the softmax in one group only.
    assert [plan.stage("PV" + x) - plan.stage("QK" + x) for x in "ab"] == [0, 1]
    assert plan.order(1)[0] == "QKa" and plan.order(1).index("PVa") > plan.order(1).index("RESCa")


def test_flash_attention_4_balanced() -> None:
    """Loads | products | softmax a | softmax b | rescale of both."""
    problem = replace(fa4_forward(share=0.25, split=4), groups_max=6)
    answer = solve(problem, "balanced", give=0.02)
    plan = answer.schedule
    assert plan is not None and plan.ii == 2170 and answer.bound.value == 2128
    assert answer.goals == (
        ("busy", 1800, True), ("waits", 6, True), ("groups", 5, True), ("crossing", 10, True)
    )  # fmt: skip
    members = {frozenset(plan.order(g)) for g in set(plan.groups.values())}
    softmax = ("LDS", "MAX", "ALPHA", "FMA", "EXP", "POLY", "CVT", "STP", "SUM")
    assert members == {
        frozenset({"LK", "LV"}),
        frozenset({"QKa", "PVa", "QKb", "PVb"}),
        frozenset(v + "a" for v in softmax),
        frozenset(v + "b" for v in softmax),
        frozenset(v + x for v in ("LDO", "MUL", "STO") for x in "ab"),
    }
    assert order_on(plan, "QKa", "PVb", "QKb", "PVa") == ["QKa", "PVb", "QKb", "PVa"]


def test_flash_attention_4_fewest() -> None:
    """Rescale runs with the product with V, the product with K in the softmax groups."""
    plan = solve(fa4_forward(share=0.25, split=4)).schedule
    assert plan is not None and plan.ii == 2128
    together = {frozenset(plan.order(g)) for g in set(plan.groups.values()) if g}
    assert frozenset(v + x for v in ("LDO", "MUL", "STO", "PV") for x in "ab") in together
    assert len(together) == 3
    assert all(plan.groups["QK" + x] == plan.groups["LDS" + x] for x in "ab")


@pytest.mark.slow
def test_flash_attention_4_backward_balanced() -> None:
    """Loads and the reducing copy | products | softmax a | softmax b | dQ on its way out."""
    answer = solve(fa4_backward(), "balanced")
    plan = answer.schedule
    assert plan is not None and answer.status == "optimal" and plan.ii == 3328
    assert all(proven for _, _, proven in answer.goals)
    softmax = ("LDS", "FMA", "EXP", "CVTP", "STP", "LDD", "DS", "CVTD", "STD", "STSD")
    assert {frozenset(plan.order(g)) for g in set(plan.groups.values())} == {
        frozenset({"LQ", "LdO", "REDu", "REDv"}),
        frozenset({"S", "dP", "dV", "dK", "dQ"}),
        frozenset(v + "a" for v in softmax),
        frozenset(v + "b" for v in softmax),
        frozenset({"LDQu", "LDQv", "STQu", "STQv"}),
    }


def test_toy() -> None:
    """Twill's example: two cycles an iteration instead of three."""
    plan = solve(gallery["toy"]()).schedule
    assert plan is not None
    assert (plan.ii, plan.times["S"], plan.times["O"]) == (2, 0, 3)
    assert plan.times["P"] in (1, 2)


@pytest.mark.parametrize("name", ["gemm", "gemm-1", "dual-gemm"])
def test_products_need_no_solver(name: str) -> None:
    code = (
        "import sys; from tilec.passes.schedule.search import solve\n"
        "from tilec.passes.schedule.loops import gallery\n"
        f"print(solve(gallery[{name!r}](), polish=False).status, 'z3' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["optimal", "False"]


def test_an_unknown_goal() -> None:
    with pytest.raises(TilecValueError, match="there is no goal 'speed'") as caught:
        solve(gallery["toy"](), objective=("groups", "speed"))
    assert caught.value.code == "V131"
