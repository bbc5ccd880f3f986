"""`tilec schedule`, `verify` and `explain`: files, exit codes, and no traceback of ours."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tilec.cli import main
from tilec.passes.schedule.checker import violations
from tilec.passes.schedule.document import answer_of, canonical, problem_data, problem_of
from tilec.passes.schedule.loops import gallery, toy
from tilec.passes.schedule.schema import PROBLEM_SCHEMA

EXAMPLES = Path(__file__).parents[2] / "examples"
GEMM = (f"{EXAMPLES}/gemm.py:gemm", "--signature", "f16[2],f16[2],f16[2]")
ADD = (f"{EXAMPLES}/vector_add.py:vector_add", "--signature", "f32[1],f32[1],f32[1]")


def tilec(*arguments: str) -> Result:
    result = CliRunner().invoke(main, list(arguments))
    assert "Traceback" not in result.output
    return result


def data(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """What `schedule` writes about a loop whose bound is a refuted range."""
    names = {n: tmp_path / f"{n}.json" for n in ("output", "problem", "certificate")}
    options = [x for n, path in names.items() for x in (f"--{n}", str(path))]
    result = tilec("schedule", "--gallery", "fa3-1tile", *options)
    assert result.exit_code == 0, result.output
    assert "an iteration every 1276 cycles, and no plan has fewer" in result.output
    return names


def test_the_plan_that_is_written_solves_the_problem_that_is_written(files: dict[str, Path]) -> None:
    problem, answer = problem_of(data(files["problem"])), answer_of(data(files["output"]))
    assert problem == gallery["fa3-1tile"]()
    assert answer.status == "optimal" and answer.schedule is not None
    assert list(violations(problem, answer.schedule)) == []


def test_a_written_problem_gives_the_same_answer(files: dict[str, Path]) -> None:
    again = tilec("schedule", str(files["problem"]), "--format", "json")
    assert again.exit_code == 0
    assert again.stdout == files["output"].read_text()


def test_a_certificate_is_accepted_and_says_on_what_it_rests(files: dict[str, Path]) -> None:
    plain = tilec("verify", str(files["certificate"]))
    assert plain.exit_code == 0
    assert "none is below 1276 by the word of the solver" in plain.output
    asked = tilec("verify", str(files["certificate"]), "--solver")
    assert asked.exit_code == 0
    assert "by z3, asked again" in asked.output
    assert json.loads(tilec("verify", str(files["certificate"]), "--format", "json").stdout) == {
        "accepted": True,
        "faults": [],
        "solver_asked": False,
    }


def test_a_bound_by_a_unit_is_checked_by_arithmetic(tmp_path: Path) -> None:
    path = tmp_path / "cert.json"
    assert tilec("schedule", "--gallery", "gemm", "--certificate", str(path)).exit_code == 0
    assert "none is below 1024 by arithmetic" in tilec("verify", str(path)).output


def test_a_changed_certificate_is_refused_with_code_4(files: dict[str, Path]) -> None:
    changed = data(files["certificate"])
    changed["answer"]["schedule"]["ii"] -= 1
    files["certificate"].write_text(json.dumps(changed))
    refused = tilec("verify", str(files["certificate"]))
    assert refused.exit_code == 4
    assert "refused" in refused.output and "[" in refused.output
    found = json.loads(tilec("verify", str(files["certificate"]), "--format", "json").stdout)
    assert not found["accepted"] and found["faults"]


@pytest.mark.parametrize("text", ["no json", "{}", '{"format": "tilec-problem/2"}', "[]", "\xff"])
def test_a_wrong_document_is_told_with_code_1(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text.encode("latin-1"))
    for verb in ("schedule", "verify", "explain"):
        result = tilec(verb, str(path))
        assert result.exit_code == 1, result.output
        assert "V140" in result.output


def test_wishes_that_cannot_be_met_have_code_3_and_are_named(tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    wishes = ("--groups", "3", "--stages", "2", "--registers", "160")
    result = tilec("schedule", "--gallery", "fa3", *wishes, "-o", str(out))
    assert result.exit_code == 3
    assert "I501" in result.output and "--registers" in result.output
    assert "--stages" not in result.output and "--groups" not in result.output
    assert data(out)["conflicts"] == ["--registers"]
    explained = tilec("explain", "--gallery", "fa3", *wishes)
    assert explained.exit_code == 0
    assert "--registers: registers 160" in explained.output


def test_wishes_are_kept() -> None:
    wishes = ("--groups", "5", "--stages", "3", "--registers", "232")
    plan = json.loads(tilec("schedule", "--gallery", "fa3", *wishes, "--format", "json").stdout)["schedule"]
    assert set(plan["depths"].values()) == {3}
    assert len(set(plan["groups"].values())) == 5
    assert max(plan["registers"].values()) <= 232


def test_a_loop_without_a_plan_has_code_3() -> None:
    result = tilec("schedule", "--gallery", "fa4-separate")
    assert result.exit_code == 3
    assert "no interval has a plan" in result.output
    assert "tensor memory has 256 columns" in tilec("explain", "--gallery", "fa4-separate").output


def test_what_is_not_proven_has_code_3_and_is_written_all_the_same(tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    result = tilec("schedule", "--gallery", "fa4-knobs", "--rlimit", "20000", "-o", str(out))
    assert result.exit_code == 3
    assert "N501" in result.output and "none is below" in result.output
    assert data(out)["status"] in ("feasible", "unknown")


def test_what_is_given_up_for_the_goals_is_no_lack_of_proof() -> None:
    options = ("--gallery", "fa3-1tile", "--objective", "balanced", "--give", "0.02", "--format", "json")
    result = tilec("schedule", *options)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["goals"][0][0] == "busy"


def test_normalized_costs_are_small() -> None:
    raw, small = (
        json.loads(tilec("schedule", "--gallery", "fa3", "--costs", c, "--format", "json").stdout)
        for c in ("raw", "normalized")
    )
    assert small["schedule"]["ii"] < 300 < raw["schedule"]["ii"]


def test_a_kernel_is_scheduled_loop_by_loop(tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    result = tilec("schedule", *GEMM, "-o", str(out))
    assert result.exit_code == 0, result.output
    assert "gemm.py" in result.output
    assert data(out)["status"] == "optimal"
    nothing = tilec("schedule", *ADD)
    assert nothing.exit_code == 0
    assert "nothing to schedule" in nothing.output
    assert json.loads(tilec("explain", *ADD, "--format", "json").stdout) == []


def test_explain_names_the_lines_of_a_kernel() -> None:
    result = tilec("explain", *GEMM, "--baselines")
    assert result.exit_code == 0, result.output
    assert "TC is held all the time" in result.output
    assert "(gemm.py:" in result.output
    assert "compared: optimal II" in result.output


def test_explain_as_json_has_what_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "toy.json"
    path.write_text(canonical(problem_data(toy())))
    found = json.loads(tilec("explain", str(path), "--all", "--fixed", "--format", "json").stdout)
    assert found["ii"] == 2
    assert {b["name"] for b in found["baselines"]} == {"plain pipeline", "list scheduler"}
    assert found["what_if"] and found["thresholds"] and found["sensitivity"]
    assert {m["solved"] for m in found["sensitivity"]} == {None}
    bare = json.loads(tilec("explain", str(path), "--format", "json").stdout)
    assert not bare["baselines"] and not bare["what_if"] and not bare["sensitivity"]


def test_lists_and_schema() -> None:
    for verb in ("schedule", "explain"):
        listed = tilec(verb, "--gallery", "list").output
        assert [line.split()[0] for line in listed.splitlines()] == list(gallery)
    assert json.loads(tilec("schedule", "--schema").stdout) == PROBLEM_SCHEMA
    assert "fa3-backward-rows" in tilec("explain", "--map", "list").output


def test_a_map_is_a_table() -> None:
    found = json.loads(tilec("explain", "--map", "fa3-backward-rows", "--format", "json").stdout)
    assert [c["ii"] for c in found["cells"]][3:6] == [2560, 3200, None]


@pytest.mark.parametrize(
    "arguments",
    [
        ("schedule",),
        ("schedule", "nowhere.json"),
        ("schedule", "--gallery", "nothing"),
        ("schedule", "x.json", "--gallery", "fa3"),
        ("schedule", "--gallery", "fa3", "--groups", "0"),
        ("schedule", *ADD, "--certificate", "x.json"),
        ("explain",),
        ("explain", "--map", "nothing"),
        ("verify", "nowhere.json"),
    ],
)
def test_wrong_use_has_code_2(arguments: tuple[str, ...]) -> None:
    result = tilec(*arguments)
    assert result.exit_code == 2, result.output
    assert "Error" in result.output


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    result = tilec("schedule", "--gallery", "toy", "-o", str(tmp_path / "no" / "plan.json"))
    assert result.exit_code == 1
    assert "cannot write" in result.output


@pytest.mark.parametrize("verb", ["schedule", "verify", "explain"])
def test_help_has_an_example(verb: str) -> None:
    result = tilec(verb, "--help")
    assert result.exit_code == 0
    assert f"Example: tilec {verb} " in result.output


def on_page(language: str) -> list[str]:
    text = (EXAMPLES.parent / "docs" / "schedule-explained.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)


@pytest.mark.parametrize("block", on_page("console"), ids=lambda b: b.partition("\n")[0])
def test_what_the_page_shows_is_what_is_printed(block: str) -> None:
    """Lines of dots stand for what is left out."""
    command, _, shown = block.partition("\n")
    printed = tilec(*shlex.split(command.removeprefix("$ tilec "))).output
    for part in shown.split("...\n"):
        assert part in printed


def test_the_baselines_of_the_page() -> None:
    text = (EXAMPLES.parent / "docs" / "schedule-explained.md").read_text(encoding="utf-8")
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    [head] = [r for r in rows if r[:2] == ["loop", "optimal"]]
    for row in (r for r in rows if r[0] in ("gemm", "fa3", "fa3-d64", "fa4-alias", "fa3-backward")):
        found = json.loads(tilec("explain", "--gallery", row[0], "--baselines", "--format", "json").stdout)
        made = {b["name"]: str(b["interval"]) for b in found["baselines"]}
        assert str(found["ii"]) == row[1]
        assert dict(zip(head[2:], row[2:], strict=True)) == {n: made.get(n, "") for n in head[2:]}
