"""Rings on Hopper that threads fill: gathers of rows by cp.async, all else through registers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hopper_kit import MODES, agree, assembled, gemm, random_array, tile_kernel

import tilec
import tilec.language as tl
from tilec.ir.interp import POLICIES, interpret
from tilec.passes import Options, lower
from tilec.runtime.emulator import launch

FEW = MODES[2:3]


@tilec.kernel
def picked(X: tl.Tensor, IDS: tl.Tensor, W: tl.Tensor, OUT: tl.Tensor, MASKED: tl.constexpr[bool] = False,
           BM: tl.constexpr[int] = 64, BN: tl.constexpr[int] = 64, BK: tl.constexpr[int] = 64):  # fmt: skip
    """Rows of X that a list names, times W: the tokens of one expert. A row that is not there is 0."""
    m, n = tl.program_id(0), tl.program_id(1)
    ids = tl.load(IDS, (m,), (BM,), pad=-1)
    acc = tl.zeros((BM, BN), tl.float32)
    for k in tl.range(tl.cdiv(X.shape[1], BK)):
        columns = (k * BK + tl.arange(0, BK))[None, :]
        mask = (columns < X.shape[1]) if MASKED else (ids != 7)[:, None]
        x = tl.gather(X, (ids[:, None], columns), mask=mask)
        acc = tl.dot(x, tl.load(W, (k, n), (BK, BN)), acc)
    tl.store(OUT, (m, n), acc.to(OUT.dtype))


@tilec.kernel
def both_picked(X: tl.Tensor, IDS: tl.Tensor, OUT: tl.Tensor):
    """Products of all pairs of the rows that a list names: both operands are gathers."""
    ids = tl.load(IDS, (0,), (64,), pad=-1)
    acc = tl.zeros((64, 64), tl.float32)
    for k in tl.range(tl.cdiv(X.shape[1], 32)):
        columns = (k * 32 + tl.arange(0, 32))[None, :]
        x = tl.gather(X, (ids[:, None], columns))
        acc = tl.dot(x, x.T, acc)
    tl.store(OUT, (0, 0), acc.to(OUT.dtype))


def arguments(rows: int = 100) -> list[Any]:
    ids = np.random.default_rng(0).integers(-3, 55, rows).astype(np.int32)
    return [random_array((50, 200)), ids, random_array((200, 96), seed=1), np.zeros((rows, 96), np.float16)]


def tight(text: str) -> bool:
    found = assembled(text)
    return found.spill_stores == found.spill_loads == 0 and all(m.severity == "info" for m in found.messages)


@pytest.mark.parametrize("rows", [64, 128])
def test_rows_are_copied_in_units_of_16_bytes(rows: int) -> None:
    """Ids below 0 and beyond the end, rows that are masked, and columns beyond the end give zeros."""
    artifact = agree(picked, (-(-100 // rows), 2), arguments(), BM=rows, modes=MODES if rows == 64 else FEW)
    units = rows * 64 * 2 // 16 // 128
    assert artifact.text.count("cp.async.cg.shared.global") == units
    assert "cp.async.mbarrier.arrive.noinc" in artifact.text and "wgmma" in artifact.text
    assert "cp.async.bulk.tensor.2d.shared" in artifact.text  # W comes by TMA all the same
    assert tight(artifact.text)


def test_both_operands_may_be_gathers() -> None:
    args = arguments()
    artifact = agree(both_picked, (1,), [args[0], args[1][:64], np.zeros((64, 64), np.float16)], modes=FEW)
    assert "cp.async.bulk.tensor.2d.shared" not in artifact.text
    assert tight(artifact.text)


def test_what_has_no_whole_units_goes_through_registers() -> None:
    artifact = agree(picked, (2, 2), arguments(), MASKED=True, modes=FEW)
    assert "cp.async.cg" not in artifact.text and "fence.proxy.async" in artifact.text
    assert tight(artifact.text)


@pytest.mark.parametrize("shape", [(70, 203, 96), (64, 72, 70)])
def test_odd_rows_go_through_registers(shape: tuple[int, int, int]) -> None:
    """Tensors whose rows start anywhere: TMA takes neither A nor B, or not B."""
    m, k, n = shape
    args = [random_array((m, k)), random_array((k, n)), np.zeros((m, n), np.float16)]
    artifact = agree(gemm, (-(-m // 64), -(-n // 64)), args, modes=FEW)
    assert "setmaxnreg" in artifact.text and tight(artifact.text)


def test_the_scheduled_form_gives_the_bits_of_the_tile_form() -> None:
    args = arguments()
    tile = tile_kernel(picked, args)
    stages = lower(tile, "sm_90a", Options(stages=2))
    interpret(tile, (2, 2), args)
    for policy in POLICIES:
        again = arguments()
        interpret(stages.scheduled, (2, 2), again, policy=policy, seed=1)
        assert np.array_equal(again[-1], args[-1])


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("fence.proxy.async.shared::cta", ""),
        ("cp.async.mbarrier.arrive.noinc.shared::cta.b64 ", "mbarrier.arrive.shared::cta.b64 _, "),
    ],
)
def test_the_emulator_sees_what_is_missing(line: str, instead: str) -> None:
    """The fence between cp.async and wgmma, and an arrival that does not wait for the copies."""
    args = arguments(64)
    artifact = agree(picked, (1, 1), args, modes=())
    assert line in artifact.text
    head, tail = artifact.text.split(line, 1)
    broken = head + (instead + tail if instead else tail.split(";", 1)[1])
    found = launch(replace(artifact, text=broken), (1, 1), args, strict=False, mode="lazy")
    assert any(r.code.startswith("E") for r in found.reports)
