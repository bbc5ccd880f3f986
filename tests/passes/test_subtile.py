"""Rows split over warp groups: the same bits in every form, under every interleaving."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pass_kernels import attention, gemm, persistent_gemm
from test_lower import FEW, MANY, agree, halves

from tilec.ir.core import Kernel, walk
from tilec.ir.forms import verify
from tilec.passes import canonicalize, make_async
from tilec.passes.schedule.apply import specialize
from tilec.passes.schedule.checker import violations
from tilec.passes.schedule.joint import KernelPlan, plan_kernel
from tilec.passes.schedule.machines import MACHINES
from tilec.passes.subtile import split_rows

KERNELS = {
    "gemm": lambda: gemm(128, 16, 16),
    "persistent": lambda: persistent_gemm(128, 16, 16),
    "attention": lambda: attention(False, 1, 128, 16),
    "causal": lambda: attention(True, 1, 128, 16),
    "two loops": lambda: attention(True, 2, 128, 16),
}


def arrays(name: str, blocks: int = 3) -> tuple[tuple[int, ...], list[Any]]:
    """A grid and arguments; ``blocks`` is the trip count of the inner loop."""
    if name in ("gemm", "persistent"):
        a, b = halves(7, (200, 16 * blocks), (16 * blocks, 24))
        return (2, 2), [a, b, np.zeros((200, 24), np.float16)]
    q, k, v = halves(7, (128, 16), (16 * blocks, 16), (16 * blocks, 16))
    return (1,), [q, k, v, np.zeros_like(q)]


def split(name: str) -> Kernel:
    found = split_rows(canonicalize(KERNELS[name]()))
    assert isinstance(found, Kernel), found
    return canonicalize(found)


def planned(name: str, stages: int | None = None) -> KernelPlan:
    aref = canonicalize(make_async(split(name)))
    verify(aref)
    return plan_kernel(aref, MACHINES["sm_90a"], warps=4, parts=2, stages=stages)


@pytest.mark.parametrize("name", KERNELS)
def test_split_rows_give_the_same_bits(name: str) -> None:
    kernel = split(name)
    verify(kernel)
    assert {op.attrs["part"] for op in walk(kernel.body) if op.name == "dot"} == {0, 1}
    agree([KERNELS[name](), kernel, canonicalize(make_async(kernel))], *arrays(name), FEW)


@pytest.mark.parametrize("stages", [None, 1, 2, 4])
@pytest.mark.parametrize("name", KERNELS)
def test_two_groups_follow_their_plan(name: str, stages: int | None) -> None:
    plan = planned(name, stages)
    for loop, answer in zip(plan.loops, plan.answers, strict=True):
        assert answer.status in ("optimal", "feasible") and answer.schedule is not None
        assert list(violations(loop.problem, answer.schedule)) == []
    kernel = canonicalize(specialize(plan))
    verify(kernel)
    for blocks in (0, 1, 2, 3, 5):
        if blocks or name in ("gemm", "persistent"):
            agree([KERNELS[name](), kernel], *arrays(name, blocks), FEW)


def test_attention_takes_turns_under_fifty_interleavings() -> None:
    kernel = canonicalize(specialize(planned("attention")))
    agree([KERNELS["attention"](), kernel], *arrays("attention", 4), MANY)


def test_rows_that_cannot_be_split_say_why() -> None:
    assert "not 2 times 64" in str(split_rows(canonicalize(gemm(64, 16, 16))))
