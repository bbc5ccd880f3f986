"""Pipelined loops as PTX: right on the emulator, whole for ptxas, and overlapped in its code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hopper_kit import (
    MODES,
    Array,
    assembled,
    attention,
    compare,
    disassembled,
    gemm,
    random_array,
    tile_kernel,
    twin,
)

from tilec.backends.artifact import Artifact
from tilec.backends.ptx import compile_kernel
from tilec.ir.core import Kernel, Op
from tilec.ir.forms import verify
from tilec.ir.interp import interpret
from tilec.passes.schedule.modulo import LoopPlan

sys.path.insert(0, str(Path(__file__).parents[1] / "passes"))
from modulo_kit import always_running, distributed, has_product, in_order, overlapped, pipelined, random_plan

QUICK = MODES[:1] + MODES[2:3]


def heads(d: int, queries: int = 136, keys: int = 168) -> list[Array]:
    """Q, K, V, O of one head."""
    rows = queries, keys, keys, queries
    return [random_array((1, n, d), seed=i) for i, n in enumerate(rows)]


def expected(base: Kernel, grid: tuple[int, ...], args: list[Any]) -> Array:
    copies = [twin(a) for a in args]
    interpret(base, grid, copies)
    return copies[-1]


def whole(made: Artifact) -> Any:
    """ptxas keeps products asynchronous, and spills nothing."""
    done = assembled(made.text)
    assert not [m for m in done.messages if m.serious]
    assert (done.spill_stores, done.spill_loads) == (0, 0)
    return done


@pytest.mark.parametrize(
    "d,bm,bn,causal",
    [(64, 64, 64, False), (64, 128, 128, True), (128, 128, 64, True), (128, 128, 128, False)],
)
def test_overlapped_attention(d: int, bm: int, bn: int, causal: bool) -> None:
    args, grid = heads(d), (-(-136 // bm), 1)
    kernel = tile_kernel(attention, args, causal=causal, D=d, BM=bm, BN=bn)
    base = distributed(kernel, 2, warps=bm // 16)
    made = compile_kernel(pipelined(base, overlapped))
    whole(made)
    compare(made, grid, args, expected(base, grid, args), 2e-3, QUICK if d == 64 else QUICK[1:])


@pytest.mark.parametrize("keys", [1, 64, 128, 192])
def test_trips_around_the_stages(keys: int) -> None:
    args = heads(64, 64, keys)
    base = distributed(tile_kernel(attention, args), 1)
    made = compile_kernel(pipelined(base, overlapped))
    compare(made, (1, 1), args, expected(base, (1, 1), args), 2e-3)


@pytest.mark.parametrize("d", [64, 128])
def test_the_softmax_runs_beside_the_second_product(d: int) -> None:
    """Between the wait for T and that for U stand the exponentials of a block: without the pin
    ptxas moves the second wait before them."""
    kernel = tile_kernel(attention, heads(d), D=d, BM=128, BN=128)
    made = compile_kernel(pipelined(distributed(kernel, 2, warps=8), overlapped))
    code = disassembled(whole(made))
    (_, *after) = code.split("WARPGROUP.DEPBAR.LE gsb0, 0x1")
    assert len(after) == 1  # the steady state alone has two products at once
    beside = after[0].split("WARPGROUP.DEPBAR.LE gsb0, 0x0")[0]
    assert beside.count("MUFU.EX2") >= 64 and "HGMMA" not in beside
    # P is rounded behind the wait, over the last one: there is one copy of it.
    assert beside.count("F2FP") == 0


def test_pinned_waits_have_different_conditions() -> None:
    kernel = tile_kernel(attention, heads(64), D=64, BM=128, BN=128)
    made = compile_kernel(pipelined(distributed(kernel, 2, warps=8), overlapped))
    lines = made.text.splitlines()
    pins = [i for i, line in enumerate(lines) if line.startswith("$pinned")]
    tests = [line.split(", ")[-1] for i in pins for line in lines[i - 3 : i] if "setp.eq.s32" in line]
    assert len(pins) == len(tests) == len(set(tests)) >= 1


def test_a_kernel_in_which_some_product_always_runs() -> None:
    """ptxas keeps products asynchronous if all are over at one point of a step."""
    args = heads(64)
    base = distributed(tile_kernel(attention, args, BM=128, BN=64), 4, warps=8)
    kernel = pipelined(base, always_running)
    verify(kernel)
    made = compile_kernel(kernel)
    whole(made)
    compare(made, (2, 1), args, expected(base, (2, 1), args), 2e-3, QUICK[1:])


@pytest.mark.parametrize("flying", [1, 2, 3])
def test_gemm_with_products_in_flight(flying: int) -> None:
    args = [random_array((64, 200)), random_array((200, 64)), random_array((64, 64))]
    base = distributed(tile_kernel(gemm, args), 3)
    kernel = pipelined(base, lambda op: in_order(op, in_flight=flying) if has_product(op) else None)
    made = compile_kernel(kernel)
    whole(made)
    assert f"wgmma.wait_group.sync.aligned {flying - 1};" in made.text
    compare(made, (1, 1), args, expected(base, (1, 1), args), 2e-3)


@pytest.mark.parametrize("seed", [pytest.param(s, marks=pytest.mark.slow) if s > 3 else s for s in range(40)])
def test_random_plans_of_attention(seed: int) -> None:
    """Whatever the plan: right, and products that ptxas leaves asynchronous."""
    args, plans = heads(64, 64, 200), list[LoopPlan]()
    base = distributed(tile_kernel(attention, args), 5)

    def plan_of(op: Op) -> LoopPlan | None:
        plans.append(random_plan(op, seed, 2 + seed % 3))
        return plans[-1] if has_product(op) else None

    kernel = pipelined(base, plan_of)
    verify(kernel)
    made = compile_kernel(kernel)
    assert not [m for m in assembled(made.text).messages if m.serious]
    compare(made, (1, 1), args, expected(base, (1, 1), args), 2e-3, [MODES[seed % 4]])
