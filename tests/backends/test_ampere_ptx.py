"""What PTX for sm_80 must look like: waits, barriers, traffic of memory, and what ptxas says of it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ampere_kit import operands, scheduled
from hopper_kit import attention, gemm, overwritten, persistent, random_array, tile_kernel, twin

from tilec.backends.artifact import Artifact
from tilec.backends.ptx import ampere, compile_kernel
from tilec.backends.ptx.ampere_sync import Sync, plan_sync
from tilec.ir.core import Kernel, Op, walk
from tilec.ir.errors import RaceError
from tilec.ir.layout import bits_of, mma, wgmma
from tilec.passes import Options, lower
from tilec.runtime import toolchain
from tilec.runtime.emulator import launch

LARGE = {"BM": 128, "BN": 128, "BK": 32}


def made(fn: Any, args: Any, target: str = "sm_80", **meta: Any) -> Artifact:
    return compile_kernel(lower(tile_kernel(fn, args, **meta), target).scheduled, target)


def heads(d: int = 64) -> list[Any]:
    return [random_array((1, 128, d), seed=s) for s in range(4)]


def planned(fn: Any, args: Any, stages: int | None = None, **meta: Any) -> tuple[Sync, list[Op]]:
    """The sync plan and all ops in order."""
    kernel = lower(tile_kernel(fn, args, **meta), "sm_80", Options(stages=stages)).scheduled
    return plan_sync(kernel), list(walk(kernel.body))


@pytest.mark.parametrize("stages", [1, 2, 3, 5])
def test_a_get_leaves_the_younger_copies_under_way(stages: int) -> None:
    """In the loop stages - 2 groups are younger than the one to wait for: the next put follows the get."""
    sync, ops = planned(gemm, operands(64, 64, 64), stages)
    gets = [op for op in ops if op.name == "aref.get"]
    assert sync.pending[gets[0]] == max(0, stages - 2)
    assert [sync.pending[g] for g in gets[1:]] == list(reversed(range(stages - 1)))
    assert sync.unread == set(gets[1:])


def test_the_barrier_of_the_get_serves_the_put_behind_it() -> None:
    for stages in (2, 3, 4):
        assert not planned(gemm, operands(64, 64, 64), stages)[0].barriers


def test_with_one_slot_each_put_needs_a_barrier() -> None:
    sync, ops = planned(gemm, operands(64, 64, 64), 1)
    assert sync.barriers == {op for op in ops if op.name == "aref.put"}


def test_two_rings_count_each_others_groups() -> None:
    """Of K and V two slots each: behind the put of K(n) come those of V(n) and, after the get, K(n + 1)."""
    sync, ops = planned(attention, heads(), 2)
    gets = {op.args[0].hint: sync.pending[op] for op in reversed(ops) if op.name == "aref.get"}
    assert gets == {"q": 2, "k": 1, "v": 1} and not sync.barriers


def test_slots_that_a_store_has_used_are_not_filled_before_a_barrier() -> None:
    sync, ops = planned(persistent, operands(64, 64, 64), 3)
    assert sync.idle == {op for op in ops if op.name == "store"}
    first = next(op for op in ops if op.name == "aref.put")
    assert first in sync.barriers


@pytest.mark.parametrize("wrong", ["wait", "barrier", "idle"])
def test_the_emulator_finds_a_wrong_plan(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One group too few waited for, no barrier before a put, or a store into slots that are still filled."""

    def plan(kernel: Kernel) -> Sync:
        right = plan_sync(kernel)
        stores = frozenset(op for op in walk(kernel.body) if op.name == "store")
        return {
            "wait": replace(right, pending={op: n + 1 for op, n in right.pending.items()}),
            "barrier": replace(right, barriers=frozenset()),
            "idle": replace(right, idle=stores),
        }[wrong]

    monkeypatch.setattr(ampere, "plan_sync", plan)
    args, fn = operands(64, 64, 192), overwritten if wrong == "idle" else gemm
    options = Options(stages=1 if wrong == "barrier" else 3)
    kernel = lower(tile_kernel(fn, args), "sm_80", options).scheduled
    found = [twin(a) for a in args]
    with pytest.raises(RaceError):
        launch(compile_kernel(kernel, "sm_80"), (1, 1), found, mode="lazy")


def traffic(
    artifact: Artifact, args: list[Any], grid: tuple[int, ...] = (1, 1)
) -> dict[str, tuple[int, int]]:
    """(transactions, least transactions) by opcode."""
    lines, found = artifact.text.splitlines(), dict[str, tuple[int, int]]()
    for t in launch(artifact, grid, [twin(a) for a in args]).traffic:
        opcode = re.sub(r"^\s*(@\S+\s+)?", "", lines[t.line - 1]).split()[0]
        before = found.get(opcode, (0, 0))
        found[opcode] = before[0] + t.transactions, before[1] + t.ideal
    return found


@pytest.mark.parametrize("bk", [16, 32, 64])
@pytest.mark.parametrize("transposed", [False, True])
def test_no_bank_conflicts_and_no_half_sectors(bk: int, transposed: bool) -> None:
    args = operands(64, 64, 2 * bk)
    if transposed:
        args[:2] = [np.asfortranarray(a) for a in args[:2]]
    found = traffic(made(gemm, args, BK=bk), args)
    assert found and all(taken == least for taken, least in found.values()), found
    assert {k.split(".")[0] for k in found} == {"ldmatrix", "ld", "st"}


