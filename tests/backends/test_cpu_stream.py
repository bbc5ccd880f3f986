"""Stores past the caches, and fetching the next instance's tile."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cpu_kit import assert_same, bits, both, compiled, kernel, samples

from tilec.backends.cpu import ahead, compile_kernel, host
from tilec.backends.cpu.lanes import F32
from tilec.ir.types import DTYPES

# A cache so small that every tensor goes past it.
TINY = replace(host(), last_bytes=1)
needs_x86 = pytest.mark.skipif(not host().x86, reason="stores past the caches are for x86")


@needs_x86
@pytest.mark.parametrize("offset", range(0, 64, 4))
@pytest.mark.parametrize("name", ["float32", "float16", "float64"])
def test_rows_at_any_alignment_and_nothing_beside_them(offset: int, name: str) -> None:
    dtype = DTYPES[name]
    if offset % dtype.bytes:
        pytest.skip("no element can lie there")
    rows, n, pitch = 3, 8192 // dtype.bytes, 8192 // dtype.bytes + 5
    x = samples(dtype, rows * n).reshape(rows, n)
    memory = np.full(rows * pitch + 256, 7, dtype.np)
    start = (-memory.ctypes.data % 64 + offset) // dtype.bytes
    y = memory[start : start + rows * pitch].reshape(rows, pitch)[:, :n]

    def build(body: Any, y: Any, x: Any) -> None:
        row, zero = body.op("program_id", axis=0), body.number(0)
        tile = body.op("load", x, row, zero, shape=(1, n))
        body.op("store", y, body.op("neg", tile), row, zero)

    compiled([y, x], build, TINY).launch((rows,), [y, x], 1)
    assert "!nontemporal" in compile_kernel(kernel([y, x], build), TINY).text
    assert (bits(y) == bits(-x)).all()
    outside = np.ones(len(memory), bool)
    for r in range(rows):
        outside[start + r * pitch : start + r * pitch + n] = False
    assert (memory[outside] == 7).all()


@needs_x86
def test_tiles_of_several_rows_and_columns_of_tiles() -> None:
    x = np.random.default_rng(0).standard_normal((6, 3 * 2048 + 100)).astype(np.float32)

    def build(body: Any, y: Any, x: Any) -> None:
        at = body.op("program_id", axis=0), body.op("program_id", axis=1)
        tile = body.op("load", x, *at, shape=(2, 2048))
        body.op("store", y, body.op("sqrt", body.op("abs", tile)), *at)

    found, expected = both([np.zeros_like(x), x], build, (3, 4), target=TINY)
    assert_same(found[0], expected[0])


def _two_passes(shape: tuple[int, int], row: Any) -> Any:
    """x - max(x) over the rows of a tile."""

    def build(body: Any, y: Any, x: Any) -> None:
        at = row(body), body.number(0)
        tile = body.op("load", x, *at, shape=shape)
        top = body.op("reshape", body.op("reduce", tile, axis=1, kind="max"), shape=(shape[0], 1))
        body.op("store", y, body.op("sub", tile, body.op("broadcast", top, shape=shape)), *at)

    return build


def _program(body: Any) -> Any:
    """Offset of the program (i, j) of a grid of 3 columns: its number."""
    i, j = body.op("program_id", axis=0), body.op("program_id", axis=1)
    return body.op("add", i, body.op("mul", j, body.number(3)))


def test_the_next_tile_is_fetched_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a store in place of each prefetch, every instance marks the tile of the next one."""
    monkeypatch.setattr(ahead, "prefetch", lambda b, place, level: b.store(F32(7.0), place))
    n = 2048
    x = np.random.default_rng(1).standard_normal((8, n)).astype(np.float32)
    expected = x.copy()
    expected[:6, :: host().lanes(4)] = 7  # The last one's next is the first.
    compiled([np.zeros_like(x), x], _two_passes((1, n), _program)).launch((3, 2), [np.zeros_like(x), x], 1)
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize(
    ("shape", "row", "some"),
    [
        ((1, 2048), _program, True),
        ((16, 128), _program, True),
        ((1, 64), _program, False),  # Too small.
        ((64, 8192), _program, False),  # Too large for the second cache.
        ((1, 2048), lambda body: body.number(1), False),  # The same tile for all.
    ],
)
def test_what_is_fetched_ahead(shape: tuple[int, int], row: Any, some: bool) -> None:
    x = np.zeros((64, 8192), np.float32)
    target = replace(host(), l2_bytes=1 << 20)
    text = compile_kernel(kernel([x, x], _two_passes(shape, row)), target).text
    assert ('call void @"llvm.prefetch' in text) == some


def test_a_tile_read_once_is_not_fetched_ahead() -> None:
    x = np.zeros((4, 2048), np.float32)

    def build(body: Any, y: Any, x: Any) -> None:
        at = body.op("program_id", axis=0), body.number(0)
        body.op("store", y, body.op("neg", body.op("load", x, *at, shape=(1, 2048))), *at)

    assert "llvm.prefetch" not in compile_kernel(kernel([x, x], build)).text


@pytest.mark.parametrize("kind", ["max", "min"])
@pytest.mark.parametrize("name", ["float32", "float64"])
@pytest.mark.parametrize("bytes_", [16, 32, 64])
def test_extrema_keep_nan_wherever_it_is(kind: str, name: str, bytes_: int) -> None:
    if bytes_ > host().vector_bytes:
        pytest.skip("the host has no such vectors")
    rows, n = 40, 40
    x = np.random.default_rng(2).standard_normal((rows, n)).astype(name)
    x[:, 7] = np.where(np.arange(rows) % 2 == 0, np.inf, -np.inf)
    np.fill_diagonal(x, np.nan)

    def build(body: Any, y: Any, x: Any) -> None:
        zero = body.number(0)
        tile = body.op("load", x, zero, zero, shape=(rows, n))
        body.op("store", y, body.op("reduce", tile, axis=1, kind=kind), zero)

    y = np.zeros(rows, name)
    target = replace(host(), vector_bytes=bytes_)
    compiled([y, x], build, target).launch((1,), [y, x], 1)
    assert np.isnan(y).all()
    clean = np.where(np.isnan(x), 0, x)
    compiled([y, clean], build, target).launch((1,), [y, clean], 1)
    np.testing.assert_array_equal(y, getattr(np, kind)(clean, axis=1))


def test_a_value_behind_a_sum_is_computed_in_its_loop() -> None:
    """What is summed and what is written down on the way are the same tile."""
    shape = (3, 4 * host().lanes(4))
    x = np.random.default_rng(3).standard_normal(shape).astype(np.float32)

    def build(body: Any, y: Any, total: Any, x: Any) -> None:
        at = body.number(0), body.number(0)
        wave = body.op("exp", body.op("load", x, *at, shape=shape))
        square = body.op("reduce", body.op("mul", wave, wave), axis=1, kind="sum")
        body.op("store", total, square, at[0])
        body.op("store", y, wave, *at)

    args = [np.zeros_like(x), np.zeros(3, np.float32), x]
    (y, total, _), expected = both(args, build)
    np.testing.assert_allclose(y, expected[0], rtol=1e-6)
    np.testing.assert_allclose(total, expected[1], rtol=1e-5)
