"""Register layouts: which thread of a group holds which element of a tile.

A layout is a linear map over GF(2) from the bits of a register number, a lane (5 bits)
and a warp number to the bits of tile coordinates. Every basis vector is zero or a power
of two along one axis, and every coordinate bit is hit exactly once. So the sum of bases
is also their exclusive or, which turns register offsets into constant address offsets;
all fragments of the tensor cores are of this kind. A zero lane or warp basis means that
the threads that differ in this bit hold the same elements.

Extents are padded to powers of two. Elements of the padding exist in registers, hold
anything, and must reach neither memory nor a reduction.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilec.ir.errors import InternalError

Basis = tuple[int, ...]
Bases = tuple[Basis, ...]
LANE_BITS = 5


def pad(extent: int) -> int:
    """The least power of two that is not below ``extent``."""
    return 1 << (extent - 1).bit_length()


def pad_shape(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(pad(n) for n in shape)


def bits_of(n: int) -> int:
    """log2 of a power of two."""
    if n < 1 or n & (n - 1):
        raise InternalError("X120", f"{n} is not a power of two")
    return n.bit_length() - 1


@dataclass(frozen=True)
class Layout:
    """``shape`` is padded; ``reg``, ``lane`` and ``warp`` list a basis per bit, lowest bit first."""

    shape: tuple[int, ...]
    reg: Bases
    lane: Bases
    warp: Bases

    def __post_init__(self) -> None:
        if len(self.lane) != LANE_BITS:
            raise InternalError("X120", f"a layout has {LANE_BITS} lane bits, not {len(self.lane)}")
        hit = sorted(b for b in (*self.reg, *self.lane, *self.warp) if any(b))
        wanted = sorted(_units(self.shape))
        if hit != wanted or not all(any(b) for b in self.reg):
            raise InternalError("X120", f"bases {hit} do not cover a tile of {self.shape} once")

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def registers(self) -> int:
        """Elements that each thread holds."""
        return 1 << len(self.reg)

    @property
    def warps(self) -> int:
        return 1 << len(self.warp)

    @property
    def replicated(self) -> tuple[int, int]:
        """Masks of the lane and warp bits that make no difference to what is held."""
        return _zeros(self.lane), _zeros(self.warp)

    def coords(self, reg: Any, lane: Any = 0, warp: Any = 0) -> tuple[Any, ...]:
        """Coordinates of an element; numbers or arrays (which broadcast)."""
        parts = ((self.reg, reg), (self.lane, lane), (self.warp, warp))
        return tuple(
            sum((((n >> i) & 1) * b[axis] for bases, n in parts for i, b in enumerate(bases)), reg * 0)
            for axis in range(self.rank)
        )

    def register_coords(self) -> list[Basis]:
        """For every register its coordinates in lane 0 of warp 0 (an offset for other threads)."""
        return [self.coords(r) for r in range(self.registers)]

    def elements(self) -> np.ndarray[Any, Any]:
        """Row-major element numbers, indexed [register, lane, warp]."""
        sizes = (self.registers, 1 << LANE_BITS, self.warps)
        r, l, w = np.ix_(*(np.arange(n) for n in sizes))
        index = np.zeros(sizes, np.int64)
        for extent, c in zip(self.shape, self.coords(r, l, w), strict=True):
            index = index * extent + c
        return index

    def _map(self, shape: Sequence[int], fn: Any) -> Layout:
        reg = tuple(b for b in map(fn, self.reg) if any(b))
        return Layout(tuple(shape), reg, tuple(map(fn, self.lane)), tuple(map(fn, self.warp)))

    def drop(self, axis: int) -> Layout:
        """Without an axis: the layout of a reduction's result, replicated where it was spread."""
        return self._map(_without(self.shape, axis), lambda b: _without(b, axis))

    def project(self, axis: int) -> Layout:
        """With extent 1 along an axis: what broadcasts to this layout without moving data."""
        shape = (*self.shape[:axis], 1, *self.shape[axis + 1 :])
        return self._map(shape, lambda b: (*b[:axis], 0, *b[axis + 1 :]))

    def unsqueeze(self, axis: int) -> Layout:
        """With a new axis of extent 1."""
        return self._map((*self.shape[:axis], 1, *self.shape[axis:]), lambda b: (*b[:axis], 0, *b[axis:]))

    def expand(self, axis: int, extent: int) -> Layout:
        """With an axis of extent 1 repeated: the repetition goes into registers, most significant."""
        if self.shape[axis] != 1:
            raise InternalError("X120", f"axis {axis} of {self.shape} does not have extent 1")
        shape = (*self.shape[:axis], pad(extent), *self.shape[axis + 1 :])
        more = tuple(_unit(len(shape), axis, 1 << i) for i in range(bits_of(pad(extent))))
        return Layout(shape, self.reg + more, self.lane, self.warp)

    def permute(self, perm: Sequence[int]) -> Layout:
        """Axis i of the result is axis perm[i]."""
        return self._map([self.shape[p] for p in perm], lambda b: tuple(b[p] for p in perm))

    def reshape(self, shape: Sequence[int]) -> Layout:
        """The same elements, in row-major order, under another padded shape of equal size."""
        padded = pad_shape(shape)
        if math.prod(padded) != math.prod(self.shape):
            raise InternalError("X120", f"no reshape from {self.shape} to {padded}")
        return self._map(padded, lambda b: unflatten(flatten(b, self.shape), padded))

    def __str__(self) -> str:
        dims = "x".join(map(str, self.shape))
        parts = (f"{n} {_print(b)}".rstrip() for n, b in self._parts())
        return f"layout({' | '.join((dims, *parts))})"

    def _parts(self) -> tuple[tuple[str, Bases], ...]:
        return ("reg", self.reg), ("lane", self.lane), ("warp", self.warp)

    @staticmethod
    def parse(text: str) -> Layout:
        """The inverse of ``str``; InternalError if the text is no layout."""
        found = _SYNTAX.fullmatch(text.strip())
        if found is None:
            raise InternalError("X121", f"{text!r} is no layout")
        shape = tuple(int(n) for n in found["shape"].split("x") if n)
        reg, lane, warp = (_parse(found[n], len(shape)) for n in ("reg", "lane", "warp"))
        return Layout(shape, reg, lane, warp)


