"""Each example, at shapes it has not seen: all forms, all interleavings and the CPU agree.

TILE by the interpreter is checked against float64 within the example's bound; AREF and
SCHEDULED must then give the same bits, and the CPU the same within the bound.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tilec.ir.core import Kernel, walk
from tilec.ir.interp import interpret
from tilec.passes import Options, Stages, lower
from tilec.runtime import emulator, toolchain
from tilec.runtime.arrays import tensor_type

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("vector_add", "softmax", "layer_norm", "gemm", "persistent_gemm", "embedding", "attention")

SMALL = {"BM": 64, "BN": 32, "BK": 32}  # the least tiles that the scheduler specialises
HEADS = {"batch": 1, "heads": 2, "kv_heads": 1, "BM": 64, "BN": 32}

# example, function that makes the case, arguments: ragged in every extent, trip counts 0, 1, few, many.
TABLE: tuple[tuple[str, str, dict[str, Any]], ...] = (
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
EMULATED: tuple[tuple[str, str, dict[str, Any]], ...] = (
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


@dataclass
class Prepared:
    """A case with its TILE kernel, grid, and the bits that TILE gives."""

    case: Any
    tile: Kernel
    grid: tuple[int, ...]
    expected: np.ndarray[Any, Any]

    def lowered(self, stages: int | None = None) -> Stages:
        return lower(self.tile, "sm_90a", Options(stages=stages))

    def run(self, kernel: Kernel, **how: Any) -> np.ndarray[Any, Any]:
        return interpreted(self.case, kernel, self.grid, **how)


@pytest.fixture(scope="session")
def examples() -> Iterator[Any]:
    """The module `_check`, with the examples importable as scripts see each other."""
    sys.path.insert(0, str(EXAMPLES))
    yield importlib.import_module("_check")
    sys.path.remove(str(EXAMPLES))


@pytest.fixture(
    scope="session", params=TABLE, ids=lambda row: f"{row[0]}-{'-'.join(map(str, row[2].values()))}"
)
def prepared(request: pytest.FixtureRequest, examples: Any) -> Prepared:
    name, maker, arguments = request.param
    case = getattr(importlib.import_module(name), maker)(**arguments)
    kernel = traced(case)
    constants = {p.name: p.default for p in case.kernel.params if p.kind == "constexpr"} | case.meta
    grid = case.grid(constants)
    return Prepared(case, kernel, grid, interpreted(case, kernel, grid))


def traced(case: Any) -> Kernel:
    """The TILE kernel for aligned tensors: TMA must be possible, whatever the ragged shape."""
    return case.kernel.trace([replace(tensor_type(a), aligned=True) for a in case.args], **case.meta)


def interpreted(case: Any, kernel: Kernel, grid: tuple[int, ...], **how: Any) -> np.ndarray[Any, Any]:
    """The output of an interpreter run on a poisoned output; inputs must stay as they are."""
    import _check

    before = _check.fingerprint(case)
    _check.poison(case.args[case.output])
    interpret(kernel, grid, case.args, **how)
    assert _check.fingerprint(case) == before
    return np.array(case.args[case.output])


def same_bits(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    return a.tobytes() == b.tobytes()


def test_the_case_can_fail_and_tile_is_right(prepared: Prepared, examples: Any) -> None:
    assert prepared.case.expected.size < 2 or not examples.is_vacuous(prepared.case)
    ratio, place = examples.error_ratio(prepared.case, prepared.expected)
    assert ratio <= 1, place


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
    first = np.array(prepared.case.args[prepared.case.output])
    examples.poison(prepared.case.args[prepared.case.output])
    assert same_bits(prepared.case.launch("cpu"), first)


@pytest.mark.parametrize("row", EMULATED, ids=lambda row: f"{row[0]}-{'-'.join(map(str, row[2].values()))}")
@pytest.mark.parametrize("mode", ["eager", "lazy", "random"])
def test_the_emulator_runs_the_ptx(
    mode: str, row: tuple[str, str, dict[str, Any]], examples: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = emulator.launch
    reports: list[emulator.Report] = []

    def timed(*args: Any) -> None:
        reports.extend(launch(*args, mode=mode, seed=1).reports)

    monkeypatch.setattr(emulator, "launch", timed)
    name, maker, arguments = row
    ratio, place = examples.check(getattr(importlib.import_module(name), maker)(**arguments), "emulator")
    assert ratio <= 1, place
    assert reports == []


OWN_TILES: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("vector_add", "vector_add", "f32[1],f32[1],f32[1]", {}),
    ("softmax", "softmax", "f32[2],f32[2]", {}),
    ("layer_norm", "layer_norm", "f32[2],f32[1],f32[1],f32[2]", {}),
    ("gemm", "gemm", "f16[2],f16[2],f16[2]", {}),
    ("gemm", "gemm_bias_gelu", "f16[2],f16[2],f16[1],f16[2]", {}),
    ("persistent_gemm", "persistent_gemm", "f16[2],f16[2],f16[2]", {}),
    ("embedding", "embedding", "f16[2],i32[1],f16[2]", {}),
    *(
        ("attention", "attention", "f16[4],f16[4],f16[4],f16[4]", {"D": d, "causal": c})
        for d in (64, 128)
        for c in (False, True)
    ),
)


@pytest.mark.parametrize("row", OWN_TILES, ids=lambda row: f"{row[1]}-{'-'.join(map(str, row[3].values()))}")
def test_the_assembler_spills_and_drops_nothing(
    row: tuple[str, str, str, dict[str, Any]], examples: Any
) -> None:
    if toolchain.find("ptxas") is None:
        pytest.skip("ptxas not found: pip install 'tilec[test]'")
    file, name, signature, meta = row
    function = getattr(importlib.import_module(file), name)
    made = function.compile(signature.split(","), target="sm_90a", **meta)
    done = toolchain.assemble(made.asm["ptx"], "sm_90a")
    assert (done.spill_stores, done.spill_loads) == (0, 0)
    assert [m for m in done.messages if m.severity != "info"] == []


@pytest.mark.gpu
def test_the_gpu_is_right(prepared: Prepared, examples: Any, gpu: Any, device: Any) -> None:
    case = prepared.case
    examples.poison(case.args[case.output])
    args = [device(a) if isinstance(a, np.ndarray) else a for a in case.args]
    case.kernel[case.grid](*args, backend="cuda", **case.meta)
    ratio, place = examples.error_ratio(case, args[case.output].numpy())
    assert ratio <= 1, place


def test_products_of_gemm_and_attention_are_specialised(examples: Any) -> None:
    """Otherwise the tests above would compare one sequential program with itself."""
    seen = set()
    for name, maker, arguments in TABLE:
        if name in ("gemm", "persistent_gemm", "attention") and "dtype" not in arguments:
            case = getattr(importlib.import_module(name), maker)(**arguments)
            ops = {op.name for op in walk(lower(traced(case), "sm_90a").scheduled.body)}
            seen |= {name} if "warp_groups" in ops else set()
    assert seen == {"gemm", "persistent_gemm", "attention"}


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_kernel_is_noticed(name: str, examples: Any) -> None:
    """The check fails for an output that is stale, shifted by one, or NaN in one place."""
    maker, arguments = next((m, a) for n, m, a in TABLE if n == name)
    case = getattr(importlib.import_module(name), maker)(**arguments)
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
    done = subprocess.run(
        [sys.executable, f"examples/{name}.py"], cwd=EXAMPLES.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "values right" in done.stdout
