"""The examples as PTX for sm_80 and its kin: every value within its bound in the emulator, no reports."""

from __future__ import annotations

from dataclasses import replace

import pytest
import test_examples
import test_suite
from examples_kit import Row, assert_emulated, make, name_of

EARLY, LATE = ("sm_80", "sm_86"), ("sm_89", "sm_120a")
MODES = (("eager", 0), ("lazy", 0), ("random", 0), ("random", 1), ("random", 2))
ROWS = tuple(
    {name_of(r): r for r in (*test_examples.TABLE, *test_examples.EMULATED, *test_suite.TABLE)}.values()
)
QUICK = (
    "softmax--3-128",
    "gemm-gelu_-70-48-24",
    "attention--70-32-128",
    "stream_k",
    "gemm_types--70-48-80-int8",
)
slow = pytest.mark.slow


def has_float8(row: Row) -> bool:
    return any(name in str(x) for x in row for name in ("float8", "fp8", "e4m3", "e5m2"))


def quick(row: Row) -> bool:
    return name_of(row).startswith(QUICK)


def emulate(row: Row, target: str, mode: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    case = make(row)
    assert_emulated(replace(case, meta={**case.meta, "target": target}), mode, seed, monkeypatch)


@pytest.mark.parametrize("row", [r if quick(r) else pytest.param(r, marks=slow) for r in ROWS], ids=name_of)
def test_the_emulator_runs_the_ptx(row: Row, examples: object, monkeypatch: pytest.MonkeyPatch) -> None:
    emulate(row, "sm_89" if has_float8(row) else "sm_80", "lazy", 0, monkeypatch)


@slow
@pytest.mark.parametrize("row", ROWS, ids=name_of)
@pytest.mark.parametrize("target", (*EARLY, *LATE))
def test_every_target_and_timing(
    target: str, row: Row, examples: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    if target in EARLY and has_float8(row):
        pytest.skip("no conversions of 8-bit floats before sm_89")
    for mode, seed in MODES if target == "sm_80" else MODES[1:3]:
        emulate(row, target, mode, seed, monkeypatch)


def test_the_quick_ones_are_there() -> None:
    assert sum(map(quick, ROWS)) == len(QUICK)
