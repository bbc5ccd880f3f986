"""Helpers of the tests of sm_80: lower, compile, emulate, compare with the interpreter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hopper_kit import MODES, compare, random_array, tile_kernel, twin

from tilec.backends.artifact import Artifact
from tilec.backends.ptx import compile_kernel
from tilec.ir.core import Kernel
from tilec.ir.interp import interpret
from tilec.passes import Options, lower

QUICK = MODES[:1] + MODES[2:3]


def operands(m: int, n: int, k: int, dtype: Any = np.float16, out: Any = None) -> list[Any]:
    """A, and B with k contiguous where ldmatrix needs that, and C."""
    b = random_array((n, k), dtype).T if np.dtype(dtype).itemsize != 2 else random_array((k, n), dtype)
    return [random_array((m, k), dtype), b, random_array((m, n), out or dtype, 9)]


def scheduled(fn: Any, args: Sequence[Any], target: str = "sm_80", **meta: Any) -> Kernel:
    """The SCHEDULED form."""
    return lower(tile_kernel(fn, args, **meta), target).scheduled


def agree(
    fn: Any, grid: Sequence[int], args: Sequence[Any], *, target: str = "sm_80", tolerance: float = 2e-3,
    options: Options | None = None, modes: Sequence[tuple[Any, int]] = QUICK, **meta: Any,
) -> Artifact:  # fmt: skip
    """The last argument after the emulator, in every mode, is what the interpreter gives, with
    an error of at most ``tolerance`` of its largest element; no mode reports anything."""
    kernel = tile_kernel(fn, args, **meta)
    artifact = compile_kernel(lower(kernel, target, options or Options()).scheduled, target)
    expected = [twin(a) for a in args]
    interpret(kernel, grid, expected)
    compare(artifact, grid, args, expected[-1], tolerance, modes)
    return artifact
