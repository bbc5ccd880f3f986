"""Which loads may go through TMA, and which products through the tensor cores.

Each rule gives None if the op is fine, or the reason why not, as the end of a
sentence for the user.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tilec.ir.core import Op, Value
from tilec.ir.ops import attr
from tilec.ir.types import (
    TensorType,
    TileType,
    bfloat16,
    float8_e4m3,
    float8_e5m2,
    float16,
    float32,
    int8,
    int32,
    uint8,
)
from tilec.passes.layout_rules import MMA_ACCUMULATORS, column_step
from tilec.passes.rewrite import where

HALF = (float16, bfloat16)
OPERANDS = (*HALF, float8_e4m3, float8_e5m2, float32, int8, uint8)
SPAN = 32  # bytes: the smallest swizzle span; larger rows use 64 and 128
MAX_BOX = 256
ACCUMULATOR = 192  # registers per thread: what a group can spare for one product's result


@dataclass(frozen=True)
class Use:
    """A product that reads a loaded tile: operand 0 or 1, and the loaded tile's
    contiguous dimension as a dimension of that operand (None: it is of extent 1)."""

    dot: Op
    operand: int
    contiguous: int | None

    @property
    def k_major(self) -> bool:
        return self.contiguous == (1 if self.operand == 0 else 0)


def is_view(op: Op) -> bool:
    """A change of shape that shared memory and descriptors can express: no data moves."""
    if op.name == "permute":
        return True
    return op.name == "reshape" and _wide(op.args[0]) == _wide(op.result)


def source_of(value: Value, defs: Mapping[Value, Op]) -> Op | None:
    """The op behind a value and its views; None for a parameter."""
    op = defs.get(value)
    while op is not None and is_view(op):
        op = defs.get(op.args[0])
    return op


def _wide(value: Value) -> list[int]:
    assert isinstance(value.type, TileType)
    return [n for n in value.type.shape if n != 1]


def moved(op: Op, dim: int | None) -> int | None:
    """Where a view puts a dimension of its operand."""
    if dim is None:
        return None
    if op.name == "permute":
        return tuple(op.attrs["perm"]).index(dim)
    source, target = op.args[0].type, op.result.type
    assert isinstance(source, TileType) and isinstance(target, TileType)
    if source.shape[dim] == 1:
        return None
    place = sum(n != 1 for n in source.shape[:dim])
    return [i for i, n in enumerate(target.shape) if n != 1][place]


def dot_uses(value: Value, contiguous: int | None, users: Mapping[Value, list[Op]]) -> list[Use] | str:
    """The products that read a tile, through views; or the reason why others read it too."""
    found: list[Use] = []
    for op in dict.fromkeys(users.get(value, [])):
        if op.name == "dot" and value is not op.args[2]:
            found += [Use(op, i, contiguous) for i in (0, 1) if op.args[i] is value]
        elif is_view(op):
            inner = dot_uses(op.result, moved(op, contiguous), users)
            if isinstance(inner, str):
                return inner
            found += inner
        else:
            return f"its tile is also used by {op.name} at {where(op)}"
    return found


def why_not_tma(load: Op, written: set[Value]) -> str | None:
    """A load that one tensor map can do: aligned, contiguous, zero filled, never written."""
    source, result = load.args[0], load.result.type
    assert isinstance(source.type, TensorType) and isinstance(result, TileType)
    if result.dtype not in OPERANDS:
        return f"tensor cores here take 16-bit and 8-bit floats, tf32 and 8-bit integers, not {result.dtype}"
    if load.name == "gather":
        return "TMA copies boxes, not elements"
    if source.type.contiguous is None or not source.type.aligned:
        return f"{source.hint or 'the tensor'} has no contiguous dimension aligned to 16 bytes"
    if source.type.rank > 5:
        return "a tensor map has at most 5 dimensions"
    if source in written:
        return f"the kernel writes {source.hint or 'the tensor'}"
    if not is_plus_zero(attr(load, "pad")):
        return f"elements outside are {attr(load, 'pad')}, and TMA fills with 0"
    if any(isinstance(i.type, TileType) and i.type.dtype != int32 for i in load.args[1:]):
        return "TMA takes int32 indices"
    return _why_not_box(result, source.type.contiguous)


def is_plus_zero(pad: float) -> bool:
    """Zero, and not minus zero."""
    return pad == 0 and math.copysign(1, pad) > 0


def _why_not_box(tile: TileType, contiguous: int) -> str | None:
    if tile.shape[contiguous] * tile.dtype.bytes % SPAN:
        return f"a row of {tile.shape[contiguous]} {tile.dtype} is not a multiple of {SPAN} bytes"
    if any(n > MAX_BOX for d, n in enumerate(tile.shape) if d != contiguous):
        return f"a box has at most {MAX_BOX} rows per dimension, not {tile.shape}"
    return None


def why_not_operand(use: Use) -> str | None:
    """8-bit and tf32 operands have no transposed form in shared memory."""
    tile = use.dot.args[use.operand].type
    assert isinstance(tile, TileType)
    if tile.dtype not in HALF and not use.k_major:
        return f"a {tile.dtype} operand must be contiguous along the summed dimension"
    return None


def why_not_wgmma(dot: Op) -> str | None:
    """A product that warp group MMA instructions can do."""
    a, b, acc = (v.type for v in dot.args)
    assert isinstance(a, TileType) and isinstance(b, TileType) and isinstance(acc, TileType)
    (m, k), n = a.shape, b.shape[1]
    if a.dtype not in OPERANDS:
        return f"a product of {a.dtype} is not for tensor cores here"
    if a.dtype == float32 and attr(dot, "precision") != "tf32":
        return 'a float32 product is exact unless input_precision="tf32"'
    total = MMA_ACCUMULATORS[a.dtype.name]
    if acc.dtype.name not in total:
        return f"it accumulates in {acc.dtype}, not {total[0]}"
    step = column_step(a.dtype, n)
    if m % 64 or n % step or n > 256 or k * a.dtype.bytes % 32:
        return f"{m}x{n}x{k}: it needs rows in 64s, columns in {step}s up to 256, and a depth in 32 bytes"
    registers = m * n // (32 * consumer_warps(m))
    if registers > ACCUMULATOR:
        return f"its accumulator takes {registers} registers per thread"
    return None


def consumer_warps(rows: int) -> int:
    """Two warp groups share a product whose rows split evenly, else one does it."""
    return 8 if rows % 128 == 0 else 4
