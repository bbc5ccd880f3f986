"""interpret(TILE) == interpret(AREF) == interpret(SCHEDULED), whatever the interleaving."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pass_kernels import attention, gemm, guarded_gemm, halves, numpy_attention, persistent_gemm

from tilec.ir.core import Kernel, walk
from tilec.ir.errors import InfeasibleError, ResourceError, TilecTypeError, TilecValueError
from tilec.ir.forms import verify
from tilec.ir.interp import interpret
from tilec.ir.text import print_kernel
from tilec.passes import Options, canonicalize, lower, make_async
from tilec.passes.schedule.apply import specialize
from tilec.passes.schedule.joint import plan_kernel
from tilec.passes.schedule.machines import MACHINES

POLICIES = [("round_robin", 0), ("first", 0), ("last", 0)]
FEW = POLICIES + [("random", seed) for seed in range(4)]
MANY = POLICIES + [("random", seed) for seed in range(50)]


Grid = tuple[int, ...]


def result(kernel: Kernel, grid: Grid, args: list[Any], policy: str = "first", seed: int = 0) -> Any:
    """The last array argument after a run on copies."""
    copies = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
    interpret(kernel, grid, copies, policy=policy, seed=seed)
    return next(a for a in reversed(copies) if isinstance(a, np.ndarray))


def agree(forms: list[Kernel], grid: tuple[int, ...], args: list[Any], policies: list[Any]) -> Any:
    """Run all forms under all policies; the results must be equal bit for bit."""
    expected = result(forms[0], grid, args)
    for form in forms[1:]:
        for policy, seed in policies if form.form == "scheduled" else FEW[:1]:
            got = result(form, grid, args, policy, seed)
            np.testing.assert_array_equal(got, expected, f"{policy} {seed}")
    return expected


def groups_of(kernel: Kernel) -> Any:
    found = [op for op in walk(kernel.body) if op.name == "warp_groups"]
    assert len(found) == 1
    return found[0]


def all_forms(kernel: Kernel, options: Options) -> list[Kernel]:
    stages = lower(kernel, "sm_90a", options)
    groups_of(stages.scheduled)
    return [kernel, stages.tile, stages.aref, stages.scheduled]


GEMMS: list[tuple[str, Callable[[], Kernel], tuple[int, ...], list[Any]]] = [
    ("gemm", gemm, (2, 2), []),
    ("persistent", persistent_gemm, (3,), []),
    ("guarded", guarded_gemm, (2, 2), [16]),
]


@pytest.mark.parametrize("depth", [None, 1, 2, 3, 4])
@pytest.mark.parametrize(("name", "build", "grid", "extra"), GEMMS, ids=[g[0] for g in GEMMS])
def test_gemm_forms_agree(name: str, build: Any, grid: Any, extra: Any, depth: int | None) -> None:
    forms = all_forms(build(), Options(stages=depth))
    trips = sorted({0, 1, 2, (depth or 8) - 1, depth or 8, (depth or 8) + 1})
    for trip in trips:
        k = max(16 * trip - 5, 0)
        a, b = halves(trip, (100, k), (k, 24))
        got = agree(forms, grid, [a, b, np.zeros((100, 24), np.float16), *extra], FEW)
        if name != "guarded":
            np.testing.assert_allclose(got, a.astype(float) @ b, atol=0.05, rtol=2e-3)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize(("causal", "loops"), [(False, 1), (True, 1), (True, 2)])
def test_attention_forms_agree(causal: bool, loops: int, depth: int) -> None:
    """But the traced one, whose scales and sums are rounded elsewhere: that is near."""
    traced, *forms = all_forms(attention(causal, loops), Options(stages=depth))
    for blocks in sorted({1, depth - 1, depth, depth + 1} - {0}):
        rows = 128 if causal else 64
        keys = rows if causal else 16 * blocks
        q, k, v = halves(blocks, (rows, 16), (keys, 16), (keys, 16))
        args = [q, k, v, np.zeros_like(q)]
        got = agree(forms, (rows // 64,), args, FEW)
        np.testing.assert_allclose(got, agree([traced], (rows // 64,), args, FEW), atol=2e-3)
        np.testing.assert_allclose(got, numpy_attention(q, k, v, causal), atol=0.02)


@pytest.mark.parametrize("build", [gemm, persistent_gemm, guarded_gemm], ids=lambda f: f.__name__)
def test_gemm_under_fifty_interleavings(build: Any) -> None:
    forms = all_forms(build(), Options(stages=3))
    a, b = halves(7, (100, 90), (90, 24))
    extra = [16] if build is guarded_gemm else []
    agree(forms, (2, 1), [a, b, np.zeros((100, 24), np.float16), *extra], MANY)


@pytest.mark.parametrize(("causal", "loops"), [(False, 1), (True, 2)])
def test_attention_under_fifty_interleavings(causal: bool, loops: int) -> None:
    _, *forms = all_forms(attention(causal, loops), Options(stages=2))
    q, k, v = halves(7, (64, 16), (64, 16), (64, 16))
    agree(forms, (1,), [q, k, v, np.zeros_like(q)], MANY)


def with_plan(kernel: Kernel, depth: int, flying: int) -> Kernel:
    """The SCHEDULED form for a given depth and number of products in flight."""
    aref = make_async(canonicalize(kernel))
    plan = plan_kernel(aref, MACHINES["sm_90a"], warps=4)
    found = specialize(replace(plan, depths=dict.fromkeys(plan.depths, depth)), flying)
    assert isinstance(found, Kernel)
    return canonicalize(found)


@pytest.mark.parametrize(("depth", "flying"), [(d, p) for d in range(1, 5) for p in range(1, d + 1)])
@pytest.mark.parametrize("build", [gemm, persistent_gemm], ids=lambda f: f.__name__)
def test_products_in_flight(build: Any, depth: int, flying: int) -> None:
    kernel = with_plan(build(), depth, flying)
    verify(kernel)
    for trip in sorted({0, 1, depth - 1, depth, depth + 1}):
        a, b = halves(trip, (70, 16 * trip), (16 * trip, 20))
        agree([build(), kernel], (2, 2), [a, b, np.zeros((70, 20), np.float16)], FEW)


@pytest.mark.parametrize("flying", [2, 3, 4])
def test_no_more_products_are_in_flight_than_there_are_slots(flying: int) -> None:
    kernel = with_plan(gemm(), flying - 1, flying)
    verify(kernel)
    pending = [op.attrs["pending"] for op in walk(kernel.body) if op.name == "dot.wait"]
    assert max(pending) == flying - 2
    a, b = halves(0, (64, 16 * 5), (16 * 5, 16))
    agree([gemm(), kernel], (1, 1), [a, b, np.zeros((64, 16), np.float16)], FEW)


def test_gemm_of_hopper_shape() -> None:
    """128x256x64: three slots beside the C tile, two products in flight, two cooperative groups."""
    stages = lower(gemm(128, 256, 64))
    groups = groups_of(stages.scheduled)
    assert groups.attrs["names"] == ("load", "compute")
    assert groups.attrs["warps"] == (4, 8)
    assert groups.attrs["registers"] == (24, 240)
    (facts,) = map(dict, stages.scheduled.attrs["schedule"])
    assert facts["ii"] == facts["bound"] == 8 * 129
    assert facts["status"] == "optimal"
    assert facts["depths"] == (("a_b", 3),)


def test_load_group_has_no_tiles_but_loads() -> None:
    for kernel in (gemm(), persistent_gemm(), attention(True, 2)):
        load, compute = groups_of(lower(kernel).scheduled).blocks
        names = {op.name for op in walk(load)}
        assert names.isdisjoint({"dot", "aref.get", "aref.release", "store", "reduce", "exp2"})
        assert {op.name for op in walk(compute)}.isdisjoint({"aref.put", "load"})


def test_stages_of_a_loop_win() -> None:
    stages = lower(gemm(stages=2), options=Options(stages=4))
    assert stages.answers[0].schedule is not None
    assert stages.answers[0].schedule.depths == {"a_b": 2}


def test_too_large_tiles_name_the_users() -> None:
    small = replace(MACHINES["sm_90a"], smem=42048)
    aref = make_async(canonicalize(gemm(128, 256, 64)))
    with pytest.raises(ResourceError, match=r"R101.*a_b 1 x 49152 = 49152 bytes, and one program has 40000"):
        plan_kernel(aref, small, warps=8)


def test_too_many_stages_name_the_bytes() -> None:
    with pytest.raises(InfeasibleError, match=r"I101.*a_b 9 x 49152"):
        lower(gemm(128, 256, 64, stages=9))


def test_warps_that_do_not_divide_the_rows() -> None:
    with pytest.raises(InfeasibleError, match="I102"):
        lower(gemm(), options=Options(num_warps=8))
    with pytest.raises(InfeasibleError, match=r"I102.*256 registers"):
        lower(gemm(128, 256, 64), options=Options(num_warps=4))
    with pytest.raises(InfeasibleError, match="I103"):
        lower(gemm(specialize=False), options=Options(num_warps=3))


@pytest.mark.parametrize(
    ("kernel", "target", "options"),
    [
        (gemm(), "cpu", Options()),
        (gemm(), "sm_90a", Options(specialize=False)),
        (gemm(specialize=False), "sm_90a", Options()),
        (gemm(bm=24), "sm_90a", Options()),
    ],
    ids=["cpu", "option", "loop", "odd"],
)
def test_one_group(kernel: Kernel, target: str, options: Options) -> None:
    stages = lower(kernel, target, options)
    assert {op.name for op in walk(stages.scheduled.body)}.isdisjoint({"warp_groups", "aref.new"})
    assert stages.scheduled.attrs["num_warps"] == 4
    assert any("one group" in line for line in stages.log)
    a, b = halves(1, (64, 40), (40, 24))
    agree([kernel, stages.aref, stages.scheduled], (2, 2), [a, b, np.zeros((64, 24), np.float16)], FEW)


def test_same_input_same_text() -> None:
    texts = {print_kernel(lower(attention(True, 2)).scheduled) for _ in range(2)}
    assert len(texts) == 1


def test_a_ring_without_slots_is_refused() -> None:
    with pytest.raises(TilecValueError, match="V130"):
        lower(gemm(), options=Options(stages=0))


@pytest.mark.parametrize("wrong", [{"stages": "4"}, {"num_warps": 4.0}, {"specialize": 1}])
def test_an_option_of_a_wrong_type_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(TilecTypeError, match=r"T130: .* is no (int|bool)"):
        lower(gemm(), options=Options(**wrong))
