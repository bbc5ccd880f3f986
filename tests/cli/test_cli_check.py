"""`tilec check`: right kernels pass, and each kind of fault is found."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import tilec.check
import tilec.driver
from tilec.cli import main

EXAMPLES = Path(__file__).parents[2] / "examples"
ARGS = "f16[70,40]:normal f16[40,30]:normal f16[70,30]"
SIZES = ("-D", "BM=64", "-D", "BN=32", "-D", "BK=32")
GEMM = (f"{EXAMPLES}/gemm.py:gemm", "--grid", "2,1", *SIZES, "--runs", "4", "--args", ARGS)
SOFTMAX = (
    f"{EXAMPLES}/softmax.py:softmax",
    "--grid",
    "3",
    "-D",
    "BN=64",
    "--args",
    "f32[3,40]:normal f32[3,40]",
)


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["check", *words])


def test_a_right_kernel() -> None:
    done = run(*GEMM)
    assert done.exit_code == 0, done.output
    scheduled, ptx, cpu = done.output.splitlines()
    assert scheduled == "scheduled program, 4 runs: the same bits as the definition"
    assert ptx.startswith("PTX on the emulator without a hazard, 4 runs: values within ")
    assert cpu.startswith("CPU code, 1 run: values within ")


def test_values_are_judged_where_bounds_are_given() -> None:
    assert run(*SOFTMAX, "--rtol", "1e-5").exit_code == 0
    tight = run(*SOFTMAX, "--rtol", "1e-12", "--format", "json")
    assert tight.exit_code == 4
    assert ["away" in f["fault"] for f in json.loads(tight.output)] == [False, True, True]


def test_other_bits_in_one_interleaving(monkeypatch: pytest.MonkeyPatch) -> None:
    real = tilec.check.interpret

    def wrong(kernel: Any, grid: Any, args: Any, policy: str = "round_robin", seed: int = 0) -> None:
        real(kernel, grid, args, policy=policy, seed=seed)
        if policy == "last":
            args[2][0, 0] = np.nextafter(args[2][0, 0], np.float16(9))

    monkeypatch.setattr(tilec.check, "interpret", wrong)
    done = run(*GEMM)
    assert done.exit_code == 4
    assert "scheduled program: interleaving last 0: other bits in argument 2" in done.output


def test_ptx_without_its_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    real = tilec.driver.compile

    def spoiled(kernel: Any, target: str) -> Any:
        made = real(kernel, target)
        if target == "cpu":
            return made
        text = re.sub(r"^ *wgmma\.wait_group.*\n", "", made.artifact.text, flags=re.M)
        return replace(made, artifact=replace(made.artifact, text=text))

    monkeypatch.setattr(tilec.driver, "compile", spoiled)
    done = run(*GEMM)
    assert done.exit_code == 4 and re.search(r"PTX on the emulator.*timing eager 0: E\d+", done.output)


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("nothing.py:x", "--grid", "1", "--args", "1"), 2, "there is no file"),
        ((f"{EXAMPLES}/gemm.py", "--grid", "1", "--args", "1"), 2, "say which kernel"),
        ((SOFTMAX[0], "--grid", "0", "--args", "1"), 2, "positive"),
        ((SOFTMAX[0], "--grid", "1", "--args", "f32[3,40]"), 2, "takes X, Y"),
        ((SOFTMAX[0], "--grid", "1", "--args", "f32[3,40] rubbish"), 1, "V426"),
        ((SOFTMAX[0], "--grid", "1", "--args", "f32[3,40] f32[40]"), 1, "T117"),
        ((*SOFTMAX, "--target", "nothing"), 1, "V501"),
    ],
)
def test_wrong_uses(words: tuple[str, ...], code: int, text: str) -> None:
    done = run(*words)
    assert (done.exit_code, text in done.output) == (code, True), done.output
