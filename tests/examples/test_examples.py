"""Each example, at shapes it has not seen: all forms, all interleavings and the CPU agree.

TILE by the interpreter is checked against float64 within the example's bound; AREF and
SCHEDULED must then give the same bits, and the CPU the same within the bound.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from examples_kit import (
    Prepared,
    Row,
    assert_emulated,
    assert_right,
    assert_script_says_so,
    make,
    name_of,
    prepare,
    same_bits,
    traced,
)

from tilec.ir.core import walk
from tilec.passes import lower

NAMES = ("vector_add", "softmax", "layer_norm", "gemm", "persistent_gemm", "embedding", "attention")

SMALL = {"BM": 64, "BN": 32, "BK": 32}  # the least tiles that the scheduler specialises
HEADS = {"batch": 1, "heads": 2, "kv_heads": 1, "BM": 64, "BN": 32}

# example, function that makes the case, arguments: ragged in every extent, trip counts 0, 1, few, many.
TABLE: tuple[Row, ...] = (
    ("vector_add", "case", {"n": 1000, "BLOCK": 256}),
    ("vector_add", "case", {"n": 1, "BLOCK": 256}),
    ("vector_add", "case", {"n": 777, "BLOCK": 128, "dtype": "float16"}),
    ("softmax", "case", {"m": 5, "n": 37}),
    ("softmax", "case", {"m": 3, "n": 128, "dtype": "float16"}),
    ("softmax", "case", {"m": 3, "n": 2}),
    ("layer_norm", "case", {"m": 5, "n": 37}),
    ("layer_norm", "case", {"m": 3, "n": 100, "dtype": "float16"}),
    *(("gemm", "case", {"m": 70, "n": 45, "k": k, **SMALL}) for k in (1, 32, 33, 96, 128, 150)),
    ("gemm", "case", {"m": 64, "n": 32, "k": 64, "dtype": "float32", **SMALL}),
    ("gemm", "gelu_case", {"m": 70, "n": 45, "k": 100, **SMALL}),
    ("persistent_gemm", "case", {"m": 130, "n": 70, "k": 100, "programs": 2, **SMALL}),
    ("persistent_gemm", "case", {"m": 70, "n": 45, "k": 64, "programs": 7, **SMALL}),
    ("embedding", "case", {"tokens": 40, "words": 33, "width": 50, "BD": 32}),
    ("attention", "case", {"queries": 70, "keys": 90, "D": 64, **HEADS}),
    ("attention", "case", {"queries": 70, "keys": 130, "D": 64, "causal": True, **HEADS}),
    ("attention", "case", {"queries": 100, "keys": 40, "D": 64, "causal": True, **HEADS}),
    ("attention", "case", {"queries": 70, "keys": 32, "D": 128, "causal": True, **HEADS}),
)

# What the emulator runs as PTX: rows are multiples of 16 bytes where products need TMA.
EMULATED: tuple[Row, ...] = (
    ("vector_add", "case", {"n": 1000, "BLOCK": 256}),
    ("softmax", "case", {"m": 5, "n": 37}),
    ("softmax", "case", {"m": 3, "n": 128, "dtype": "float16"}),
    ("layer_norm", "case", {"m": 5, "n": 37}),
    ("embedding", "case", {"tokens": 40, "words": 33, "width": 50, "BD": 32}),
    ("gemm", "case", {"m": 70, "n": 48, "k": 104, **SMALL}),
    ("gemm", "gelu_case", {"m": 70, "n": 48, "k": 24, **SMALL}),
    ("persistent_gemm", "case", {"m": 130, "n": 72, "k": 64, "programs": 2, **SMALL}),
    ("attention", "case", {"queries": 70, "keys": 90, "D": 64, "causal": True, **HEADS}),
    ("attention", "case", {"queries": 64, "keys": 33, "D": 128, **HEADS}),
)


@pytest.fixture(scope="session", params=TABLE, ids=name_of)
def prepared(request: pytest.FixtureRequest, examples: Any) -> Prepared:
    return prepare(request.param)


def test_the_case_can_fail_and_tile_is_right(prepared: Prepared, examples: Any) -> None:
    assert not examples.is_vacuous(prepared.case)
    assert_right(prepared.case, prepared.expected)
    assert_right(prepared.case, prepared.run(prepared.tile))


def test_aref_in_program_order_equals_tile(prepared: Prepared) -> None:
    assert same_bits(prepared.run(prepared.lowered().aref), prepared.expected)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_every_interleaving_of_scheduled_equals_tile(prepared: Prepared, depth: int) -> None:
    scheduled = prepared.lowered(depth).scheduled
    for policy in ("round_robin", "first", "last"):
        assert same_bits(prepared.run(scheduled, policy=policy), prepared.expected), policy
    for seed in range(2):
        assert same_bits(prepared.run(scheduled, policy="random", seed=seed), prepared.expected), seed


@pytest.mark.slow
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_fifty_random_interleavings(prepared: Prepared, depth: int) -> None:
    scheduled = prepared.lowered(depth).scheduled
    for seed in range(50):
        assert same_bits(prepared.run(scheduled, policy="random", seed=seed), prepared.expected), seed


def test_the_cpu_is_right_and_deterministic(prepared: Prepared, examples: Any) -> None:
    ratio, place = examples.check(prepared.case, "cpu")
    assert ratio <= 1, place
    first = [np.array(a) for a in prepared.case.outputs]
    examples.poison(prepared.case)
    prepared.case.launch("cpu")
    assert same_bits(prepared.case.outputs, first)


@pytest.mark.parametrize("row", EMULATED, ids=name_of)
@pytest.mark.parametrize("mode", ["eager", "lazy", "random"])
def test_the_emulator_runs_the_ptx(
    mode: str, row: Row, examples: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_emulated(make(row), mode, 1, monkeypatch)


@pytest.mark.gpu
def test_the_gpu_is_right(prepared: Prepared, examples: Any, gpu: Any, device: Any) -> None:
    case = prepared.case
    examples.poison(case)
    args = [device(a) if isinstance(a, np.ndarray) else a for a in case.args]
    case.kernel[case.grid](*args, backend="cuda", **case.meta)
    assert_right(case, [args[part.output].numpy() for part in case.parts()])


def test_products_of_gemm_and_attention_are_specialised(examples: Any) -> None:
    """Otherwise the tests above would compare one sequential program with itself."""
    seen = set()
    for name, maker, arguments in TABLE:
        if name in ("gemm", "persistent_gemm", "attention") and "dtype" not in arguments:
            case = make((name, maker, arguments))
            ops = {op.name for op in walk(lower(traced(case), "sm_90a").scheduled.body)}
            seen |= {name} if "warp_groups" in ops else set()
    assert seen == {"gemm", "persistent_gemm", "attention"}


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_kernel_is_noticed(name: str, examples: Any) -> None:
    """The check fails for an output that is stale, shifted by one, or NaN in one place."""
    case = make(next(row for row in TABLE if row[0] == name))
    good = case.expected
    bad = np.array(good)
    bad.flat[bad.size // 2] = np.nan
    for wrong in (bad, np.roll(good, 1), good * 1.01, np.zeros_like(good)):
        assert examples.error_ratio(case, wrong)[0] > 1
    with pytest.raises(RuntimeError, match="changed one of its inputs"):
        examples.check(replace(case, kernel=Vandal(case.kernel)), "cpu")


class Vandal:
    """A kernel that writes to its first input."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel

    def __getitem__(self, grid: Any) -> Any:
        def launch(*args: Any, **options: Any) -> None:
            args[0].flat[0] += 1

        return launch


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_script_runs_and_says_so(name: str) -> None:
    assert_script_says_so(name)
