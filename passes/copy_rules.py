"""Which loads may fill a ring, and which products may read it: a set of rules for each kind of copy.

TMA takes boxes of a tensor map. cp.async copies 16 bytes for a thread; where a tile hangs
over the tensor's end it copies fewer and fills with zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tilec.ir.core import Op, Value
from tilec.ir.ops import attr
from tilec.ir.types import TensorType, TileType
from tilec.passes.async_rules import Use, is_plus_zero, why_not_operand, why_not_tma, why_not_wgmma
from tilec.passes.multiples import is_multiple
from tilec.passes.warp_products import why_not_mma

Defs = Mapping[Value, Op]
COPY = 16  # bytes of one cp.async
SPAN = 32  # bytes of the smallest row whose swizzle keeps ldmatrix free of bank conflicts


@dataclass(frozen=True)
class CopyRules:
    """``load(load, written tensors, definitions)``, ``operand(use)`` and ``product(dot)`` give None or
    why not. ``fed``: a product must have its second operand from a ring. ``threads``: what the rules
    for loads and operands refuse, and gathers, the threads of the load group may do."""

    load: Callable[[Op, set[Value], Defs], str | None]
    operand: Callable[[Use], str | None]
    product: Callable[[Op], str | None]
    fed: bool
    threads: bool = False


def _by_tma(load: Op, written: set[Value], defs: Defs) -> str | None:
    return why_not_tma(load, written)


TMA_ALONE = CopyRules(_by_tma, why_not_operand, why_not_wgmma, True)
TMA = CopyRules(_by_tma, why_not_operand, why_not_wgmma, True, threads=True)


def cp_async(float8: bool) -> CopyRules:
    """The rules of targets with cp.async and mma.sync; ``float8``: they multiply 8-bit floats."""
    return CopyRules(why_not_copy, why_not_operand, lambda dot: why_not_mma(dot, float8), False)


def why_not_copy(load: Op, written: set[Value], defs: Defs) -> str | None:
    """A load in whole units of 16 bytes: aligned, contiguous, zero filled, never written."""
    source, tile = load.args[0], load.result.type
    assert isinstance(source.type, TensorType) and isinstance(tile, TileType)
    axis, name = source.type.contiguous, source.hint or "the tensor"
    if axis is None or not source.type.aligned:
        return f"{name} has no contiguous dimension aligned to {COPY} bytes"
    if source in written:
        return f"the kernel writes {name}"
    if not is_plus_zero(attr(load, "pad")):
        return f"elements outside are {attr(load, 'pad')}, and cp.async fills with 0"
    if tile.shape[axis] * tile.dtype.bytes % SPAN:
        return f"a row of {tile.shape[axis]} {tile.dtype} is not a multiple of {SPAN} bytes"
    unit = COPY // tile.dtype.bytes
    if not is_multiple(load.args[1 + axis], unit, defs):
        return f"where its rows start is not known to be a multiple of {unit} elements"
    return None
