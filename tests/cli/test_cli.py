"""The command line: verbs, exit codes, and that a user never sees a traceback of ours."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tilec.cli import exit_code, main
from tilec.ir.errors import InfeasibleError, SolverUnknownError, TilecTypeError
from tilec.ir.text import parse_kernel, print_kernel
from tilec.load import parse_defines, split_signature

EXAMPLES = Path(__file__).parents[2] / "examples"
ADD = f"{EXAMPLES}/vector_add.py:vector_add"
GEMM = f"{EXAMPLES}/gemm.py:gemm"
F32 = "f32[1],f32[1],f32[1]"
F16 = "f16[2],f16[2],f16[2]"

WRONG = """
import tilec
import tilec.language as tl

@tilec.kernel
def wrong(X: tl.Tensor, Y: tl.Tensor):
    tl.store(Y, (0,), tl.load(X, (0,), (32,)) + tl.load(X, (0,), (48,)))

def main():
    return {code}
"""


def tilec(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    path = tmp_path / "wrong.py"
    path.write_text(WRONG.format(code=0))
    return path


def test_ir_prints_text_that_is_a_kernel_again(tmp_path: Path) -> None:
    first = tilec("ir", ADD, "--signature", F32, "-D", "BLOCK=64")
    assert first.exit_code == 0, first.output
    assert "shape=(64,)" in first.output
    file = tmp_path / "add.tile"
    file.write_text(first.output)
    second = tilec("ir", str(file))
    assert second.exit_code == 0, second.output
    assert second.output == first.output == print_kernel(parse_kernel(first.output))


@pytest.mark.parametrize(("stage", "word"), [("aref", "aref.put"), ("scheduled", "warp_groups")])
def test_ir_prints_each_form(stage: str, word: str) -> None:
    result = tilec("ir", GEMM, "--signature", F16, "--stage", stage)
    assert result.exit_code == 0, result.output
    assert word in result.output


def test_ir_prints_code_of_the_backends() -> None:
    assert "define" in tilec("ir", ADD, "--signature", F32, "--stage", "llvm").output
    assert ".entry" in tilec("ir", ADD, "--signature", F32, "--stage", "ptx").output


def test_compile_writes_every_stage(tmp_path: Path) -> None:
    result = tilec(
        "compile", ADD, "--target", "cpu", "--signature", F32, "-o", str(tmp_path), "--format", "json"
    )
    assert result.exit_code == 0, result.output
    files = {Path(f).name for f in json.loads(result.stdout)["files"]}
    assert {"vector_add.tile", "vector_add.scheduled", "vector_add.llvm", "vector_add.log"} <= files
    assert all((tmp_path / f).stat().st_size for f in files)


def test_an_error_of_the_kernel_is_shown_with_its_line_and_code_1(wrong: Path) -> None:
    result = tilec("ir", f"{wrong}:wrong", "--signature", "f32[1],f32[1]")
    assert result.exit_code == 1
    assert "wrong.py:7" in result.output
    assert "^" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("ir", "nowhere.py:x"),
        ("ir", f"{EXAMPLES}/vector_add.py:nothing", "--signature", F32),
        ("ir", ADD),
        ("ir", ADD, "--signature", F32, "-D", "BLOCK"),
        ("ir", ADD, "--signature", F32, "--stage", "nothing"),
        ("run", "nowhere.py"),
        ("explain", ADD),
    ],
)
def test_wrong_use_has_code_2(arguments: tuple[str, ...]) -> None:
    result = tilec(*arguments)
    assert result.exit_code == 2, result.output
    assert "Error" in result.output


@pytest.mark.parametrize("text", ["def f(:", "import nothing_of_this_name", "1 / 0"])
def test_a_file_that_cannot_be_imported_is_told_without_our_frames(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.py"
    path.write_text(text)
    result = tilec("run", str(path))
    assert result.exit_code == 1
    assert "bad.py" in result.output
    assert "load.py" not in result.output
    assert "Error:" in result.output


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = tilec("compile", ADD, "--target", "cpu", "--signature", F32, "-o", str(tmp_path / "file"))
    assert result.exit_code == 1
    assert "cannot write" in result.output


def test_a_broken_tile_file_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "x.tile").write_bytes(b"tilec.kernel @x form=tile () {\n  %0 = nothing\xff\n}\n")
    result = tilec("ir", str(tmp_path / "x.tile"))
    assert result.exit_code == 1
    assert "x.tile:2" in result.output


def test_a_target_without_a_backend_says_what_exists() -> None:
    result = tilec("ir", ADD, "--signature", F32, "--target", "sm_100a")
    assert result.exit_code == 1
    assert "sm_90a" in result.output


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, 4)])
def test_run_calls_main_and_a_failed_check_has_code_4(tmp_path: Path, code: int, expected: int) -> None:
    path = tmp_path / "script.py"
    path.write_text(WRONG.format(code=code))
    assert tilec("run", str(path)).exit_code == expected
    assert tilec("run", str(path), "--backend", "cpu").exit_code == 2  # its main() takes none


def test_run_passes_kernel_backend_and_constants() -> None:
    result = tilec("run", ADD, "--backend", "interpreter", "-D", "BLOCK=4096")
    assert result.exit_code == 0, result.output
    assert "values right" in result.output
    assert tilec("run", f"{EXAMPLES}/gemm.py:missing").exit_code == 4


def test_exit_codes_of_errors() -> None:
    assert exit_code(InfeasibleError("I1", "")) == 3
    assert exit_code(SolverUnknownError("N1", "")) == 3
    assert exit_code(TilecTypeError("T1", "")) == 1


def test_doctor_reports_as_text_and_json() -> None:
    text, data = tilec("doctor"), tilec("doctor", "--format", "json")
    assert text.exit_code == data.exit_code == 0, text.output
    assert set(json.loads(data.stdout)) == {
        "packages",
        "cpu",
        "solver",
        "ptxas",
        "gpu",
        "environment",
        "cache",
    }


def test_doctor_finds_a_bad_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEC_NUM_THREADS", "none")
    result = tilec("doctor")
    assert result.exit_code == 1
    assert "bad environment" in result.output


def test_cache_is_filled_counted_and_cleared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TILEC_CACHE_DIR", str(tmp_path))
    assert json.loads(tilec("cache", "info", "--format", "json").stdout)["entries"] == 0
    tilec("ir", ADD, "--signature", F32, "--stage", "llvm")
    assert json.loads(tilec("cache", "info", "--format", "json").stdout)["entries"] == 1
    assert "removed 1 entries" in tilec("cache", "clear").output


def test_python_dash_m_works() -> None:
    done = subprocess.run([sys.executable, "-m", "tilec", "--version"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "tilec" in done.stdout


def test_signatures_and_defines() -> None:
    assert split_signature("f16[2, contiguous=0, unaligned], i32 ,f32[1]") == [
        "f16[2, contiguous=0, unaligned]", "i32", "f32[1]"
    ]  # fmt: skip
    assert parse_defines(["A=1", "B=True", "C=word"]) == {"A": 1, "B": True, "C": "word"}
