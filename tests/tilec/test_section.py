"""Sections: tensors with bounds of run time, on every machine, and what may not be done with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilec
import tilec.language as tl
from tilec.ir.errors import TilecError


@tilec.kernel
def doubled(X: tl.Tensor, Y: tl.Tensor, start: int, stop: int, AXIS: tl.constexpr[int] = 0):
    x, y = tl.section(X, start, stop, AXIS), tl.section(Y, start, stop, AXIS)
    tl.store(y, (0, 0), 2 * tl.load(x, (0, 0), (8, 8), pad=5))


BOUNDS = [(0, 4), (2, 5), (3, 3), (4, 2), (-2, 3), (3, 99), (7, 9), (99, 120)]


@pytest.mark.parametrize("backend", ["interpreter", "cpu", "emulator"])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("bounds", BOUNDS)
def test_only_what_lies_between_the_bounds_is_read_and_written(
    bounds: tuple[int, int], axis: int, backend: str
) -> None:
    x = np.arange(42, dtype=np.float32).reshape(6, 7)
    y = np.full_like(x, -1)
    doubled[1](x, y, *bounds, AXIS=axis, backend=backend)
    low = max(bounds[0], 0)
    part = [slice(None)] * 2
    part[axis] = slice(low, bounds[1]) if bounds[1] > low else slice(0, 0)
    want = np.full_like(x, -1)
    want[tuple(part)] = 2 * x[tuple(part)]
    assert np.array_equal(y, want)


@tilec.kernel
def facts(X: tl.Tensor, OUT: tl.Tensor, start: int, stop: int):
    part = tl.section(X, start, stop, axis=-1)
    tl.scatter(OUT, (0,), part.shape[0])
    tl.scatter(OUT, (1,), part.shape[1])
    tl.scatter(OUT, (2,), part.stride[0].to(tl.int32))
    tl.scatter(OUT, (3,), tl.gather(part, (1, 0), other=-7).to(tl.int32))


@pytest.mark.parametrize("backend", ["interpreter", "cpu", "emulator"])
def test_extents_strides_and_elements_of_a_section(backend: str) -> None:
    x, out = np.arange(42, dtype=np.float32).reshape(6, 7), np.zeros(4, np.int32)
    facts[1](x, out, 2, 5, backend=backend)
    assert out.tolist() == [6, 3, 7, 9]
    facts[1](x, out, 9, 5, backend=backend)
    assert out.tolist() == [6, 0, 7, -7]


def refused(kernel: Any) -> str:
    with pytest.raises(TilecError) as found:
        kernel.trace(("f32[1]", "f32[1]"))
    assert found.value.loc is not None
    return found.value.code


@tilec.kernel
def in_a_loop(X: tl.Tensor, Y: tl.Tensor):
    for i in tl.range(3):
        tl.store(Y, (i,), tl.load(tl.section(X, i, 9), (0,), (1,)))


@tilec.kernel
def nested(X: tl.Tensor, Y: tl.Tensor):
    tl.store(Y, (0,), tl.load(tl.section(tl.section(X, 0, 4), 0, 2), (0,), (4,)))


@tilec.kernel
def of_a_tile(X: tl.Tensor, Y: tl.Tensor):
    tl.store(Y, (0,), tl.load(tl.section(tl.load(X, (0,), (4,)), 0, 2), (0,), (4,)))


@tilec.kernel
def beside(X: tl.Tensor, Y: tl.Tensor):
    tl.store(tl.section(Y, 0, 4), (0,), tl.load(Y, (0,), (4,)) + tl.load(X, (0,), (4,)))


@tilec.kernel
def two_written(X: tl.Tensor, Y: tl.Tensor):
    tl.store(tl.section(Y, 0, 4), (0,), tl.load(X, (0,), (4,)))
    tl.store(tl.section(Y, 2, 6), (0,), tl.load(X, (0,), (4,)))


@tilec.kernel
def two_read(X: tl.Tensor, Y: tl.Tensor):
    tl.store(Y, (0,), tl.load(tl.section(X, 0, 4), (0,), (4,)) + tl.load(tl.section(X, 2, 6), (0,), (4,)))


def test_what_a_section_may_not_be() -> None:
    found = [refused(k) for k in (in_a_loop, nested, of_a_tile, beside, two_written)]
    assert found == ["U321", "U321", "T336", "U322", "U322"]


def test_a_tensor_that_is_only_read_may_have_many_sections() -> None:
    x, y = np.arange(8, dtype=np.float32), np.zeros(4, np.float32)
    two_read[1](x, y)
    assert y.tolist() == [2, 4, 6, 8]


def test_a_tensor_that_is_written_through_a_section_must_be_writable() -> None:
    x, y = np.zeros((6, 7), np.float32), np.zeros((6, 7), np.float32)
    y.flags.writeable = False
    with pytest.raises(TilecError):
        doubled[1](x, y, 0, 4)


def test_a_section_prints_and_parses() -> None:
    from tilec.ir.text import parse_kernel, print_kernel

    text = print_kernel(doubled.trace(("f32[2]", "f32[2]", "i32", "i32")))
    assert "section %X, %start, %stop {axis=0} : tensor<float32, 2, contiguous=1>" in text
    assert print_kernel(parse_kernel(text)) == text
