"""Unusual arguments and epilogues of products on Hopper: emulated against the interpreter."""

from __future__ import annotations

import numpy as np
from hopper_kit import gemm, random_array, tile_kernel

from tilec.backends.ptx import compile_kernel
from tilec.ir.interp import interpret
from tilec.passes import Options, lower
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
