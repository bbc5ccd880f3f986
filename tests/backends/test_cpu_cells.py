"""Gathers and scatters of whole rows: vectors where indices go up by one, the same elements as one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cpu_kit import assert_same, both, kernel, load_all, samples, store_all

from tilec.backends.cpu import compile_kernel, host
from tilec.ir.types import DTYPES, int32

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
