"""Memory, shapes, reductions and products on the CPU against the interpreter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cpu_kit import assert_same, both, load_all, runs, samples, store_all

from tilec.ir.types import DTYPES, DType, bool_, float32, int32, int64, uint64

FLOATS = [d for d in DTYPES.values() if d.is_float]
ALL = list(DTYPES.values())
OFFSETS = [(0, 0), (-3, -2), (5, 9), (-20, 3), (40, 40), (3, -31), (2**31 - 4, -(2**31))]
LAYOUTS = {
    "rows": lambda x: x, "columns": lambda x: np.asfortranarray(x),
    "strided": lambda x: np.repeat(np.repeat(x, 2, 0), 3, 1)[::2, ::3],
    "negative": lambda x: x[::-1, ::-1], "padded": lambda x: np.pad(x, ((0, 0), (0, 5)))[:, :-5],
}  # fmt: skip


@pytest.mark.parametrize("dtype", ALL, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_load_and_store_at_any_offset(dtype: DType, layout: str) -> None:
    shape, tile = (37, 29), (13, 19)
    x = LAYOUTS[layout](samples(dtype, 37 * 29).reshape(shape))

    def build(body: Any, out: Any, t: Any, row: Any, column: Any) -> None:
        value = body.op("load", t, row, column, shape=tile, pad=1)
        body.op("store", out, value, column, row)

    out = LAYOUTS[layout](samples(dtype, 37 * 29, 1).reshape(shape))
    calls = [[out, x, ("int32", row), ("int32", column)] for row, column in OFFSETS]
    for found, expected in runs(calls, build):
        assert_same(found[0], expected[0])
        assert bytes(found[0].base) == bytes(expected[0].base)  # Nothing beside the tensor is touched.


@pytest.mark.parametrize("dtype", [int64, uint64], ids=str)
def test_huge_offsets_are_outside(dtype: DType) -> None:
    limits = [0, np.iinfo(dtype.np).max, np.iinfo(dtype.np).min, np.iinfo(dtype.np).max - 3]

    def build(body: Any, out: Any, t: Any, at: Any) -> None:
        store_all(body, out, body.op("load", t, at, shape=(8,), pad=7))

    calls = [[np.zeros(8, np.int32), np.arange(20, dtype=np.int32), (dtype.name, at)] for at in limits]
    for found, expected in runs(calls, build):
        assert_same(found[0], expected[0])


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0)], ids=str)
def test_empty_tensors(shape: tuple[int, ...]) -> None:
    tile = (4,) * len(shape)

    def build(body: Any, out: Any, t: Any) -> None:
        value = load_all(body, t, tile)
        store_all(body, out, value)
        store_all(body, t, value)

    found, expected = both([np.ones(tile, np.float32), np.zeros(shape, np.float32)], build)
    assert_same(found[0], expected[0])


def test_rank_0_and_rank_4() -> None:
    x = samples(float32, 3 * 4 * 5 * 6).reshape(3, 4, 5, 6)

    def build(body: Any, scalar: Any, out: Any, t: Any) -> None:
        one = body.op("load", scalar, shape=())
        body.op("store", scalar, body.op("add", one, one))
        store_all(body, out, load_all(body, t, (2, 3, 5, 7)))

    found, expected = both([np.array(2.5, np.float32), np.zeros((3, 4, 5, 6), np.float32), x], build)
    assert_same(found[0], expected[0])
    assert_same(found[1], expected[1])


@pytest.mark.parametrize("dtype", [float32, DTYPES["float16"], int32, bool_], ids=str)
def test_shapes(dtype: DType) -> None:
    x = samples(dtype, 6 * 20).reshape(6, 20)

    def build(body: Any, a: Any, b: Any, c: Any, d: Any, t: Any) -> None:
        tile = load_all(body, t, (6, 20))
        store_all(body, a, body.op("permute", tile, perm=(1, 0)))
        cube = body.op("reshape", tile, shape=(3, 5, 8))
        store_all(body, b, body.op("permute", cube, perm=(2, 0, 1)))
        row = body.op("load", t, body.number(2), body.number(3), shape=(1, 17))
        wide = body.op("broadcast", row, shape=(9, 17))
        store_all(body, c, wide)
        column = body.op("reshape", body.op("permute", row, perm=(1, 0)), shape=(17, 1))
        flat = body.op("reshape", body.op("broadcast", column, shape=(17, 5)), shape=(85,))
        store_all(body, d, flat)

    outs = [np.zeros(s, dtype.np) for s in ((20, 6), (8, 3, 5), (9, 17), (85,))]
    found, expected = both([*outs, x], build)
    for f, e in zip(found, expected, strict=True):
        assert_same(f, e)


def test_arange_masks_and_constants() -> None:
    def build(body: Any, out: Any, n: Any) -> None:
        index = body.op("arange", start=-7, stop=30)
        limit = body.op("broadcast", n, shape=(37,))
        mask = body.op("lt", index, limit)
        three = body.op("const", dtype=int32, shape=(37,), value=-3)
        store_all(body, out, body.op("where", mask, index, three))

    found, expected = both([np.zeros(37, np.int32), ("int32", 11)], build)
    assert_same(found[0], expected[0])


REDUCED = [(k, d) for k in ("sum", "prod", "max", "min", "argmax", "argmin") for d in ALL if d != bool_]
REDUCED += [("xor_sum", d) for d in ALL if d.is_int]
UPDATED = [(k, d) for k in ("add", "max", "min", "xchg") for d in ALL]
UPDATED += [(k, d) for k in ("and", "or", "xor") for d in ALL if d.is_int]


@pytest.mark.parametrize(("kind", "dtype"), REDUCED, ids=str)
def test_reduce(kind: str, dtype: DType) -> None:
    x = samples(dtype, 5 * 7 * 37).reshape(5, 7, 37)
    if dtype.is_float and kind in ("sum", "prod"):
        x = (np.random.default_rng(0).standard_normal(x.shape) + 2).astype(dtype.np)
    result = np.int32 if kind.startswith("arg") else dtype.np

    def build(body: Any, a: Any, b: Any, c: Any, t: Any) -> None:
        tile = load_all(body, t, x.shape)
        for axis, out in enumerate((a, b, c)):
            store_all(body, out, body.op("reduce", tile, kind=kind, axis=axis))

    outs = [np.zeros(s, result) for s in ((7, 37), (5, 37), (5, 7))]
    found, expected = both([*outs, x], build)
    for f, e in zip(found[:3], expected[:3], strict=True):
        if dtype.is_float and kind in ("sum", "prod"):
            tolerance = max(2.0**-dtype.mantissa, 1e-6 if dtype.bits < 64 else 1e-14)
            np.testing.assert_allclose(f.astype(np.float64), e.astype(np.float64), rtol=tolerance)
        elif f.dtype.kind == "f" and kind in ("max", "min"):
            assert_same(f + 0, e + 0)  # Which zero of two is the larger is open.
        else:
            assert_same(f, e)


@pytest.mark.parametrize("kind", ["any", "all"])
def test_reduce_bool_to_scalar_and_tile(kind: str) -> None:
    for fill in (False, True):
        x = np.full((3, 21), fill)
        x[1, 20] = not fill

        def build(body: Any, out: Any, one: Any, t: Any) -> None:
            rows = body.op("reduce", load_all(body, t, (3, 21)), kind=kind, axis=1)
            store_all(body, out, rows)
            body.op("store", one, body.op("reduce", rows, kind=kind, axis=0))

        found, expected = both([np.zeros(3, bool), np.zeros((), bool), x], build)
        assert_same(found[0], expected[0])
        assert_same(found[1], expected[1])


def test_argmax_takes_the_first_and_nan() -> None:
    x = np.zeros((4, 40), np.float32)
    x[1, 7], x[2, 9], x[2, 30], x[3, 3] = np.nan, 5, 5, -1

    def build(body: Any, a: Any, b: Any, t: Any) -> None:
        tile = load_all(body, t, x.shape)
        store_all(body, a, body.op("reduce", tile, kind="argmax", axis=1))
        store_all(body, b, body.op("reduce", tile, kind="argmin", axis=1))

    found, expected = both([np.zeros(4, np.int32), np.zeros(4, np.int32), x], build)
    assert_same(found[0], expected[0])
    assert_same(found[1], expected[1])


DOTS = [
    *[(d, float32) for d in FLOATS if d.bits < 64], (DTYPES["float64"], DTYPES["float64"]),
    (DTYPES["float16"], DTYPES["float16"]), (DTYPES["int8"], int32), (DTYPES["uint8"], int32),
    (int32, int32), (DTYPES["int16"], int64), (DTYPES["int8"], DTYPES["int8"]),
]  # fmt: skip


@pytest.mark.parametrize(("dtype", "acc"), DOTS, ids=str)
@pytest.mark.parametrize("mnk", [(16, 64, 32), (13, 37, 5), (1, 1, 1), (8, 16, 1), (33, 100, 17)], ids=str)
def test_dot(dtype: DType, acc: DType, mnk: tuple[int, int, int]) -> None:
    m, n, k = mnk
    rng = np.random.default_rng(1)
    make = (lambda s: rng.standard_normal(s)) if dtype.is_float else (lambda s: rng.integers(0, 100, s))
    a, b, c = make((m, k)).astype(dtype.np), make((n, k)).astype(dtype.np), make((m, n)).astype(acc.np)

    def build(body: Any, out: Any, again: Any, x: Any, y: Any, z: Any) -> None:
        right = body.op("permute", load_all(body, y, (n, k)), perm=(1, 0))
        left, add = load_all(body, x, (m, k)), load_all(body, z, (m, n))
        zero = body.op("const", dtype=acc, shape=(m, n), value=0)
        store_all(body, out, body.op("dot", left, right, add))
        store_all(body, again, body.op("dot", left, right, zero))

    found, expected = both([np.zeros((m, n), acc.np), np.zeros((m, n), acc.np), a, b, c], build)
    for f, e in zip(found[:2], expected[:2], strict=True):
        if acc.is_float:
            wide = [np.abs(x.astype(np.float64)) for x in (a, b, c)]
            scale = wide[0] @ wide[1].T + wide[2] + 1
            error = np.abs(f.astype(np.float64) - e.astype(np.float64)) / scale
            assert error.max() <= (k + 2) * 2.0 ** -(acc.mantissa + 1)
        else:
            assert_same(f, e)


def test_dot_tf32_truncates() -> None:
    rng = np.random.default_rng(2)
    a, b = (rng.standard_normal((16, 16)).astype(np.float32) for _ in "ab")

    def build(body: Any, out: Any, x: Any, y: Any) -> None:
        zero = body.op("const", dtype=float32, shape=(16, 16), value=0)
        tiles = load_all(body, x, (16, 16)), load_all(body, y, (16, 16))
        store_all(body, out, body.op("dot", *tiles, zero, precision="tf32"))

    found, expected = both([np.zeros((16, 16), np.float32), a, b], build)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-5)
    assert np.abs(found[0] - a @ b).max() > 1e-4


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_gather_and_scatter(dtype: DType) -> None:
    x = samples(dtype, 11 * 9).reshape(11, 9)
    rng = np.random.default_rng(3)
    rows = np.repeat(rng.permutation(14)[:, None] - 2, 9, 1).astype(np.int32)
    columns = np.repeat(np.arange(9)[None], 14, 0).astype(np.int32)
    mask = rng.integers(0, 4, (14, 9)) > 0

    def build(body: Any, out: Any, moved: Any, t: Any, r: Any, c: Any, m: Any, other: Any) -> None:
        i, j, ok, spare = (load_all(body, v, (14, 9)) for v in (r, c, m, other))
        found = body.op("gather", t, i, j, ok, spare)
        store_all(body, out, found)
        body.op("scatter", moved, i, j, found, ok)

    other = samples(dtype, 14 * 9, 5).reshape(14, 9)
    args = [np.zeros((14, 9), dtype.np), np.zeros((11, 9), dtype.np), x, rows, columns, mask, other]
    found, expected = both(args, build)
    assert_same(found[0], expected[0])
    assert_same(found[1], expected[1])


@pytest.mark.parametrize(("kind", "dtype"), UPDATED, ids=str)
def test_atomics(kind: str, dtype: DType) -> None:
    cells, n = samples(dtype, 8 if dtype.kind == "bool" else 20)[:8], 50
    index = (np.arange(n, dtype=np.int32) * 7) % 10 - 1
    values = samples(dtype, n, 4)

    def build(body: Any, out: Any, t: Any, i: Any, v: Any, m: Any) -> None:
        args = load_all(body, i, (n,)), load_all(body, v, (n,)), load_all(body, m, (n,))
        store_all(body, out, body.op("atomic", t, *args, kind=kind))

    mask = np.arange(n) % 5 != 0
    found, expected = both([np.zeros(n, dtype.np), cells, index, values, mask], build)
    assert_same(found[0], expected[0])
    assert_same(found[1], expected[1])
