"""Two bounds on one tile become one comparison with the same value, also at the ends of int32."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from pass_kernels import Builder

from tilec.ir.core import Kernel, Value, walk
from tilec.ir.forms import verify
from tilec.ir.interp import interpret
from tilec.ir.types import int32
from tilec.passes import canonicalize
from tilec.passes.bounds import join_bounds

KINDS = ("lt", "le", "gt", "ge")
ENDS = (-(2**31), -(2**31) + 1, -3, 0, 2, 5, 2**31 - 2, 2**31 - 1)


def mask(first: str, second: str, source: str = "param") -> Kernel:
    """OUT[i, j] = (x + j) FIRST n and (x + j) SECOND (y + i), 4 by 8."""
    b = Builder()
    out = b.tensor("OUT", int32, 2)
    x, y = b.scalar("x"), b.scalar("y")
    n = b("dim", out, axis=0) if source == "dim" else b.scalar("n")

    def spread(v: Value, *shape: int) -> Value:
        return b("broadcast", v, shape=shape)

    def numbers(start: Value, *shape: int) -> Value:
        count = max(shape)
        line = b("add", spread(start, count), b("arange", start=0, stop=count))
        return b("reshape", line, shape=shape)

    columns = numbers(x, 1, 8)
    one = spread(b(first, columns, spread(n, 1, 8)), 4, 8)
    other = b(second, spread(columns, 4, 8), spread(numbers(y, 4, 1), 4, 8))
    zero, ones = (b.const(v, shape=(4, 8)) for v in (0, 1))
    b.op("store", out, b("where", b("and", one, other), ones, zero), b.const(0), b.const(0))
    return canonicalize(b.kernel())


def compares(kernel: Kernel) -> int:
    return sum(op.name in KINDS for op in walk(kernel.body))


def run(kernel: Kernel, *numbers: int) -> np.ndarray:
    out = np.full((4, 8), 7, np.int32)
    with np.errstate(all="ignore"):
        interpret(kernel, (1, 1, 1), [out, *map(np.int32, numbers)])
    return out


@pytest.mark.parametrize(("first", "second"), list(product(KINDS, KINDS)))
def test_same_values(first: str, second: str) -> None:
    kernel = mask(first, second)
    joined = canonicalize(join_bounds(kernel))
    verify(joined)
    assert compares(joined) == (1 if first == second else 2)
    for x, y, n in product(ENDS, ENDS, ENDS):
        np.testing.assert_array_equal(run(joined, x, y, n), run(kernel, x, y, n))


def test_below_an_extent_and_up_to_a_row() -> None:
    """n - 1 does not wrap where n is an extent."""
    kernel = mask("lt", "le", "dim")
    joined = canonicalize(join_bounds(kernel))
    verify(joined)
    names = [op.name for op in walk(joined.body)]
    assert "lt" not in names and "and" not in names and "minimum" in names
    for x, y in product(ENDS, ENDS):
        np.testing.assert_array_equal(run(joined, x, y), run(kernel, x, y))


def test_bounds_of_different_tiles_stay() -> None:
    b = Builder()
    out = b.tensor("OUT", int32, 1)
    i, n = b("arange", start=0, stop=8), b("broadcast", b.scalar("n"), shape=(8,))
    seen = b("and", b("lt", i, n), b("lt", b("add", i, i), n))
    b.op("store", out, b("where", seen, i, n), b.const(0))
    kernel = b.kernel()
    assert compares(join_bounds(kernel)) == 2
