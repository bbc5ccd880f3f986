"""PTX for sm_80 and its kin on the emulator equals the interpreter, in every timing mode."""

from __future__ import annotations

import random
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from ampere_kit import agree, operands
from hopper_kit import (
    MODES,
    accumulate,
    attention,
    gelu_gemm,
    gemm,
    overwritten,
    persistent,
    random_array,
    scaled_gemm,
    tile_kernel,
)  # fmt: skip

from tilec.backends.ptx import compile_kernel
from tilec.ir.errors import InfeasibleError, UnsupportedError
from tilec.passes import Options, lower

BF16, E4M3, E5M2 = ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2
LAZY, RANDOM = [("lazy", 0)], [("random", 1)]
slow = pytest.mark.slow
small = {"BM": 32, "BN": 32, "BK": 32}


def several(*rows: Any, first: int = 1) -> list[Any]:
    """Parameters of which all but the first few are for slow runs."""
    return [row if i < first else pytest.param(row, marks=slow) for i, row in enumerate(rows)]


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
def test_trip_counts_around_the_depth(stages: int) -> None:
    for trips in sorted({0, 1, stages, stages + 1}):
        args, options = operands(32, 32, 32 * trips), Options(stages=stages)
        made = agree(gemm, (1, 1), args, options=options, modes=LAZY, **small)
        assert "cp.async.commit_group" in made.text and "mma.sync" in made.text


