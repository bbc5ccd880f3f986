"""Ranges are made where they are read: in loops, and again after them."""

from __future__ import annotations

import numpy as np

import tilec
import tilec.language as tl
from tilec.ir.core import Block, Kernel, walk
from tilec.ir.forms import verify
from tilec.ir.interp import interpret
from tilec.passes import lower
from tilec.passes.layouts import assign_layouts
from tilec.passes.remake import remade


@tilec.kernel
def counted(X: tl.Tensor, Y: tl.Tensor):
    """The same range before, in and after two loops, and in a branch."""
    i = tl.arange(0, 32)
    total = i * X.shape[0]
    for n in tl.range(X.shape[0]):
        total += tl.gather(X, (n, i)) * (i + n)
    if X.shape[0] > 2:
        total += i
    for n in tl.range(2):
        total += tl.where(i > n, 1, 0)
    tl.scatter(Y, (i,), total)


def ranges(block: Block) -> list[str]:
    return [op.name for op in block.ops if op.name == "arange"]


def lowered() -> Kernel:
    return lower(counted.trace(["i32[2]", "i32[1]"]), "sm_80").scheduled


def test_each_loop_and_what_follows_makes_its_own() -> None:
    kernel = lowered()
    assert len([op for op in walk(kernel.body) if op.name == "arange"]) == 1
    placed = assign_layouts(kernel)
    verify(placed)
    inner = [ranges(b) for op in placed.body.ops for b in op.blocks]
    assert inner == [["arange"], ["arange"], [], ["arange"]]  # loop, then, else, loop
    assert len(ranges(placed.body)) == 2  # before the first loop, after the last


def test_the_values_stay() -> None:
    kernel, found = lowered(), []
    x = np.arange(96, dtype=np.int32).reshape(3, 32)
    for form in (kernel, remade(kernel)):
        y = np.zeros(32, np.int32)
        interpret(form, (1,), [x, y])
        found.append(y)
    i = np.arange(32)
    expected = i * 3 + sum(x[n] * (i + n) for n in range(3)) + i + (i > 0) + (i > 1)
    assert np.array_equal(found[0], expected) and np.array_equal(found[1], expected)
