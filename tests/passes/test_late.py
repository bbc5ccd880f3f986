"""Scales, row sums and masks of attention where they cost less: the same values, and where they must stay."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from pass_kernels import Builder

from tilec.ir.core import Kernel, Value, walk
from tilec.ir.forms import verify
from tilec.ir.interp import interpret
from tilec.ir.types import float32, int32
from tilec.passes import canonicalize
from tilec.passes.late_scale import late_scale
from tilec.passes.late_sums import late_sums
from tilec.passes.open_masks import open_masks, rare_ops

ROWS, WIDTH = 64, 16


def names(kernel: Kernel) -> Counter[str]:
    return Counter(op.name for op in walk(kernel.body))


def run(kernel: Kernel, *args: object) -> np.ndarray:
    out = np.zeros((ROWS, WIDTH), np.float32)
    with np.errstate(all="ignore"):
        interpret(kernel, (1, 1, 1), [out, *args])
    return out


def spread(b: Builder, v: Value, *shape: int) -> Value:
    return b("broadcast", b("reshape", v, shape=(ROWS, 1)), shape=shape)


def scaled(c: float, hidden: float = -np.inf, other: str = "sub") -> Kernel:
    """OUT = where(x > 0, x * c, hidden) less (or plus) its row maximum."""
    b = Builder()
    out, x = b.tensor("OUT", float32), b.tensor("X", float32)
    zero = b.const(0)
    tile = b("load", x, zero, zero, shape=(ROWS, WIDTH), pad=0.0)
    full = (ROWS, WIDTH)
    seen = b("gt", tile, b.const(0.0, float32, full))
    s = b("where", seen, b("mul", tile, b.const(c, float32, full)), b.const(hidden, float32, full))
    top = b("reduce", s, axis=1, kind="max")
    b.op("store", out, b(other, s, spread(b, top, *full)), zero, zero)
    return canonicalize(b.kernel())


@pytest.mark.parametrize("other", ["sub", "add"])
@pytest.mark.parametrize("hidden", [-np.inf, 0.0])
def test_a_positive_scale_becomes_one_fma(hidden: float, other: str) -> None:
    kernel = scaled(0.3, hidden, other)
    late = late_scale(kernel)
    verify(late)
    assert names(late)["fma"] == 1 and names(late)[other] == 0
    x = np.random.default_rng(0).standard_normal((ROWS, WIDTH)).astype(np.float32)
    x[3] = -1
    s = np.where(x > 0, x.astype(np.float64) * np.float32(0.3), hidden)
    top = np.float32(0.3) * np.where(x > 0, x, hidden).max(1, keepdims=True)
    with np.errstate(invalid="ignore"):
        expected = (s - top if other == "sub" else s + top).astype(np.float32)
    np.testing.assert_array_equal(run(late, x), expected)  # one rounding each
    np.testing.assert_allclose(run(late, x), run(kernel, x), atol=1e-6)


@pytest.mark.parametrize(("c", "hidden"), [(-0.3, -np.inf), (0.3, 1.0)])
def test_other_scales_stay_before_the_choice(c: float, hidden: float) -> None:
    late = late_scale(scaled(c, hidden))
    assert names(late)["fma"] == 0


def summed(start: float = 0.0, again: bool = False) -> Kernel:
    """OUT[i, :] = sum over turns of fade * total + row sums of a product; ``again``: it is read there."""
    b = Builder()
    out, x = b.tensor("OUT", float32), b.tensor("X", float32)
    zero, full = b.const(0), (ROWS, WIDTH)

    def body(i: Value, total: Value) -> Value:
        tile = b("load", x, zero, zero, shape=full, pad=0.0)
        p = b("dot", tile, b("permute", tile, perm=(1, 0)), b.const(0.0, float32, (ROWS, ROWS)))
        fade = b("exp2", total) if again else b("reduce", tile, axis=1, kind="max")
        return b("add", b("mul", total, fade), b("reduce", p, axis=1, kind="sum"))

    (total,) = b.loop(0, b.scalar("n"), body, b.const(start, float32, (ROWS,)))
    b.op("store", out, spread(b, total, *full), zero, zero)
    return canonicalize(b.kernel())


@pytest.mark.parametrize("n", [0, 1, 3])
def test_row_sums_stay_in_parts(n: int) -> None:
    kernel = summed()
    late = canonicalize(late_sums(kernel))
    verify(late)
    (loop,) = (op for op in walk(late.body) if op.name == "for")
    assert [r.type.shape for r in loop.results] == [(ROWS, 4)]  # type: ignore[union-attr]
    x = np.random.default_rng(1).random((ROWS, WIDTH)).astype(np.float32)
    np.testing.assert_allclose(run(late, x, np.int32(n)), run(kernel, x, np.int32(n)), rtol=1e-5)


@pytest.mark.parametrize("kernel", [summed(1.0), summed(again=True)])
def test_sums_that_start_elsewhere_or_are_read_stay(kernel: Kernel) -> None:
    late = late_sums(kernel)
    assert names(late) == names(kernel)


def masked(
    kind: str, start: int = 0, behind: int = 0, causal: bool = False, also: str | None = None
) -> Kernel:
    """OUT counts, for 64 rows and columns 0 to 15 modulo 16, the turns in which columns are seen.

    ``also``: a second comparison, with 40, must hold too.
    """
    b = Builder()
    out, x, n, limit = b.tensor("OUT", float32), b.tensor("X", float32), b.scalar("n"), b.scalar("limit")
    zero, full = b.const(0), (ROWS, WIDTH)
    rows = b("reshape", b("arange", start=0, stop=ROWS), shape=(ROWS, 1))
    edge = b("broadcast", limit, shape=(ROWS, 1))
    edge = b("broadcast", b("add", edge, rows) if causal else edge, shape=full)

    def body(i: Value, total: Value) -> Value:
        turn = b("sub", i, b.const(behind)) if behind else i
        first = b("broadcast", b("mul", turn, b.const(WIDTH)), shape=(WIDTH,))
        columns = b("reshape", b("add", first, b("arange", start=0, stop=WIDTH)), shape=(1, WIDTH))
        seen = b(kind, b("broadcast", columns, shape=full), edge)
        if also:
            bound = b(also, columns, b.const(40, int32, (1, WIDTH)))
            seen = b("and", seen, b("broadcast", bound, shape=full))
        tile = b("load", x, zero, zero, shape=full, pad=0.0)
        square = b("permute", b("load", x, zero, zero, shape=(WIDTH, WIDTH), pad=0.0), perm=(1, 0))
        s = b("dot", tile, square, b.const(0.0, float32, full))
        return b("add", total, b("where", seen, s, b.const(0.0, float32, full)))

    (total,) = b.loop(start, n, body, b.const(0.0, float32, full))
    b.op("store", out, total, zero, zero)
    return canonicalize(b.kernel())


@pytest.mark.parametrize("also", [None, "lt"])
@pytest.mark.parametrize("kind", ["lt", "le"])
@pytest.mark.parametrize(("start", "behind", "causal"), [(0, 0, False), (2, 1, False), (0, 0, True)])
def test_a_masked_loop_becomes_two(
    kind: str, start: int, behind: int, causal: bool, also: str | None
) -> None:
    kernel = masked(kind, start, behind, causal, also)
    opened = canonicalize(open_masks(kernel))
    verify(opened)
    assert names(opened)["for"] == 2 and names(opened)["where"] == 1
    x = np.ones((ROWS, WIDTH), np.float32)
    lowest = -(2**31)
    for n in (0, 1, 4):
        for limit in (lowest, -1, 0, 15, 16, 17, 31, 32, 33, 500, 2**31 - 1 - ROWS * causal):
            args = x, np.int32(n), np.int32(limit)
            np.testing.assert_array_equal(run(opened, *args), run(kernel, *args), f"{n} {limit}")


@pytest.mark.parametrize("kernel", [masked("gt"), masked("lt", start=0, behind=1), masked("lt", also="gt")])
def test_other_masks_stay(kernel: Kernel) -> None:
    """A lower bound; a turn before the first."""
    assert names(open_masks(kernel))["for"] == 1


def test_masks_of_few_turns_cost_nothing() -> None:
    kernel = masked("lt")
    (loop,) = (op for op in walk(kernel.body) if op.name == "for")
    defs = {r: op for op in walk(kernel.body) for r in op.results}
    rare = {op.name for op in rare_ops(loop, defs)}
    assert {"where", "lt"} <= rare and not {"dot", "load"} & rare