def test_products_of_attention_stay_in_registers() -> None:
    args = heads()
    found = traffic(made(attention, args, BM=128, BN=64), args, (1, 1))
    assert all(taken == least for taken, least in found.values()), found
    # Shared memory is written on the way out alone, so S becomes P where it is.
    text = made(attention, args, BM=128, BN=64).text
    loop = text[text.index("$loop_0:") : text.index("$end_0:")]
    assert "st.shared" not in loop and loop.count("bar.sync") == 2


def test_the_target_and_the_version_are_the_least() -> None:
    text = made(gemm, operands(64, 64, 64)).text
    assert ".target sm_80" in text and ".version 7.0" in text


def test_a_row_of_warps_is_a_warpgroup() -> None:
    """mma.sync and wgmma have one layout of their result, so that one set of rules serves both."""
    assert mma(64, 128, (4, 1), 4) == wgmma(64, 128, 4)
    assert mma(128, 64, (8, 1), 8) == wgmma(128, 64, 8)


@pytest.mark.parametrize("grid", [(1, 1), (2, 2), (4, 1), (1, 4)])
def test_the_layout_of_warps_covers_the_tile_once(grid: tuple[int, int]) -> None:
    elements = mma(64, 64, grid, 4).elements()
    counts = Counter(elements.reshape(-1).tolist())
    repeats = 4 // (grid[0] * grid[1])
    assert set(counts) == set(range(64 * 64)) and set(counts.values()) == {repeats}
    assert bits_of(elements.shape[0]) == 12 - 5 - bits_of(grid[0] * grid[1])


def loop_of(fn: Any, args: Any, **meta: Any) -> Counter[str]:
    """Opcodes of the SASS loop with the products, but for copies that hang over an end."""
    artifact = made(fn, args, **meta)
    done = toolchain.assemble(artifact.text, artifact.target)
    assert (done.spill_stores, done.spill_loads) == (0, 0)
    assert [m for m in done.messages if m.severity != "info"] == []
    lines = re.findall(
        r"^(\.L_x_\d+):|^\s+/\*[0-9a-f]+\*/\s+(.*?) ;", toolchain.disassemble(done.cubin), re.M
    )
    places = {label: i for i, (label, _) in enumerate(lines) if label}
    back = [
        (places[m[1]], i) for i, (_, text) in enumerate(lines) if (m := re.search(r"BRA `\((.*)\)", text))
    ]
    loops = [lines[a:b] for a, b in back if a < b and any("MMA" in text for _, text in lines[a:b])]
    blocks = re.split(r"\n\n", "\n".join(text or "\n" for _, text in min(loops, key=len)))
    blocks = [part for b in blocks for part in re.split(r"(?<=BRA `).*\n", b)]
    fast = "\n".join(b for b in blocks if "ZFILL" not in b)
    return Counter(
        re.sub(r"^@\S+\s+", "", line).split(".")[0].split()[0] for line in fast.split("\n") if line.strip()
    )


def test_the_inner_loop_has_few_other_instructions() -> None:
    if toolchain.find("ptxas") is None or toolchain.find("nvdisasm") is None:
        pytest.skip("ptxas or nvdisasm not found: pip install 'tilec[test]'")
    found = loop_of(gemm, operands(128, 128, 64), **LARGE)
    assert (found["HMMA"], found["LDSM"], found["LDGSTS"], found["BAR"]) == (64, 16, 8, 1)
    assert sum(found.values()) <= 160, found


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_80", "sm_86", "sm_89", "sm_120a"])
def test_the_assembler_spills_nothing(target: str) -> None:
    if toolchain.find("ptxas") is None:
        pytest.skip("ptxas not found: pip install 'tilec[test]'")
    for fn, args, meta in (
        (gemm, operands(128, 128, 64), LARGE), (gemm, operands(256, 128, 64), {**LARGE, "BN": 256, "BK": 64}),
        (attention, heads(), {"BM": 128, "BN": 128}),
        (attention, heads(128), {"BM": 128, "BN": 64, "D": 128}),
    ):  # fmt: skip
        done = toolchain.assemble(made(fn, args, target, **meta).text, target)
        assert (done.spill_stores, done.spill_loads) == (0, 0)
        assert [m for m in done.messages if m.severity != "info"] == []


def test_a_group_of_one_kernel_is_scheduled_by_the_solver() -> None:
    """The depth of the ring comes from a proven plan for the A100."""
    stages = lower(tile_kernel(gemm, operands(128, 128, 64), **LARGE), "sm_80")
    (answer,) = stages.answers
    assert answer.status == "optimal" and answer.schedule is not None
    assert answer.schedule.ii == 128 * 128 * 32 // 1024  # 1024 multiply-adds a cycle
    kernel = scheduled(gemm, operands(128, 128, 64), **LARGE)
    (new,) = [op for op in walk(kernel.body) if op.name == "aref.new"]
    assert new.attrs["depth"] == answer.schedule.depths["a_b"] > 2
