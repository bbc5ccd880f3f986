"""More than two roles on Hopper: groups that hand tiles to one another through rings of values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hopper_kit import MODES, Array, assembled, attention, compare, random_array, tile_kernel, twin

from tilec.backends.ptx import compile_kernel
from tilec.ir.core import Kernel, Op, frozen, walk
from tilec.ir.errors import TilecError
from tilec.ir.forms import verify
from tilec.ir.interp import POLICIES, interpret
from tilec.passes import canonicalize, make_async
from tilec.passes.hand_over import Cut, hand_over
from tilec.passes.schedule.apply import specialize
from tilec.passes.schedule.joint import KernelPlan
from tilec.runtime.emulator import launch

GRID = (2, 1)


def arguments() -> list[Any]:
    q, k = random_array((1, 70, 64)), random_array((1, 150, 64))
    return [q, k, random_array((1, 150, 64), seed=1), np.zeros_like(q)]


def expected(tile: Kernel) -> Array:
    args = arguments()
    interpret(tile, GRID, args)
    return args[-1]


def forms() -> tuple[Kernel, Kernel]:
    """Attention as TILE and as AREF."""
    tile = canonicalize(tile_kernel(attention, arguments(), BN=32))
    return tile, canonicalize(make_async(tile))


def cuts(aref: Kernel) -> tuple[Cut, ...]:
    """One group makes the scores, one their weights, one the output: as FlashAttention-4 divides them."""
    ops = list(walk(aref.body))
    scores, output = (op for op in ops if op.name == "dot")
    fade = next(op for op in ops if op.name == "exp2" and op.result.type.shape == (64,))  # type: ignore[union-attr]
    (loop,) = (op for op in ops if op.name == "for")
    return (
        Cut(scores.result, "scores", "softmax"),
        Cut(output.args[0], "softmax", "output"),
        Cut(fade.result, "softmax", "output"),
        Cut(loop.results[0], "softmax", "output"),
    )


def scheduled(aref: Kernel, depth: int) -> Kernel:
    """A load group and three compute groups of four warps, in program order."""
    names = [op.result.hint for op in walk(aref.body) if op.name == "aref.new"]
    made = canonicalize(specialize(KernelPlan(aref, 3, 4, (), (), dict.fromkeys(names, depth), {})))
    made = made.with_(body=replace(made.body, ops=tuple(map(with_registers, made.body.ops))))
    verify(made)
    return made


def with_registers(op: Op) -> Op:
    if op.name != "warp_groups":
        return op
    return op.with_(attrs=frozen(**{**op.attrs, "registers": (24, 160, 160, 160)}))


def test_a_handed_over_program_means_the_same_in_order_and_in_groups() -> None:
    tile, aref = forms()
    handed, want = hand_over(aref, cuts(aref), "output"), expected(tile)
    verify(handed)
    for kernel in (handed, scheduled(handed, 1), scheduled(handed, 3)):
        for policy in POLICIES:
            args = arguments()
            interpret(kernel, GRID, args, policy=policy, seed=3)
            assert np.array_equal(args[-1], want), policy


def test_each_group_runs_its_part_alone() -> None:
    _, aref = forms()
    (groups,) = (
        op for op in scheduled(hand_over(aref, cuts(aref), "output"), 2).body.ops if op.name == "warp_groups"
    )
    found = {
        name: [op.name for op in walk(block) if op.name in ("dot", "exp2", "store", "load", "aref.put")]
        for name, block in zip(groups.attrs["names"], groups.blocks, strict=True)
    }
    assert found["scores"] == ["dot", "aref.put"] and found["output"] == ["dot", "store"]
    assert sorted(found["softmax"]) == ["aref.put"] * 3 + ["exp2"] * 2
    assert found["load"] == ["load", "aref.put"] * 3


@pytest.mark.parametrize("depth", [1, 2])
def test_three_compute_groups_and_four_rings_of_values(depth: int) -> None:
    tile, aref = forms()
    artifact = compile_kernel(scheduled(hand_over(aref, cuts(aref), "output"), depth))
    compare(artifact, GRID, arguments(), expected(tile), 5e-3, MODES if depth == 2 else MODES[1:2])
    found = assembled(artifact.text)
    assert found.spill_stores == found.spill_loads == 0
    assert all(m.severity == "info" for m in found.messages)


def test_weights_that_the_tensor_cores_read_need_the_fence() -> None:
    _, aref = forms()
    artifact = compile_kernel(scheduled(hand_over(aref, cuts(aref), "output"), 2))
    before, softmax = artifact.text.split("// group softmax", 1)
    own, after = softmax.split("// group output", 1)
    assert own.count("fence.proxy.async.shared::cta;") == 1
    broken = (
        f"{before}// group softmax{own.replace('fence.proxy.async.shared::cta;', '')}// group output{after}"
    )
    try:
        outcome = launch(replace(artifact, text=broken), GRID, [twin(a) for a in arguments()], strict=False)
        codes = {r.code for r in outcome.reports}
    except TilecError as error:
        codes = {error.code}
    assert "E1" in codes


def test_what_cannot_be_handed_over_is_told() -> None:
    _, aref = forms()
    scores, weights, *_ = cuts(aref)
    with pytest.raises(TilecError, match=r"would be of groups|would run this"):
        hand_over(aref, (scores, weights), "output")
    with pytest.raises(TilecError, match="does not use"):
        hand_over(aref, (Cut(weights.value, "softmax", "scores"), *cuts(aref)), "output")
