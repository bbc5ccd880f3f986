"""Launching on a GPU: what can be checked without one, and the launch itself, marked gpu."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

from tilec.backends.artifact import Artifact, Param
from tilec.ir.errors import TilecTypeError, TilecValueError, UnsupportedError
from tilec.ir.types import TensorType, bfloat16, float32, int32
from tilec.runtime import cuda
from tilec.runtime.arrays import Described

ARRAY = Described(TensorType(float32, 2), (3, 5), (8, 1), 0x7F00_0000_1000, True)

ADD_ONE = """
.version 8.0
.target sm_90a
.address_size 64
.visible .entry add_one(.param .u64 p, .param .s32 n, .param .f32 c)
{
  .reg .b32 %r<6>; .reg .b64 %rd<4>; .reg .f32 %f<4>; .reg .pred %p;
  ld.param.u64 %rd0, [p]; ld.param.s32 %r0, [n]; ld.param.f32 %f0, [c];
  mov.u32 %r1, %ctaid.x; mov.u32 %r2, %tid.x; mad.lo.s32 %r3, %r1, 64, %r2;
  setp.ge.s32 %p, %r3, %r0;
  @%p ret;
  mad.wide.s32 %rd1, %r3, 4, %rd0;
  ld.global.f32 %f1, [%rd1]; add.f32 %f2, %f1, %f0; st.global.f32 [%rd1], %f2;
  ret;
}
"""
ADD_ONE_ARTIFACT = Artifact(
    "sm_90a", ADD_ONE, "add_one",
    (Param("pointer", 0), Param("dim", 0, axis=0), Param("scalar", 1, dtype=float32)), 64, 0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("param", "arg", "expected"),
    [
        (Param("pointer", 0), ARRAY, struct.pack("<Q", 0x7F00_0000_1000)),
        (Param("dim", 0, axis=1), ARRAY, struct.pack("<i", 5)),
        (Param("stride", 0, axis=0), ARRAY, struct.pack("<q", 8)),
        (Param("scalar", 0, dtype=float32), 1.5, struct.pack("<f", 1.5)),
        (Param("scalar", 0, dtype=int32), -2, struct.pack("<i", -2)),
        (Param("scalar", 0, dtype=bfloat16), 1.0, b"\x80\x3f"),
    ],
)
def test_parameters_become_little_endian_bytes(param: Param, arg: Any, expected: bytes) -> None:
    assert cuda.parameter_bytes(param, arg) == expected


def test_a_number_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(TilecTypeError, match="int32"):
        cuda.parameter_bytes(Param("scalar", 0, dtype=int32), 2**40)


@pytest.mark.parametrize("grid", [(1, 70_000), (-1,), (2**31,)])
def test_an_illegal_grid_is_an_error(grid: tuple[int, ...]) -> None:
    with pytest.raises(TilecValueError, match="grid"):
        cuda.launch(ADD_ONE_ARTIFACT, grid, (np.zeros(3, np.float32), 1.0))


def test_without_a_driver_the_error_says_what_to_do() -> None:
    if cuda.unavailable() is None:
        pytest.skip("this machine has an NVIDIA GPU")
    with pytest.raises(UnsupportedError, match='backend="cpu"'):
        cuda.launch(ADD_ONE_ARTIFACT, (1,), (np.zeros(3, np.float32), 1.0))


@pytest.mark.gpu
def test_a_launch_runs_on_the_gpu(gpu: Any, device: Any) -> None:
    x = np.arange(1000, dtype=np.float32)
    array = device(x)
    for _ in range(2):  # the second launch reuses the module
        cuda.launch(ADD_ONE_ARTIFACT, (16,), (array, 1.0))
    np.testing.assert_array_equal(array.numpy(), x + 2)
