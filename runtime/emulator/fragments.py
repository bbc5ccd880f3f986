"""Register fragments of tensor-core instructions, as (row, column) of each thread's values.

Arrays of shape (values, threads): 32 threads for mma.sync, 128 for wgmma. Elements narrower
than 32 bits are packed, low part first. Source: NVIDIA's PTX ISA manual, "Matrix Fragments for mma".
"""

from __future__ import annotations

from functools import cache

import numpy as np

from tilec.runtime.emulator.numbers import Array

Map = tuple[Array, Array]


def _grid(values: int, threads: int) -> Map:
    v, t = np.meshgrid(np.arange(values), np.arange(threads), indexing="ij")
    return v, t


@cache
def accumulator(n: int, threads: int = 128) -> Map:
    """C and D of m64nN (wgmma) or, with 32 threads, m16nN (mma.sync)."""
    v, t = _grid(n // 2, threads)
    lane, warp = t % 32, t // 32
    return 16 * warp + lane // 4 + 8 * (v >> 1 & 1), 8 * (v >> 2) + 2 * (lane % 4) + (v & 1)


@cache
def left(bits: int, threads: int = 128, k: int = 0) -> Map:
    """A: 16-bit m x 16, 8-bit m x 32, 32-bit (tf32) m x 8 by default."""
    k = k or 256 // bits
    v, t = _grid(16 * k // 32, threads)
    lane, warp = t % 32, t // 32
    base = 16 * warp + lane // 4
    if bits >= 32:
        return base + 8 * (v & 1), lane % 4 + 4 * (v >> 1)
    per = 32 // bits
    word, part = v // per, v % per
    return base + 8 * (word & 1), per * (lane % 4) + part + 4 * per * (word >> 1)


@cache
def right(bits: int, k: int = 0) -> Map:
    """B of mma.sync: (k, n) of each value."""
    k = k or 256 // bits
    v, t = _grid(8 * k // 32, 32)
    if bits >= 32:
        return t % 4 + 4 * v, t // 4
    per = 32 // bits
    word, part = v // per, v % per
    return per * (t % 4) + part + 4 * per * word, t // 4


def warp(m: int, n: int, k: int, bits: int) -> tuple[Map, Map, Map]:
    """A, B and C of mma.sync with m of 8 or 16 and n of 8, for elements of A and B of ``bits``."""
    b = right(bits, k)
    if m == 16:
        return left(bits, 32, k), b, accumulator(n, 32)
    v, t = _grid(2, 32)
    return (b[1], b[0]), b, (t // 4, 2 * (t % 4) + v)
