"""Attention with a bias for each key: both parts of the rows read it, each for itself and ahead."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hopper_kit import assembled, random_array, tile_kernel, twin

import tilec
import tilec.language as tl
from tilec.backends.ptx import compile_kernel
from tilec.ir.interp import interpret
from tilec.passes import Options, lower
from tilec.runtime.emulator import launch


@tilec.kernel
def biased(Q: tl.Tensor, K: tl.Tensor, V: tl.Tensor, BIAS: tl.Tensor, O: tl.Tensor):
    m = tl.program_id(0)
    q = tl.load(Q, (m, 0), (128, 64))
    acc, total = tl.zeros((128, 64), tl.float32), tl.zeros((128,), tl.float32)
    top = tl.full((128,), -1e30, tl.float32)
    for n in tl.range(tl.cdiv(K.shape[0], 128)):
        k, v = tl.load(K, (n, 0), (128, 64)), tl.load(V, (n, 0), (128, 64))
        s = tl.dot(q, k.T) * 0.125 + tl.load(BIAS, (0, n), (1, 128))
        new = tl.maximum(top, tl.max(s, 1))
        p, fade = tl.exp2(s - new[:, None]), tl.exp2(top - new)
        total = total * fade + tl.sum(p, 1)
        acc = tl.dot(p.to(Q.dtype), v, acc * fade[:, None])
        top = new
    tl.store(O, (m, 0), (acc / total[:, None]).to(O.dtype))


def arguments(keys: int) -> list[Any]:
    q, k, v = (random_array((n, 64), seed=s).astype(np.float16) for s, n in enumerate((128, keys, keys)))
    return [q, k, v, random_array((1, keys), seed=3).astype(np.float32), np.zeros((128, 64), np.float16)]


@pytest.mark.slow
@pytest.mark.parametrize("keys", [128, 640])
def test_values_are_right_and_nothing_is_spilled(keys: int, real_budget: None) -> None:
    args = arguments(keys)
    kernel = tile_kernel(biased, args)
    scheduled = lower(kernel, "sm_90a", Options()).scheduled
    assert scheduled.attrs["notes"] == ()
    artifact = compile_kernel(scheduled)
    found, expected = ([twin(a) for a in args] for _ in range(2))
    assert not launch(artifact, (1,), found, mode="lazy").reports
    interpret(kernel, (1,), expected)
    np.testing.assert_allclose(found[-1], expected[-1], rtol=0, atol=2e-3)
    done = assembled(artifact.text)
    assert not [m for m in done.messages if m.serious] and not done.spill_stores
