"""The families of kernels: TILE, SCHEDULED, the CPU and the PTX in the emulator against float64."""

from __future__ import annotations

from typing import Any

import pytest
from examples_kit import (
    Row,
    assert_emulated,
    assert_right,
    assert_script_says_so,
    make,
    name_of,
    prepare,
    same_bits,
)

SMALL = {"BM": 64, "BN": 32, "BK": 32}

# Small and ragged in every extent; rows are multiples of 16 bytes where products need TMA.
GEMMS: tuple[Row, ...] = (
    *(("gemm", "case", {"m": 72, "n": 48, "k": 80, "columns_first": c, **SMALL}) for c in ("A", "BC")),
    *(
        ("gemm_types", "case", {"m": 70, "n": 48, "k": 80, "dtype": d, **SMALL})
        for d in ("bfloat16", "float8_e4m3fn", "float8_e5m2", "int8", "float32")
    ),
    ("gemm_split_k", "shares_case", {"m": 72, "n": 48, "k": 300, "shares": 4, **SMALL}),
    ("gemm_split_k", "add_case", {"m": 40, "n": 72, "shares": 3}),
    ("gemm_split_k", "atomic_case", {"m": 70, "n": 24, "k": 160, "shares": 2, **SMALL}),
    ("persistent_gemm", "case", {"m": 200, "n": 100, "k": 40, "programs": 3, "GROUP": 2, **SMALL}),
    ("stream_k", "case", {"m": 70, "n": 40, "k": 200, "programs": 5, **SMALL}),
    ("batched_gemm", "case", {"batch": 2, "m": 70, "n": 48, "k": 80, **SMALL}),
    ("batched_gemm", "case", {"batch": 2, "m": 70, "n": 24, "k": 40, "shared": True, **SMALL}),
    ("swiglu", "case", {"m": 70, "n": 48, "k": 80, **SMALL}),
    ("grouped_gemm", "case", {"rows": (1, 130, 0, 45), "n": 48, "k": 80, **SMALL}),
    ("grouped_gemm", "weights_case", {"rows": (1, 130, 0, 45), "n": 48, "k": 80, **SMALL}),
    ("gemv", "gemv_case", {"n": 50, "k": 136, "BN": 16, "BK": 64}),
    ("gemv", "flat_case", {"n": 70, "k": 136, "BATCH": 8, "BK": 32}),
)
HEADS = {"batch": 1, "heads": 2, "kv_heads": 1, "BM": 64, "BN": 32}
PACKED = {k: v for k, v in HEADS.items() if k != "batch"}
ATTENTION: tuple[Row, ...] = (
    ("attention_window", "case", {"queries": 70, "keys": 90, "D": 64, "window": 20, "cap": 3.0, **HEADS}),
    ("attention_window", "case", {"queries": 100, "keys": 40, "D": 64, "window": 1000, **HEADS}),
    ("attention_varlen", "case", {"queries": (1, 70, 30), "keys": (20, 70, 50), "D": 64, **PACKED}),
    ("attention", "case", {"queries": 70, "keys": 90, "D": 64, "dtype": "bfloat16", **HEADS}),
    ("attention", "case", {"queries": 40, "keys": 70, "D": 256, "causal": True, **HEADS}),
)
E5M2, FLOAT8 = "float8_e5m2", {"batch": 1, "heads": 2, "kv_heads": 1}
ATTENTION += (
    ("attention_fp8", "case", {**FLOAT8, "queries": 70, "keys": 96, "D": 64, "BM": 64, "BN": 32}),
    (
        "attention_fp8",
        "case",
        {**FLOAT8, "queries": 40, "keys": 80, "D": 64, "BN": 64, "dtype": E5M2},
    ),
)
DECODE = {"lengths": (100, 33), "kv_heads": 2, "group": 3, "D": 64, "shares": 3}
BACKWARD = {"batch": 1, "heads": 2, "kv_heads": 1, "D": 64}
ATTENTION += (
    ("decode_attention", "shares_case", {**DECODE, "PAGE": 32}),
    ("decode_attention", "shares_case", {**DECODE, "PAGE": 32, "exponent": 1.5}),
    ("decode_attention", "combine_case", DECODE),
    ("attention_backward", "dkdv_case", {"queries": 70, "keys": 90, "BM": 32, "BN": 64, **BACKWARD}),
    ("attention_backward", "dq_case", {"queries": 40, "keys": 90, "causal": True, "BN": 32, **BACKWARD}),
    ("attention_backward", "dq_case", {"queries": 40, "keys": 90, **BACKWARD}),
    ("attention_backward", "dots_case", {"batch": 1, "heads": 2, "queries": 70, "D": 64}),
)
ROWS: tuple[Row, ...] = (
    ("rms_norm", "case", {"m": 5, "n": 37}),
    ("rms_norm", "backward_case", {"m": 7, "n": 37, "programs": 3, "dtype": "float16"}),
    ("rms_norm", "add_case", {"parts": 5, "n": 37, "BN": 32}),
    ("layer_norm_backward", "case", {"m": 7, "n": 37, "programs": 3}),
    ("cross_entropy", "case", {"m": 9, "n": 150, "BN": 64}),
    ("cross_entropy", "case", {"m": 9, "n": 100, "BN": 128, "dtype": "float16"}),
    ("rotary", "case", {"batch": 2, "positions": 7, "heads": 6, "D": 64, "BH": 4}),
)
TABLE = GEMMS + ATTENTION + ROWS

SLOW = pytest.mark.slow
NAMES = tuple(dict.fromkeys(row[0] for row in TABLE))


@pytest.mark.parametrize("row", TABLE, ids=name_of)
def test_all_forms_and_machines_are_right(row: Row, examples: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = prepare(row)
    assert not examples.is_vacuous(found.case)
    assert_right(found.case, found.expected)
    if not found.case.zeroed:  # sums of atomics depend on the order
        assert same_bits(found.run(found.lowered().scheduled, policy="last"), found.expected)
    ratio, place = examples.check(found.case, "cpu")
    assert ratio <= 1, place
    assert_emulated(found.case, "lazy", 0, monkeypatch)


@SLOW
@pytest.mark.parametrize("row", TABLE, ids=name_of)
@pytest.mark.parametrize("how", [("eager", 0), ("random", 0), ("random", 1), ("random", 2)], ids=str)
def test_the_emulator_runs_the_ptx(
    how: tuple[str, int], row: Row, examples: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_emulated(make(row), *how, monkeypatch)


@SLOW
@pytest.mark.parametrize("row", TABLE, ids=name_of)
def test_every_interleaving_of_scheduled_equals_tile(row: Row, examples: Any) -> None:
    found = prepare(row)
    if found.case.zeroed:
        pytest.skip("sums of atomics depend on the order")
    for depth in (1, 2, 3):
        scheduled = found.lowered(depth).scheduled
        for policy in ("round_robin", "first", "last"):
            assert same_bits(found.run(scheduled, policy=policy), found.expected), (depth, policy)
        for seed in range(3):
            how = {"policy": "random", "seed": seed}
            assert same_bits(found.run(scheduled, **how), found.expected), (depth, seed)


@SLOW
@pytest.mark.parametrize("name", NAMES)
def test_the_script_runs_and_says_so(name: str) -> None:
    assert_script_says_so(name)
