"""Rings that the threads of the load group fill, where TMA cannot: gathers, odd addresses, other pads.

A gather of rows, whose indices along one axis of the tile count up by one, is copied by cp.async in
units of 16 bytes; all else passes through registers.
"""

from __future__ import annotations

from collections.abc import Mapping

from tilec.ir.core import Kernel, Op, Value, walk
from tilec.ir.ops import attr
from tilec.ir.types import TileType
from tilec.passes.async_rules import OPERANDS

# Registers per thread of the load group and of a compute group, of which there may be two, by who fills
# rings: setmaxnreg takes multiples of 8 from 24 on, and all groups share 65536.
REGISTERS = {"tma": (24, 240), "cp.async": (56, 224), "stores": (104, 200)}
FILE, STEP = 65536, 8
LOADERS = 128  # threads of the load group

Defs = Mapping[Value, Op]


def why_not_threads(load: Op, written: set[Value]) -> str | None:
    """Why threads cannot fill a ring with what a load or gather reads; None if they can."""
    source, tile = load.args[0], load.result.type
    assert isinstance(tile, TileType)
    if tile.dtype not in OPERANDS:
        return f"tensor cores here take 16-bit and 8-bit floats, tf32 and 8-bit integers, not {tile.dtype}"
    return f"the kernel writes {source.hint or 'the tensor'}" if source in written else None


def by_threads(op: Op) -> bool:
    """Whether an op is a load or gather whose ring threads fill."""
    return op.name in ("load", "gather") and bool(attr(op, "threads"))


def kind(load: Op) -> str:
    """Who fills the ring of a load or gather: "tma", "cp.async" or "stores"."""
    if not by_threads(load):
        return "tma"
    return "cp.async" if load.name == "gather" and attr(load, "along") is not None else "stores"


def group_registers(kernel: Kernel) -> tuple[int, int]:
    """Registers per thread of the load group and of each compute group of an AREF kernel."""
    kinds = {kind(op) for op in walk(kernel.body) if op.name in ("load", "gather")}
    return max(REGISTERS[k] for k in ("tma", *sorted(kinds)))


def role_registers(kernel: Kernel, groups: int, warps: int) -> tuple[int, int]:
    """The same where ``groups`` compute groups of ``warps`` warps share what the load group leaves."""
    few, many = group_registers(kernel)
    share = (FILE - LOADERS * few) // (32 * warps * groups)
    return few, min(many, share // STEP * STEP)
