"""Roles as plans of the scheduler: which loops are dealt to groups that hand values on, and which not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tilec.ir.core import Kernel, walk
from tilec.ir.errors import TilecError
from tilec.ir.interp import POLICIES, interpret
from tilec.load import load_kernel
from tilec.passes import Options, Stages, lower, role_choice
from tilec.passes.pipeline import _asynchronous, simplified
from tilec.passes.roles import divisions
from tilec.passes.schedule.joint import check
from tilec.passes.schedule.machines import H100
from tilec.passes.schedule.replay import replay

ROOT = Path(__file__).parents[2]
HEADS = ",".join(["f16[4]"] * 4)
WINDOW = ("attention_window.py:attention_window", f"{HEADS},f32[3],i32", ("D=64", "BM=64", "BN=64"))
GRADIENT = (
    "attention_backward.py:attention_dkdv",
    f"{HEADS},f32[3],f32[3],f16[4],f16[4]",
    ("D=128", "BN=64"),
)
GEMM = ("gemm.py:gemm", "f16[2],f16[2],f16[2]", ())


def kernel_of(example: tuple[str, str, tuple[str, ...]]) -> Kernel:
    name, signature, constants = example
    return load_kernel(f"{ROOT}/examples/{name}", signature, constants)


def stages_of(example: tuple[str, str, tuple[str, ...]], **options: Any) -> Stages:
    return lower(kernel_of(example), "sm_90a", Options(**options))


def groups(stages: Stages) -> tuple[tuple[str, ...], tuple[int, ...]]:
    op = next(op for op in stages.scheduled.body.ops if op.name == "warp_groups")
    return op.attrs["names"], op.attrs["registers"]


def window_arguments(queries: int, keys: int) -> list[Any]:
    rng = np.random.default_rng(5)
    q, k, v = (rng.standard_normal((1, 1, n, 64)).astype(np.float16) for n in (queries, keys, keys))
    return [q, k, v, np.zeros_like(q), np.zeros((1, 1, queries), np.float32), 10000]


@pytest.fixture(scope="module")
def window() -> Stages:
    return stages_of(WINDOW)


def test_three_compute_groups_are_chosen_where_their_plan_is_better(window: Stages) -> None:
    """One group has to run scores, masks, softmax and products one after the other."""
    names, registers = groups(window)
    assert names == ("load", "compute_1", "compute_2", "compute_3") and registers == (24, 160, 160, 160)
    [answer] = window.answers
    alone = stages_of(WINDOW, roles=1)
    assert answer.schedule is not None and alone.answers[0].schedule is not None
    assert answer.schedule.ii < 0.97 * alone.answers[0].schedule.ii
    assert groups(alone)[0] == ("load", "compute")
    [line] = [text for text in window.log if text.startswith("3 roles, ")]
    assert line.endswith(f"interval {answer.schedule.ii}, {alone.answers[0].schedule.ii} without")
    check(window.problems[0], answer)


def test_each_role_puts_what_others_take(window: Stages) -> None:
    op = next(op for op in window.scheduled.body.ops if op.name == "warp_groups")
    puts, gets = (
        [{o.args[0].hint for o in walk(b) if o.name == name} for b in op.blocks]
        for name in ("aref.put", "aref.get")
    )
    handed = set.union(*puts[1:])
    assert handed and all(h.endswith(("_of_compute_1", "_of_compute_2", "_of_compute_1_2")) for h in handed)
    assert handed <= set.union(*gets[2:]) and not handed & gets[1]
    dots = [sum(o.name == "dot" for o in walk(b)) > 0 for b in op.blocks]
    assert dots == [False, True, False, True]


@pytest.mark.parametrize("policy", POLICIES)
def test_the_bits_are_those_of_the_sequential_program(window: Stages, policy: str) -> None:
    want, got = window_arguments(70, 150), window_arguments(70, 150)
    interpret(window.tile, (2, 1, 1), want)
    interpret(window.scheduled, (2, 1, 1), got, policy=policy, seed=1)
    assert np.array_equal(want[3], got[3]) and np.array_equal(want[4], got[4])


def test_the_emitted_roles_are_nearly_as_fast_as_their_plan(window: Stages) -> None:
    run = replay(window.scheduled, H100, (1, 1, 1), window_arguments(64, 64 * 24))
    [answer] = window.answers
    assert answer.schedule is not None
    assert answer.schedule.ii <= run.interval("k") <= 1.04 * answer.schedule.ii


def test_roles_make_room_for_accumulators() -> None:
    """Both gradients, scores and weights of head size 128 are too many registers for one group."""
    alone, stages = stages_of(GRADIENT, roles=1), stages_of(GRADIENT)
    assert [a.status for a in alone.answers] == ["infeasible"]
    [answer] = stages.answers
    assert answer.status == "optimal" and answer.bound.kind == "unit" and answer.bound.names[0] == "TC"
    assert groups(stages)[0] == ("load", "compute_1", "compute_2") and not stages.scheduled.attrs["notes"]
    assert any("none without" in line for line in stages.log)


def test_loads_of_one_role_have_a_place_in_the_plan() -> None:
    """The log-sum-exp comes from memory in an earlier stage: else each step would wait for it."""
    stages = stages_of(GRADIENT)
    rng = np.random.default_rng(0)
    q, k = (rng.standard_normal((1, 1, n, 128)).astype(np.float16) for n in (64 * 24, 64))
    row = np.ones((1, 1, 64 * 24), np.float32)
    run = replay(stages.scheduled, H100, (1, 1, 1), [q, k, k, q, row, row, k.copy(), k.copy()])
    [answer] = stages.answers
    assert answer.schedule is not None
    assert answer.schedule.ii <= run.interval("q") <= 1.03 * answer.schedule.ii


def test_a_tile_that_two_roles_need_has_two_readers() -> None:
    aref = stages_of(GRADIENT).aref
    readers = {
        op.attrs["group"] for op in walk(aref.body) if op.name == "aref.get" and op.args[0].hint == "q"
    }
    assert readers == {"compute_1", "compute_2"}


def test_plans_at_their_bound_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("asked for roles")

    monkeypatch.setattr(role_choice, "divisions", never)
    assert groups(stages_of(GEMM))[0] == ("load", "compute")
    # Four keys and values of 64 x 64 take L2 longer than the interval: nothing is to be gained.
    decode = ("f16[4],f16[4],f16[4],i32[2],i32[1],f32[5],f32[4],f32[4]",)
    assert groups(stages_of(("decode_attention.py:decode_shares", decode[0], ())))[0] == ("load", "compute")


def test_ways_to_deal_a_loop() -> None:
    """Values go one way, recurrences stay whole, and what is cheap in the model comes first."""
    aref = _asynchronous(simplified(kernel_of(WINDOW), "sm_90a"))
    found = divisions(aref, H100, 4, 2, 99)
    assert not isinstance(found, str) and len(found) > 2
    assert [d.estimate for d in found] == sorted(d.estimate for d in found)
    want = window_arguments(64, 100)
    interpret(aref, (1, 1, 1), want)
    for division in found[:3]:
        got = window_arguments(64, 100)
        interpret(division.kernel, (1, 1, 1), got)
        assert np.array_equal(want[3], got[3]) and np.array_equal(want[4], got[4])


@pytest.mark.parametrize(
    ("example", "target", "why"),
    [
        (("softmax.py:softmax", "f32[2],f32[2]", ()), "sm_90a", "no asynchronous loads"),
        (GEMM, "sm_80", "cp.async"),
        (GEMM, "cpu", "cpu runs one group"),
    ],
)
def test_one_group_has_no_roles(example: Any, target: str, why: str) -> None:
    with pytest.raises(TilecError, match=why) as error:
        lower(kernel_of(example), target, Options(roles=2))
    assert error.value.code == "I104"


@pytest.mark.parametrize(
    ("example", "options", "code"),
    [(GEMM, {"roles": 2}, "I104"), (GEMM, {"roles": 4}, "V135"), (GEMM, {"roles": 2.0}, "T130")],
)
def test_what_cannot_be_asked_for(example: Any, options: Any, code: str) -> None:
    with pytest.raises(TilecError, match="roles") as error:
        stages_of(example, **options)
    assert error.value.code == code
