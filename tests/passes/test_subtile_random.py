"""Random kernels with products: split rows, rings with two consumers and two groups give the same bits.

All numbers are small integers, so that sums are exact in whatever order a product forms them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pass_kernels import Builder, row

from tilec.ir.core import Kernel, Value, walk
from tilec.ir.forms import verify
from tilec.ir.interp import interpret
from tilec.ir.types import float16, float32, int32
from tilec.passes import canonicalize, make_async
from tilec.passes.schedule.apply import refused, specialize
from tilec.passes.schedule.joint import KernelPlan
from tilec.passes.subtile import split_rows

BM, N, TOP = 128, 16, 8.0
SHAPES = {"ones": (1, BM, 1, N), "pairs": (BM, N // 2, 2), "halves": (2, BM // 2, N), "flat": (BM * N,)}
INTERLEAVINGS = [("first", 0), ("last", 0), ("random", 1), ("random", 2)]


@dataclass
class Writer:
    """Draws statements; ``tiles`` are (BM, N) and ``rows`` (BM,), both float32 within -TOP...TOP."""

    draw: st.DrawFn
    b: Builder = field(default_factory=Builder)
    tiles: list[Value] = field(default_factory=list)
    rows: list[Value] = field(default_factory=list)

    def pick(self, what: Any) -> Any:
        return self.draw(st.sampled_from(what))

    def clamp(self, x: Value) -> Value:
        shape = x.type.shape  # type: ignore[union-attr]
        low, high = (self.b.const(v, float32, shape) for v in (-TOP, TOP))
        return self.b("minimum", self.b("maximum", x, low), high)

    def tile(self) -> Value:
        return self.pick(self.tiles)

    def statement(self, depth: int) -> None:
        names = [n for n in STATEMENTS if depth or n not in ("loop", "branch")]
        STATEMENTS[self.pick(names)](self, depth)

    def product(self, depth: int) -> None:
        w = self.b("load", self.W, self.offset(N), self.b.const(0), shape=(N, N))
        a = self.b("cast", self.tile(), dtype=float16)
        self.tiles.append(self.clamp(self.b("dot", a, w, self.tile())))

    def loaded_product(self, depth: int) -> None:
        a = self.b("load", self.X, self.first, self.offset(N), shape=(BM, N))
        w = self.b("load", self.W, self.offset(N), self.b.const(0), shape=(N, N))
        self.tiles.append(self.clamp(self.b("dot", a, w, self.tile())))

    def offset(self, step: int) -> Value:
        return self.b.const(step * self.draw(st.integers(0, 2)))

    def combine(self, depth: int) -> None:
        name = self.pick(["add", "sub", "mul", "minimum", "maximum"])
        self.tiles.append(self.clamp(self.b(name, self.tile(), self.tile())))

    def reduce(self, depth: int) -> None:
        kind = self.pick(["sum", "max", "min"])
        self.rows.append(self.clamp(self.b("reduce", self.tile(), kind=kind, axis=1)))

    def spread_rows(self, depth: int) -> None:
        self.tiles.append(row(self.b, self.pick(self.rows), (BM, N)))

    def spread_columns(self, depth: int) -> None:
        x = self.b("cast", self.b("arange", start=0, stop=N), dtype=float32)
        x = self.b("reshape", self.clamp(x), shape=(1, N))
        self.tiles.append(self.b("broadcast", x, shape=(BM, N)))

    def mask(self, depth: int) -> None:
        """Rows and columns compared, as the causal mask does."""
        start = self.draw(st.integers(-3, 70))
        ends = ((0, (BM, 1), BM), (start, (1, N), N))
        ranges = [
            self.b("reshape", self.b("arange", start=s, stop=s + n), shape=shape) for s, shape, n in ends
        ]
        one, two = (self.b("broadcast", x, shape=(BM, N)) for x in ranges)
        keep = self.b(self.pick(["lt", "ge"]), one, two)
        self.tiles.append(self.b("where", keep, self.tile(), self.tile()))

    def numbered(self, depth: int) -> None:
        """Every element's number: made in parts, but for one that has its rows as columns first."""
        shape = self.pick([(BM * N,), (2, BM * N // 2), (BM // 4, 4 * N), (N, BM)])
        flat = self.b("arange", start=0, stop=BM * N)
        x = self.b("reshape", flat, shape=shape)
        turned = shape == (N, BM) and self.draw(st.booleans())
        x = self.b("permute", x, perm=(1, 0)) if turned else self.b("reshape", x, shape=(BM, N))
        x = self.b("mod", x, self.b.const(7, int32, (BM, N)))
        self.tiles.append(self.b("cast", x, dtype=float32))

    def turn(self, depth: int) -> None:
        """Through other shapes and back."""
        x = self.tile()
        through = self.pick(["columns", *SHAPES])
        if through == "columns":
            x = self.b("permute", self.b("neg", self.b("permute", x, perm=(1, 0))), perm=(1, 0))
        else:
            shapes = {
                "ones": (1, BM, 1, N),
                "pairs": (BM, N // 2, 2),
                "halves": (2, BM // 2, N),
                "flat": (BM * N,),
            }
            x = self.b("reshape", self.b("neg", self.b("reshape", x, shape=shapes[through])), shape=(BM, N))
        self.tiles.append(x)

    def load(self, depth: int) -> None:
        x = self.b("load", self.X, self.first, self.offset(5), shape=(BM, N))
        self.tiles.append(self.b("cast", x, dtype=float32))

    def across(self, depth: int) -> None:
        """What no part of the rows can do alone."""
        x = self.b("reshape", self.b("reduce", self.tile(), kind="max", axis=0), shape=(1, N))
        self.tiles.append(self.b("broadcast", x, shape=(BM, N)))

    def inner(self, depth: int, values: tuple[Value, ...]) -> tuple[Value, ...]:
        """A block that sees more tiles, and gives back a tile and a row."""
        seen = list(self.tiles), list(self.rows)
        self.tiles += [v for v in values if v.type.shape == (BM, N)]  # type: ignore[union-attr]
        self.rows += [v for v in values if v.type.shape == (BM,)]  # type: ignore[union-attr]
        for _ in range(self.draw(st.integers(1, 3))):
            self.statement(depth - 1)
        out = self.tile(), self.pick(self.rows)
        self.tiles, self.rows = seen
        return out

    def loop(self, depth: int) -> None:
        init = self.tile(), self.pick(self.rows)
        tile, part = self.b.loop(0, self.n, lambda i, *carried: self.inner(depth, carried), *init)
        self.tiles.append(tile)
        self.rows.append(part)

    def branch(self, depth: int) -> None:
        cond = self.b("gt", self.n, self.b.const(self.draw(st.integers(0, 2))))
        sides = [lambda: self.inner(depth, ())] * 2
        tile, part = self.b.branch(cond, *sides)
        self.tiles.append(tile)
        self.rows.append(part)

    def kernel(self) -> Kernel:
        b = self.b
        self.X, self.W = b.tensor("X"), b.tensor("W")
        outs = [b.tensor(name, float32) for name in ("Y", "Z")]
        sums = b.tensor("R", float32, rank=1)
        self.n = b.scalar("n")
        self.first = b("mul", b("program_id", axis=0), b.const(BM))
        self.tiles = [b.const(0.0, float32, (BM, N))]
        self.rows = [b.const(1.0, float32, (BM,))]
        self.loaded_product(0)
        for _ in range(self.draw(st.integers(1, 6))):
            self.statement(2)
        for out, tiles in zip(outs, (self.tiles[1:3], self.tiles[-3:]), strict=True):
            total = tiles[0]
            for more in tiles[1:]:
                total = b("add", total, more)
            b.op("store", out, total, self.first, b.const(0))
        b.op("store", sums, self.rows[-1], self.first)
        return b.kernel("random")


STATEMENTS = {
    name: getattr(Writer, name)
    for name in ("product", "loaded_product", "combine", "reduce", "spread_rows", "spread_columns", "mask",
                 "numbered", "turn", "load", "across", "loop", "branch")
}  # fmt: skip


@st.composite
def kernels(draw: st.DrawFn) -> Kernel:
    return Writer(draw).kernel()


def arguments(n: int) -> list[Any]:
    rng = np.random.default_rng(n)
    x, w = (rng.integers(-2, 3, shape).astype(np.float16) for shape in ((250, 48), (48, N)))
    outs = [np.full((250, N), -1, np.float32) for _ in range(2)]
    return [x, w, *outs, np.full(250, -1, np.float32), n]


def results(kernel: Kernel, n: int, policy: str = "first", seed: int = 0) -> list[Any]:
    args = arguments(n)
    interpret(kernel, (2,), args, policy=policy, seed=seed)
    return args[2:5]


def same(found: list[Any], expected: list[Any]) -> None:
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_array_equal(f, e)


def in_program_order(aref: Kernel, depth: int) -> Kernel:
    """The kernel in two compute groups that follow no plan."""
    names = [op.result.hint for op in walk(aref.body) if op.name == "aref.new"]
    plan = KernelPlan(aref, 2, 4, (), (), dict.fromkeys(names, depth), {})
    return canonicalize(specialize(plan))


@settings(max_examples=40, deadline=None)
@given(kernels(), st.integers(0, 3), st.integers(1, 2))
def test_split_kernels_mean_what_the_kernel_means(kernel: Kernel, n: int, depth: int) -> None:
    verify(kernel)
    tile = canonicalize(kernel)
    split = split_rows(tile)
    if isinstance(split, str):
        assert split.startswith("line ") or split == "no product has rows to split"
        return
    verify(split)
    aref = canonicalize(make_async(canonicalize(split)))
    verify(aref)
    expected = results(kernel, n)
    for form in (split, aref):
        same(results(form, n), expected)
    if any(op.name == "aref.new" for op in walk(aref.body)) and refused(aref) is None:
        groups = in_program_order(aref, depth)
        verify(groups)
        for policy, seed in INTERLEAVINGS:
            same(results(groups, n, policy, seed), expected)
