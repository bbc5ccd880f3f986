"""Hand-built SCHEDULED kernels: rings that the passes do not make yet, against the interpreter."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hopper_kit import MODES, Array, compare, gemm, random_array, tile_kernel, twin

from tilec.backends.artifact import Artifact
from tilec.backends.ptx import compile_kernel
from tilec.ir.core import Block, Kernel, Op, Value, clone_block, clone_op, frozen
from tilec.ir.errors import TilecError
from tilec.ir.forms import verify
from tilec.ir.interp import interpret
from tilec.ir.ops import make
from tilec.ir.types import TensorType, TileType, float16, int32
from tilec.passes import Options, lower
from tilec.runtime.emulator import launch

TILE = (64, 64)


def expected_of(kernel: Kernel, args: Sequence[Array]) -> list[Array]:
    found = [twin(a) for a in args]
    interpret(kernel, (1,), found)
    return found


def changed_puts(kernel: Kernel) -> Kernel:
    """The kernel with every loaded tile doubled before it is put: TMA cannot do that."""

    def rewrite(op: Op, env: dict[Value, Value]) -> list[Op]:
        new = clone_op(op, env, rewrite)
        if op.name != "load" or new.result.type.shape == ():  # type: ignore[union-attr]
            return [new]
        twice = make("add", (new.result, new.result), loc=op.loc)
        env[op.result] = twice.result
        return [new, twice]

    return kernel.with_(body=clone_block(kernel.body, {p: p for p in kernel.params}, rewrite))


def gemm_of_doubled(warps: int) -> tuple[Kernel, list[Array]]:
    args = [random_array((128, 200)), random_array((200, 64)), random_array((128, 64), seed=2)]
    stages = lower(tile_kernel(gemm, args, BM=128), "sm_90a", Options(stages=2, num_warps=warps))
    made = changed_puts(stages.scheduled)
    verify(made)
    return made, args


@pytest.mark.parametrize("warps", [4, 8])
def test_computed_tiles_are_put_by_ordinary_stores(warps: int) -> None:
    kernel, args = gemm_of_doubled(warps)
    artifact = compile_kernel(kernel)
    assert "expect_tx" not in artifact.text and "wgmma" in artifact.text
    compare(artifact, (1,), args, expected_of(kernel, args)[-1], 2e-3)


def test_stored_tiles_need_the_proxy_fence() -> None:
    kernel, args = gemm_of_doubled(8)
    artifact = compile_kernel(kernel)
    load, compute = artifact.text.split("// group compute", 1)
    broken = load.replace("fence.proxy.async.shared::cta;", "") + "// group compute" + compute
    assert finds(replace(artifact, text=broken), args, "E1")


def finds(artifact: Artifact, args: Sequence[Array], code: str) -> bool:
    for mode, seed in MODES:
        try:
            outcome = launch(artifact, (1,), [twin(a) for a in args], mode=mode, seed=seed)  # type: ignore[arg-type]
        except TilecError as error:
            return error.code == code
        if any(r.code == code for r in outcome.reports):
            return True
    return False


def constant(value: int) -> Op:
    return make("const", dtype=int32, shape=(), value=value)


def loop(body: Callable[[Value], Sequence[Op]], trips: int) -> list[Op]:
    """Ops of a loop over ``trips`` tiles; the body gets the first row of its tile."""
    i = Value(TileType(int32), "i")
    bounds = [constant(n) for n in (0, trips * TILE[0], TILE[0])]
    ops = (*body(i), make("yield"))
    return [*bounds, make("for", [b.result for b in bounds], blocks=[Block((i,), ops)])]


def elementwise_groups(ops: Sequence[str], depth: int, trips: int, lag: int = 0) -> Kernel:
    """One ring of tiles of X; a group for each op applies it to every tile."""
    x, *ys = (Value(TensorType(float16, 2, 1), name) for name in ("X", *(f"Y{i}" for i in range(len(ops)))))
    new = make("aref.new", payload=(TileType(float16, TILE),), depth=depth, hints=("ring",))
    ring, zero = new.result, constant(0)

    def fill(row: Value) -> list[Op]:
        load = make("load", (x, row, zero.result), shape=TILE)
        return [load, make("aref.put", (ring, load.result))]

    def use(name: str, y: Value) -> Callable[[Value], list[Op]]:
        def body(row: Value) -> list[Op]:
            get = make("aref.get", (ring,))
            value = make(name, get.results)
            out = make("store", (y, value.result, row, zero.result))
            return [get, value, make("aref.release", (ring,), keep=lag), out]

        return body

    blocks = [Block((), (*loop(fill, trips), make("yield")))]
    for name, y in zip(ops, ys, strict=True):
        drain = [make("aref.release", (ring,), keep=0)] if lag else []
        blocks.append(Block((), (*loop(use(name, y), trips), *drain, make("yield"))))
    names = ("load", *(f"group{i}" for i in range(len(ops))))
    n = len(ops)
    groups = make(
        "warp_groups", blocks=blocks, names=names, warps=(4,) + (4,) * n, registers=(40,) + (120,) * n
    )
    made = Kernel(
        "k", (x, *ys), Block((), (new, zero, groups, make("yield"))), "scheduled", frozen(num_warps=4)
    )
    verify(made)
    return made


@pytest.mark.parametrize("ops", [("neg",), ("neg", "abs")])
@pytest.mark.parametrize("depth,lag", [(1, 0), (2, 0), (2, 1), (3, 2)])
def test_groups_that_read_a_ring_with_ordinary_loads(ops: tuple[str, ...], depth: int, lag: int) -> None:
    for trips in (0, 1, 2 * depth + 1):
        kernel = elementwise_groups(ops, depth, trips, lag)
        rows = max(trips, 1) * TILE[0]
        args = [random_array((rows, TILE[1]), seed=s) for s in range(len(ops) + 1)]
        artifact = compile_kernel(kernel)
        counts = [int(n) for n in re.findall(r"mbarrier\.init.*, (\d+);", artifact.text)]
        assert counts == [1] * depth + [4 * len(ops)] * depth
        check(artifact, args, expected_of(kernel, args))


def check(artifact: Artifact, args: Sequence[Array], expected: Sequence[Array]) -> None:
    for mode, seed in MODES:
        found = [twin(a) for a in args]
        outcome = launch(artifact, (1,), found, mode=mode, seed=seed)  # type: ignore[arg-type]
        assert not outcome.reports
        for f, x in zip(found, expected, strict=True):
            np.testing.assert_allclose(f.astype(float), x.astype(float), rtol=2e-3)


def test_readers_with_ordinary_loads_hand_slots_back_warp_by_warp() -> None:
    """Without the warp's own barrier a lane may still read what the copy engine overwrites."""
    args = [random_array((5 * TILE[0], TILE[1]), seed=s) for s in range(2)]
    artifact = compile_kernel(elementwise_groups(("neg",), 1, 5))
    early = re.sub(r"(mbarrier\.init.*), 4;", r"\1, 1;", artifact.text)
    mutant: Any = replace(artifact, text=early)
    faults = 0
    for mode, seed in MODES:
        try:
            faults += bool(launch(mutant, (1,), [twin(a) for a in args], mode=mode, seed=seed).reports)  # type: ignore[arg-type]
        except TilecError:
            faults += 1
    assert faults
