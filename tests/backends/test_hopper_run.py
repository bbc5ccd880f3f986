"""PTX of specialised kernels on the emulator equals the interpreter, in every timing mode."""

from __future__ import annotations

import random
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hopper_kit import (
    MODES,
    accumulate,
    agree,
    attention,
    gelu_gemm,
    gemm,
    overwritten,
    persistent,
    random_array,
    scaled_gemm,
)  # fmt: skip

from tilec.passes import Options

BF16, E4M3, E5M2 = ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2
QUICK = MODES[:1] + MODES[2:3]


def operands(m: int, n: int, k: int, dtype: Any = np.float16, out: Any = None) -> list[Any]:
    """A, and B with k contiguous where wgmma needs that."""
    b = random_array((n, k), dtype).T if np.dtype(dtype).itemsize != 2 else random_array((k, n), dtype)
    return [random_array((m, k), dtype), b, random_array((m, n), out or dtype, 9)]


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
def test_trip_counts_around_the_depth(stages: int) -> None:
    for trips in sorted({0, 1, stages - 1, stages, stages + 1}):
        made = agree(gemm, (1, 1), operands(64, 64, 64 * trips), options=Options(stages=stages), modes=QUICK)
        assert "setmaxnreg" in made.text


@pytest.mark.parametrize("shape", [(200, 264, 136), (128, 256, 8), (64, 8, 72), (129, 512, 200)])
def test_ragged_gemm_of_the_large_tile(shape: tuple[int, int, int]) -> None:
    m, n, _ = shape
    agree(gemm, (-(-m // 128), -(-n // 256)), operands(*shape), BM=128, BN=256)


@pytest.mark.parametrize(
    "dtype,out,bk",
    [
        (BF16, BF16, 64), (E4M3, np.float16, 128), (E5M2, np.float32, 32), (np.float32, np.float32, 32),
        (np.int8, np.int32, 64), (np.float16, np.float32, 32), (np.float16, np.float16, 16),
    ],
)  # fmt: skip
def test_dtypes_and_swizzles(dtype: Any, out: Any, bk: int) -> None:
    made = agree(gemm, (2, 2), operands(80, 96, 208, dtype, out), modes=QUICK, BK=bk, tolerance=1e-2)
    assert "wgmma.mma_async" in made.text


@pytest.mark.parametrize("transposed", ["A", "B", "AB", "C"])
def test_every_major(transposed: str) -> None:
    a, b, c = random_array((72, 136)), random_array((136, 88)), random_array((72, 88), seed=3)
    args = [
        np.asfortranarray(x) if name in transposed else x for name, x in zip("ABC", (a, b, c), strict=True)
    ]
    made = agree(gemm, (2, 2), args, modes=QUICK)
    assert ("bulk_group" in made.text) and ("setmaxnreg" in made.text)


@pytest.mark.parametrize("tile", [(64, 8), (64, 24), (64, 96), (128, 192), (192, 64), (256, 128)])
def test_tile_shapes(tile: tuple[int, int]) -> None:
    bm, bn = tile
    agree(gemm, (1, 1), operands(bm, bn, 96), modes=QUICK, BM=bm, BN=bn)


@pytest.mark.parametrize("warps", [4, 8, 16])
@pytest.mark.parametrize("dtype", [np.float16, E4M3, np.float32])
def test_one_group_stages_operands_through_shared_memory(warps: int, dtype: Any) -> None:
    options = Options(specialize=False, num_warps=warps)
    made = agree(gemm, (1, 1), operands(128, 64, 96, dtype), options=options, modes=QUICK, BM=128, BK=32)
    assert "wgmma.mma_async" in made.text and "setmaxnreg" not in made.text


def test_unaligned_tensors() -> None:
    agree(gemm, (1, 1), [random_array((64, 65)), random_array((65, 67)), random_array((64, 67))], modes=QUICK)
    made = agree(gemm, (1, 1), [*operands(64, 72, 64)[:2], random_array((64, 73))[:, :72]], modes=QUICK)
    assert "bulk_group" not in made.text


def test_a_ring_beside_ordinary_loads() -> None:
    """A cannot be copied by TMA and goes through registers and staging, B comes through a ring."""
    a = random_array((128, 210))[:, :200]
    a = np.lib.stride_tricks.as_strided(a, a.shape, (2 * 210, 2))
    made = agree(gemm, (1, 1), [a, random_array((200, 64)), random_array((128, 64), seed=2)], BM=128)
    assert "setmaxnreg" in made.text and "fence.proxy.async" in made.text


def test_persistent_loop_carries_stage_and_parity_across_tiles() -> None:
    for programs, k in ((1, 136), (2, 64), (3, 200), (9, 8), (1, 0)):
        agree(persistent, (programs,), operands(136, 200, k), modes=QUICK)


def test_scalars_are_known_to_all_groups() -> None:
    a, b, c = operands(128, 64, 192)
    made = agree(scaled_gemm, (1,), [a, b, 0.75, 2, c], modes=QUICK)
    assert made.threads == 384


def test_stores_to_one_place_keep_their_order() -> None:
    made = agree(overwritten, (1,), operands(64, 64, 256))
    assert "bulk_group" in made.text


def test_a_tensor_that_is_read_is_not_stored_by_tma() -> None:
    made = agree(accumulate, (1,), operands(64, 64, 128))
    assert "bulk_group" not in made.text


def test_fused_epilogue() -> None:
    args = [random_array((136, 72)), random_array((72, 264)), random_array((264,)), random_array((136, 264))]
    agree(gelu_gemm, (2, 2), args, modes=QUICK, tolerance=4e-3)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("d,bm,bn", [(64, 64, 64), (64, 128, 128), (128, 128, 64), (128, 64, 32)])
def test_attention(causal: bool, d: int, bm: int, bn: int) -> None:
    q, o = random_array((2, 200, d), seed=1), random_array((2, 200, d), seed=2)
    k, v = (random_array((1, 168, d), seed=s) for s in (3, 4))
    modes = QUICK if d == 128 else MODES
    agree(attention, (-(-200 // bm), 2), [q, k, v, o], modes=modes, causal=causal, D=d, BM=bm, BN=bn)


def test_attention_with_bfloat16_and_with_one_group() -> None:
    args = [random_array((1, 64, 64), BF16, seed=s) for s in range(4)]
    agree(attention, (1, 1), args, modes=QUICK, tolerance=1e-2)
    agree(attention, (1, 1), args, modes=QUICK, tolerance=1e-2, options=Options(specialize=False))


def test_attention_with_float8_moves_p_through_shared_memory() -> None:
    q, k = (random_array((1, 64, 64), E4M3, seed=s) for s in (1, 2))
    v = random_array((1, 64, 96), E4M3, seed=3).transpose(0, 2, 1)
    agree(attention, (1, 1), [q, k, v, random_array((1, 64, 64))], modes=QUICK, BN=32, tolerance=1e-2)


@pytest.mark.parametrize("seed", [pytest.param(s, marks=pytest.mark.slow) if s > 5 else s for s in range(40)])
def test_random_shapes_majors_and_options(seed: int) -> None:
    """Whatever compiles is right; what does not says why."""
    rng = random.Random(seed)
    dtype, out = rng.choice([(np.float16, np.float32), (BF16, BF16), (E4M3, np.float16), (np.int8, np.int32)])
    bm, bn, bk = rng.choice([64, 128]), rng.choice([8, 24, 64, 96, 160]), rng.choice([32, 48, 64, 128])
    m, n, k = rng.choice([bm, bm + 8, bm - 1]), rng.choice([bn, bn + 16]), rng.choice([bk, bk + 16, 3 * bk])
    shapes = (((m, k), dtype), ((k, n), dtype), ((m, n), out))
    args = [random_array(s, t, i) for i, (s, t) in enumerate(shapes)]
    args = [np.asfortranarray(a) if rng.random() < 0.4 else a for a in args]
    options = Options(stages=rng.choice([None, 1, 2, 4]), specialize=rng.choice([None, None, False]))
    meta = {"BM": bm, "BN": bn, "BK": bk}
    agree(
        gemm,
        (-(-m // bm), -(-n // bn)),
        args,
        options=options,
        modes=[("random", seed)],
        tolerance=1e-2,
        **meta,
    )