_BASES = r"[0-9,. ]*"
_SYNTAX = re.compile(
    rf"layout\((?P<shape>[0-9x]*) \| reg(?P<reg>{_BASES})\| lane(?P<lane>{_BASES})\| warp(?P<warp>{_BASES})\)"
)


def _print(bases: Bases) -> str:
    return " ".join(",".join(map(str, b)) or "." for b in bases)


def _parse(text: str, rank: int) -> Bases:
    return tuple(() if b == "." else tuple(int(n) for n in b.split(",")) for b in text.split())


def _unit(rank: int, axis: int, value: int) -> Basis:
    return (0,) * axis + (value,) + (0,) * (rank - axis - 1)


def _units(shape: Sequence[int]) -> Iterable[Basis]:
    """A basis for each coordinate bit."""
    for axis, extent in enumerate(shape):
        for bit in range(bits_of(extent)):
            yield _unit(len(shape), axis, 1 << bit)


def _zeros(bases: Bases) -> int:
    return sum(1 << i for i, b in enumerate(bases) if not any(b))


def _without(t: Basis, axis: int) -> Basis:
    return t[:axis] + t[axis + 1 :]


def flatten(coords: Sequence[int], shape: Sequence[int]) -> int:
    """Row-major number of an element."""
    index = 0
    for c, extent in zip(coords, shape, strict=True):
        index = index * extent + c
    return index


def unflatten(index: int, shape: Sequence[int]) -> Basis:
    """The inverse of `flatten`."""
    coords: list[int] = []
    for extent in reversed(shape):
        coords.append(index % extent)
        index //= extent
    return tuple(reversed(coords))


def register_map(src: Layout, dst: Layout) -> tuple[int, ...] | None:
    """For each register of ``dst`` the register of ``src`` with the same element in every thread.

    None if elements have to move between threads.
    """
    if src.shape != dst.shape or src.lane != dst.lane or src.warp != dst.warp:
        return None
    place = {c: r for r, c in enumerate(src.register_coords())}
    return tuple(place[c] for c in dst.register_coords())


def scalar(warps: int) -> Layout:
    """A rank-0 tile: one register, equal in all threads (of any number of warps)."""
    return Layout((), (), ((),) * LANE_BITS, ((),) * bits_of(pad(warps)))


