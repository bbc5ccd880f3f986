"""Every kernel of the examples, at the tiles that it is made for, on every target: ptxas spills nothing,
uses no local memory, and drops, serializes or warns of nothing."""

from __future__ import annotations

import importlib
import re
from typing import Any

import pytest
from examples_kit import name_of
from own_tiles import FIRST, OWN_TILES, Compiled

from tilec.ir.errors import ResourceError
from tilec.runtime import toolchain

TARGETS = ("sm_80", "sm_86", "sm_89", "sm_90a", "sm_120a")
WITHOUT_FLOAT8 = ("sm_80", "sm_86")
# Q, K and V of head size 256 take 128 KiB at these tiles, which these targets do not have.
TOO_LARGE, SMALLER = ("attention", 256), {"BM": 64, "BN": 32}
HAVE_LITTLE = ("sm_86", "sm_89", "sm_120a")


def is_quick(row: Compiled, target: str) -> bool:
    """The first kernels on Hopper; elsewhere those that need most registers."""
    if target == "sm_90a":
        return row in FIRST
    most = {"sm_80": "attention_dkdv", "sm_86": "rotary", "sm_120a": "attention_varlen"}
    return row[1] == most.get(target) and row[-1].get("D", 128) == 128


def has_float8(row: Compiled) -> bool:
    return "e4m3" in row[2] or "e5m2" in row[2]


CASES = [
    pytest.param(row, target, id=f"{target}-{name_of(row)}", marks=() if quick else (pytest.mark.slow,))
    for row in OWN_TILES
    for target in TARGETS
    for quick in (is_quick(row, target),)
    if not (target in WITHOUT_FLOAT8 and has_float8(row))
]


@pytest.fixture(autouse=True)
def assembler(examples: Any, real_budget: None) -> None:
    """With the solver's own budget, since a better plan may need more registers."""
    if toolchain.find("ptxas") is None:
        pytest.skip("ptxas not found: pip install 'tilec[test]'")


def compiled(row: Compiled, target: str, **more: Any) -> str:
    file, name, signature, meta = row
    function = getattr(importlib.import_module(file), name)
    made = function.compile(re.split(",(?! )", signature), target=target, **{**meta, **more})
    return str(made.asm["ptx"])


@pytest.mark.parametrize(("row", "target"), CASES)
def test_nothing_is_spilled_or_dropped(row: Compiled, target: str) -> None:
    more: dict[str, Any] = {}
    if (row[1], row[-1].get("D")) == TOO_LARGE and target in HAVE_LITTLE:
        with pytest.raises(ResourceError, match="make the tiles smaller"):
            compiled(row, target)
        more = SMALLER
    done = toolchain.assemble(compiled(row, target, **more), target)
    assert (done.spill_stores, done.spill_loads, done.stack) == (0, 0, 0)
    assert [m for m in done.messages if m.severity != "info" or m.serious] == []


def test_the_quick_ones_are_there() -> None:
    quick = [case for case in CASES if not case.marks]
    assert len(quick) == len(FIRST) + 4  # gradients with and without causal
