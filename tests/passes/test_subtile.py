"""Rows split over warp groups: the same bits in every form, under every interleaving."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pass_kernels import Builder, attention, gemm, persistent_gemm, row
from test_lower import FEW, MANY, agree, halves

from tilec.ir.core import Kernel, Value, walk
from tilec.ir.errors import DeadlockError, InternalError
from tilec.ir.forms import verify
from tilec.ir.interp import interpret
from tilec.ir.text import parse_kernel, print_kernel
from tilec.ir.types import float32, int32
from tilec.passes import canonicalize, make_async
from tilec.passes.schedule import distribute
from tilec.passes.schedule.apply import refused, specialize
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


def looped(step: int = 128, at: str = "blocks") -> Kernel:
    """A product that is added to C in every round, at rows that move by ``step``."""
    b = Builder()
    A, W, C = b.tensor("A"), b.tensor("W"), b.tensor("C", float32)
    zero = b.const(0)

    def body(i: Value) -> None:
        row = b("mul", i, b.const(step)) if at == "blocks" else b("add", i, i)
        a = b("load", A, row, zero, shape=(128, 16))
        w = b("load", W, zero, zero, shape=(16, 16))
        old = b("load", C, row, zero, shape=(128, 16))
        b.op("store", C, b("dot", a, w, old), row, zero)

    b.loop(0, b.const(3), body)
    return b.kernel("looped")


def grouped(kernel: Kernel) -> Kernel | str:
    """The kernel in two compute groups, in program order; or why it cannot be."""
    parts = split_rows(canonicalize(kernel))
    assert isinstance(parts, Kernel), parts
    aref = canonicalize(make_async(canonicalize(parts)))
    verify(aref)
    reason = refused(aref)
    if reason is not None:
        return reason
    names = [op.result.hint for op in walk(aref.body) if op.name == "aref.new"]
    scheduled = canonicalize(specialize(KernelPlan(aref, 2, 4, (), (), dict.fromkeys(names, 2), {})))
    verify(scheduled)
    return scheduled


@pytest.mark.parametrize(
    ("step", "at", "apart"),
    [(128, "blocks", True), (256, "blocks", True), (64, "blocks", False), (128, "sums", False)],
)
def test_groups_keep_to_their_own_rows_of_what_they_write(step: int, at: str, apart: bool) -> None:
    """Where rows move by less than all parts, one group reads what the other has written."""
    found = grouped(looped(step, at))
    if apart:
        assert isinstance(found, Kernel)
        agree([looped(step, at), found], (1,), looped_arrays(), FEW)
    else:
        assert "same elements of C" in str(found)


def test_what_is_refused_would_be_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribute, "why_not_apart", lambda kernel, owners: None)
    found = grouped(looped(64))
    assert isinstance(found, Kernel)
    with pytest.raises(AssertionError):
        agree([looped(64), found], (1,), looped_arrays(), FEW)


def looped_arrays() -> list[Any]:
    return [*halves(3, (300, 16), (16, 16)), np.ones((300, 16), np.float32)]


def written_at(name: str, times: int = 37, below: int = 100, **attrs: Any) -> Kernel:
    """A product whose elements go by scatter or atomic: row r to that of number r * times % below."""
    b = Builder()
    A, W, C = b.tensor("A"), b.tensor("W"), b.tensor("C", int32)
    zero, shape = b.const(0), (128, 16)
    a = b("load", A, zero, zero, shape=(128, 16))
    x = b("dot", a, b("load", W, zero, zero, shape=(16, 16)), b.const(0.0, float32, shape))
    x = b("cast", x, dtype=int32)
    rows = b("mul", b("arange", start=0, stop=128), b.const(times, int32, (128,)))
    rows = row(b, b("mod", rows, b.const(below, int32, (128,))) if below else rows, shape)
    columns = b("broadcast", b("reshape", b("arange", start=0, stop=16), shape=(1, 16)), shape=shape)
    op = b.op(name, C, rows, columns, x, b("lt", columns, rows), **attrs)
    if attrs.get("kind") == "max":
        b.op("store", C, op.result, zero, zero)
    return b.kernel(name)


@pytest.mark.parametrize(("name", "attrs"), [("scatter", {}), ("atomic", {"kind": "add"})])
def test_scattered_rows(name: str, attrs: dict[str, Any]) -> None:
    kernel = written_at(name, **attrs)
    parts = split_rows(canonicalize(kernel))
    assert isinstance(parts, Kernel)
    rng = np.random.default_rng(1)
    a, w = (rng.integers(-4, 5, s).astype(np.float16) for s in ((128, 16), (16, 16)))
    agree([kernel, parts, make_async(canonicalize(parts))], (1,), [a, w, np.zeros((128, 16), np.int32)], FEW)
    found = grouped(kernel)
    if name == "scatter":
        assert "same elements of C" in str(found)
    else:
        assert isinstance(found, Kernel)
        agree([kernel, found], (1,), [a, w, np.zeros((128, 16), np.int32)], FEW)


@pytest.mark.parametrize(("times", "apart"), [(1, True), (2, False)])
def test_rows_that_are_scattered_where_they_belong(times: int, apart: bool) -> None:
    """Rows in a row are known to stay apart from those of the other group; others are not."""
    kernel = written_at("scatter", times, 0)
    found = grouped(kernel)
    assert isinstance(found, Kernel) == apart
    if isinstance(found, Kernel):
        rng = np.random.default_rng(1)
        a, w = (rng.integers(-4, 5, s).astype(np.float16) for s in ((128, 16), (16, 16)))
        agree([kernel, found], (1,), [a, w, np.zeros((128, 16), np.int32)], FEW)


@pytest.mark.parametrize("kind", ["xchg", "max"])
def test_atomics_whose_order_shows(kind: str) -> None:
    """The last exchange wins, and an old value tells who came first."""
    assert "order of this atomic" in str(split_rows(canonicalize(written_at("atomic", kind=kind))))


RELEASE_A, RELEASE_B = (f'    aref.release %a_b {{group="compute_{g}"}}\n' for g in "ab")
DOT_A, WAIT_A = "    %acc_a =", "      %acc_a_1"
GET_B = '= aref.get %a_b {group="compute_b"}'
# What is edited in the AREF text of a split GEMM, and the verifier's answer.
ONE_PROGRAM: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "a consumer never releases": ("X211", [(RELEASE_B, "")]),
    "a consumer releases for another": ("X211", [(RELEASE_B, RELEASE_A)]),
    "a consumer gets for another": ("X211", [(GET_B, GET_B.replace("e_b", "e_a"))]),
    "a consumer that nobody releases for": ("X211", [(GET_B, GET_B.replace("e_b", "e_c"))]),
    "a tile of a consumer that has released": ("X215", [("dot %a_b_3, %b_2", "dot %a_b_3, %b_1")]),
    "a release before the last use": ("X215", [(RELEASE_A, ""), (DOT_A, RELEASE_A + DOT_A)]),
}  # fmt: skip
# The same for its SCHEDULED text.
GROUPS: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "a group never releases": ("X226", [("  " + RELEASE_B, "")]),
    "a release before the wait": ("X227", [("  " + RELEASE_A, ""), (WAIT_A, "  " + RELEASE_A + WAIT_A)]),
    "a tile of another group": ("X204", [("dot %a_b_3, %b_2", "dot %a_b_3, %b_1")]),
}  # fmt: skip


def edited(kernel: Kernel, edits: list[tuple[str, str]]) -> Kernel:
    text = print_kernel(kernel)
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return parse_kernel(text)


@pytest.mark.parametrize("name", ONE_PROGRAM)
def test_consumers_that_do_not_keep_the_rules(name: str) -> None:
    code, edits = ONE_PROGRAM[name]
    with pytest.raises(InternalError, match=code):
        verify(edited(canonicalize(make_async(split("gemm"))), edits))


@pytest.mark.parametrize("name", GROUPS)
def test_groups_that_do_not_keep_the_rules(name: str) -> None:
    code, edits = GROUPS[name]
    kernel = grouped(KERNELS["gemm"]())
    assert isinstance(kernel, Kernel)
    with pytest.raises(InternalError, match=code):
        verify(edited(kernel, edits))


@pytest.mark.parametrize(("policy", "seed"), FEW)
def test_a_slot_waits_for_all_who_read_it(policy: str, seed: int) -> None:
    """One group that keeps its slots stops the other as soon as the ring is full."""
    kernel = grouped(KERNELS["gemm"]())
    assert isinstance(kernel, Kernel)
    stuck = edited(kernel, GROUPS["a group never releases"][1])
    grid, args = arrays("gemm", 4)
    with pytest.raises(DeadlockError, match="compute_a waits for a full slot of a_b"):
        interpret(stuck, grid, args, policy=policy, seed=seed)
