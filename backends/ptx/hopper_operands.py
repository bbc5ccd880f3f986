"""Operands of products: what wgmma takes, and how the rest gets into shared memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tilec.backends.ptx.hopper_smem import SmemTile, k_step, smem_tile
from tilec.ir.core import Op
from tilec.ir.errors import UnsupportedError
from tilec.ir.layout import wgmma_a8, wgmma_a16
from tilec.ir.ops import attr
from tilec.ir.ptx.module import Reg
from tilec.ir.types import DType, TileType

WARPGROUP = 4
M_BLOCK = 64
# dtype -> its name in the instruction
MMA_DTYPES: Mapping[str, str] = {
    "float16": "f16", "bfloat16": "bf16", "float32": "tf32", "float8_e4m3": "e4m3",
    "float8_e5m2": "e5m2", "int8": "s8", "uint8": "u8",
}  # fmt: skip
Problem = tuple[str, str]


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
    if t.dtype.bits == 16:
        return bool(t.layout == wgmma_a16(*t.shape, warps))
    return t.dtype.bits == 8 and t.shape[1] >= 32 and bool(t.layout == wgmma_a8(*t.shape, warps))


def check_dot(op: Op, warps: int) -> None:
    """Refuse a dot that wgmma cannot compute (U505), naming what to change."""
    a, b, acc = (v.type for v in op.args)
    assert isinstance(a, TileType) and isinstance(b, TileType) and isinstance(acc, TileType)
    problem = _dtype_problem(a.dtype, acc.dtype, attr(op, "precision")) or _shape_problem(a, b, warps)
    if problem:
        what = f"a dot of {a.dtype} {a.shape} by {b.shape} {problem[0]}"
        raise UnsupportedError("U505", what, help=problem[1], loc=op.loc)


def _dtype_problem(dtype: DType, acc: DType, precision: str) -> Problem | None:
    if dtype.name not in MMA_DTYPES:
        return "has no tensor-core form", f"use one of {', '.join(MMA_DTYPES)}"
    if dtype.name == "float32" and precision == "ieee":
        return "in IEEE precision has no tensor-core form", 'pass input_precision="tf32", or use float16'
    wanted = "int32" if dtype.is_int else "float32"
    if acc.name != wanted:
        return f"cannot accumulate in {acc}", f"accumulate in {wanted} and convert the result"
    return None


def _shape_problem(a: TileType, b: TileType, warps: int) -> Problem | None:
    (m, k), n = a.shape, b.shape[1]
    step, columns, groups = k_step(a.dtype.bytes), n_step(a.dtype, n), warps // WARPGROUP
    if warps % WARPGROUP or groups & (groups - 1):
        return f"by {warps} warps", "a dot takes 4, 8 or 16 warps: pass num_warps"
    if m % M_BLOCK or n % columns or k % step:
        wanted = f"M a multiple of {M_BLOCK}, N of {columns} and K of {step}"
        return "does not fit the tensor core's shapes", f"choose tiles with {wanted}"
    if m > M_BLOCK * groups and m % (M_BLOCK * groups):
        return f"does not split over {warps} warps", f"pass num_warps={WARPGROUP}, or M = {M_BLOCK * groups}"
    if m < M_BLOCK * groups and (m // M_BLOCK) & (m // M_BLOCK - 1):
        return f"does not split over {warps} warps", "make M a power of two"
    return None


def n_step(dtype: DType, n: int) -> int:
    """What N must be a multiple of: 8, but 16 for integers from 32 on."""
    return 16 if dtype.is_int and n > 32 else 8
