"""Shared-memory layouts: TMA's writes, read back by wgmma's descriptors, by brute force."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from tilec.backends.ptx.hopper_smem import (
    SWIZZLES,
    Operand,
    SmemTile,
    operand,
    smem_tile,
    swizzled,
)  # fmt: skip
from tilec.ir.errors import UnsupportedError
from tilec.ir.types import TileType, float8_e4m3, float16, float32

DTYPES = {1: float8_e4m3, 2: float16, 4: float32}


def write_boxes(tile: SmemTile, values: np.ndarray) -> dict[int, int]:
    """What TMA does: each box dense with the inner dimension fastest, then swizzled as a whole."""
    memory: dict[int, int] = {}
    order = (*tile.outer, tile.inner)
    for box in tile.boxes():
        index = tuple(slice(s, s + n) for s, n in zip(box.start, tile.box, strict=True))
        dense = values[index].transpose(order).reshape(-1)
        for n, value in enumerate(dense):
            place = swizzled(box.offset + n * tile.es, tile.swizzle)
            assert place not in memory
            memory[place] = int(value)
    return memory


def descriptor_reads(op: Operand, mn: int, k: int, rows: int, step: int) -> np.ndarray:
    """Byte addresses of a (rows, step) block, by the table of wgmma's canonical layouts."""
    word = op.constant
    lbo, sbo = (word >> 16 & 0x3FFF) << 4, (word >> 32 & 0x3FFF) << 4
    mode = {0: "none", 1: "128B", 2: "64B", 3: "32B"}[word >> 62]
    span = {"none": 16, "32B": 32, "64B": 64, "128B": 128}[mode]
    es, start = op.tile.es, op.offset(mn, k)
    out = np.empty((rows, step), int)
    for m, j in product(range(rows), range(step)):
        if op.k_major and mode != "none":
            assert (start % span) + j * es < span
            a = (m % 8) * span + (m // 8) * sbo + j * es
        elif op.k_major:
            a = (m % 8) * 16 + (m // 8) * sbo + (j * es) % 16 + (j * es // 16) * lbo
        elif mode != "none":
            a = (m * es) % span + (m * es // span) * lbo + (j % 8) * span + (j // 8) * sbo
        else:
            a = (m * es) % 16 + (m * es // 16) * sbo + (j % 8) * 16 + (j // 8) * lbo
        out[m, j] = swizzled(start + a, mode)
    return out


def check(tile: SmemTile, mn_dim: int, k_dim: int, block: int) -> None:
    values = np.arange(np.prod(tile.shape)).reshape(tile.shape)
    memory = write_boxes(tile, values)
    assert max(memory) < tile.bytes
    op = operand(tile, mn_dim, k_dim)
    matrix = np.moveaxis(values, (mn_dim, k_dim), (-2, -1)).reshape(tile.shape[mn_dim], -1)
    step = 32 // tile.es
    for mn, k in product(range(0, matrix.shape[0], block), range(0, matrix.shape[1], step)):
        got = np.vectorize(memory.__getitem__)(descriptor_reads(op, mn, k, block, step))
        np.testing.assert_array_equal(got, matrix[mn : mn + block, k : k + step])


@pytest.mark.parametrize("es", [1, 2, 4])
@pytest.mark.parametrize("inner_bytes", [32, 64, 96, 128, 256, 384])
def test_k_major_boxes_are_read_back_by_the_descriptor(es: int, inner_bytes: int) -> None:
    check(smem_tile(TileType(DTYPES[es], (128, inner_bytes // es)), 1), 0, 1, 64)


@pytest.mark.parametrize("inner", [16, 24, 32, 40, 64, 128, 192])
@pytest.mark.parametrize("k", [16, 64])
def test_mn_major_boxes_are_read_back_by_the_descriptor(inner: int, k: int) -> None:
    block = 64 if inner % 64 == 0 else inner
    check(smem_tile(TileType(float16, (k, inner)), 1), 1, 0, block)


@pytest.mark.parametrize("span,swizzle", SWIZZLES)
@pytest.mark.parametrize("es", [1, 2, 4])
def test_every_swizzle_and_element_size(span: int, swizzle: str, es: int) -> None:
    shape = (64, 256 // es)
    check(SmemTile(shape, 1, es, span, swizzle), 0, 1, 64)
    if es == 2:
        check(SmemTile(shape, 1, es, span, swizzle), 1, 0, 64)


def test_unit_dimensions_and_a_transposed_view() -> None:
    check(smem_tile(TileType(float16, (1, 64, 1, 64)), 3), 1, 3, 64)
    check(smem_tile(TileType(float16, (64, 1, 128)), 0), 0, 2, 64)
    check(smem_tile(TileType(float16, (64, 1, 128)), 0), 2, 0, 128)


def test_tiles_with_long_sides_are_cut_into_boxes() -> None:
    tile = smem_tile(TileType(float16, (2, 512, 64)), 2)
    assert tile.box == (1, 256, 64)
    assert [b.offset for b in tile.boxes()] == [0, 32768, 65536, 98304]
    values = np.arange(2 * 512 * 64).reshape(2, 512, 64)
    memory = write_boxes(tile, values)
    for index in [(0, 0, 0), (0, 300, 9), (1, 255, 63), (1, 511, 1)]:
        assert memory[tile.address(index)] == values[index]


def test_vectors_are_plain() -> None:
    tile = smem_tile(TileType(float16, (512,)), 0)
    assert (tile.swizzle, tile.box, tile.bytes) == ("none", (256,), 1024)
    assert [tile.address((i,)) for i in (0, 1, 256, 511)] == [0, 2, 512, 1022]
    assert smem_tile(TileType(float32, (1, 64)), 1).box == (1, 64)


def test_address_is_where_tma_writes() -> None:
    for shape, inner in [((16, 64), 1), ((64, 24), 1), ((3, 5, 32), 2), ((40, 7), 0), ((2, 48), 1)]:
        tile = smem_tile(TileType(float16, shape), inner)
        values = np.arange(np.prod(shape)).reshape(shape)
        memory = write_boxes(tile, values)
        for index in np.ndindex(*shape):
            assert memory[tile.address(index)] == values[index]


@pytest.mark.parametrize(
    "shape,inner,k_dim,expected",
    [
        ((128, 64), 1, 1, 0x4000004000000000),  # K-major, 128 B: SBO 1024
        ((64, 64), 1, 0, 0x4000004000000000 | 64 * 128 >> 4 << 16),  # MN-major: LBO = one chunk
        ((64, 32), 1, 1, 0x8000002000000000),  # K-major, 64 B: SBO 512
    ],
)
def test_descriptor_vectors(shape: tuple[int, int], inner: int, k_dim: int, expected: int) -> None:
    op = operand(smem_tile(TileType(float16, shape), inner), 1 - k_dim, k_dim)
    assert op.constant == expected


def test_k_steps_advance_as_documented() -> None:
    a = operand(smem_tile(TileType(float16, (128, 64)), 1), 0, 1)
    assert [a.offset(0, k) for k in range(0, 64, 16)] == [0, 32, 64, 96]
    assert a.offset(64, 0) == 64 * 128
    v = operand(smem_tile(TileType(float16, (64, 128)), 1), 1, 0)
    assert [v.offset(0, k) for k in range(0, 64, 16)] == [0, 2048, 4096, 6144]
    assert v.offset(64, 0) == 64 * 128


def test_refusals_say_what_to_do() -> None:
    with pytest.raises(UnsupportedError, match="U501") as error:
        smem_tile(TileType(float16, (64, 20)), 1)
    assert "multiple of 16 bytes" in str(error.value)
    with pytest.raises(UnsupportedError, match="U502") as error:
        operand(smem_tile(TileType(float8_e4m3, (64, 128)), 1), 1, 0)
    assert "transposed" in str(error.value)
    with pytest.raises(UnsupportedError, match="U502"):
        operand(smem_tile(TileType(float16, (64, 24)), 1), 0, 1)
