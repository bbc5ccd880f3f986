"""Unusual arguments and epilogues of products on Hopper: emulated against the interpreter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hopper_kit import agree, assembled, gemm, random_array, tile_kernel

import tilec
import tilec.language as tl
from tilec.backends.ptx import compile_kernel
from tilec.ir.core import walk
from tilec.ir.interp import interpret
from tilec.ir.layout import wgmma_a16
from tilec.passes import Options, lower
from tilec.passes.layouts import assign_layouts
from tilec.runtime.emulator import launch


def test_negative_strides() -> None:
    """Tensor maps have none: such tensors are read and written by threads."""
    a, b = random_array((70, 64))[::-1], random_array((64, 80))[:, ::-1]
    found, expected = (np.zeros((70, 80), np.float32)[::-1] for _ in range(2))
    kernel = tile_kernel(gemm, (a, b, found))
    artifact = compile_kernel(lower(kernel, "sm_90a", Options()).scheduled)
    assert "cp.async.bulk.tensor" not in artifact.text
    launch(artifact, (2, 2), (a, b, found))
    interpret(kernel, (2, 2), [a, b, expected])
    assert np.abs(expected).max() > 1 and np.allclose(found, expected, atol=1e-4)


@tilec.kernel
def residual(A: tl.Tensor, B: tl.Tensor, R: tl.Tensor, C: tl.Tensor,
             BN: tl.constexpr[int] = 256, gate: tl.constexpr[bool] = False):  # fmt: skip
    m, n = tl.program_id(0), tl.program_id(1)
    acc = tl.zeros((128, BN), tl.float32)
    for k in tl.range(tl.cdiv(A.shape[1], 64)):
        acc = tl.dot(tl.load(A, (m, k), (128, 64)), tl.load(B, (k, n), (64, BN)), acc)
    r = tl.load(R, (m, n), (128, BN)).to(tl.float32)
    if gate:
        s = tl.load(C, (m, n), (128, BN)).to(tl.float32)
        acc = tl.where(r > s, acc * r, acc + s)
    else:
        acc = acc + r * 2.0
    tl.store(C, (m, n), acc.to(C.dtype))


@pytest.mark.parametrize(("columns", "dtype"), [(256, np.float16), (192, np.float16), (256, np.float32)])
def test_a_residual_is_loaded_as_the_accumulator_lies(columns: int, dtype: Any) -> None:
    """No scratch for it beside three stages of the ring, and no spills beside 128 accumulators."""
    a, b = random_array((136, 72)), random_array((72, 264))
    r, c = random_array((136, 264), dtype, 1), np.zeros((136, 264), np.float16)
    artifact = agree(residual, (2, 2), [a, b, r, c], modes=(("eager", 0), ("random", 1)), BN=columns)
    done = assembled(artifact.text)
    assert done.spill_stores == 0 and not [m for m in done.messages if m.serious]


def test_two_residuals_that_meet_before_the_accumulator() -> None:
    a, b = random_array((136, 72)), random_array((72, 264))
    r, c = random_array((136, 264), seed=1), random_array((136, 264), seed=2)
    artifact = agree(residual, (2, 2), [a, b, r, c], modes=(("eager", 0), ("random", 1)), gate=True)
    assert assembled(artifact.text).spill_stores == 0


@tilec.kernel
def gathered(A: tl.Tensor, B: tl.Tensor, R: tl.Tensor, C: tl.Tensor):
    acc = tl.zeros((128, 256), tl.float32)
    for k in tl.range(tl.cdiv(A.shape[1], 64)):
        acc = tl.dot(tl.load(A, (0, k), (128, 64)), tl.load(B, (k, 0), (64, 256)), acc)
    i, j = tl.arange(0, 128)[:, None], tl.arange(0, 256)[None, :]
    tl.store(C, (0, 0), (acc + tl.gather(R, (i, (j * 7) % 256))).to(C.dtype))


def test_what_is_gathered_lies_as_the_accumulator() -> None:
    a, b = random_array((100, 136)), random_array((136, 248))
    r, c = random_array((128, 256), np.float32, 1), np.zeros((100, 248), np.float16)
    artifact = agree(gathered, (1,), [a, b, r, c], modes=(("eager", 0), ("random", 1)))
    assert assembled(artifact.text).spill_stores == 0


@tilec.kernel
def scaled(Q: tl.Tensor, K: tl.Tensor, O: tl.Tensor, BM: tl.constexpr[int] = 64):
    m = tl.program_id(0)
    q = (tl.load(Q, (m, 0), (BM, 64)).to(tl.float32) * 0.125).to(tl.float16)
    top = tl.full((BM,), -1e30, tl.float32)
    for n in tl.range(tl.cdiv(K.shape[0], 64)):
        top = tl.maximum(top, tl.max(tl.dot(q, tl.load(K, (n, 0), (64, 64)).T), 1))
    tl.store(O, (m,), top)


@pytest.mark.parametrize("rows", [64, 128])
def test_an_operand_made_before_the_loop_stays_in_registers(rows: int) -> None:
    """As the tensor cores take it: it is not written to shared memory again and again."""
    args = [random_array((200, 64)), random_array((128, 64), seed=1), np.zeros(200, np.float32)]
    agree(scaled, (-(-200 // rows),), args, modes=(("eager", 0), ("random", 1)), BM=rows)
    lowered = lower(tile_kernel(scaled, args, BM=rows), "sm_90a", Options()).scheduled
    loops = [op for op in walk(assign_layouts(lowered).body) if op.name == "for"]
    operands = [op.args[0].type for loop in loops for op in walk(loop.blocks[0]) if op.name == "dot"]
    assert operands
    for operand in operands:
        assert operand.layout == wgmma_a16(operand.shape[0], 64, operand.shape[0] // 16)


@tilec.kernel
def row_sums_too(A: tl.Tensor, B: tl.Tensor, R: tl.Tensor, C: tl.Tensor):
    acc = tl.zeros((128, 256), tl.float32)
    for k in tl.range(tl.cdiv(A.shape[1], 64)):
        acc = tl.dot(tl.load(A, (0, k), (128, 64)), tl.load(B, (k, 0), (64, 256)), acc)
    r = tl.load(R, (0, 0), (128, 256)).to(tl.float32)
    tl.store(C, (0, 0), (acc * r + tl.sum(r, 1, keepdims=True)).to(C.dtype))


def test_rings_leave_space_for_scratch() -> None:
    """Three stages beside 128 KiB of scratch for a change of layout would not fit."""
    a, b = random_array((100, 136)), random_array((136, 248))
    r, c = random_array((100, 248), seed=1), np.zeros((100, 248), np.float16)
    agree(row_sums_too, (1,), [a, b, r, c], modes=(("eager", 0), ("random", 1)))


@tilec.kernel
def two_part_scores(QA: tl.Tensor, QB: tl.Tensor, KA: tl.Tensor, KB: tl.Tensor, O: tl.Tensor,
                    D: tl.constexpr[int] = 128):  # fmt: skip
    qa, qb = tl.load(QA, (0, 0), (64, D)), tl.load(QB, (0, 0), (64, 64))
    acc = tl.zeros((64, D), tl.float32)
    top, total = tl.full((64,), -1e30, tl.float32), tl.zeros((64,), tl.float32)
    for n in tl.range(tl.cdiv(KA.shape[0], 64)):
        ka, kb = tl.load(KA, (n, 0), (64, D)), tl.load(KB, (n, 0), (64, 64))
        s = tl.dot(qb, kb.T, tl.dot(qa, ka.T))
        s = tl.where((n * 64 + tl.arange(0, 64) < KA.shape[0])[None, :], s, -float("inf"))
        new = tl.maximum(top, tl.max(s, 1))
        p, fade = tl.exp2(s - new[:, None]), tl.exp2(top - new)
        acc, total = tl.dot(p.to(ka.dtype), ka, acc * fade[:, None]), total * fade + tl.sum(p, 1)
        top = new
    tl.store(O, (0, 0), (acc / total[:, None]).to(O.dtype))


def test_a_product_that_adds_to_one_that_runs_stays_in_its_registers() -> None:
    """Copies of accumulators between the two made ptxas serialize them."""
    shapes = ((64, 128), (64, 64), (160, 128), (160, 64))
    args = [*(random_array(s, seed=i) for i, s in enumerate(shapes)), np.zeros((64, 128), np.float16)]
    artifact = agree(two_part_scores, (1,), args, modes=(("lazy", 0),))
    done = assembled(artifact.text)
    assert done.spill_stores == 0 and not [m for m in done.messages if m.serious]
