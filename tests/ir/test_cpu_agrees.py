"""The CPU backend means what the interpreter means: random kernels, and each op alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from op_cases import Case, good_cases, kernel_of
from strategies import GRID, arguments, kernels

from tilec.backends.cpu import compile_kernel
from tilec.ir.core import Kernel
from tilec.ir.interp import interpret
from tilec.ir.types import DType, TensorType, TileType, bool_
from tilec.runtime.cpu import load


def run_both(
    kernel: Kernel, grid: tuple[int, ...], make_args: Callable[[], list[Any]]
) -> list[tuple[Any, Any]]:
    """The array arguments after a run on the CPU, beside those after the interpreter."""
    ours, theirs = make_args(), make_args()
    load(compile_kernel(kernel)).launch(grid, ours)
    interpret(kernel, grid, theirs)
    return [(a, b) for a, b in zip(ours, theirs, strict=True) if isinstance(a, np.ndarray)]


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(kernels())
def test_random_kernels_agree_to_the_bit(kernel: Kernel) -> None:
    for a, b in run_both(kernel, GRID, arguments):
        np.testing.assert_array_equal(a, b)


def filled(t: Any, rng: np.random.Generator) -> Any:
    """An argument for a parameter; tensors are smaller or larger than the tiles."""
    if isinstance(t, TensorType):
        return numbers(t.dtype, (6, 7, 5)[: t.rank], rng)
    return numbers(t.dtype, (), rng)[()]


def numbers(dtype: DType, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    if dtype == bool_:
        return np.asarray(rng.integers(0, 2, shape)).astype(bool)
    if dtype.is_int:
        return np.asarray(rng.integers(0 if dtype.kind == "uint" else -5, 9, shape)).astype(dtype.np)
    return np.asarray(rng.standard_normal(shape) * 3).astype(dtype.np)


def arguments_of(kernel: Kernel) -> list[Any]:
    rng = np.random.default_rng(7)
    return [True if p.type == TileType(bool_) else filled(p.type, rng) for p in kernel.params]


# Ops that the math library or the order of additions may round otherwise.
NEAR = {"exp", "exp2", "log", "log2", "sin", "cos", "tanh", "sigmoid", "erf", "pow", "rsqrt", "dot"}


def tolerance(case: Case) -> float:
    """4 units in the last place of the dtype (dot: of its accumulator), none where the result is exact."""
    dtype = getattr(case.types[-1], "dtype", None) if case.types else None
    if dtype is None or not dtype.is_float:
        return 0.0
    near = case.op in NEAR or (case.op == "reduce" and case.attrs["kind"] in ("sum", "prod"))
    return 4 * 2.0**-dtype.mantissa if near else 0.0


OPS = sorted({c.op for c in good_cases()})


@pytest.mark.slow
@pytest.mark.parametrize("name", OPS)
def test_every_op_alone(name: str) -> None:
    for case in (c for c in good_cases() if c.op == name):
        kernel = kernel_of(case)
        for a, b in run_both(kernel, (2, 1), lambda kernel=kernel: arguments_of(kernel)):
            eps = tolerance(case)
            a, b = (x.astype(np.float64) if x.dtype.kind in "fV" else x for x in (a, b))
            # Sums may cancel: up to 16 terms of up to 16 or so.
            np.testing.assert_allclose(a, b, rtol=eps, atol=16 * eps, err_msg=str(case))
