"""The families of kernels: TILE, SCHEDULED, the CPU and the PTX in the emulator against float64."""

from __future__ import annotations

from typing import Any

import pytest
from examples_kit import (
    Compiled,
    Row,
    assert_assembles,
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

PAGED = "f16[4],f16[4],f16[4],i32[2],i32[1],f32[5],f32[4],f32[4]"
GRADIENT = "f16[4],f16[4],f16[4],f16[4],f32[3],f32[3],f16[4]"
HEADED = "f16[4],f16[4],f16[4],f16[4]"
FP8, HALF = "e4m3[2],e4m3[2],f32[1],f32[1],bf16[2]", "f16[2],f16[2],f16[2]"
OWN_TILES: tuple[Compiled, ...] = (
    ("gemm", "gemm", "f16[2, contiguous=0],f16[2, contiguous=0],f16[2]", {}),
    ("gemm_types", "gemm_scaled", FP8, {"BN": 256, "BK": 128}),
    ("gemm_types", "gemm_scaled", FP8.replace("e4m3", "e5m2"), {"BK": 128}),
    ("gemm_types", "gemm_scaled", FP8.replace("e4m3", "i8"), {"BN": 256, "BK": 128}),
    ("gemm_types", "gemm_scaled", FP8.replace("e4m3", "f32"), {"BN": 256, "BK": 32}),
    ("gemm_types", "gemm_scaled", FP8.replace("e4m3", "bf16"), {"BN": 256}),
    ("gemm_split_k", "gemm_shares", "f16[2],f16[2],f32[3]", {}),
    ("gemm_split_k", "add_shares", "f32[3],f16[2]", {}),
    ("gemm_split_k", "gemm_atomic", "f16[2],f16[2],f32[2]", {}),
    ("stream_k", "stream_k", "f16[2],f16[2],f32[2]", {}),
    ("batched_gemm", "batched_gemm", "f16[3],f16[3],f16[3]", {}),
    ("swiglu", "swiglu", f"{HALF},f16[2]", {}),
    ("grouped_gemm", "grouped_gemm", "f16[2],f16[3],i32[1],i32[1],i32[1],f16[2]", {}),
    ("gemv", "gemv", "f16[2],f16[1],f16[1]", {}),
    ("gemv", "flat_gemm", HALF, {}),
    *(
        ("attention_window", "attention_window", f"{HEADED},f32[3],i32", {"D": d, "cap": cap})
        for d in (64, 128)
        for cap in (0.0, 30.0)
    ),
    *(
        ("attention_varlen", "attention_varlen", "f16[3],f16[3],f16[3],i32[1],i32[1],f16[3]", {"D": d})
        for d in (64, 128)
    ),
    *(("attention", "attention", HEADED, {"D": d, "causal": c}) for d in (64, 128) for c in (False, True)),
    ("attention", "attention", HEADED.replace("f16", "bf16"), {"D": 256, "causal": True, "BN": 64}),
    *(
        ("attention_fp8", "attention_fp8", "e4m3[4],e4m3[4],e4m3[4],bf16[4],f32,f32", {"D": d})
        for d in (64, 128)
    ),
    ("decode_attention", "decode_shares", PAGED, {}),
    ("decode_attention", "decode_fixed", f"{PAGED},f32", {}),
    ("decode_attention", "combine", "f32[5],f32[4],f32[4],f16[4]", {}),
    *(
        ("attention_backward", kernel, GRADIENT + more, {"D": d, "causal": c})
        for kernel, more in (("attention_dkdv", ",f16[4]"), ("attention_dq", ""))
        for d in (64, 128)
        for c in (False, True)
    ),
    ("attention_backward", "row_dots", "f16[4],f16[4],f32[3]", {}),
    ("rms_norm", "rms_norm", "f16[2],f16[1],f16[2],f32[1]", {"BN": 4096}),
    ("rms_norm", "rms_norm_backward", "f16[2],f16[1],f32[1],f16[2],f16[2],f32[2]", {"BN": 4096}),
    ("rms_norm", "add_rows", "f32[2],f32[1]", {}),
    (
        "layer_norm_backward",
        "layer_norm_backward",
        "f16[2],f16[1],f32[1],f32[1],f16[2],f16[2],f32[2],f32[2]",
        {"BN": 4096},
    ),
    ("cross_entropy", "cross_entropy", "f16[2],i32[1],f32[1],f16[2]", {}),
    ("rotary", "rotary", "f16[4],f32[2],f32[2],f16[4]", {}),
)
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
@pytest.mark.parametrize("row", OWN_TILES, ids=name_of)
def test_the_assembler_spills_and_drops_nothing(row: Compiled, examples: Any, real_budget: None) -> None:
    """With the solver's own budget, since a better plan may need more registers."""
    assert_assembles(row)


@SLOW
@pytest.mark.parametrize("name", NAMES)
def test_the_script_runs_and_says_so(name: str) -> None:
    assert_script_says_so(name)
