"""Matrix products of tensor cores: numerics and shared-memory operands."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

import numpy as np

from tilec.ir.ptx.module import Instruction
from tilec.runtime.emulator import exact
from tilec.runtime.emulator.numbers import Array, decode, encode
from tilec.runtime.emulator.program import Program

Multiply = Callable[[Array, Array, Array], Array]

BITS = {"f64": 64, "f32": 32, "s32": 32, "f16": 16, "bf16": 16, "tf32": 32, "e4m3": 8, "e5m2": 8, "e2m3": 8,
        "e3m2": 8, "e2m1": 8, "s8": 8, "u8": 8, "s4": 4, "u4": 4, "b1": 1}  # fmt: skip
_INTEGERS = ("s8", "u8", "s4", "u4", "b1")
_NAN = np.array([0x7FFFFFFF], np.uint32).view(np.float32)[0]


def shape_of(inst: Instruction) -> tuple[int, int, int]:
    """m, n and k by the opcode."""
    found = re.search(r"\.m(\d+)n(\d+)k(\d+)", inst.opcode)
    m, n, k = found.groups() if found else (0, 0, 0)
    return int(m), int(n), int(k)


def values(raw: Array, type: str) -> Array:
    """Raw element bits as numbers for a product: float32, or float64 for integers. Floats of 4
    and 6 bits are taken from the lowest bits."""
    if type in _INTEGERS:
        signed = raw.astype(np.int8)
        if type == "s4":
            signed = (signed << np.int8(4)) >> np.int8(4)
        return (signed if type[0] == "s" else raw).astype(np.float64)
    return decode(raw, type)


def multiplier(
    program: Program, unit: str, types: tuple[str, str, str], k: int, inst: Instruction, integer: bool = False
) -> Multiply:
    """The function from A (m, k), B (k, n) and C to D of an instruction. Sums of floats run in float32,
    or, in exact programs, as the hardware's (see ``exact``); those of integers are exact."""
    if types[0] == "s32":
        saturate = integer or ".satfinite" in inst.opcode
        return lambda a, b, c: _integers(a, b, c, ".xor." in inst.opcode, saturate)
    if not program.exact or types[0] == "f64":
        return _fast
    how = exact.rule(unit, program.module.target, types, k, inst)
    return lambda a, b, c: exact.multiply(a, b, c, types, how)


def _integers(a: Array, b: Array, c: Array, exclusive: bool, saturate: bool) -> Array:
    total = a @ (1 - b) + (1 - a) @ b if exclusive else a @ b
    whole = total.astype(np.int64) + c
    return (np.clip(whole, -(2**31), 2**31 - 1) if saturate else whole).astype(np.int32)


def _fast(a: Array, b: Array, c: Array) -> Array:
    total = np.asarray(a @ b + c, np.float32)
    total[np.isnan(total)] = _NAN
    return total


def unpack(words: Array, type: str) -> Array:
    """(registers, threads) of 32 bits -> (values, threads) of raw elements, low part first."""
    bits = BITS[type]
    if bits == 32:
        return words
    shifts = np.arange(32 // bits, dtype=np.uint32) * np.uint32(bits)
    parts: Array = words[:, None, :] >> shifts[None, :, None] & np.uint32((1 << bits) - 1)
    flat: Array = parts.reshape(-1, words.shape[1])
    return flat.astype(np.uint16 if bits == 16 else np.uint8)


def read_accumulator(words: Array, type: str) -> Array:
    """(registers, threads) -> (values, threads) as float32, float64 or int32."""
    if type == "f16":
        return decode(unpack(words, "f16"), "f16")
    return words.view({"s32": np.int32, "f64": np.float64}.get(type, np.float32))


def write_accumulator(held: Array, type: str) -> Array:
    """The inverse of ``read_accumulator``; f16 rounds to nearest."""
    if type == "f16":
        bits = encode(held.astype(np.float16).astype(np.float64), "f16").astype(np.uint32)
        packed: Array = bits[0::2] | (bits[1::2] << np.uint32(16))
        return packed
    return np.ascontiguousarray(held).view(np.uint64 if type == "f64" else np.uint32)


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


@cache
def operand_pairs(rows: int, size: int, lbo: int, sbo: int, swizzle: int, along_k: bool, phase: int) -> Array:
    """(rows, 2): the units of the first 32 bytes of each row of ``operand_offsets``, or of each of its
    columns if those are what lies together."""
    offsets = operand_offsets(rows, size, lbo, sbo, swizzle, along_k, phase)
    lines = offsets if along_k else offsets.T
    each = 16 // size
    result: Array = lines[:, : 2 * each : each] >> 4
    return result if result.shape[1] == 2 else np.zeros((0, 2), result.dtype)
