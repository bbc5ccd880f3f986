"""Operands of tcgen05.mma and cp: from shared and tensor memory to numbers.

Source of the packing rules: NVIDIA's PTX ISA manual, "Packing formats of elements in Tensor and
Shared memory". Where 4- and 6-bit values stand in an 8-bit container is read off figures there
and CUTLASS's shift for mma.sync: the lowest six bits, a 4-bit value in bits 2 to 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tilec.ir.ptx.module import Instruction
from tilec.runtime.emulator import tensorcore
from tilec.runtime.emulator.numbers import FORMATS, Array, decode, unpack_units
from tilec.runtime.emulator.observe import SharedOperand
from tilec.runtime.emulator.report import fault
from tilec.runtime.emulator.tcgen05_desc import Product, Shared

if TYPE_CHECKING:
    from tilec.runtime.emulator.cta import Cta

SPAN = 32  # bytes of k that one product takes


def width(type: str) -> int:
    """Bytes between neighbours in shared memory; 4- and 6-bit values stand in 16-byte units."""
    return {"f16": 2, "bf16": 2, "tf32": 4}.get(type, 1)


class Matrix:
    """Where the elements (mn, k) of a product's operand lie in the shared memory of one CTA. A copy
    may take only 16 bytes (``half``) of a row."""

    def __init__(self, cta: Cta, d: Shared, rows: int, size: int, along_k: bool, inst: Instruction,
                 half: bool = False) -> None:  # fmt: skip
        if (d.swizzle == 4) != (size == 4 and not along_k):
            text = "128-byte swizzle with 32-byte atoms is for 4-byte elements that are not K-major, only"
            raise fault("D415", text, inst)
        self.cta, self.size = cta, size
        layout = (rows, size, d.lbo, d.sbo, d.swizzle, along_k, d.start & 1023)
        base = d.start & ~1023
        self.address = tensorcore.operand_offsets(*layout) + base
        units, pairs = tensorcore.operand_units(*layout), tensorcore.operand_pairs(*layout)
        self.operand = SharedOperand(units + (base >> 4), d.swizzle, pairs + (base >> 4))
        if half:
            self.address = self.address[:, :16]
            self.operand = SharedOperand(np.unique(self.address >> 4), d.swizzle, pairs[:0])
        if int(self.operand.units[-1]) * 16 + 16 > cta.shared.size:
            text = f"an operand reaches {int(self.address.max()):#x}, outside shared memory"
            raise fault("D410", text, inst)

    def raw(self) -> Array:
        """The elements as they are, unsigned."""
        held: Array = self.cta.shared.view(self.size)[self.address // self.size]
        return held


def numbers(raw: Array, type: str, k: int) -> Array:
    """Raw elements (rows, bytes or elements of 32 bytes) as (rows, k) numbers."""
    if type not in FORMATS or FORMATS[type].bits >= 8:
        return tensorcore.values(raw, type)
    if k == 64:
        return decode(_nibbles(raw), type)
    return decode(unpack_units(raw, FORMATS[type].bits), type)


def _nibbles(raw: Array) -> Array:
    return np.stack([raw & 15, raw >> 4], axis=-1).reshape(len(raw), -1)


def contained(raw: Array, bits: int) -> Array:
    """Values of 4 or 6 bits in their 8-bit containers, as tcgen05.cp writes them."""
    return unpack_units(raw, bits) << np.uint8(2 if bits == 4 else 0)


def from_tensor(cells: Array, lanes: Array, column: int, p: Product) -> Array:
    """A from tensor memory: (lanes, k). 32 bytes of k are 8 columns."""
    type = p.types[1]
    words = np.ascontiguousarray(cells[lanes, column : column + SPAN // 4])
    raw = words.view(f"u{width(type)}")
    if type in FORMATS and FORMATS[type].bits < 8 and p.k != 64:
        return decode(raw >> np.uint8(2 if FORMATS[type].bits == 4 else 0), type)
    return numbers(raw, type, p.k)


def scale_factors(cells: Array, quarter: int, column: int, rows: int, p: Product, id: int) -> Array:
    """(rows, k) factors of the rows of A or B, from the copy in one quarter of the lanes."""
    row = np.arange(rows)
    words = cells[32 * quarter + row % 32, column + row // 32]
    picked = words[:, None].view(np.uint8)[:, id : id + p.scales]
    factors = np.repeat(decode(picked, p.scale), p.k // p.scales, axis=1)
    return factors.astype(np.float64)
