"""Runs one mma.sync on the emulator: matrices of raw elements in, the result's matrix out."""

from __future__ import annotations

from typing import Any

import numpy as np
from emulator_kit import builder, index, pointer, run

from tilec.ir.ptx import Builder, addr
from tilec.ir.ptx.module import Vec

BITS = {"f64": 64, "f32": 32, "s32": 32, "tf32": 32, "f16": 16, "bf16": 16, "s8": 8, "u8": 8, "e4m3": 8,
        "e5m2": 8, "e2m1": 8, "s4": 4, "u4": 4, "b1": 1}  # fmt: skip


def place(which: str, rows: int, bits: int, lane: int, i: int) -> tuple[int, int]:
    """Row and column of the i-th value of a lane, as the manual's formulas for A, B and C say."""
    group, member = lane >> 2, lane % 4
    if which == "C":
        return group + 8 * (i >> 1 if rows == 16 else 0), member * 2 + (i & 1)
    per = max(32 // bits, 1)
    word, part = i // per, i % per
    if which == "B":
        return member * per + part + 4 * per * word, group
    if rows == 8:
        return group, member * per + part + 4 * per * word
    return group + 8 * (word & 1), member * per + part + 4 * per * (word >> 1)


def pack(matrix: Any, which: str, rows: int, bits: int) -> Any:
    """(32, registers) of 32 bits, or of 64 for f64."""
    count = matrix.size // 32
    held = np.array([[int(matrix[place(which, rows, bits, t, i)]) for i in range(count)] for t in range(32)])
    if bits == 64:
        return held.astype(np.uint64)
    per = 32 // bits
    words = np.zeros((32, max(count // per, 1)), np.uint64)
    for i in range(count):
        words[:, i // per] |= (held[:, i].astype(np.uint64) & np.uint64(2**bits - 1)) << np.uint64(
            i % per * bits
        )
    return words.astype(np.uint32)


def multiply(opcode: str, a: Any, b: Any, c: Any, types: tuple[str, str, str, str], *, target: str = "sm_90a",
             exact: bool = False) -> Any:  # fmt: skip
    """D as raw bits. ``a`` (m, k), ``b`` (k, n) and ``c`` (m, n) are raw elements; ``types``
    are those of D, A, B and C."""
    m, n = c.shape
    narrow = min(BITS[t] for t in types[1:3])
    fragments = [
        pack(a, "A", m, narrow),
        pack(b, "B", m, narrow),
        pack(c, "C", m, 32 if BITS[types[3]] < 32 else BITS[types[3]]),
    ]
    if types[3] == "f16":
        halves = fragments[2].reshape(32, -1, 2)
        fragments[2] = (halves[:, :, 0] | halves[:, :, 1] << 16).astype(np.uint32)
    wide = BITS[types[0]] == 64
    registers = m * n // 32 // (2 if types[0] == "f16" else 1)
    out = np.zeros((32, registers), np.uint64 if wide else np.uint32)
    run(_program(opcode, fragments, registers, target), [*fragments, out], exact=exact)
    return _matrix(out, m, n, types[0])


def _program(opcode: str, fragments: list[Any], registers: int, target: str) -> Builder:
    b = builder(target=target)
    operands = []
    for held in fragments:
        base, size = pointer(b), held.dtype.itemsize
        row = index(b, base, size * held.shape[1])
        bits = 8 * size
        regs = [b.define(f"b{bits}", f"ld.global.b{bits}", addr(row, size * i)) for i in range(held.shape[1])]
        operands.append(Vec(tuple(regs)))
    base, size = pointer(b), fragments[2].dtype.itemsize
    to = [b.reg(f"b{8 * size}") for _ in range(registers)]
    b.emit(opcode, Vec(tuple(to)), *operands)
    row = index(b, base, size * registers)
    for i, reg in enumerate(to):
        b.emit(f"st.global.b{8 * size}", addr(row, size * i), reg)
    b.emit("ret")
    return b


def _matrix(out: Any, m: int, n: int, type: str) -> Any:
    values = out.view(np.uint16).reshape(32, -1) if type == "f16" else out
    result = np.zeros((m, n), values.dtype)
    for lane in range(32):
        for i in range(values.shape[1]):
            result[place("C", m, 32, lane, i)] = values[lane, i]
    return result
