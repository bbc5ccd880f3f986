"""Accesses of 16 bytes: which facts make them the only version, and that values stay right without these."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilec
import tilec.language as tl


@tilec.kernel
def move(X: tl.Tensor, Y: tl.Tensor, row: int, column: int, fill: tl.constexpr[float] = 0.0,
         BM: tl.constexpr[int] = 4, BN: tl.constexpr[int] = 64):  # fmt: skip
    tile = tl.load(X, (tl.program_id(0), tl.program_id(1)), (BM, BN), pad=fill)
    tl.store(Y, offset=(row, column), value=tile)


@tilec.kernel
def quotient(X: tl.Tensor, Y: tl.Tensor, N: tl.constexpr[int] = 64):
    x = tl.load(X, (0,), (N,)).to(tl.float32)
    tl.store(Y, (0,), (x / tl.sum(x)).to(Y.dtype))


@tilec.kernel
def quotient_used_twice(X: tl.Tensor, Y: tl.Tensor, N: tl.constexpr[int] = 64):
    x = tl.load(X, (0,), (N,)).to(tl.float32)
    q = x / tl.sum(x)
    tl.store(Y, (0,), (q.to(tl.float16) * tl.sum(q).to(tl.float16)).to(Y.dtype))


def ptx(kernel: Any, *signature: str, **constants: Any) -> str:
    return str(kernel.compile(signature, target="sm_80", **constants).asm["ptx"])


@pytest.mark.parametrize("columns", [40, 42])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.bool_])
@pytest.mark.parametrize("at", [(0, 0), (-1, -16), (3, 5), (2, -3), (2**31 - 1, 8), (0, -(2**31))])
def test_any_offset_and_extent(columns: int, dtype: Any, at: tuple[int, int]) -> None:
    """Rows of whole 16 bytes or not, tiles over every edge, stores that start where no vector may."""
    width = -(-columns // 16) * 16
    x = np.random.default_rng(columns).integers(0, 2, (7, width)).astype(dtype)[:, :columns]
    fill = 1.0 if dtype is np.bool_ else 3.0
    found, expected = (np.zeros((7, width), dtype)[:, :columns] for _ in range(2))
    for y, backend in ((found, "emulator"), (expected, "interpreter")):
        move[(1, 1)](x, y, *at, fill=fill, BM=8, backend=backend)
    assert np.array_equal(found, expected)


def test_facts_leave_one_version() -> None:
    """Of a tile at a multiple of its width in a divisible tensor; another offset is tested when it runs."""
    scalars = ("i32", "i32")
    known = ptx(move, "f32[2, divisible]", "f32[2, divisible]", *scalars, BM=8)
    assert known.count("$ragged") == 2 and known.count("ld.global") == 1 and "ld.global.v4.f32" in known
    assert ptx(move, "f32[2]", "f32[2, divisible]", *scalars, BM=8).count("$ragged") == 4
    assert "v4" not in ptx(move, "f32[2, unaligned, divisible]", "f32[2, unaligned]", *scalars)


def test_launches_tell_what_they_know() -> None:
    from tilec.runtime.arrays import is_divisible

    rows = np.zeros((4, 40), np.float16)
    assert is_divisible(rows) and not is_divisible(rows[:, :36]) and is_divisible(rows[:, :32].T)
    assert not is_divisible(np.zeros(()))


def test_quotients_that_are_rounded_to_16_bits_anyhow() -> None:
    assert "div.full.f32" in ptx(quotient, "f32[1]", "f16[1]")
    assert "div.full.f32" not in ptx(quotient, "f32[1]", "f32[1]")
    assert "div.full.f32" not in ptx(quotient_used_twice, "f32[1]", "f16[1]")


@tilec.kernel
def rows_of(T: tl.Tensor, I: tl.Tensor, Y: tl.Tensor, BD: tl.constexpr[int] = 64):
    wanted = tl.broadcast_to(tl.load(I, (0,), (8,), pad=-1)[:, None], (8, BD))
    columns = tl.broadcast_to((tl.program_id(0) * BD + tl.arange(0, BD))[None, :], (8, BD))
    tl.store(Y, (0, tl.program_id(0)), tl.gather(T, (wanted, columns), mask=wanted >= 0, other=0.0))


@pytest.mark.parametrize("width", [96, 100, 97])
def test_rows_that_indices_name(width: int) -> None:
    table = np.random.default_rng(width).integers(1, 99, (5, 104)).astype(np.float16)[:, :width]
    names, found = np.array([4, 0, -1, 5, 2, 2, 3, 1], np.int32), np.full((8, width), 7, np.float16)
    rows_of[2](table, names, found, backend="emulator")
    known = (names >= 0) & (names < 5)
    assert np.array_equal(found, np.where(known[:, None], table[names % 5], 0))


def test_rows_are_gathered_in_vectors() -> None:
    text = ptx(rows_of, "f16[2, divisible]", "i32[1]", "f16[2, divisible]")
    assert text.count("ld.global.v4.b32") == 1 and "ld.global.b16" not in text


@tilec.kernel
def parts(X: tl.Tensor, Q: tl.Tensor, R: tl.Tensor, by: tl.constexpr[int]):
    x = tl.load(X, (0,), (64,))
    tl.store(Q, (0,), x // by)
    tl.store(R, (0,), x % by)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint32, np.int64])
@pytest.mark.parametrize("by", [1, 2, 64, 3])
def test_division_by_a_power_of_two_rounds_down(dtype: Any, by: int) -> None:
    info = np.iinfo(dtype)
    x = np.array([info.min, info.max, *range(62)], dtype)
    x[::3] = 0 - x[::3]
    q, r = np.zeros_like(x), np.zeros_like(x)
    parts[1](x, q, r, by=by, backend="emulator")
    assert np.array_equal(q, x // by) and np.array_equal(r, x % by)
    assert (by == 3) == ("div." in ptx(parts, *[f"{np.dtype(dtype).name}[1]"] * 3, by=by))
