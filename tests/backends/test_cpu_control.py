"""Loops, branches, carried values, threads and launch arguments on the CPU."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from cpu_kit import assert_same, both, compiled, kernel, load_all, runs, store_all

from tilec.backends.cpu import compile_kernel
from tilec.ir.errors import TilecError
from tilec.ir.types import DTYPES, DType, bool_, float32, int32

RNG = np.random.default_rng(0)
BOUNDS = [(0, 0, 1), (0, 1, 1), (0, 5, 1), (3, 20, 4), (10, -7, -3), (5, 5, -1), (-3, 4, 2), (4, 0, 1)]


@pytest.mark.parametrize("dtype", [DTYPES[n] for n in ("int8", "int32", "int64", "uint8", "uint64")], ids=str)
def test_for_is_pythons_range(dtype: DType) -> None:
    def build(body: Any, out: Any, start: Any, stop: Any, step: Any) -> None:
        def one(inner: Any, i: Any, total: Any, count: Any) -> Any:
            number = inner.op("cast", i, dtype=int32)
            mixed = inner.op("add", inner.op("mul", total, inner.number(3)), number)
            return mixed, inner.op("add", count, inner.number(1))

        zero = body.number(0)
        total, count = body.loop((start, stop, step), (zero, zero), one)
        body.op("store", out, body.op("reshape", total, shape=(1,)), body.number(0))
        body.op("store", out, body.op("reshape", count, shape=(1,)), body.number(1))

    top = int(np.iinfo(dtype.np).max)
    every = [b for b in [*BOUNDS, (top - 9, top, 4)] if dtype.kind == "int" or min(b) >= 0]
    calls = [[np.zeros(2, np.int32), *((dtype.name, n) for n in bounds)] for bounds in every]
    for found, expected in runs(calls, build):
        assert_same(found[0], expected[0])


@pytest.mark.parametrize("trips", [0, 1, 2, 5])
def test_carried_tiles_swap_rotate_and_transpose(trips: int) -> None:
    x = [RNG.standard_normal((8, 8)).astype(np.float32) for _ in range(3)]

    def build(body: Any, *tensors: Any) -> None:
        n = tensors[-1]

        def one(inner: Any, i: Any, a: Any, b: Any, c: Any) -> Any:
            return b, inner.op("add", c, a), inner.op("permute", a, perm=(1, 0))

        zero, step = body.number(0), body.number(1)
        for t, v in zip(
            tensors[:3], body.loop((zero, n, step), [load_all(body, t, (8, 8)) for t in tensors[:3]], one),
            strict=True,
        ):  # fmt: skip
            store_all(body, t, v)

    found, expected = both([*x, ("int32", trips)], build)
    for f, e in zip(found[:3], expected[:3], strict=True):
        assert_same(f, e)


def test_initial_value_survives_the_loop_and_is_used_in_it() -> None:
    x = RNG.standard_normal((5, 7)).astype(np.float32)

    def build(body: Any, out: Any, kept: Any, same: Any, t: Any) -> None:
        tile = load_all(body, t, (5, 7))
        root = body.op("sqrt", body.op("abs", tile))

        def one(inner: Any, i: Any, a: Any, b: Any) -> Any:
            return inner.op("add", inner.op("mul", a, root), tile), tile

        bounds = body.number(0), body.number(4), body.number(1)
        last, passed = body.loop(bounds, (tile, root), one)
        for place, value in ((out, last), (kept, tile), (same, passed)):
            store_all(body, place, value)

    found, expected = both([*(np.zeros_like(x) for _ in range(3)), x], build)
    for f, e in zip(found, expected, strict=True):
        assert_same(f, e)


def test_nested_loops_carry_the_same_tile() -> None:
    x = RNG.standard_normal((4, 6)).astype(np.float32)

    def build(body: Any, out: Any, t: Any) -> None:
        tile = load_all(body, t, (4, 6))

        def outer(level: Any, i: Any, a: Any) -> Any:
            def inner(deep: Any, j: Any, b: Any, c: Any) -> Any:
                return deep.op("add", b, a), deep.op("sub", c, b)

            bounds = level.number(0), i, level.number(1)
            b, c = level.loop(bounds, (a, a), inner)
            return (level.op("add", level.op("mul", b, tile), c),)

        bounds = body.number(0), body.number(4), body.number(1)
        store_all(body, out, body.loop(bounds, (tile,), outer))

    found, expected = both([np.zeros_like(x), x], build)
    assert_same(found[0], expected[0])


def test_while_with_tiles() -> None:
    x = np.abs(RNG.standard_normal((3, 9)).astype(np.float32)) + 1

    def build(body: Any, out: Any, count: Any, t: Any) -> None:
        from cpu_kit import Body

        from tilec.ir.core import Value

        tile, zero = load_all(body, t, (3, 9)), body.number(0)
        types = (tile.type, zero.type)
        params = [Value(x) for x in types]
        cond = Body()
        # Used twice, so it gets a buffer: not that of the carried tile.
        root = cond.op("sqrt", params[0])
        rows = cond.op("reduce", cond.op("mul", root, root), kind="max", axis=1)
        top = cond.op("reduce", rows, kind="max", axis=0)
        cond.op("yield", cond.op("lt", top, cond.number(100.0, float32)))
        more = [Value(x) for x in types]
        step = Body()
        step.op("yield", step.op("mul", more[0], more[0]), step.op("add", more[1], step.number(1)))
        last, n = body.op("while", tile, zero, blocks=(cond.block(*params), step.block(*more)))
        store_all(body, out, last)
        body.op("store", count, n)

    found, expected = both([np.zeros_like(x), np.zeros((), np.int32), x * 1.1], build)
    assert_same(found[0], expected[0])
    assert_same(found[1], expected[1])


@pytest.mark.parametrize("which", [False, True])
def test_if_with_tiles_and_scalars(which: bool) -> None:
    x = RNG.standard_normal((4, 8)).astype(np.float32)

    def build(body: Any, out: Any, other: Any, n: Any, t: Any, cond: Any) -> None:
        tile = load_all(body, t, (4, 8))
        twice = body.op("add", tile, tile)
        a, b, k = body.branch(
            cond,
            lambda inner: (tile, inner.op("exp", twice), inner.number(3)),
            lambda inner: (inner.op("neg", twice), tile, inner.number(4)),
        )
        store_all(body, out, body.op("add", a, tile))
        store_all(body, other, b)
        body.op("store", n, k)

    args = [np.zeros_like(x), np.zeros_like(x), np.zeros((), np.int32), x, ("bool", which)]
    found, expected = both(args, build)
    assert_same(found[0], expected[0])
    np.testing.assert_array_max_ulp(found[1], expected[1], 3)
    assert found[2] == expected[2]


def test_effects_in_branches_and_reads_after_writes() -> None:
    x = np.arange(12, dtype=np.int32)

    def build(body: Any, t: Any) -> None:
        first = load_all(body, t, (12,))
        store_all(body, t, body.op("add", first, first))
        second = load_all(body, t, (12,))
        store_all(body, t, body.op("mul", second, first))

    found, expected = both([x], build)
    assert_same(found[0], expected[0])


def _grid_kernel(body: Any, out: Any) -> None:
    at = [body.op("program_id", axis=a) for a in range(3)]
    size = [body.op("num_programs", axis=a) for a in range(3)]
    parts = [body.op("reshape", v, shape=(1, 1, 1, 1)) for v in (*at, *size)]
    for i, part in enumerate(parts):
        body.op("store", out, part, *at, body.number(i))


@pytest.mark.parametrize("grid", [(1,), (3, 2), (2, 3, 4), (0, 2)], ids=str)
def test_grid(grid: tuple[int, ...]) -> None:
    found, expected = both([np.zeros((4, 4, 4, 6), np.int32)], _grid_kernel, grid, threads=2)
    assert_same(found[0], expected[0])


def _work(body: Any, out: Any, t: Any) -> None:
    row, zero = body.op("program_id", axis=0), body.number(0)
    tile = body.op("load", t, row, zero, shape=(1, 100))
    total = body.op("reduce", body.op("exp", tile), kind="sum", axis=1)
    wide = body.op("broadcast", body.op("reshape", total, shape=(1, 1)), shape=(1, 100))
    body.op("store", out, body.op("div", tile, wide), row, zero)


def test_any_number_of_threads_gives_the_same_bits() -> None:
    x = RNG.standard_normal((301, 97)).astype(np.float32)
    results = []
    made = compiled([x, x], _work)
    for threads in (1, 2, 3, 16, None):
        out = np.zeros_like(x)
        made.launch((301,), [out, x], threads)
        results.append(out)
    for other in results[1:]:
        assert_same(other, results[0])


def test_launches_from_several_threads_and_from_inside() -> None:
    x = RNG.standard_normal((64, 97)).astype(np.float32)
    made = compiled([x, x], _work)
    expected = np.zeros_like(x)
    made.launch((64,), [expected, x], 1)

    def many(_: int) -> None:
        for _ in range(20):
            out = np.zeros_like(x)
            made.launch((64,), [out, x], 4)
            assert_same(out, expected)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(many, range(4)))
    assert threading.active_count() > 0


def test_atomics_across_threads() -> None:
    def build(body: Any, counts: Any, total: Any) -> None:
        pid = body.op("program_id", axis=0)
        slot = body.op("mod", body.op("broadcast", pid, shape=(16,)), body.op(
            "const", dtype=int32, shape=(16,), value=5))  # fmt: skip
        one = body.op("const", dtype=int32, shape=(16,), value=1)
        yes = body.op("const", dtype=bool_, shape=(16,), value=True)
        body.op("atomic", counts, slot, one, yes, kind="add")
        part = body.op("cast", one, dtype=float32)
        body.op("atomic", total, slot, part, yes, kind="add")

    found, expected = both([np.zeros(5, np.int32), np.zeros(5, np.float32)], build, (2000,), threads=8)
    assert_same(found[0], expected[0])
    assert_same(found[1], expected[1])


def test_same_text_every_time() -> None:
    x = np.zeros((8, 97), np.float32)
    assert compile_kernel(kernel([x, x], _work)) == compile_kernel(kernel([x, x], _work))


def test_attention_against_float64() -> None:
    """Flash attention with a carried maximum, sum and accumulator, on a ragged length."""
    n, d, block = 75, 32, 16
    q, k, v = (RNG.standard_normal((n, d)).astype(np.float32) for _ in "qkv")

    found, expected = both([np.zeros_like(q), q, k, v], attention(n, d, block), (-(-n // block),), 2)
    scores = q.astype(np.float64) @ k.T / np.sqrt(d)
    weights = np.exp(scores - scores.max(1, keepdims=True))
    exact = weights / weights.sum(1, keepdims=True) @ v
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[0], exact, rtol=1e-5, atol=1e-5)


def attention(n: int, d: int, block: int) -> Any:
    """A builder of one-head attention over (n, d) tensors."""

    def build(body: Any, out: Any, q: Any, k: Any, v: Any) -> None:
        zero, step = body.number(0), body.number(block)
        start = body.op("mul", body.op("program_id", axis=0), step)
        rows = body.op("load", q, start, zero, shape=(block, d))
        fill = lambda value, *shape: body.op("const", dtype=float32, shape=shape, value=value)  # noqa: E731

        def one(inner: Any, i: Any, top: Any, total: Any, acc: Any) -> Any:
            keys = inner.op("permute", inner.op("load", k, i, zero, shape=(block, d)), perm=(1, 0))
            none = inner.op("const", dtype=float32, shape=(block, block), value=0)
            s = inner.op("dot", rows, keys, none)
            s = inner.op("mul", s, inner.op("const", dtype=float32, shape=(block, block), value=d**-0.5))
            column = inner.op("add", inner.op("arange", start=0, stop=block),
                              inner.op("broadcast", i, shape=(block,)))  # fmt: skip
            limit = inner.op("broadcast", inner.op("dim", k, axis=0), shape=(block,))
            keep = inner.op("reshape", inner.op("lt", column, limit), shape=(1, block))
            low = inner.op("const", dtype=float32, shape=(block, block), value=float("-inf"))
            s = inner.op("where", inner.op("broadcast", keep, shape=(block, block)), s, low)
            new = inner.op("maximum", top, inner.op("reduce", s, kind="max", axis=1))
            spread = lambda x, m: inner.op(  # noqa: E731
                "broadcast", inner.op("reshape", x, shape=(block, 1)), shape=(block, m))  # fmt: skip
            p = inner.op("exp", inner.op("sub", s, spread(new, block)))
            alpha = inner.op("exp", inner.op("sub", top, new))
            more = inner.op("add", inner.op("mul", total, alpha), inner.op("reduce", p, kind="sum", axis=1))
            acc = inner.op("mul", acc, spread(alpha, d))
            values = inner.op("load", v, i, zero, shape=(block, d))
            return new, more, inner.op("dot", p, values, acc)

        initial = fill(float("-inf"), block), fill(0, block), fill(0, block, d)
        bounds = zero, body.op("dim", k, axis=0), step
        _, total, acc = body.loop(bounds, initial, one)
        wide = body.op("broadcast", body.op("reshape", total, shape=(block, 1)), shape=(block, d))
        body.op("store", out, body.op("div", acc, wide), start, zero)

    return build


WRONG: dict[str, Any] = {
    "too few": lambda x: ((1,), [x]),
    "wrong dtype": lambda x: ((64,), [x, x.astype(np.float64)]),
    "wrong rank": lambda x: ((64,), [x, x[0]]),
    "not contiguous": lambda x: ((64,), [x, np.asfortranarray(x)]),
    "read-only": lambda x: ((64,), [np.broadcast_to(x[:1], x.shape), x]),
    "foreign byte order": lambda x: ((64,), [x, x.astype(">f4")]),
    "a list": lambda x: ((64,), [x, [1.0]]),
    "grid of four": lambda x: ((1, 1, 1, 1), [x, x]),
    "negative grid": lambda x: ((-1,), [x, x]),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_launches_are_located_errors(what: str) -> None:
    x = np.zeros((64, 97), np.float32)
    made = compiled([x, x], _work)
    grid, args = WRONG[what](x)
    with pytest.raises(TilecError):
        made.launch(grid, args)
