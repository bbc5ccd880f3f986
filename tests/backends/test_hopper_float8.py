"""8-bit operands that are computed: rounded two at a time, joined, carried by loops four to a register."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hopper_kit import agree, assembled, random_array, tile_kernel, twin

import tilec
import tilec.language as tl
from tilec.backends.ptx import compile_kernel
from tilec.ir.interp import interpret
from tilec.passes import Options, lower
from tilec.runtime.emulator import launch


@tilec.kernel
def twice(Q: tl.Tensor, K: tl.Tensor, VT: tl.Tensor, O: tl.Tensor, saturate: tl.constexpr[bool] = False):
    """The first product of each block of keys, rounded, is an operand of the second."""
    q = tl.load(Q, (tl.program_id(0), 0), (64, 64))
    acc = tl.zeros((64, 64), tl.float32)
    for n in tl.range(tl.cdiv(K.shape[0], 64), stages=3):
        s = tl.dot(q, tl.load(K, (n, 0), (64, 64)).T)
        p = (tl.exp2(s * 0.25) - 1.0).to(Q.dtype, saturate)
        acc = tl.dot(p, tl.load(VT, (0, n), (64, 64)).T, acc)
    tl.store(O, (tl.program_id(0), 0), acc)


def arguments(dtype: str, size: float) -> list[Any]:
    q, k, vt = (random_array((n, m), seed=n) for n, m in ((64, 64), (320, 64), (64, 320)))
    q, k, vt = (np.rint(2 * x.astype(np.float32) * f) / 2 for x, f in ((q, size), (k, 1.0), (vt, 1.0)))
    return [*(x.astype(dtype) for x in (q, k, vt)), np.zeros((64, 64), np.float32)]


@pytest.mark.parametrize(
    ("dtype", "size"),
    [("float8_e4m3fn", 0.5), ("float8_e4m3fn", 1.5), ("float8_e5m2", 0.5), ("float8_e5m2", 4.0)],
)
@pytest.mark.parametrize("saturate", [False, True])
def test_what_is_rounded_is_what_the_interpreter_rounds(dtype: str, size: float, saturate: bool) -> None:
    """Beyond the range rows have NaN, or infinities of e5m2; the same rows. If they saturate, none has."""
    args = arguments(dtype, size)
    kernel = tile_kernel(twice, args, saturate=saturate)
    artifact = compile_kernel(lower(kernel, "sm_90a", Options()).scheduled)
    found, expected = ([twin(a) for a in args] for _ in range(2))
    assert not launch(artifact, (1,), found, mode="lazy").reports
    interpret(kernel, (1,), expected)
    good = np.isfinite(expected[-1])
    assert good.all() if size < 1 or saturate else not good.all() and good.any()
    np.testing.assert_array_equal(np.isnan(found[-1]), np.isnan(expected[-1]))
    scale = np.abs(expected[-1][good]).max()
    np.testing.assert_allclose(found[-1][good], expected[-1][good], rtol=0, atol=2e-2 * scale)


@tilec.kernel
def behind(Q: tl.Tensor, K: tl.Tensor, VT: tl.Tensor, O: tl.Tensor):
    """A product whose operand the turn before has made."""
    q = tl.load(Q, (0, 0), (64, 64))
    acc, p = tl.zeros((64, 64), tl.float32), tl.zeros((64, 64), tl.float32).to(Q.dtype)
    for n in tl.range(tl.cdiv(K.shape[0], 64)):
        acc = tl.dot(p, tl.load(VT, (0, n), (64, 64)).T, acc)
        p = (tl.dot(q, tl.load(K, (n, 0), (64, 64)).T) * 0.25).to(Q.dtype, saturate=True)
    tl.store(O, (0, 0), acc)


def test_a_loop_carries_four_to_a_register() -> None:
    args = arguments("float8_e4m3fn", 0.5)
    artifact = agree(behind, (1,), args, modes=[("lazy", 0)], tolerance=2e-2)
    assert "shr.u16" in artifact.text  # words that a turn gets are spread, for whoever needs them
    done = assembled(artifact.text)
    assert not [m for m in done.messages if m.serious] and not done.spill_stores
    pairs = [x for x in artifact.text.splitlines() if "e4m3x2.f32" in x and "0f00000000" not in x]
    assert len(pairs) >= 16  # two elements a conversion
