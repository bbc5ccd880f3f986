"""What bulk loads and stores share: addresses, coordinates, boxes and their rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tilec.ir.ptx.module import Addr, Instruction
from tilec.runtime.emulator.alu import mods
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.operands import Get, address, getter, per_thread
from tilec.runtime.emulator.program import Program
from tilec.runtime.emulator.report import fault
from tilec.runtime.emulator.tensormap import TensorMap

if TYPE_CHECKING:
    from tilec.runtime.emulator.cta import Cta
    from tilec.runtime.emulator.strand import Strand


def coordinates(inst: Instruction, program: Program, operand: Addr) -> list[Get]:
    return [getter(program, c, "s32", inst) for c in operand.coords or ()]


def tensor_address(inst: Instruction, program: Program, position: int) -> tuple[Get, list[Get]]:
    operand = inst.operands[position]
    if not isinstance(operand, Addr):
        raise fault("D403", "a tensor address was expected", inst)
    return address(program, Addr(operand.base, operand.offset), inst), coordinates(inst, program, operand)


def each(s: Strand, *values: Array) -> Any:
    """One tuple of ints per thread."""
    return zip(*(np.asarray(per_thread(s, v)).tolist() for v in values), strict=True)


def boxes(m: TensorMap, at: list[int], inst: Instruction) -> list[list[int]]:
    """The coordinates of the boxes that a copy moves: one, or the four rows of gather4 and scatter4."""
    rows = "tile::gather4" in mods(inst) or "tile::scatter4" in mods(inst)
    if len(at) != (5 if rows else len(m.dims)):
        raise fault("E17", f"{len(at)} coordinates for a tensor map of rank {len(m.dims)}", inst)
    at = [_first(m, at[0], inst), *at[1:]]
    if not rows:
        return [at]
    if len(m.dims) != 2 or m.box[1] != 1:
        raise fault("E17", f"four rows with a box of {m.box}, where the box must have one row", inst)
    return [[at[0], y] for y in at[1:]]


def _first(m: TensorMap, at: int, inst: Instruction) -> int:
    """The first coordinate, in groups where the elements of the map are groups."""
    whole = 128 if m.padded else m.group
    if at % whole:
        raise fault("E17", f"the first coordinate {at} is no multiple of {whole}, as {m.name} needs", inst)
    return at // m.group


def own_place(cta: Cta, place: int, inst: Instruction) -> int:
    """The offset of a shared address that must be in the CTA itself."""
    return int(cta.own(np.array([place], np.uint64), inst)[0])


def require_place(cta: Cta, place: int, size: int, align: int, inst: Instruction) -> None:
    if place % align:
        raise fault("E17", f"the shared address {place:#x} of a copy is not a multiple of {align}", inst)
    cta.shared.require(np.array([place], np.uint64), size, inst)


def require_size(size: int, inst: Instruction) -> None:
    """Bulk copies move whole units of 16 bytes."""
    if size % 16:
        raise fault("E17", f"a bulk copy of {size} bytes, which is no multiple of 16", inst)
