"""Loops that fill their rings ahead: the same bits as TILE, and what stands where."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilec
import tilec.language as tl
from tilec.ir.core import Kernel, Op, walk
from tilec.ir.errors import InfeasibleError
from tilec.ir.interp import interpret
from tilec.passes import Options, Stages, lower
from tilec.passes.multiples import is_multiple
from tilec.passes.targets import TARGETS
from tilec.passes.warp_products import Sizes, warp_grid

Array = np.ndarray[Any, Any]
F16 = "f16[2]"


@tilec.kernel
def gemm(A: tl.Tensor, B: tl.Tensor, C: tl.Tensor,
         BM: tl.constexpr[int] = 32, BN: tl.constexpr[int] = 16, BK: tl.constexpr[int] = 16):  # fmt: skip
    m, n = tl.program_id(0), tl.program_id(1)
    acc = tl.zeros((BM, BN), tl.float32)
    for k in tl.range(tl.cdiv(A.shape[1], BK)):
        acc = tl.dot(tl.load(A, (m, k), (BM, BK)), tl.load(B, (k, n), (BK, BN)), acc)
    tl.store(C, (m, n), acc.to(C.dtype))


@tilec.kernel
def every_third(A: tl.Tensor, B: tl.Tensor, C: tl.Tensor, first: int, STEP: tl.constexpr[int] = 3):
    """The loop ends before the tensor does: later iterations must not be read, nor counted."""
    acc = tl.zeros((32, 16), tl.float32)
    for k in tl.range(first, 7, STEP):
        acc = tl.dot(tl.load(A, (0, k), (32, 16)), tl.load(B, (k, 0), (16, 16)), acc)
    tl.store(C, (0, 0), acc.to(C.dtype))


@tilec.kernel
def tiles_in_a_loop(A: tl.Tensor, B: tl.Tensor, C: tl.Tensor):
    for t in tl.range(C.shape[1] // 16):
        acc = tl.zeros((32, 16), tl.float32)
        for k in tl.range(tl.cdiv(A.shape[1], 16)):
            acc = tl.dot(tl.load(A, (0, k), (32, 16)), tl.load(B, (k, t), (16, 16)), acc)
        tl.store(C, (0, t), acc.to(C.dtype))


@tilec.kernel
def chased(A: tl.Tensor, B: tl.Tensor, C: tl.Tensor):
    """Which tile is next depends on the one before."""
    acc = tl.zeros((32, 16), tl.float32)
    at = A.shape[1] * 0
    for _ in tl.range(3):
        acc = tl.dot(tl.load(A, (0, at), (32, 16)), tl.load(B, (at, 0), (16, 16)), acc)
        at = (at * 5 + 3) % 7
    tl.store(C, (0, 0), acc.to(C.dtype))


def arrays(k: int, n: int = 16) -> list[Array]:
    rng = np.random.default_rng([k, n])
    shapes = ((32, k), (k, n), (32, n))
    return [rng.standard_normal(s).astype(np.float16) for s in shapes]


def lowered(fn: Any, stages: int | None = None, more: tuple[str, ...] = (), target: str = "sm_80") -> Stages:
    return lower(fn.trace([F16, F16, F16, *more]), target, Options(stages=stages))


def run(kernel: Kernel, args: list[Any], **how: Any) -> bytes:
    found = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
    interpret(kernel, (1, 1), found, **how)
    return bytes(found[2].tobytes())


def named(kernel: Kernel, name: str) -> list[Op]:
    return [op for op in walk(kernel.body) if op.name == name]


@pytest.mark.parametrize("stages", [1, 2, 3, 5])
def test_any_number_of_trips_gives_the_bits_of_tile(stages: int) -> None:
    made = lowered(gemm, stages)
    for k in (0, 1, 16, 17, 32, 48, 64, 80, 100):
        args: list[Any] = arrays(k)
        wanted = run(made.tile, args)
        for policy in ("round_robin", "first", "last"):
            assert run(made.scheduled, args, policy=policy) == wanted, (k, policy)


@pytest.mark.parametrize("first", [0, 1, 5, 6, 7, 9])
def test_loops_with_a_start_and_a_step(first: int) -> None:
    args = [*arrays(160), first]
    for stages in (1, 2, 4):
        made = lowered(every_third, stages, ("i32",))
        assert run(made.scheduled, args) == run(made.tile, args)


def test_loops_in_loops_begin_and_end_with_empty_rings() -> None:
    args: list[Any] = arrays(50, 64)
    for stages in (1, 2, 4):
        made = lowered(tiles_in_a_loop, stages)
        assert run(made.scheduled, args) == run(made.tile, args)


def test_loads_that_follow_the_iteration_before_stay() -> None:
    made = lowered(chased, 3)
    args: list[Any] = arrays(112)
    assert run(made.scheduled, args) == run(made.tile, args)
    assert any("need what an earlier iteration made" in n for n in made.scheduled.attrs["notes"])
    assert len(named(made.scheduled, "aref.put")) == 1


@pytest.mark.parametrize("stages", [1, 2, 4])
def test_puts_stand_before_the_loop_and_behind_the_get(stages: int) -> None:
    kernel = lowered(gemm, stages).scheduled
    (loop,) = named(kernel, "for")
    names = [op.name for op in loop.blocks[0].ops if op.name.startswith(("aref", "dot"))]
    order = ["aref.put", "aref.get"] if stages == 1 else ["aref.get", "aref.put"]
    assert names == [*order, "dot", "aref.release"]
    for name in ("aref.put", "aref.get", "aref.release"):
        assert len(named(kernel, name)) == (stages if name == "aref.put" or stages > 1 else 1)
    assert {op.attrs["depth"] for op in named(kernel, "aref.new")} == {stages}


def test_iterations_that_do_not_come_lie_outside_of_the_tensor() -> None:
    """Every load behind a put takes an offset that is the tensor's end unless its iteration comes."""
    kernel = lowered(gemm, 3).scheduled
    defs = {r: op for op in walk(kernel.body) for r in op.results}
    loads = [defs[v] for put in named(kernel, "aref.put") for v in put.args[1:]]
    assert len(loads) == 6
    for load in loads:
        chosen = defs[load.args[1]]
        assert chosen.name == "where" and defs[chosen.args[2]].name == "dim"
        assert defs[chosen.args[0]].name == "lt"


