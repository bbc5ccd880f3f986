"""Published plans on compiled attention: ops are recognised, others are not, and plans are named back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from report_kit import SPECS, kernel_report

from tilec.load import load_kernel
from tilec.passes import lower
from tilec.passes.schedule.loops import gallery
from tilec.passes.schedule.model import Edge, Problem
from tilec.report.roles import renamed, roles


def compiled_loop(name: str) -> Problem:
    [problem] = lower(load_kernel(*SPECS[name])).problems
    return problem


def test_the_ops_of_causal_attention() -> None:
    found = roles(compiled_loop("attention"))
    first = {v: n for v, n in found.items() if n.endswith("a")}
    assert first == {
        "dot.42": "QKa", "maximum.48": "MAXa", "cast.52": "CVTa", "mul.52": "RESCa",
        "dot.52": "PVa",
    }  # fmt: skip
    assert {v + "b": n[:-1] + "b" for v, n in first.items()} == {
        v: n for v, n in found.items() if n.endswith("b")
    }


def test_other_loops_have_no_roles() -> None:
    assert roles(compiled_loop("gemm")) == {}
    for name in ("gemm", "fa3", "fa4-alias", "fa3-backward", "toy"):
        assert roles(gallery[name]()) == {}


def test_a_doubt_is_no_role() -> None:
    """A second op that could be the conversion of P."""
    problem = compiled_loop("attention")
    more = tuple(Edge("fma.51" + t, "dot.52" + t, 1) for t in ("", "b"))
    assert roles(replace(problem, edges=(*problem.edges, *more))) == {}
    slower = tuple(replace(o, cyc=o.cyc + 1) if o.id == "exp2.49b" else o for o in problem.ops)
    assert roles(replace(problem, ops=slower)) == {}


def test_names_there_and_back() -> None:
    problem = compiled_loop("attention")
    names = roles(problem)
    there = renamed(problem, names)
    assert "QKa" in there.op and renamed(there, {n: v for v, n in names.items()}) == problem


@pytest.mark.parametrize("name", ["FA3", "ping-pong only", "no overlap"])
def test_published_plans_stand_beside_the_compiled_one(name: str) -> None:
    loop = kernel_report("attention")["loops"][0]
    [plan] = [p for p in loop["plans"] if p["name"] == name]
    assert set(plan["answer"]["schedule"]["times"]) == {o["id"] for o in loop["problem"]["ops"]}
    assert plan["ii"] >= loop["plans"][0]["ii"] and plan["kind"] in ("published", "simple")


def test_ways_with_less_overlap_are_slower() -> None:
    plans = {p["name"]: p["ii"] for p in kernel_report("attention")["loops"][0]["plans"]}
    assert plans["FA3"] <= plans["ping-pong only"] <= plans["no overlap"] <= plans["plain pipeline"]
