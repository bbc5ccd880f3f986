"""Matrix products of tensor cores: numerics, mma.sync, and shared-memory operands."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from tilec.ir.ptx.module import Instruction, Vec
from tilec.runtime.emulator import fragments
from tilec.runtime.emulator.alu import Builder, mods
from tilec.runtime.emulator.numbers import Array, decode, encode
from tilec.runtime.emulator.operands import getter, per_thread, setter
from tilec.runtime.emulator.program import Program, Run
from tilec.runtime.emulator.report import fault

if TYPE_CHECKING:
    from tilec.runtime.emulator.strand import Strand

BITS = {"f16": 16, "bf16": 16, "tf32": 32, "e4m3": 8, "e5m2": 8, "s8": 8, "u8": 8}


def values(raw: Array, type: str) -> Array:
    """Raw element bits as numbers for a product: float32, or float64 for integers."""
    if type in ("s8", "u8"):
        return raw.view(np.int8 if type == "s8" else np.uint8).astype(np.float64)
    return decode(raw, type)


def product(a: Array, b: Array, c: Array, result: str, saturate: bool = False) -> Array:
    """a @ b + c in the accumulator's type. Sums run in float32 (exactly, for integers); the
    hardware aligns and truncates instead, which differs in the last bits."""
    if result == "s32":
        exact = (a @ b).astype(np.int64) + c
        clipped = np.clip(exact, -(2**31), 2**31 - 1) if saturate else exact
        return clipped.astype(np.int32)
    return np.asarray(a @ b + c, np.float32)


def unpack(words: Array, type: str) -> Array:
    """(registers, threads) of 32 bits -> (values, threads) of raw elements, low part first."""
    bits = BITS[type]
    if bits == 32:
        return words
    parts: Array = (
        words[:, None, :] >> (np.arange(32 // bits, dtype=np.uint32) * np.uint32(bits))[None, :, None]
    )
    flat: Array = parts.reshape(-1, words.shape[1])
    return flat.astype(np.dtype(f"u{bits // 8}"))


def read_accumulator(words: Array, type: str) -> Array:
    """(registers, threads) -> (values, threads) as float32 or int32."""
    if type == "f16":
        return decode(unpack(words, "f16"), "f16")
    return words.view(np.int32 if type == "s32" else np.float32)


def write_accumulator(held: Array, type: str) -> Array:
    """The inverse of ``read_accumulator``; f16 rounds to nearest."""
    if type == "f16":
        bits = encode(held.astype(np.float16).astype(np.float64), "f16").astype(np.uint32)
        packed: Array = bits[0::2] | (bits[1::2] << np.uint32(16))
        return packed
    return np.ascontiguousarray(held).view(np.uint32)


def mma(inst: Instruction, program: Program) -> Run:
    """mma.sync of 16-, 8-bit and tf32 types."""
    parts = mods(inst)
    shape = next(p for p in parts if p.startswith("m") and p[1].isdigit())
    k = int(shape.split("k")[1])
    result, a_type, b_type, c_type = parts[-4:]
    if a_type == "f64":
        raise fault("D404", "mma.sync of f64 is not emulated", inst)
    reads = [
        [getter(program, o, "b32", inst) for o in (v.items if isinstance(v, Vec) else (v,))]
        for v in inst.operands[1:4]
    ]
    to = inst.operands[0]
    puts = [setter(program, o, "b32", inst) for o in (to.items if isinstance(to, Vec) else (to,))]
    maps = fragments.left(BITS[a_type], 32, k), fragments.right(BITS[a_type], k), fragments.accumulator(8, 32)
    saturate = "satfinite" in parts

    def run(s: Strand) -> None:
        a, b, c = (np.stack([per_thread(s, g(s)) for g in gets]) for gets in reads)
        out = np.empty((len(puts), s.n), np.uint32)
        for w in range(s.n // 32):
            at = slice(32 * w, 32 * w + 32)
            left = _tile(values(unpack(a[:, at], a_type), a_type), maps[0], (16, k))
            right = _tile(values(unpack(b[:, at], b_type), b_type), maps[1], (k, 8))
            start = _tile(read_accumulator(np.ascontiguousarray(c[:, at]), c_type), maps[2], (16, 8))
            total = product(left, right, start, result, saturate)
            out[:, at] = write_accumulator(total[maps[2]], result)
        for put, row in zip(puts, out, strict=True):
            put(s, row)

    return run


def _tile(held: Array, where: fragments.Map, shape: tuple[int, int]) -> Array:
    out = np.empty(shape, held.dtype)
    out[where] = held
    return out


@cache
def operand_offsets(
    rows: int, size: int, lbo: int, sbo: int, swizzle: int, along_k: bool, phase: int
) -> Array:
    """Byte offsets, from the start rounded down to 1024, of the elements (mn, k) of a
    shared-memory operand of 32 bytes of k: linear address first, then the swizzle of the
    whole address. ``phase`` is the start modulo 1024, ``swizzle`` 0, 1 (32 B), 2, 3 (128 B), or
    4 (128 B in atoms of 32 B, which sm_100 has for operands that are not K-major).
    """
    mn, k = np.meshgrid(np.arange(rows), np.arange(32 // size), indexing="ij")
    span, group = (128, 4) if swizzle == 4 else (16 << swizzle, 8)
    if along_k:
        step = k * size
        if swizzle:
            linear = mn % 8 * span + mn // 8 * sbo + step
        else:
            linear = mn % 8 * 16 + mn // 8 * sbo + step % 16 + step // 16 * lbo
    else:
        step = mn * size
        if swizzle:
            linear = step % span + step // span * lbo + k % group * span + k // group * sbo
        else:
            linear = step % 16 + step // 16 * sbo + k % 8 * 16 + k // 8 * lbo
    address = linear + phase
    result: Array = address ^ ((address >> 7 & (0, 1, 3, 7, 3)[swizzle]) << (5 if swizzle == 4 else 4))
    return result


@cache
def operand_units(rows: int, size: int, lbo: int, sbo: int, swizzle: int, along_k: bool, phase: int) -> Array:
    """The 16-byte units of ``operand_offsets``, each once, in order."""
    return np.unique(operand_offsets(rows, size, lbo, sbo, swizzle, along_k, phase) >> 4)


TABLE: dict[str, Builder] = {"mma": mma}