def test_fewer_bytes_of_shared_memory_make_fewer_slots() -> None:
    assert [slots(t, 128, 256, 64) for t in ("sm_80", "sm_86")] == [2, 2]
    assert [slots(t, 128, 128, 128) for t in ("sm_80", "sm_86")] == [2, 1]
    with pytest.raises(InfeasibleError, match="I101"):
        lower(gemm.trace([F16] * 3, BM=128, BN=128, BK=128), "sm_86", Options(stages=2))


def slots(target: str, bm: int, bn: int, bk: int) -> int:
    kernel = lower(gemm.trace([F16] * 3, BM=bm, BN=bn, BK=bk), target).scheduled
    return int(named(kernel, "aref.new")[0].attrs["depth"])


@pytest.mark.parametrize(
    "size,warps,whole,grid",
    [
        ((128, 128, 32), 4, False, (2, 2)), ((128, 128, 32), 4, True, (4, 1)),
        ((128, 256, 64), 8, False, (2, 4)),
        ((16, 128, 32), 4, False, (1, 4)), ((128, 8, 32), 4, False, (4, 1)), ((48, 96, 32), 4, False, (1, 2)),
        ((64, 64, 32), 8, True, (4, 2)), ((16, 64, 64), 4, True, (1, 4)), ((16, 8, 16), 4, False, (1, 1)),
    ],
)  # fmt: skip
def test_how_warps_share_a_product(
    size: tuple[int, int, int], warps: int, whole: bool, grid: tuple[int, int]
) -> None:
    assert warp_grid(Sizes(*size), warps, whole) == grid


def test_dots_say_how_they_are_shared_or_that_none_can() -> None:
    kernel = lowered(gemm).scheduled
    assert [op.attrs["warps"] for op in named(kernel, "dot")] == [(2, 1)]
    odd = lower(gemm.trace([F16] * 3, BM=24), "sm_80").scheduled
    assert [op.attrs["warps"] for op in named(odd, "dot")] == [()]
    assert "rows in 16s" in odd.attrs["notes"][0] + odd.attrs["notes"][-1]


def test_multiples_are_found_through_arithmetic() -> None:
    @tilec.kernel
    def stored(C: tl.Tensor, n: int):
        i = tl.program_id(0)
        for at in (i * 16, i * 16 + 8, tl.minimum(i * 8, 32), n, i * n, i * 16 + 4):
            tl.store(
                C,
                (at,),
                tl.zeros((8,), tl.float32),
            )

    kernel = stored.trace(["f32[1]", "i32"])
    defs = {r: op for op in walk(kernel.body) for r in op.results}
    places = [op.args[2] for op in named(kernel, "store")]
    found = []
    for place in places:
        by_eight = defs[place].args[0] if defs[place].name == "mul" else place  # the index counts tiles of 8
        found.append(is_multiple(by_eight, 8, defs))
    assert found == [True, True, True, False, False, False]


def test_targets_have_what_their_machines_say() -> None:
    for name, row in TARGETS.items():
        assert row.name == name
        assert row.name == row.machine.name or row.machine.name == "sm_80"
        assert row.machine.smem == row.smem