def replicated(shape: Sequence[int], warps: int) -> Layout:
    """Every thread holds the whole tile, registers in row-major order."""
    padded = pad_shape(shape)
    zero = (0,) * len(padded)
    order = tuple(sorted(_units(padded)))
    return Layout(padded, order, (zero,) * LANE_BITS, (zero,) * bits_of(warps))


def blocked(shape: Sequence[int], contiguous: int, vector: int, warps: int) -> Layout:
    """For coalesced access: ``vector`` elements of a thread, then lanes, then warps run along axis
    ``contiguous`` and then along the others from the last to the first; the rest are registers.
    """
    padded = pad_shape(shape)
    if not padded:
        return scalar(warps)
    order = [contiguous, *(a for a in reversed(range(len(padded))) if a != contiguous)]
    bits = [_unit(len(padded), a, 1 << i) for a in order for i in range(bits_of(padded[a]))]
    low = min(bits_of(vector), bits_of(padded[contiguous]))
    lane, warp = low + LANE_BITS, low + LANE_BITS + bits_of(warps)
    zero = (0,) * len(padded)
    lanes, warp_bits = bits[low:lane], bits[lane:warp]
    lanes += [zero] * (LANE_BITS - len(lanes))
    warp_bits += [zero] * (bits_of(warps) - len(warp_bits))
    return Layout(padded, (*bits[:low], *bits[warp:]), tuple(lanes), tuple(warp_bits))


def wgmma(m: int, n: int, warps: int) -> Layout:
    """The accumulator of m64nN products in 32-bit registers (and in f16, two to a register).

    Warpgroup g of G = warps / 4 takes rows 64 g ... 64 g + 63 of every 64 G rows; further
    rows are the most significant register bits. Rows beyond ``m`` are not held, so with
    fewer than 64 G rows the last warpgroups repeat the first.
    """
    m, n = max(pad(m), 64), max(pad(n), 8)
    if warps % 4 or warps < 4:
        raise InternalError("X120", f"wgmma takes whole warpgroups, not {warps} warps")
    groups = bits_of(warps // 4)
    columns = [(0, 1 << i) for i in range(bits_of(n))]
    rows = [(1 << i, 0) for i in range(bits_of(m))]
    spare = rows[6 : 6 + groups] + [(0, 0)] * max(0, 6 + groups - len(rows))
    reg = (columns[0], rows[3], *columns[3:], *rows[6 + groups :])
    return Layout((m, n), reg, (*columns[1:3], *rows[:3]), (*rows[4:6], *spare))


def wgmma_a16(m: int, k: int, warps: int) -> Layout:
    """Operand A of 16 bits in registers, k16 steps in ascending order: the accumulator's layout."""
    return wgmma(m, k, warps)


def wgmma_a8(m: int, k: int, warps: int) -> Layout:
    """Operand A of 8 bits in registers, k32 steps in ascending order."""
    d = wgmma(m, k, warps)
    columns = [(0, 1 << i) for i in range(bits_of(d.shape[1]))]
    if len(columns) < 5:
        raise InternalError("X120", f"8-bit wgmma needs k of at least 32, not {k}")
    rows = tuple(b for b in d.reg if b[0] > 8)
    reg = (*columns[:2], (8, 0), *columns[4:], *rows)
    return Layout(d.shape, reg, (*columns[2:4], *d.lane[2:]), d.warp)


def mma(m: int, n: int, grid: tuple[int, int], warps: int) -> Layout:
    """The accumulator of m16n8 products in 32-bit registers, of warps in ``grid`` (rows, columns).

    Warps are next to each other in blocks of 16 rows and 16 columns; a power of two of them
    along each axis. With fewer than ``warps`` in the grid the others repeat their work.
    """
    m, n = max(pad(m), 16), max(pad(n), 8)
    down, across = map(bits_of, grid)
    columns = [(0, 1 << i) for i in range(bits_of(n))]
    rows = [(1 << i, 0) for i in range(bits_of(m))]
    used = (*rows[4 : 4 + down], *columns[4 : 4 + across])
    if len(used) != down + across or len(used) > bits_of(warps):
        raise InternalError("X120", f"{grid} of {warps} warps cannot share a product of {m}x{n}")
    reg = (columns[0], rows[3], *columns[3:4], *columns[4 + across :], *rows[4 + down :])
    spare = ((0, 0),) * (bits_of(warps) - len(used))
    return Layout((m, n), reg, (*columns[1:3], *rows[:3]), (*used, *spare))
