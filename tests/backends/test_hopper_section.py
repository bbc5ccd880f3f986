"""Sections on Hopper: each program's own tensor maps, in both directions, against the interpreter."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hopper_kit import MODES, agree, assembled, random_array

import tilec
import tilec.language as tl
from tilec.backends.ptx import compile_kernel
from tilec.ir.interp import interpret
from tilec.passes import Options, lower
from tilec.runtime.emulator import launch


@tilec.kernel
def grouped(X: tl.Tensor, W: tl.Tensor, OFFSETS: tl.Tensor, OUT: tl.Tensor,
            BM: tl.constexpr[int] = 64, BN: tl.constexpr[int] = 64, BK: tl.constexpr[int] = 64):  # fmt: skip
    group, m = tl.program_id(0), tl.program_id(1)
    start, stop = tl.gather(OFFSETS, group), tl.gather(OFFSETS, group + 1)
    rows, out = tl.section(X, start, stop), tl.section(OUT, start, stop)
    acc = tl.zeros((BM, BN), tl.float32)
    for k in tl.range(tl.cdiv(X.shape[1], BK)):
        w = tl.load(W, (group, k, 0), (1, BK, BN)).reshape(BK, BN)
        acc = tl.dot(tl.load(rows, (m, k), (BM, BK)), w, acc)
    tl.store(out, (m, 0), acc.to(OUT.dtype))


@tilec.kernel
def summed(X: tl.Tensor, Y: tl.Tensor, OFFSETS: tl.Tensor, OUT: tl.Tensor):
    """The rows of a group are what is summed over: those of the next one must count as zero."""
    group = tl.program_id(0)
    start, stop = tl.gather(OFFSETS, group), tl.gather(OFFSETS, group + 1)
    x, y = tl.section(X, start, stop), tl.section(Y, start, stop)
    acc = tl.zeros((64, 64), tl.float32)
    for k in tl.range(tl.cdiv(stop - start, 32)):
        acc = tl.dot(tl.load(x, (k, 0), (32, 64)).T, tl.load(y, (k, 0), (32, 64)), acc)
    tl.store(OUT, (group, 0, 0), acc.to(OUT.dtype).reshape(1, 64, 64))


FEW = MODES[2:3]
OFFSETS = np.array([0, 70, 70, 134, 150], np.int32)


def arguments() -> list[Any]:
    x, w = random_array((150, 96)), random_array((4, 96, 64))
    return [x, w, OFFSETS, np.full((150, 64), 7, np.float16)]


@pytest.mark.parametrize("rows", [64, 128])
def test_a_group_has_descriptors_of_its_own(rows: int) -> None:
    """Rows beyond the end of a group, also of one without rows, are neither read nor written."""
    artifact = agree(grouped, (4, 2), arguments(), BM=rows, modes=MODES if rows == 64 else FEW)
    maps = re.findall(r"tensormap.replace.tile.global_dim\S+ \[\S+\], (\d),", artifact.text)
    assert artifact.workspace == 2 * 128 and maps == ["1", "1"]
    assert (
        "cp.async.bulk.tensor.2d.global.shared::cta" in artifact.text and "st.global.b16" not in artifact.text
    )
    found = assembled(artifact.text)
    assert (found.spill_stores, found.spill_loads) == (0, 0)
    assert not [m for m in found.messages if m.severity != "info"]


def test_a_ragged_sum_takes_nothing_of_the_next_group() -> None:
    """The next group's rows are infinite: times the zeros of any other way to mask they would be NaN."""
    x, y = random_array((150, 64)), random_array((150, 64), seed=1)
    x[70:], y[70:] = np.inf, np.nan
    out = np.full((1, 64, 64), 7, np.float16)
    artifact = agree(summed, (1,), [x, y, OFFSETS, out], modes=FEW)
    assert artifact.workspace == 2 * 128


def test_groups_of_warps_make_the_maps_that_they_use() -> None:
    """As stores follow at once, a missing fence or a map of another group would show."""
    args = arguments()
    artifact = agree(grouped, (4, 2), args, BM=128, options=Options(num_warps=8), modes=FEW)
    load, compute = artifact.text.split("setmaxnreg.inc")
    assert load.count("fence.proxy.tensormap::generic.acquire.gpu") == 1
    assert compute.count("fence.proxy.tensormap::generic.acquire.gpu") == 1


def test_the_emulator_misses_the_fence() -> None:
    """Without it a copy may see the map that lay there before."""
    args = arguments()
    artifact = agree(grouped, (1, 1), args, modes=())
    lines = [line for line in artifact.text.splitlines() if "acquire.gpu" not in line]
    assert launch(replace(artifact, text="\n".join(lines)), (4, 2), args, strict=False).reports


def test_targets_without_tma_need_no_maps() -> None:
    args, expected = arguments(), arguments()
    kernel = grouped.trace(("f16[2]", "f16[3]", "i32[1]", "f16[2]"))
    interpret(kernel, (4, 2), expected)
    artifact = compile_kernel(lower(kernel, "sm_80").scheduled, "sm_80")
    assert artifact.workspace == 0
    for mode, seed in FEW:
        args[-1][:] = 7
        assert not launch(artifact, (4, 2), args, mode=mode, seed=seed).reports
        np.testing.assert_allclose(args[-1].astype(float), expected[-1].astype(float), atol=0.05)
