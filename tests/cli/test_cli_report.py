"""`tilec report`, `tilec diff` and `tilec completion`: right and wrong uses, files, exit codes."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from tilec.cli import main

GEMM = str(Path(__file__).parents[2] / "examples" / "gemm.py") + ":gemm"
TYPES = ("--signature", "f16[2],f16[2],f16[2]")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def test_a_page_of_a_kernel_with_its_other_forms() -> None:
    done = run("report", GEMM, *TYPES, "-o", "g.html", "--svg", "g.svg", "--trace", "t.json")
    assert done.exit_code == 0, done.output
    assert done.output == "gemm loop 0: an iteration every 1032 cycles, and no plan has fewer\nwrote g.html\n"
    assert Path("g.html").read_text().startswith("<!doctype html>")
    assert Path("g.svg").read_text().startswith("<svg")
    assert json.loads(Path("t.json").read_text())["traceEvents"]


def test_a_chart_as_png(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("resvg_py", reason="resvg-py is not installed")
    assert (
        run("report", "--gallery", "toy", "-o", "t.html", "--svg", "t.svg", "--png", "t.png").exit_code == 0
    )
    data = Path("t.png").read_bytes()
    width, height = (int.from_bytes(data[i : i + 4], "big") for i in (16, 20))
    size = re.findall(r'viewBox="0 0 (\d+) (\d+)"', Path("t.svg").read_text())[0]
    assert data.startswith(b"\x89PNG") and (width, height) == (2 * int(size[0]), 2 * int(size[1]))
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    done = run("report", "--gallery", "toy", "-o", "t.html", "--png", "t.png")
    assert done.exit_code == 1 and "U320" in done.output and "tilec[png]" in done.output


def test_the_page_is_named_after_the_kernel_and_the_same_again() -> None:
    assert run("report", GEMM, *TYPES).exit_code == 0
    first = Path("gemm.html").read_bytes()
    assert run("report", GEMM, *TYPES).exit_code == 0
    assert Path("gemm.html").read_bytes() == first


def test_a_document_on_standard_output_and_in_a_file() -> None:
    done = run("report", "--gallery", "toy", "--format", "json")
    assert run("report", "--gallery", "toy", "--format", "json", "-o", "t.json").exit_code == 0
    assert json.loads(done.output) == json.loads(Path("t.json").read_text())
    assert run("report", "t.json", "-o", "again.html").exit_code == 0


def test_a_problem_without_a_plan_is_drawn_and_ends_with_3() -> None:
    problem = {
        "format": "tilec-problem/1", "name": "too large", "machine": {"units": {"TC": 1}, "smem": 10},
        "ops": [{"id": "load", "stream": True}, {"id": "use", "reserve": [["TC", 0, 5]]}],
        "edges": [{"src": "load", "dst": "use", "d": 5, "mem": "smem", "blocking": True}],
        "buffers": [{"id": "A", "mem": "smem", "size": 11, "writer": "load", "readers": [["use", 5]]}],
    }  # fmt: skip
    Path("p.json").write_text(json.dumps(problem))
    done = run("report", "p.json", "-o", "p.html")
    assert done.exit_code == 3 and "I501" in done.output and "there is no plan" in done.output
    assert "cannot hold together" in Path("p.html").read_text()
    assert run("report", "p.json", "--svg", "x.svg").exit_code == 2


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ((), 2, "say what"),
        (("nothing.py:gemm",), 2, "there is no file"),
        (("nothing.json",), 2, "cannot read"),
        ((GEMM,), 2, "--signature is missing"),
        (("--gallery", "nothing"), 2, "there is no loop 'nothing'"),
        ((GEMM, *TYPES, "--trips", "3"), 2, "belong together"),
        ((GEMM, *TYPES, "-D", "BM=100"), 0, "wrote"),
        ((GEMM, "--signature", "f16[2]"), 1, "T364"),
        (("--gallery", "toy", "-o", "no/folder/x.html"), 1, "cannot write"),
    ],
)
def test_uses(words: tuple[str, ...], code: int, text: str) -> None:
    done = run("report", *words)
    assert done.exit_code == code, done.output
    assert text in done.output


def test_lists_and_schema() -> None:
    assert "fa3" in run("report", "--gallery", "list").output
    assert json.loads(run("report", "--schema").output)["title"] == "tilec-report/1"


def test_differences_of_two_tile_sizes_and_the_check() -> None:
    assert run("report", GEMM, *TYPES, "-D", "BN=128", "--format", "json", "-o", "old.json").exit_code == 0
    done = run("diff", "old.json", GEMM, *TYPES, "--html", "both.html", "--check")
    assert done.exit_code == 4
    assert "gemm loop 0: interval\n  - 520\n  + 1032\n" in done.output
    assert Path("both.html").read_text().count("tilec-report/1") == 2
    assert run("diff", GEMM, "old.json", *TYPES, "--check").exit_code == 0
    same = run("diff", "old.json", "old.json")
    assert (same.exit_code, same.output) == (0, "no difference\n")
    data = json.loads(run("diff", "old.json", GEMM, *TYPES, "--format", "json").output)
    assert data["grown"] == ["gemm loop 0"] and data["differences"]


def test_another_target_is_another_machine() -> None:
    done = run("diff", GEMM, GEMM, *TYPES, "--second-target", "sm_80")
    assert done.exit_code == 0 and "machine\n  - H100\n  + A100\n" in done.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    done = run("completion", shell)
    assert done.exit_code == 0 and "_TILEC_COMPLETE" in done.output


def test_verbs_are_completed() -> None:
    from click.shell_completion import BashComplete

    from tilec.passes.schedule.loops import gallery

    found = {
        item.value for item in BashComplete(main, {}, "tilec", "_TILEC_COMPLETE").get_completions([], "ex")
    }
    assert found == {"explain", "explain-error"}
    loops = BashComplete(main, {}, "tilec", "_TILEC_COMPLETE").get_completions(
        ["report", "--gallery"], "fa3-d"
    )
    assert [item.value for item in loops] == [n for n in gallery if n.startswith("fa3-d")]


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name, command in group.commands.items():
        inner = (*path, name)
        found += commands(command, inner) if isinstance(command, click.Group) else [inner]
    return found


@pytest.mark.parametrize("verb", commands(main), ids=" ".join)
def test_help_has_an_example(verb: tuple[str, ...]) -> None:
    done = run(*verb, "--help")
    assert done.exit_code == 0 and f"Example: tilec {' '.join(verb)}" in " ".join(done.output.split()), (
        done.output
    )


def test_a_terminal_gets_a_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from tilec.cli_parts import table

    table(("what", "-", "+"), [("interval", "1", "2")])
    assert capsys.readouterr().out == "interval\n  - 1\n  + 2\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    table(("what", "-", "+"), [("interval", "1", "2")])
    assert "what" in capsys.readouterr().out
