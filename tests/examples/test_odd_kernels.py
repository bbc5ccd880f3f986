"""Kernels that are not in the examples run on all machines, and say why they are not specialised.

The results are compared with float64 to a part of the largest value: 0.01 is far above the
rounding of these operands and sums, and far below what a wrong tile would change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import odd_kernels as odd
import pytest

from tilec.ir.core import walk
from tilec.ir.interp import interpret
from tilec.passes import lower
from tilec.passes.pipeline import simplified
from tilec.runtime import emulator
from tilec.runtime.arrays import tensor_type

Made = tuple[Any, tuple[int, ...], list[Any], np.ndarray[Any, Any]]  # kernel, grid, arguments, expected


def normal(*shape: int, dtype: Any = np.float16, scale: float = 1.0) -> np.ndarray[Any, Any]:
    seed = [*shape, round(1000 * scale)]
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def exact(*arrays: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    return [a.astype(np.float64) for a in arrays]


def softmax(s: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    result: np.ndarray[Any, Any] = e / e.sum(axis=-1, keepdims=True)
    return result


def while_gemm() -> Made:
    a, b = normal(70, 104), normal(104, 48)
    return odd.while_gemm, (2, 2), [a, b, np.empty((70, 48), np.float16)], np.matmul(*exact(a, b))


def gathered_rows() -> Made:
    a, b = normal(50, 104), normal(104, 48)
    rows = np.random.default_rng(0).integers(0, 50, 70).astype(np.int32)
    expected = exact(a)[0][rows] @ exact(b)[0]
    return odd.gathered_rows, (2, 2), [a, rows, b, np.empty((70, 48), np.float16)], expected


def skipped_blocks() -> Made:
    a, b = normal(70, 96), normal(96, 48)
    mask = np.array([[1, 0, 1], [0, 0, 0]], np.int32)
    kept = exact(a)[0] * np.repeat(np.repeat(mask, 64, 0)[:70], 32, 1)
    return odd.skipped_blocks, (2, 2), [a, b, mask, np.empty((70, 48), np.float16)], kept @ exact(b)[0]


def small_weights() -> Made:
    a, scale = normal(70, 104), normal(80, dtype=np.float32)
    w = np.random.default_rng(0).integers(-128, 128, (104, 80), np.int8)
    expected = exact(a)[0] @ exact(w)[0] * exact(scale)[0]
    return odd.small_weights, (2, 2), [a, w, scale, np.empty((70, 80), np.float32)], expected


def block_scales() -> Made:
    a, b = (normal(n, 96, dtype=ml_dtypes.float8_e4m3fn) for n in (70, 48))
    sa, sb = normal(70, 3, dtype=np.float32), normal(2, 3, dtype=np.float32)
    wide_a, wide_b, row, tile = exact(a, b, sa, sb)
    wide_a, wide_b = wide_a * np.repeat(row, 32, 1), wide_b * np.repeat(np.repeat(tile, 32, 0)[:48], 32, 1)
    return odd.block_scales, (2, 2), [a, b, sa, sb, np.empty((70, 48), np.float32)], wide_a @ wide_b.T


def convolution() -> Made:
    x, w = normal(100, 40), normal(5, 40, 48)
    wide, taps = np.pad(exact(x)[0], ((2, 2), (0, 0))), exact(w)[0]
    expected = sum(wide[t : t + 100] @ taps[t] for t in range(5))
    return odd.convolution, (2, 2), [x, w, np.empty((100, 48), np.float16)], np.asarray(expected)


def linear_attention() -> Made:
    q, k, v = (normal(2, 150, 64, scale=scale) for scale in (0.3, 0.2, 0.25))
    wide_q, wide_k, wide_v = exact(q, k, v)
    expected = np.tril(wide_q @ wide_k.swapaxes(1, 2)) @ wide_v
    return odd.linear_attention, (2,), [q, k, v, np.empty((2, 150, 64), np.float16)], expected


def two_loops() -> Made:
    q, k, v = normal(150, 64), normal(150, 64, scale=0.9), normal(150, 64, scale=1.1)
    s = exact(q)[0] @ exact(k)[0].T / 8
    expected = softmax(np.where(np.tril(np.ones_like(s)) > 0, s, -np.inf)) @ exact(v)[0]
    return odd.two_loops, (3,), [q, k, v, np.empty((150, 64), np.float16)], expected


def two_passes() -> Made:
    q, k, v = normal(150, 64), normal(90, 64), normal(90, 64, scale=1.1)
    q[:64] *= 8  # beyond what float16 weights hold: only these rows need the second pass
    expected = softmax(exact(q)[0] @ exact(k)[0].T / 8) @ exact(v)[0]
    return odd.two_passes, (3,), [q, k, v, np.empty((150, 64), np.float16), 15.0], expected


CASES: tuple[tuple[Callable[[], Made], bool, str], ...] = (
    (while_gemm, True, "trips of a while loop"),
    (gathered_rows, True, "done by threads, not by TMA"),
    (skipped_blocks, True, "control flow inside"),
    (small_weights, False, "second operand is made by cast"),
    (block_scales, True, ""),
    (convolution, True, ""),
    (linear_attention, True, "second operand is made by cast"),
    (two_loops, True, ""),
    (two_passes, False, "the load group would need"),
)


@pytest.mark.parametrize(("make", "specialised", "note"), CASES, ids=lambda x: getattr(x, "__name__", None))
def test_it_is_right_everywhere_and_says_what_it_is(
    make: Callable[[], Made], specialised: bool, note: str
) -> None:
    kernel, grid, args, expected = make()
    out = max(i for i, a in enumerate(args) if isinstance(a, np.ndarray))
    tile = kernel.trace([_type_of(a) for a in args])
    scheduled = lower(tile, "sm_90a").scheduled
    assert any(op.name == "warp_groups" for op in walk(scheduled.body)) == specialised
    assert note in " ".join(scheduled.attrs["notes"]) and bool(note) == bool(scheduled.attrs["notes"])
    bits = []
    for form in (tile, simplified(tile, "sm_90a"), scheduled):
        args[out][...] = np.nan
        interpret(form, grid, args, policy="last")
        bits.append(args[out].tobytes())
        _assert_near(args[out], expected)
    assert bits[1] == bits[2]
    for backend in ("cpu", "emulator"):
        args[out][...] = np.nan
        kernel[grid](*args, backend=backend)
        _assert_near(args[out], expected)


def _type_of(argument: Any) -> Any:
    return replace(tensor_type(argument), aligned=True) if isinstance(argument, np.ndarray) else "f32"


def _assert_near(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> None:
    error = np.abs(found.astype(np.float64) - expected).max()
    assert error <= 0.01 * np.abs(expected).max()


@pytest.mark.slow
@pytest.mark.parametrize("make", [c[0] for c in CASES], ids=lambda x: x.__name__)
@pytest.mark.parametrize("how", [("eager", 0), ("random", 0), ("random", 1)], ids=str)
def test_no_timing_shows_a_hazard(
    how: tuple[str, int], make: Callable[[], Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel, grid, args, _ = make()
    launch, reports = emulator.launch, []

    def timed(*arguments: Any) -> None:
        reports.extend(launch(*arguments, mode=how[0], seed=how[1]).reports)

    monkeypatch.setattr(emulator, "launch", timed)
    kernel[grid](*args, backend="emulator")
    assert reports == []


SLOW_TILES = [pytest.param(t, marks=pytest.mark.slow) for t in ((48, 40, 24), (192, 72, 16), (16, 16, 16))]


@pytest.mark.parametrize(
    "tiles", [(64, 40, 48), (64, 8, 16), (256, 96, 32), (128, 264, 32), *SLOW_TILES], ids=str
)
def test_tiles_of_every_extent_compute(tiles: tuple[int, int, int]) -> None:
    a, b = normal(70, 104), normal(104, 80)
    out, meta = np.full((70, 80), np.nan, np.float16), dict(zip(("BM", "BN", "BK"), tiles, strict=True))
    grid = (-(-70 // tiles[0]), -(-80 // tiles[1]))
    odd.odd_tiles[grid](a, b, out, backend="emulator", **meta)
    _assert_near(out, np.matmul(*exact(a, b)))
