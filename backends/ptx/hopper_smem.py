"""Where the elements of a tile lie in shared memory, for TMA and for wgmma.

A tile is cut along its inner (contiguous) dimension into *chunks* of `span`
bytes. A chunk is dense: all rows (the other dimensions, row-major), each `span`
bytes wide, then the 16-byte units are exchanged by the swizzle. That is exactly
what TMA boxes of `span` bytes write, and what a wgmma descriptor reads back, for
both majors (NVIDIA PTX ISA, "Strides" and "Matrix descriptor" of wgmma).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import gcd, prod
from typing import Literal

from tilec.ir.errors import UnsupportedError
from tilec.ir.types import TileType
from tilec.passes.allocate import TILE_ALIGN

Swizzle = Literal["none", "32B", "64B", "128B"]
SWIZZLES: tuple[tuple[int, Swizzle], ...] = ((128, "128B"), (64, "64B"), (32, "32B"), (16, "none"))
# Descriptor bits [62, 64) and the number of exchanged address bits.
CODES: dict[Swizzle, int] = {"none": 0, "128B": 1, "64B": 2, "32B": 3}
BITS: dict[Swizzle, int] = {"none": 0, "32B": 1, "64B": 2, "128B": 3}
BOX_SIDE = 256
MMA_ROWS = 8
K_BYTES = 32


@dataclass(frozen=True)
class Box:
    """One TMA copy: where it starts in the tile (per tile dimension) and in the buffer (bytes)."""

    start: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class SmemTile:
    """The layout of a tile in shared memory, relative to a start aligned to `TILE_ALIGN` bytes.

    ``inner`` is the tile dimension that is contiguous, ``span`` the bytes of a
    chunk's row, ``es`` the bytes of an element.
    """

    shape: tuple[int, ...]
    inner: int
    es: int
    span: int
    swizzle: Swizzle

    @property
    def outer(self) -> tuple[int, ...]:
        """The other dimensions, outermost first."""
        return tuple(d for d in range(len(self.shape)) if d != self.inner)

    @property
    def rows(self) -> int:
        return prod(self.shape[d] for d in self.outer)

    @property
    def chunks(self) -> int:
        return self.shape[self.inner] * self.es // self.span

    @property
    def chunk_bytes(self) -> int:
        """Distance of chunks: whole swizzle patterns, so that each one starts its pattern anew."""
        align = 128 if self.swizzle == "none" else MMA_ROWS * self.span
        return -(-self.rows * self.span // align) * align

    @property
    def bytes(self) -> int:
        """Bytes that the tile takes, padding included."""
        return -(-self.chunks * self.chunk_bytes // TILE_ALIGN) * TILE_ALIGN

    def row(self, index: tuple[int, ...]) -> int:
        """The row of an element: its outer coordinates in row-major order."""
        row = 0
        for d in self.outer:
            row = row * self.shape[d] + index[d]
        return row

    def address(self, index: tuple[int, ...]) -> int:
        """Byte offset of an element."""
        return swizzled(self.linear(self.row(index), index[self.inner] * self.es), self.swizzle)

    def linear(self, row: int, byte: int) -> int:
        """Offset of byte ``byte`` of a row, before the swizzle."""
        return byte // self.span * self.chunk_bytes + row * self.span + byte % self.span

    @property
    def box(self) -> tuple[int, ...]:
        """Extents of a TMA box per tile dimension.

        A box holds whole rows in order, so only the outermost dimension that is
        not 1 may be cut without cutting all dimensions before it to 1.
        """
        box, cut = list(self.shape), False
        box[self.inner] = self.span // self.es
        for d in reversed(self.outer):
            box[d] = 1 if cut else largest_part(self.shape[d])
            cut = cut or box[d] < self.shape[d]
        return tuple(box)

    def boxes(self) -> Iterator[Box]:
        """The TMA copies that fill (or drain) the tile, each with its place."""
        box = self.box
        for start in product(*(range(0, n, step) for n, step in zip(self.shape, box, strict=True))):
            yield Box(start, self.linear(self.row(start), start[self.inner] * self.es))


def largest_part(extent: int) -> int:
    """The largest divisor of ``extent`` that a box side may have."""
    return max(d for d in range(1, min(extent, BOX_SIDE) + 1) if extent % d == 0)


def swizzled(address: int, mode: Swizzle) -> int:
    """A shared-memory address after the exchange of 16-byte units."""
    return address ^ (((address >> 7) & ((1 << BITS[mode]) - 1)) << 4)


def smem_tile(tile: TileType, inner: int) -> SmemTile:
    """The layout of a tile whose dimension ``inner`` is contiguous in global memory.

    The widest swizzle whose span divides the inner extent; tiles of fewer than
    8 rows (vectors) are plain. Raises U501 where TMA cannot copy such a tile.
    """
    es = tile.dtype.bytes
    extent = tile.shape[inner] * es
    if extent % 16:
        raise UnsupportedError(
            "U501",
            f"a TMA copy of {tile}: {extent} bytes along its contiguous dimension",
            help="make the tile's extent along the contiguous dimension a multiple of 16 bytes",
        )
    rows = prod(tile.shape) // tile.shape[inner]
    if rows < MMA_ROWS:
        return SmemTile(tile.shape, inner, es, _plain_span(tile.shape[inner], es), "none")
    span, swizzle = next((s, w) for s, w in SWIZZLES if extent % s == 0)
    return SmemTile(tile.shape, inner, es, span, swizzle)


def tile_bytes(tile: TileType) -> int:
    """The most bytes that a tile takes in shared memory, whichever of its dimensions is contiguous."""
    sizes = [smem_tile(tile, d).bytes for d, n in enumerate(tile.shape) if n * tile.dtype.bytes % 16 == 0]
    return max(sizes, default=tile.bytes)


def _plain_span(extent: int, es: int) -> int:
    unit = 16 // gcd(16, es)
    sides = [d for d in range(unit, min(extent, BOX_SIDE) + 1, unit) if extent % d == 0]
    return max(sides) * es


@dataclass(frozen=True)
class Operand:
    """How wgmma reads a two-dimensional operand (mn, k) from a `SmemTile`.

    ``k_major`` says that k is the contiguous dimension. ``lbo`` and ``sbo`` are
    the descriptor's byte offsets.
    """

    tile: SmemTile
    k_major: bool
    lbo: int
    sbo: int

    def offset(self, mn: int, k: int) -> int:
        """Bytes from the tile's start to the start of a block at (mn, k), for the descriptor.

        ``mn`` is a multiple of 8 rows (K-major) or of whole units; ``k`` a multiple of the k step.
        """
        if self.k_major:
            return self.tile.linear(mn, k * self.tile.es)
        return self.tile.linear(k, mn * self.tile.es)

    @property
    def constant(self) -> int:
        """The descriptor without its start address."""
        high = (self.sbo >> 4) | CODES[self.tile.swizzle] << 30
        return high << 32 | (self.lbo >> 4 & 0x3FFF) << 16


def operand(tile: SmemTile, mn_dim: int, k_dim: int) -> Operand:
    """The descriptor fields for a tile of which ``mn_dim`` and ``k_dim`` are the dimensions.

    All other dimensions have extent 1. Raises U502 where wgmma has no such form.
    """
    k_major = tile.inner == k_dim
    _check_operand(tile, mn_dim, k_dim, k_major)
    group = MMA_ROWS * tile.span
    if tile.swizzle != "none":
        return Operand(tile, k_major, 0 if k_major else tile.chunk_bytes, group)
    if k_major:
        return Operand(tile, True, tile.chunk_bytes, group)
    return Operand(tile, False, group, tile.chunk_bytes)


def _check_operand(tile: SmemTile, mn_dim: int, k_dim: int, k_major: bool) -> None:
    if not k_major and tile.es != 2:
        raise UnsupportedError(
            "U502",
            f"a dot operand of {tile.es} byte elements whose k dimension is not contiguous in memory",
            help="wgmma reads 8-bit and tf32 operands only with k contiguous: store that tensor transposed",
        )
    step = K_BYTES // tile.es
    if tile.rows % MMA_ROWS or tile.span > 128 or tile.shape[k_dim] % step:
        raise UnsupportedError(
            "U502",
            f"a dot operand with extents {tile.shape[mn_dim]} (outer) and {tile.shape[k_dim]} (k)",
            help=f"make the outer extent a multiple of 8 and k a multiple of {step}",
        )


def k_step(es: int) -> int:
    """Elements of k that one wgmma instruction takes: 32 bytes."""
    return K_BYTES // es
