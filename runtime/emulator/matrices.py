"""ldmatrix, stmatrix and movmatrix: rows of 16 bytes of shared memory to and from fragments.

8-bit forms as in CUTLASS include/cute/atom/copy_traits_sm100.hpp and arch/copy_sm100.hpp; 4- and
6-bit values come unpacked into the lowest bits of bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tilec.ir.ptx.module import Instruction, Operand, Vec
from tilec.runtime.emulator import access
from tilec.runtime.emulator.alu import Builder, mods
from tilec.runtime.emulator.numbers import Array, unpack_units
from tilec.runtime.emulator.operands import getter, per_thread, setter, shared_address
from tilec.runtime.emulator.program import Program, Run
from tilec.runtime.emulator.report import fault

if TYPE_CHECKING:
    from tilec.runtime.emulator.strand import Strand

Tiles = Callable[[Array], Array]


@dataclass(frozen=True)
class Shape:
    """One matrix: its rows of 16 bytes, its registers, and the way from bytes (..., rows, 16) to
    words (..., registers, 32) and back."""

    rows: int
    registers: int
    words: Tiles
    bytes: Tiles | None = None


def _words16(turned: bool) -> Tiles:
    def run(raw: Array) -> Array:
        tiles = np.ascontiguousarray(raw).view(np.uint16)
        tiles = tiles.swapaxes(-1, -2) if turned else tiles
        return np.ascontiguousarray(tiles).view(np.uint32).reshape(*raw.shape[:-2], 1, 32)

    return run


def _bytes16(turned: bool) -> Tiles:
    def run(words: Array) -> Array:
        tiles = np.ascontiguousarray(words).view(np.uint16).reshape(*words.shape[:-2], 8, 8)
        tiles = tiles.swapaxes(-1, -2) if turned else tiles
        return np.ascontiguousarray(tiles).view(np.uint8)

    return run


def _words_by_column(raw: Array) -> Array:
    """m16n16 of bytes: register r has rows 4(l%4) to +3 of column l/4 + 8r."""
    columns = np.ascontiguousarray(raw.swapaxes(-1, -2)).view(np.uint32)
    return columns.reshape(*raw.shape[:-2], 2, 32)


def _words_by_row(raw: Array) -> Array:
    """m8n16 of bytes: bytes 4(l%4) to +3 of row l/4."""
    return np.ascontiguousarray(raw).view(np.uint32).reshape(*raw.shape[:-2], 1, 32)


def _bytes_by_column(words: Array) -> Array:
    """m16n8 of bytes, a row of memory for each of 8 columns: byte e of lane l is row 2(l%4) + e%2 of
    memory, place l/4 + 8(e/2)."""
    lane, e = np.meshgrid(np.arange(32), np.arange(4), indexing="ij")
    out = np.empty((*words.shape[:-2], 8, 16), np.uint8)
    parts = np.ascontiguousarray(words).view(np.uint8).reshape(*words.shape[:-2], 32, 4)
    out[..., 2 * (lane % 4) + e % 2, lane // 4 + 8 * (e // 2)] = parts
    return out


def _shape(inst: Instruction) -> Shape:
    parts = mods(inst)
    turned = "trans" in parts
    if "m16n16" in parts:
        return Shape(16, 2, _words_by_column)
    if "m8n16" in parts:
        return Shape(8, 1, _words_by_row)
    if "m16n8" in parts:
        return Shape(8, 1, _words_by_row, _bytes_by_column)
    return Shape(8, 1, _words16(turned), _bytes16(turned))


def _items(operand: Operand, shape: Shape, inst: Instruction) -> tuple[Operand, ...]:
    found = operand.items if isinstance(operand, Vec) else (operand,)
    count = next(int(p[1:]) for p in mods(inst) if p in ("x1", "x2", "x4"))
    if len(found) != count * shape.registers:
        raise fault("D405", f"{len(found)} registers for {count} matrices", inst)
    return found


def _rows(s: Strand, where: Array, shape: Shape, registers: int) -> tuple[Array, Array]:
    """(addresses, threads) of all rows: each lane of the first ones has a row."""
    count = shape.rows * registers // shape.registers
    return where.reshape(-1, 32)[:, :count].reshape(-1), np.repeat(s.warps * 32, count)


def ldmatrix(inst: Instruction, program: Program) -> Run:
    """Register i of lane l: row l/4, elements 2(l%4) and +1 of matrix i; .trans: its transpose."""
    shape = _shape(inst)
    puts = [setter(program, o, "b32", inst) for o in _items(inst.operands[0], shape, inst)]
    where = shared_address(program, inst.operands[1], inst)
    bits = 4 if "b4x16_p64" in mods(inst) else 6 if "b6x16_p32" in mods(inst) else 0

    def run(s: Strand) -> None:
        rows, threads = _rows(s, where(s), shape, len(puts))
        data = access.shared_load(s.cta, s.cta.own(rows, inst), 4, 4, inst)
        s.cta.machine.observer.read(s, "shared", rows, 16, inst, threads)
        raw = np.ascontiguousarray(data).view(np.uint8)
        raw = unpack_units(raw, bits) if bits else raw
        words = shape.words(raw.reshape(len(s.warps), -1, shape.rows, 16)).reshape(len(s.warps), -1, 32)
        for i, put in enumerate(puts):
            put(s, words[:, i].reshape(-1))

    return run


def stmatrix(inst: Instruction, program: Program) -> Run:
    """The inverse of ldmatrix."""
    shape = _shape(inst)
    gets = [getter(program, o, "b32", inst) for o in _items(inst.operands[1], shape, inst)]
    where, back = shared_address(program, inst.operands[0], inst), shape.bytes
    if back is None:
        raise fault("D404", "a shape that stmatrix does not have", inst)

    def run(s: Strand) -> None:
        words = np.stack([per_thread(s, g(s)).reshape(-1, 32) for g in gets], axis=1)
        data = back(words[:, :, None]).reshape(-1, 16)
        rows, threads = _rows(s, where(s), shape, len(gets))
        index = access.shared_index(s.cta, s.cta.own(rows, inst), 4, 4, inst)
        view, value = s.cta.shared.view(4), np.ascontiguousarray(data).view(np.uint32)
        same = lambda: (view[index] == value).all(axis=1)  # noqa: E731
        s.cta.machine.observer.write(s, "shared", rows, 16, inst, threads, unchanged=same)
        view[index] = value

    return run


def movmatrix(inst: Instruction, program: Program) -> Run:
    put, get = setter(program, inst.operands[0], "b32", inst), getter(program, inst.operands[1], "b32", inst)

    def run(s: Strand) -> None:
        tiles = np.ascontiguousarray(per_thread(s, get(s))).view(np.uint16).reshape(-1, 8, 8).swapaxes(1, 2)
        put(s, np.ascontiguousarray(tiles).view(np.uint32).reshape(-1))

    return run


TABLE: dict[str, Builder] = {"ldmatrix": ldmatrix, "stmatrix": stmatrix, "movmatrix": movmatrix}
