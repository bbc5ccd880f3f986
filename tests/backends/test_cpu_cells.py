"""Gathers and scatters: vectors of rows or of indices give the same elements as one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cpu_kit import assert_same, both, kernel, load_all, samples, store_all

from tilec.backends.cpu import compile_kernel, host
from tilec.ir.types import DTYPES, bool_, float32, int32

ROWS, WIDTH, SHAPE = 7, 83, (9, 53)
# First columns: inside, over the end, before the start, and where 32 bits wrap.
FIRST = [0, 5, 60, -20, -60, 90, 2**31 - 30]


def _spread(body: Any, value: Any, axis: int) -> Any:
    """A vector along one axis of the tile."""
    shape = tuple(n if d == axis else 1 for d, n in enumerate(SHAPE))
    return body.op("broadcast", body.op("reshape", value, shape=shape), shape=SHAPE)


def _indices(body: Any, ids: Any, first: Any) -> tuple[Any, Any]:
    columns = body.op("arange", start=0, stop=SHAPE[1])
    start = body.op("broadcast", body.op("reshape", first, shape=(1,)), shape=(SHAPE[1],))
    return (_spread(body, load_all(body, ids, SHAPE[:1]), 0),
            _spread(body, body.op("add", start, columns), 1))  # fmt: skip


def _mask(body: Any, rows: Any) -> Any:
    return body.op("ge", rows, body.op("const", dtype=int32, shape=SHAPE, value=-1))


def _ids() -> np.ndarray[Any, Any]:
    return np.array([3, 0, -1, 6, 7, 3, -2, 2**30, 5], np.int32)


def _gather(body: Any, out: Any, table: Any, ids: Any, first: Any) -> None:
    rows, columns = _indices(body, ids, first)
    other = body.op("const", dtype=table.type.dtype, shape=SHAPE, value=1)
    store_all(body, out, body.op("gather", table, rows, columns, _mask(body, rows), other))


def _scatter(body: Any, table: Any, out: Any, ids: Any, first: Any) -> None:
    rows, columns = _indices(body, ids, first)
    body.op("scatter", table, rows, columns, load_all(body, out, SHAPE), _mask(body, rows))


@pytest.mark.parametrize("name", ["float32", "float16", "bool", "int64", "float8_e4m3"])
@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("pitch", [WIDTH, WIDTH + 6])
def test_rows(name: str, first: int, pitch: int) -> None:
    table = samples(DTYPES[name], ROWS * pitch).reshape(ROWS, pitch)[:, :WIDTH]
    out = samples(DTYPES[name], SHAPE[0] * SHAPE[1], seed=1).reshape(SHAPE)
    for args, build in (
        ([np.zeros(SHAPE, table.dtype), table, _ids(), (int32, first)], _gather),
        ([table, out, _ids(), (int32, first)], _scatter),
    ):
        found, expected = both(args, build)
        assert_same(found[0], expected[0])
        if isinstance(found[0].base, np.ndarray):
            assert_same(found[0].base, expected[0].base)


def test_rows_are_vectors_and_other_elements_are_not() -> None:
    out, ids = np.zeros(SHAPE, np.float32), _ids()
    whole = np.zeros((ROWS, WIDTH), np.float32)
    args = [out, whole, ids, (int32, 0)]
    vector = f"llvm.masked.load.v{host().lanes(4)}f32"
    assert vector in compile_kernel(kernel(args, _gather)).text
    args[1] = np.zeros((ROWS, 2 * WIDTH), np.float32)[:, ::2]  # Elements are not side by side.
    assert vector not in compile_kernel(kernel(args, _gather)).text
    found, expected = both(args, _gather)
    assert_same(found[0], expected[0])


def _chain(body: Any, out: Any, table: Any, ids: Any, first: Any) -> None:
    """Two lookups in one store, at a place where the tile hangs over the edges."""
    rows, columns = _indices(body, ids, first)
    zero = body.op("const", dtype=int32, shape=SHAPE, value=0)
    other = body.op("const", dtype=table.type.dtype, shape=SHAPE, value=1)
    a, b = (body.op("gather", table, r, columns, _mask(body, rows), other) for r in (rows, zero))
    body.op("store", out, body.op("add", body.op("mul", a, a), b), body.number(2), body.number(7))


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("shape", [(11, 60), (8, 41), (40, 70)], ids=str)
def test_rows_computed_by_the_store(first: int, shape: tuple[int, int]) -> None:
    table = samples(float32, ROWS * WIDTH).reshape(ROWS, WIDTH)
    args = [np.zeros(shape, np.float32), table, _ids(), (int32, first)]
    with np.errstate(all="ignore"):
        found, expected = both(args, _chain)
    assert_same(found[0], expected[0])


def _scattered(body: Any, out: Any, table: Any, i: Any, j: Any) -> None:
    n = 77
    where = [load_all(body, x, (n,)) for x in (i, j)]
    mask = body.op("ne", where[1], body.op("const", dtype=where[1].type.dtype, shape=(n,), value=3))
    other = body.op("const", dtype=table.type.dtype, shape=(n,), value=1)
    store_all(body, out, body.op("gather", table, *where, mask, other))


@pytest.mark.parametrize("name", ["float32", "float16", "bool", "int64", "float8_e4m3"])
@pytest.mark.parametrize("index", ["int32", "int64", "uint32", "uint64", "int8"])
@pytest.mark.parametrize("step", [1, 2])
def test_elements_anywhere(name: str, index: str, step: int) -> None:
    """Vectors of indices, inside and outside of the tensor, of all widths."""
    table = samples(DTYPES[name], 20 * 40).reshape(20, 40)[:, ::step]
    i, j = (np.resize(np.arange(-3, 25) * k, 77).astype(index) for k in (1, 3))
    i[5::9] = np.iinfo(index).max
    found, expected = both([np.zeros(77, table.dtype), table, i, j], _scattered)
    assert_same(found[0], expected[0])


def _swap(body: Any, table: Any, ids: Any) -> None:
    """Read what is then written: the tensor is not what it was."""
    where = load_all(body, ids, (64,))
    true = body.op("const", dtype=bool_, shape=(64,), value=1)
    none = body.op("const", dtype=float32, shape=(64,), value=0)
    found = body.op("gather", table, where, true, none)
    store_all(body, table, body.op("const", dtype=float32, shape=(64,), value=5))
    body.op("scatter", table, where, body.op("add", found, found), true)


def test_a_tensor_that_is_written_is_read_before() -> None:
    ids = np.random.default_rng(0).permutation(64).astype(np.int32)
    found, expected = both([np.arange(64, dtype=np.float32), ids], _swap)
    assert_same(found[0], expected[0])
    assert found[0].max() == 126


def test_elements_anywhere_are_gathered_in_vectors() -> None:
    args = [np.zeros(77, np.float32), np.zeros((20, 40), np.float32), *[np.zeros(77, np.int32)] * 2]
    assert f"llvm.masked.gather.v{host().lanes(4)}f32" in compile_kernel(kernel(args, _scattered)).text
