"""The document behind a report: its schema, its links, and that its figures are those of the solver."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from report_kit import compiled, kernel_report, loop_report

from tilec.passes.schedule.checker import violations
from tilec.passes.schedule.document import answer_of, problem_of
from tilec.report import REPORT_SCHEMA, of_compiled
from tilec.report.compare import differences, grown
from tilec.report.front import MEASURES

KERNELS = ("gemm", "attention")
LOOPS = ("fa3-1tile", "fa4-1tile", "toy")


def report(name: str) -> dict[str, Any]:
    return kernel_report(name) if name in KERNELS else loop_report(name)


def reports() -> list[dict[str, Any]]:
    return [report(name) for name in (*KERNELS, *LOOPS)]


@pytest.mark.parametrize("name", [*KERNELS, *LOOPS])
def test_a_report_obeys_its_schema(name: str) -> None:
    made = report(name)
    jsonschema.validate(made, REPORT_SCHEMA)
    assert made["loops"]


def test_the_schema_refuses_what_it_does_not_know() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**loop_report("toy"), "more": 1}, REPORT_SCHEMA)


@pytest.mark.parametrize("name", [*KERNELS, *LOOPS])
def test_every_plan_is_legal_for_the_loop(name: str) -> None:
    """Other plans were found under narrower limits; they must still be plans of this very loop."""
    for loop in report(name)["loops"]:
        problem = problem_of(loop["problem"])
        assert len(loop["plans"]) > 1
        for plan in loop["plans"]:
            schedule = answer_of(plan["answer"]).schedule
            assert schedule is not None and list(violations(problem, schedule)) == []
            measured = [m(problem, schedule) for m in MEASURES]
            assert measured == [plan["smem"], plan["registers"], plan["groups"]]
            assert plan["ii"] == schedule.ii


def test_no_plan_of_the_front_is_beaten() -> None:
    for made in reports():
        plans = [p for p in made["loops"][0]["plans"] if p["kind"] in ("chosen", "front")]
        keys = {(p["ii"], p["smem"], p["registers"], p["groups"]): p["kind"] for p in plans}
        for a in (key for key, kind in keys.items() if kind == "front"):
            assert not any(b != a and all(x <= y for x, y in zip(b, a, strict=True)) for b in keys)
        # The chosen plan keeps values for a shorter time before it saves memory; its interval is least.
        (chosen,) = (p["ii"] for p in plans if p["kind"] == "chosen")
        assert chosen == min(ii for ii, *_ in keys)


def test_the_front_of_attention_trades_memory_for_cycles() -> None:
    plans = kernel_report("attention")["loops"][0]["plans"]
    front = sorted((p["smem"], p["ii"]) for p in plans if p["kind"] in ("chosen", "front"))
    assert len(front) >= 3
    assert [ii for _, ii in front] == sorted((ii for _, ii in front), reverse=True)


def test_a_claim_names_the_limits_that_it_holds_under() -> None:
    """ "No plan has fewer" may be said of the loop's own problem only."""
    for made in reports():
        first, *others = made["loops"][0]["plans"]
        assert "no plan has fewer" in first["headline"]
        for plan in others:
            assert "no plan has fewer" not in plan["headline"]
            assert "under" in plan["headline"] or plan["name"] == "list scheduler"
            proven = plan["answer"]["status"] == "optimal"
            assert ("the least under" in plan["headline"]) == (proven and plan["name"] != "list scheduler")
            assert plan["kind"] != "front" or plan["about"].startswith("least with") == proven


def test_bars_are_the_reservations_of_the_problem() -> None:
    for made in reports():
        loop = made["loops"][0]
        held = {(o["id"], unit): n for o in loop["problem"]["ops"] for unit, _, n, _ in o["reserve"]}
        for plan in loop["plans"]:
            drawn = {(op, lane): n for lane, op, _, n, kind in plan["bars"] if kind == "unit"}
            assert drawn == held
            assert min(start for _, _, start, _, _ in plan["bars"]) >= 0
            assert {lane for lane, *_ in plan["bars"]} <= {lane for lane, _ in plan["lanes"]}


def test_slots_are_free_again_when_they_are_filled_again() -> None:
    for made in reports():
        for plan in made["loops"][0]["plans"]:
            for ring in plan["rings"]:
                assert ring["fill"] <= ring["there"] <= ring["read"] < ring["end"]
                if ring["offset"] is None:
                    assert ring["end"] <= ring["fill"] + ring["depth"] * plan["ii"]


@pytest.mark.parametrize("name", KERNELS)
def test_every_op_leads_to_a_line_of_every_form(name: str) -> None:
    made = kernel_report(name)
    loop = made["loops"][0]
    texts = {t["name"]: t for t in made["texts"]}
    assert list(texts) == ["tile", "aref", "scheduled", "ptx"]
    lines = {f"{f['name']}:{f['first'] + i}" for f in made["files"] for i in range(len(f["lines"]))}
    for op, places in loop["ops"].items():
        assert places, op
        assert {made["places"][p].rpartition(":")[0] for p in places} <= lines
        assert op in texts["aref"]["ops"].values()
        for form in ("tile", "scheduled", "ptx"):
            assert set(places) & set(texts[form]["places"]), (op, form)


