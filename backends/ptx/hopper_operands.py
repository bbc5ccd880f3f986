"""Operands of products: what wgmma takes, and how the rest gets into shared memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tilec.backends.ptx.hopper_smem import K_BYTES, SmemTile, smem_tile
from tilec.ir.layout import wgmma, wgmma_a8, wgmma_a16
from tilec.ir.ptx.module import Reg
from tilec.ir.types import DType, TileType

WARPGROUP = 4
M_BLOCK = 64
# Registers that the threads of a CTA share.
REGISTER_FILE = 65536
# dtype -> its name in the instruction
MMA_DTYPES: Mapping[str, str] = {
    "float16": "f16", "bfloat16": "bf16", "float32": "tf32", "float8_e4m3": "e4m3",
    "float8_e5m2": "e5m2", "int8": "s8", "uint8": "u8",
}  # fmt: skip


@dataclass(frozen=True)
class Staged:
    """A register operand after it was written to shared memory."""

    tile: SmemTile
    base: Reg


def staged_tile(dtype: DType, shape: tuple[int, ...], k_axis: int) -> SmemTile:
    """The layout of a staged operand: rows as they are where wgmma may read that, else k contiguous."""
    inner = len(shape) - 1 if dtype.bits == 16 else k_axis
    return smem_tile(TileType(dtype, shape), inner)


def staged_bytes(t: TileType, k_axis: int) -> int:
    return staged_tile(t.dtype, t.shape, k_axis).bytes


def direct_registers(t: TileType, warps: int) -> bool:
    """Whether operand A lies in registers as wgmma takes it."""
    m, k = t.shape
    if t.dtype.bits == 16:
        return bool(t.layout == wgmma_a16(m, k, warps))
    return t.dtype.bits == 8 and k >= K_BYTES and t.layout in (wgmma(m, k, warps), wgmma_a8(m, k, warps))
