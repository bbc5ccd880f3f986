"""What the tests of the examples share: a case, traced and run in each form."""

from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_tiles import Compiled

from tilec.ir.core import Kernel
from tilec.ir.interp import interpret
from tilec.passes import Options, Stages, lower
from tilec.passes.pipeline import simplified
from tilec.runtime import emulator
from tilec.runtime.arrays import tensor_type

EXAMPLES = Path(__file__).parents[2] / "examples"
Row = tuple[str, str, dict[str, Any]]  # example, function that makes the case, its arguments

Outputs = list[np.ndarray[Any, Any]]


@dataclass
class Prepared:
    """A case with its TILE kernel, grid, and the bits of the outputs that TILE gives as Hopper rounds it."""

    case: Any
    tile: Kernel
    grid: tuple[int, ...]
    expected: Outputs

    def lowered(self, stages: int | None = None) -> Stages:
        return lower(self.tile, "sm_90a", Options(stages=stages))

    def run(self, kernel: Kernel, **how: Any) -> Outputs:
        return interpreted(self.case, kernel, self.grid, **how)


def name_of(row: Row | Compiled) -> str:
    """The name of a test: what is run, and its arguments."""
    return "-".join((row[0], row[1].removesuffix("case"), *map(str, row[-1].values())))


def make(row: Row) -> Any:
    """The case of a row of a table."""
    name, maker, arguments = row
    return getattr(importlib.import_module(name), maker)(**arguments)


def prepare(row: Row) -> Prepared:
    case = make(row)
    kernel = traced(case)
    constants = {p.name: p.default for p in case.kernel.params if p.kind == "constexpr"} | case.meta
    grid = case.grid(constants)
    return Prepared(case, kernel, grid, interpreted(case, simplified(kernel, "sm_90a"), grid))


def traced(case: Any) -> Kernel:
    """The TILE kernel for aligned tensors: TMA must be possible, whatever the ragged shape."""
    kinds = [_type_of(a) for a in case.args]
    found: Kernel = case.kernel.trace(kinds, **case.meta)
    return found


def _type_of(argument: Any) -> Any:
    if isinstance(argument, np.ndarray):
        return replace(tensor_type(argument), aligned=True)
    return "f32" if isinstance(argument, float) else "i32"


def interpreted(case: Any, kernel: Kernel, grid: tuple[int, ...], **how: Any) -> Outputs:
    """The outputs of an interpreter run on poisoned ones; inputs must stay as they are."""
    import _check

    before = _check.fingerprint(case)
    _check.poison(case)
    interpret(kernel, grid, case.args, **how)
    assert _check.fingerprint(case) == before
    return [np.array(a) for a in case.outputs]


def same_bits(a: Outputs, b: Outputs) -> bool:
    return [x.tobytes() for x in a] == [x.tobytes() for x in b]


def assert_right(case: Any, found: Outputs) -> None:
    """Every value of every output is within its bound."""
    import _check

    for part, values in zip(case.parts(), found, strict=True):
        ratio, place = _check.error_ratio(part, values)
        assert ratio <= 1, (part.output, place)


def assert_emulated(case: Any, mode: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The PTX gives values within the bound, and the emulator has nothing to report."""
    import _check

    launch = emulator.launch
    reports: list[emulator.Report] = []

    def timed(*args: Any) -> None:
        reports.extend(launch(*args, mode=mode, seed=seed).reports)

    with monkeypatch.context() as patch:
        patch.setattr(emulator, "launch", timed)
        ratio, place = _check.check(case, "emulator")
    assert ratio <= 1, place
    assert reports == []


def assert_script_says_so(name: str) -> None:
    """An example run as a script finds its values right."""
    done = subprocess.run(
        [sys.executable, f"examples/{name}.py"], cwd=EXAMPLES.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "values right" in done.stdout