def test_lines_of_a_group_know_their_group() -> None:
    made = kernel_report("attention")
    for form in ("scheduled", "ptx"):
        text = next(t for t in made["texts"] if t["name"] == form)
        assert sorted(set(text["groups"])) == [-1, 0, 1, 2]
    [scheduled] = [t for t in made["texts"] if t["name"] == "scheduled"]
    groups = {
        g
        for line, g in zip(scheduled["lines"], scheduled["groups"], strict=True)
        if 'group="compute_b"' in line
    }
    assert groups == {2}


def test_the_source_is_the_kernel_with_its_decorator() -> None:
    [part] = kernel_report("gemm")["files"]
    assert part["name"] == "gemm.py" and part["lines"][0] == "@tilec.kernel"
    assert part["lines"][1].startswith("def gemm(")


def test_the_same_kernel_gives_the_same_document() -> None:
    again = of_compiled(compiled("gemm"))
    assert json.dumps(of_compiled(compiled("gemm"))) == json.dumps(again)
    assert str(Path(__file__).parents[2]) not in json.dumps(again)


def test_a_kernel_without_rings_has_a_report_without_loops() -> None:
    for target in ("sm_90a", "cpu"):
        made = of_compiled(compiled("softmax", target))
        jsonschema.validate(made, REPORT_SCHEMA)
        assert made["loops"] == [] and made["files"] and made["log"]


def test_work_and_traffic_of_gemm_by_hand() -> None:
    roof = kernel_report("gemm")["loops"][0]["roof"]
    assert roof["flops"] == 2 * 128 * 256 * 64
    assert roof["bytes"] == (128 + 256) * 64 * 2
    assert roof["peak"] == 4096  # dense fp16 of one H100 SM per cycle
    assert kernel_report("attention")["loops"][0]["roof"]["flops"] == 2 * 2 * 128 * 128 * 128


def test_the_time_of_a_launch_by_hand() -> None:
    loop = kernel_report("gemm")["loops"][0]
    launch, plan = loop["roof"]["launch"], loop["plans"][0]
    assert launch["waves"] == 2  # 264 programs on 132 SMs
    assert launch["cycles"] == 2 * (plan["length"] + 15 * plan["ii"])
    assert launch["bound"] == float(f"{launch['cycles'] / 1830:.3g}")
    assert launch["bound"] < launch["low"] < launch["high"]


def test_the_path_of_a_refuted_range_is_that_of_its_core() -> None:
    plan = loop_report("fa3-1tile")["loops"][0]["plans"][0]
    path = plan["proof"]["path"]
    assert [s["src"] for s in path] == ["QKa", "MAXa", "FMAa", "EXPa", "CVTa"] or sum(
        s["cycles"] for s in path
    ) == 1276
    assert plan["answer"]["bound"]["kind"] == "range"


def test_differences_are_only_what_differs() -> None:
    a, b = kernel_report("gemm"), kernel_report("attention")
    assert differences(a, a) == []
    rows = {what: (x, y) for what, x, y in differences(a, b)}
    assert rows["name"] == ("gemm", "attention") and "target" not in rows
    assert rows["gemm loop 0: interval"] == ("1032", "2080")


def test_grown_loops() -> None:
    a, b = kernel_report("gemm"), kernel_report("attention")
    assert grown(a, b) == ["gemm loop 0"] and grown(b, a) == grown(a, a) == []
    without = {**a, "loops": [{**a["loops"][0], "plans": []}]}
    assert grown(a, without) == ["gemm loop 0"] and grown(without, a) == []


def test_one_slot_fewer_is_solved_again() -> None:
    """GEMM with two slots instead of three has the interval of the plan of the front that has two."""
    loop = kernel_report("gemm")["loops"][0]
    [fewer] = [w for w in loop["what_if"] if w["what"] == "one slot fewer of a_b"]
    [two] = [p for p in loop["plans"] if p["kind"] == "front" and p["rings"][0]["depth"] == 2]
    assert fewer["value"] == 2 and fewer["ii"] == two["ii"] > fewer["before"]


def test_a_target_of_one_group_has_a_report_with_links() -> None:
    """On sm_80 one group fills its own rings."""
    made = of_compiled(compiled("gemm", "sm_80"))
    jsonschema.validate(made, REPORT_SCHEMA)
    [loop] = made["loops"]
    ptx = next(t for t in made["texts"] if t["name"] == "ptx")
    assert made["machine"] == "A100" and loop["roof"]["fitted"] == []
    assert all(set(places) & set(ptx["places"]) for places in loop["ops"].values())


def test_what_another_machine_would_give() -> None:
    for name in KERNELS:
        (loop,) = report(name)["loops"]
        (row,) = [w for w in loop["what_if"] if w["what"].startswith("compiled for sm_80")]
        assert row["bound"] <= row["ii"] and row["ii"] > row["before"]
