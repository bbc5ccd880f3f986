"""Random kernels: buffers that are shared, overwritten in place or carried must not mix up values."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from cpu_kit import Body, assert_same, both, load_all, store_all

from tilec.ir.core import Value
from tilec.ir.types import int32

N = 8
SHAPE = (N, N)
KINDS = (
    "add", "sub", "mul", "minimum", "xor", "permute", "rows", "columns", "dot", "where", "flat", "const",
)  # fmt: skip


class Writer:
    """Grows a block of random int32 ops on (8, 8) tiles."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def tile(self, body: Body, pool: list[Value]) -> Value:
        kind = self.rng.choice(KINDS)
        a, b, c = (self.rng.choice(pool) for _ in range(3))
        if kind == "permute":
            return body.op("permute", a, perm=(1, 0))
        if kind in ("rows", "columns"):
            axis = int(kind == "columns")
            line = body.op("reduce", a, kind=self.rng.choice(["sum", "max", "argmin"]), axis=axis)
            wide = body.op("reshape", line, shape=(N, 1) if axis else (1, N))
            return body.op("broadcast", wide, shape=SHAPE)
        if kind == "dot":
            return body.op("dot", a, b, c)
        if kind == "where":
            return body.op("where", body.op("lt", a, b), b, c)
        if kind == "flat":
            line = body.op("reshape", a, shape=(N * N,))
            more = body.op("add", line, body.op("arange", start=0, stop=N * N))
            return body.op("reshape", more, shape=SHAPE)
        if kind == "const":
            return body.op("const", dtype=int32, shape=SHAPE, value=self.rng.choice([0, 3]))
        return body.op(kind, a, b)

    def fill(self, body: Body, pool: list[Value], scalars: list[Value], depth: int) -> None:
        for _ in range(self.rng.randrange(2, 7)):
            what = self.rng.random()
            if depth and what < 0.15:
                pool.extend(self.loop(body, pool, scalars, depth))
            elif depth and what < 0.3:
                pool.extend(self.branch(body, pool, scalars, depth))
            else:
                pool.append(self.tile(body, pool))

    def loop(self, body: Body, pool: list[Value], scalars: list[Value], depth: int) -> list[Value]:
        initial = [self.rng.choice(pool) for _ in range(self.rng.randrange(1, 4))]

        def build(inner: Body, i: Value, *carried: Value) -> list[Value]:
            seen = [*pool, *carried, *carried]
            self.fill(inner, seen, [*scalars, i], depth - 1)
            return [self.rng.choice([*seen[-4:], *carried]) for _ in carried]

        bounds = body.number(0), body.number(self.rng.randrange(4)), body.number(1)
        found = body.loop(bounds, initial, build)
        return list(found) if isinstance(found, tuple) else [found]

    def branch(self, body: Body, pool: list[Value], scalars: list[Value], depth: int) -> list[Value]:
        count = self.rng.randrange(1, 3)
        cond = body.op("lt", self.rng.choice(scalars), body.number(2))

        def build(inner: Body) -> list[Value]:
            seen = list(pool)
            self.fill(inner, seen, scalars, depth - 1)
            return [self.rng.choice(seen[-5:]) for _ in range(count)]

        found = body.branch(cond, build, build)
        return list(found) if isinstance(found, tuple) else [found]


def random_kernel(seed: int) -> Any:
    """Reads two tiles, computes, and stores some of what it computed into six more."""

    def build(body: Body, *tensors: Value) -> None:
        writer = Writer(seed)
        pool = [load_all(body, t, SHAPE) for t in tensors[:2]]
        writer.fill(body, pool, [body.op("program_id", axis=0), body.number(1)], 2)
        for t in tensors[2:]:
            store_all(body, t, writer.rng.choice(pool[-8:]))

    return build


@pytest.mark.parametrize("seed", range(40))
def test_random_kernel(seed: int) -> None:
    check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40, 400))
def test_more_random_kernels(seed: int) -> None:
    check(seed)


def check(seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs = [rng.integers(-9, 9, SHAPE).astype(np.int32) for _ in range(2)]
    args = [*inputs, *(np.zeros(SHAPE, np.int32) for _ in range(6))]
    found, expected = both(args, random_kernel(seed))
    for f, e in zip(found, expected, strict=True):
        assert_same(f, e)
