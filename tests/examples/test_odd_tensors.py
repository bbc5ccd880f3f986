"""Kernels at the tiles of the examples, on tensors that TMA cannot load, and with own loads in a loop."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilec
import tilec.language as tl
from tilec.runtime import toolchain

UNALIGNED = "f16[2, unaligned]"


@tilec.kernel
def gemm(A: tl.Tensor, B: tl.Tensor, C: tl.Tensor, rows: tl.constexpr[bool] = True,
         BM: tl.constexpr[int] = 128, BN: tl.constexpr[int] = 256, BK: tl.constexpr[int] = 64):  # fmt: skip
    """``rows``: A is (M, K), else (K, M)."""
    m, n = tl.program_id(0), tl.program_id(1)
    acc = tl.zeros((BM, BN), tl.int32 if A.dtype == tl.int8 else tl.float32)
    for k in tl.range(tl.cdiv(B.shape[0], BK)):
        a = tl.load(A, (m, k), (BM, BK)) if rows else tl.load(A, (k, m), (BK, BM)).T
        acc += tl.dot(a, tl.load(B, (k, n), (BK, BN)))
    tl.store(C, (m, n), acc.to(C.dtype))


@tilec.kernel
def biased(Q: tl.Tensor, K: tl.Tensor, V: tl.Tensor, BIAS: tl.Tensor, O: tl.Tensor, gathered: tl.constexpr,
           D: tl.constexpr[int] = 80, BM: tl.constexpr[int] = 128, BN: tl.constexpr[int] = 64):  # fmt: skip
    """Attention with a tile of biases, or one for each distance."""
    m, rows = tl.program_id(0), tl.program_id(0) * BM + tl.arange(0, BM)
    q, acc = tl.load(Q, (m, 0), (BM, D)), tl.zeros((BM, D), tl.float32)
    top, total = tl.full((BM,), -1e30, tl.float32), tl.zeros((BM,), tl.float32)
    for n in tl.range(tl.cdiv(K.shape[0], BN)):
        columns = n * BN + tl.arange(0, BN)
        distance = tl.clamp(columns[None, :] - rows[:, None], -16, 16) + 16
        bias = tl.gather(BIAS, (0, distance)) if gathered else tl.load(BIAS, (m, n), (BM, BN))
        s = (tl.dot(q, tl.load(K, (n, 0), (BN, D)).T) + bias.to(tl.float32)) * 1.44
        s = tl.where((columns < K.shape[0])[None, :], s, float("-inf"))
        new_top = tl.maximum(top, tl.max(s, 1))
        p, fade = tl.exp2(s - new_top[:, None]), tl.exp2(top - new_top)
        acc = acc * fade[:, None] + tl.dot(p.to(V.dtype), tl.load(V, (n, 0), (BN, D)))
        total, top = total * fade + tl.sum(p, 1), new_top
    tl.store(O, (m, 0), (acc / total[:, None]).to(O.dtype))


def assert_nothing_spilled(kernel: Any, signature: tuple[str, ...], **meta: Any) -> None:
    if toolchain.find("ptxas") is None:
        pytest.skip("ptxas not found: pip install 'tilec[test]'")
    done = toolchain.assemble(kernel.compile(signature, target="sm_90a", **meta).asm["ptx"], "sm_90a")
    assert (done.spill_stores, done.spill_loads, done.stack) == (0, 0, 0)
    assert [m for m in done.messages if m.severity != "info" or m.serious] == []


SHAPES: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    ((UNALIGNED,) * 3, {}),
    (("i8[2]", "i8[2]", "i32[2]"), {"rows": False, "BN": 128}),
    (("e4m3[2]", "e4m3[2]", "bf16[2]"), {"rows": False, "BN": 128}),
    (("f16[2]", UNALIGNED, UNALIGNED), {}),
)


@pytest.mark.parametrize(("signature", "meta"), SHAPES, ids=str)
def test_threads_that_fill_rings_spill_nothing(signature: tuple[str, ...], meta: dict[str, Any]) -> None:
    assert_nothing_spilled(gemm, signature, **meta)


@pytest.mark.parametrize(
    "tiles", [(64, 32, 64), pytest.param((64, 24, 112), marks=pytest.mark.slow)], ids=str
)
@pytest.mark.parametrize("dtype", [np.float16, np.int8, ml_dtypes.float8_e4m3fn], ids=lambda d: d.__name__)
def test_what_threads_load_in_strips_is_right(dtype: Any, tiles: tuple[int, int, int]) -> None:
    integer = dtype is np.int8
    values = np.random.default_rng(0).integers(-8, 9, (70 + 31) * 121)
    a, b = (
        values[: 121 * 70].reshape(121, 70).astype(dtype),
        values[121 * 70 :].reshape(121, 31).astype(dtype),
    )
    c = np.full((70, 31), 77, np.int32 if integer else np.float32)
    grid = tuple(-(-n // t) for n, t in zip((70, 31), tiles, strict=False))
    meta = dict(zip(("BM", "BN", "BK"), tiles, strict=True))
    gemm[grid](a, b, c, rows=False, backend="emulator", **meta)
    assert np.array_equal(c, a.astype(np.int32).T @ b.astype(np.int32))


@pytest.mark.parametrize("target", ["sm_90a", "sm_80"])
def test_a_product_of_too_many_registers_says_so(target: str) -> None:
    notes = gemm.compile(("f16[2]",) * 3, target=target, BM=256).notes
    assert any("takes 256 of 255 registers: make the tile smaller" in note for note in notes)
    assert any("this dot is not asynchronous" in note for note in notes) == (target == "sm_90a")
    assert any("no plan found (infeasible)" in note for note in notes)


@pytest.mark.slow
@pytest.mark.parametrize("gathered", [False, True])
def test_a_loop_with_loads_of_its_own_spills_nothing(gathered: bool, real_budget: None) -> None:
    bias = "f32[2]" if gathered else "f16[2]"
    assert_nothing_spilled(biased, ("f16[2]",) * 3 + (bias, "f16[2]"), gathered=gathered)
