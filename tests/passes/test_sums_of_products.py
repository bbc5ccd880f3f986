"""acc + dot(a, b) is one product where acc is an accumulator, and what must stay as it is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import tilec
import tilec.language as tl
from tilec.ir.core import Kernel, walk
from tilec.ir.interp import interpret
from tilec.passes import canonicalize, lower
from tilec.passes.pipeline import simplified


@tilec.kernel
def summed(A: tl.Tensor, B: tl.Tensor, C: tl.Tensor, step: tl.constexpr, dtype: tl.constexpr = tl.float32):
    acc = tl.zeros((64, 32), dtype)
    for k in tl.range(tl.cdiv(A.shape[1], 32)):
        acc = step(acc, tl.load(A, (0, k), (64, 32)), tl.load(B, (k, 0), (32, 32)), k)
    tl.store(C, (0, 0), acc.to(C.dtype))


def plain(acc: tl.Tile, a: tl.Tile, b: tl.Tile, k: tl.Tile) -> tl.Tile:
    return acc + tl.dot(a, b)


def faded(acc: tl.Tile, a: tl.Tile, b: tl.Tile, k: tl.Tile) -> tl.Tile:
    return tl.dot(a, b) + acc * 0.5


def two(acc: tl.Tile, a: tl.Tile, b: tl.Tile, k: tl.Tile) -> tl.Tile:
    return acc + tl.dot(a, b) + tl.dot(2 * a, b)


def scaled(acc: tl.Tile, a: tl.Tile, b: tl.Tile, k: tl.Tile) -> tl.Tile:
    return acc + tl.dot(a, b) * k.to(tl.float32)


def read_twice(acc: tl.Tile, a: tl.Tile, b: tl.Tile, k: tl.Tile) -> tl.Tile:
    part = tl.dot(a, b)
    return acc + part + tl.maximum(part, 0)


def no_accumulator(acc: tl.Tile, a: tl.Tile, b: tl.Tile, k: tl.Tile) -> tl.Tile:
    return tl.maximum(acc, k.to(tl.float32) + tl.dot(a, b))


STEPS = ((plain, 0, "f16"), (plain, 0, "i8"), (plain, 1, "e4m3"), (faded, 0, "f16"), (two, 0, "bf16"),
         (scaled, 1, "f16"), (read_twice, 2, "f16"), (no_accumulator, 1, "f16"))  # fmt: skip


def sums(kernel: Kernel) -> int:
    return sum(op.name == "add" and op.result.type.shape == (64, 32) for op in walk(kernel.body))


@pytest.mark.parametrize(("step", "left", "dtype"), STEPS, ids=lambda x: getattr(x, "__name__", str(x)))
def test_a_product_is_added_where_it_is_made(step: Callable[..., tl.Tile], left: int, dtype: str) -> None:
    total = tl.int32 if dtype == "i8" else tl.float32
    kernel = summed.trace((f"{dtype}[2]",) * 2 + (f"{total.name}[2]",), step=step, dtype=total)
    assert sums(simplified(kernel, "sm_90a")) == sums(simplified(kernel, "cpu")) == left
    a, b = (np.random.default_rng(0).integers(-4, 5, s).astype(f) for s, f in shapes(kernel))
    found = []
    for form in (canonicalize(kernel), simplified(kernel, "sm_90a"), lower(kernel).scheduled):
        found.append(np.empty((64, 32), total.np))
        interpret(form, (1, 1, 1), [a, b, found[-1]])
    assert np.abs(found[0]).max() > 0
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


def shapes(kernel: Kernel) -> list[tuple[tuple[int, int], np.dtype]]:
    return [((64, 96), kernel.params[0].type.dtype.np), ((96, 32), kernel.params[1].type.dtype.np)]