@pytest.mark.parametrize("shape", several((70, 40, 72), (200, 72, 136), (128, 128, 8), (130, 16, 200)))
def test_ragged_gemm(shape: tuple[int, int, int]) -> None:
    m, n, _ = shape
    agree(gemm, (-(-m // 64), -(-n // 64)), operands(*shape), modes=MODES, BK=32)


@pytest.mark.parametrize(
    "row",
    several(
        ("sm_80", np.float32, np.float32, 32), ("sm_80", np.int8, np.int32, 64),
        ("sm_89", E4M3, np.float16, 128),
        ("sm_86", np.float16, np.float16, 48), ("sm_80", BF16, BF16, 64),
        ("sm_86", np.float16, np.float32, 16),
        ("sm_89", E5M2, np.float32, 32), ("sm_120a", E4M3, np.float16, 64),
        first=4,
    ),
    ids=str,
)  # fmt: skip
def test_dtypes_and_swizzles(row: tuple[str, Any, Any, int]) -> None:
    target, dtype, out, bk = row
    args = operands(48, 40, 208, dtype, out)
    made = agree(gemm, (1, 1), args, target=target, modes=RANDOM, BK=bk, tolerance=1e-2)
    assert "mma.sync" in made.text and "ldmatrix" in made.text and "cp.async.cg" in made.text


def test_conversions_that_come_later_are_a_clear_error() -> None:
    kernel = tile_kernel(gemm, operands(64, 64, 64, E4M3, np.float16))
    with pytest.raises(UnsupportedError, match=r"U134.*needs sm_89, not sm_80"):
        compile_kernel(lower(kernel, "sm_80").scheduled, "sm_80")


@pytest.mark.parametrize(
    "row",
    several(
        *[(t, d) for t in ("AB", "C") for d in (np.float16, np.float32)],
        *[(t, d) for t in "AB" for d in (np.float16, np.float32)],
        first=3,
    ),
    ids=str,
)
def test_every_major(row: tuple[str, Any]) -> None:
    """tf32 has no transposed form: such a tile is written the other way round by threads."""
    transposed, dtype = row
    arrays = (random_array(s, dtype) for s in ((72, 136), (136, 40), (72, 40)))
    named = zip("ABC", arrays, strict=True)
    made = agree(gemm, (2, 1), [np.asfortranarray(x) if n in transposed else x for n, x in named], modes=LAZY)
    assert "mma.sync" in made.text


@pytest.mark.parametrize(
    "tile", several((16, 8), (48, 40), (32, 24), (64, 96), (128, 192), (192, 64), (16, 128), first=3), ids=str
)
def test_tile_shapes(tile: tuple[int, int]) -> None:
    bm, bn = tile
    assert "mma.sync" in agree(gemm, (1, 1), operands(bm, bn, 96), modes=RANDOM, BM=bm, BN=bn).text


def test_a_tile_of_other_sizes_is_computed_by_multiply_add() -> None:
    assert "mma.sync" not in agree(gemm, (1, 1), operands(24, 8, 32), modes=LAZY, BM=24, BN=8, BK=32).text


@pytest.mark.parametrize("warps", several(8, 1, 2, 4, 16))
def test_numbers_of_warps(warps: int) -> None:
    agree(gemm, (1, 1), operands(128, 64, 96), options=Options(num_warps=warps), modes=LAZY, BM=128, BK=32)


def test_unaligned_tensors_go_through_registers() -> None:
    args = [random_array((32, 65)), random_array((65, 35)), random_array((32, 35))]
    made = agree(gemm, (1, 1), args, modes=RANDOM, **small)
    assert "mma.sync" in made.text and "cp.async" not in made.text


def test_a_stride_that_never_matters_may_be_anything() -> None:
    """With one row of B the copies of the other rows read nothing, wherever they would be."""
    made = agree(gemm, (1, 2), [random_array((32, 1)), random_array((1, 45)), random_array((32, 45))],
                 modes=LAZY, **small)  # fmt: skip
    assert "cp.async" in made.text


def test_persistent_loop_carries_its_slots_across_tiles() -> None:
    for programs, k in ((1, 72), (5, 0)):
        agree(persistent, (programs,), operands(72, 40, k), modes=MODES[1:3], **small)


def test_scalars_accumulators_from_memory_and_stores_in_the_loop() -> None:
    a, b, c = operands(128, 64, 192)
    agree(scaled_gemm, (1,), [a, b, 0.75, 2, c], modes=LAZY)
    agree(overwritten, (1,), operands(64, 64, 256), modes=RANDOM)
    agree(accumulate, (1,), operands(64, 64, 128), modes=LAZY)


@slow
def test_fused_epilogue() -> None:
    args = [random_array((136, 72)), random_array((72, 136)), random_array((136,)), random_array((136, 136))]
    agree(gelu_gemm, (2, 2), args, tolerance=4e-3, BN=128)


@pytest.mark.parametrize(
    "row",
    several(
        *[
            (c, *t)
            for c in (True, False)
            for t in ((64, 16, 64), (64, 64, 32), (64, 64, 64), (64, 128, 128), (128, 64, 32))
        ]
    ),
    ids=str,
)
def test_attention(row: tuple[bool, int, int, int]) -> None:
    causal, d, bm, bn = row
    q, o = random_array((1, 72, d), seed=1), random_array((1, 72, d), seed=2)
    k, v = (random_array((1, 104, d), seed=s) for s in (3, 4))
    made = agree(attention, (-(-72 // bm), 1), [q, k, v, o], modes=MODES, causal=causal, D=d, BM=bm, BN=bn)
    assert "mma.sync" in made.text


def test_attention_with_float8_and_with_bfloat16() -> None:
    q, k = (random_array((1, 32, 64), E4M3, seed=s) for s in (1, 2))
    v = random_array((1, 64, 32), E4M3, seed=3).transpose(0, 2, 1)
    args = [q, k, v, random_array((1, 32, 64))]
    agree(attention, (1, 1), args, target="sm_89", BM=32, BN=32, tolerance=1e-2, modes=LAZY)
    args = [random_array((1, 32, 64), BF16, seed=s) for s in range(4)]
    agree(attention, (1, 1), args, tolerance=1e-2, BM=32, BN=32, modes=RANDOM)


def test_shared_memory_of_each_target_is_the_limit() -> None:
    kernel, options = tile_kernel(gemm, operands(128, 128, 512), BM=128, BN=128, BK=128), Options(stages=2)
    assert compile_kernel(lower(kernel, "sm_80", options).scheduled, "sm_80").smem_bytes > 99 << 10
    with pytest.raises(InfeasibleError, match="I101"):
        lower(kernel, "sm_86", options)


@pytest.mark.parametrize("seed", [pytest.param(s, marks=slow) if s > 2 else s for s in range(60)])
def test_random_shapes_majors_and_options(seed: int) -> None:
    """Whatever compiles is right."""
    rng = random.Random(seed)
    dtype, out = rng.choice([(np.float16, np.float32), (BF16, BF16), (E4M3, np.float16), (np.int8, np.int32)])
    bm, bn, bk = rng.choice([16, 32, 64, 96, 128]), rng.choice([8, 24, 64, 96]), rng.choice([32, 48, 64])
    m, n, k = rng.choice([bm, bm + 8, bm - 1]), rng.choice([bn, bn + 16]), rng.choice([bk, bk + 16, 3 * bk])
    shapes = (((m, k), dtype), ((k, n), dtype), ((m, n), out))
    args = [random_array(s, t, i) for i, (s, t) in enumerate(shapes)]
    args = [np.asfortranarray(a) if rng.random() < 0.4 else a for a in args]
    options = Options(stages=rng.choice([None, 1, 2, 4]), num_warps=rng.choice([None, 1, 2, 4, 8]))
    grid, meta = (-(-m // bm), -(-n // bn)), {"BM": bm, "BN": bn, "BK": bk}
    target, modes = rng.choice(["sm_89", "sm_120a"]), [("random", seed)]
    agree(gemm, grid, args, target=target, options=options, modes=modes, tolerance=1e-2, **meta)


@pytest.mark.parametrize("tile", [(16, 64), (32, 24)], ids=str)
def test_products_too_small_for_wgmma_go_this_way_on_hopper(tile: tuple[int, int]) -> None:
    bm, bn = tile
    made = agree(gemm, (1, 1), operands(bm, bn, 96), target="sm_90a", modes=LAZY, BM=bm, BN=bn, BK=32)
    assert ".target sm_90a" in made.text and "mma.sync" in made.text and "cp.async.cg" in made.text
    wide = agree(gemm, (1, 1), operands(64, 32, 64), target="sm_90a", modes=LAZY, BN=32, BK=32)
    assert "wgmma" in wide.text and "mma.sync" not in wide.text
