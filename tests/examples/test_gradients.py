"""The gradients of attention on Hopper at their own tiles: pipelined, with tiles that products read far
apart in rings of their own; those of K and V of head size 128 by groups that hand values on."""

from __future__ import annotations

from typing import Any

import pytest
from examples_kit import Row, assert_emulated, assert_right, name_of, prepare, same_bits

HEADS = {"batch": 1, "heads": 2, "kv_heads": 1}
BACKWARD = "attention_backward"
CASES: tuple[Row, ...] = (
    (BACKWARD, "dq_case", {"queries": 40, "keys": 330, "D": 64, **HEADS}),
    (BACKWARD, "dq_case", {"queries": 130, "keys": 200, "D": 128, "causal": True, **HEADS}),
    (BACKWARD, "dkdv_case", {"queries": 330, "keys": 140, "D": 64, "BN": 128, **HEADS}),
    (BACKWARD, "dkdv_case", {"queries": 260, "keys": 300, "D": 64, "BN": 128, "causal": True, **HEADS}),
    (BACKWARD, "dkdv_case", {"queries": 330, "keys": 100, "D": 128, **HEADS}),
    (BACKWARD, "dkdv_case", {"queries": 200, "keys": 260, "D": 128, "causal": True, **HEADS}),
)
ROWS = [CASES[0], *(pytest.param(row, marks=pytest.mark.slow) for row in CASES[1:])]
TIMINGS = (("eager", 0), ("random", 0), ("random", 1), ("random", 2))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: name_of(row))
def test_gradients_are_pipelined_and_right(
    row: Row, examples: Any, real_budget: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = prepare(row)
    scheduled = found.lowered().scheduled
    assert scheduled.attrs["notes"] == ()
    rings = [op.result.hint for op in scheduled.body.ops if op.name == "aref.new"]
    assert any(name.endswith("_2") or "_of_" in name for name in rings)
    assert_right(found.case, found.expected)
    for policy in ("round_robin", "first", "last"):
        assert same_bits(found.run(scheduled, policy=policy), found.expected)
    assert_emulated(found.case, "lazy", 0, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("row", CASES, ids=name_of)
@pytest.mark.parametrize("stages", [1, 2, 3])
def test_few_slots_do_not_block(row: Row, stages: int, examples: Any) -> None:
    found = prepare(row)
    scheduled = found.lowered(stages).scheduled
    for seed in range(3):
        assert same_bits(found.run(scheduled, policy="random", seed=seed), found.expected)
    assert same_bits(found.run(scheduled, policy="last"), found.expected)


@pytest.mark.slow
@pytest.mark.parametrize("row", CASES, ids=name_of)
@pytest.mark.parametrize("how", TIMINGS, ids=str)
def test_no_timing_shows_a_hazard(
    how: tuple[str, int], row: Row, examples: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_emulated(prepare(row).case, *how, monkeypatch)
