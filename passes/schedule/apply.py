"""apply: AREF program and schedule -> SCHEDULED program. Who runs what.

Distribution clones the whole body per group, drops the other group's effects, and
lets the dead-code sweep remove what the group does not need: index arithmetic is
duplicated, everything else ends up in one place.
"""

from __future__ import annotations

from typing import Any

from tilec.ir.core import Block, Kernel, Op, Value, frozen, walk
from tilec.ir.errors import InfeasibleError
from tilec.ir.ops import make
from tilec.ir.types import ArefType, TileType
from tilec.passes.async_rules import consumer_warps
from tilec.passes.make_async import COMPUTE, LOAD
from tilec.passes.schedule.distribute import asynchronous_dots, compute_block, load_block, why_not_closed
from tilec.passes.schedule.machine import Machine
from tilec.passes.schedule.schedule import Schedule

# Registers per thread of (load, compute), by warps of the compute group: setmaxnreg
# takes multiples of 8, and all groups share 65536.
REGISTERS = {4: (24, 240), 8: (40, 232)}
LOAD_WARPS = 4
LARGE_TILE = 64 * 128
ONE_GROUP_WARPS = (1, 2, 4, 8, 16)


def specialize(
    kernel: Kernel, schedules: tuple[Schedule, ...], machine: Machine, num_warps: int | None = None
) -> Kernel | str:
    """The SCHEDULED form of an AREF kernel with rings: a load and a compute group.

    ``schedules`` are those of `problems(kernel)`, with depths. ``num_warps`` asks
    for 4 or 8 warps in the compute group. The result is a note if the kernel
    cannot be split.
    """
    depths = {name: depth for s in schedules for name, depth in s.depths}
    news = [op for op in walk(kernel.body) if op.name == "aref.new"]
    deep = [_with_depth(op, depths.get(op.result.hint, 1)) for op in news]
    rings = {old.result: new.result for old, new in zip(news, deep, strict=True)}
    load = load_block(kernel, rings)
    refusal = why_not_closed(kernel, load, rings)
    if refusal is not None:
        return refusal
    warps = compute_warps(kernel, machine, num_warps)
    if isinstance(warps, str):
        if num_warps is None:
            return warps
        help = "8 warps need products of a multiple of 128 rows; 4 need smaller tiles"
        raise InfeasibleError("I102", f"num_warps={num_warps}: {warps}", help=help)
    groups = make(
        "warp_groups", blocks=(load, compute_block(kernel, schedules, rings)), loc=news[0].loc,
        names=(LOAD, COMPUTE), warps=(LOAD_WARPS, warps), registers=REGISTERS[warps],
    )  # fmt: skip
    body = Block((), (*deep, groups, make("yield")))
    attrs = {**kernel.attrs, "num_warps": LOAD_WARPS + warps, "schedule": facts(schedules)}
    return kernel.with_(form="scheduled", body=body, attrs=frozen(**attrs))


def unspecialized(kernel: Kernel, num_warps: int | None = None, notes: tuple[str, ...] = ()) -> Kernel:
    """The SCHEDULED form of a TILE kernel: the same ops, run by one group."""
    sizes = [r.type.size for op in walk(kernel.body) for r in op.results if isinstance(r.type, TileType)]
    warps = num_warps or (8 if max(sizes, default=1) >= LARGE_TILE else 4)
    if warps not in ONE_GROUP_WARPS:
        raise InfeasibleError("I103", f"num_warps={warps}", help=f"one of {ONE_GROUP_WARPS}")
    attrs = {**kernel.attrs, "num_warps": warps, "notes": notes}
    return kernel.with_(form="scheduled", attrs=frozen(**attrs))


def _with_depth(new: Op, depth: int) -> Op:
    return make("aref.new", loc=new.loc, hints=(new.result.hint,), payload=new.attrs["payload"], depth=depth)


def compute_warps(kernel: Kernel, machine: Machine, wish: int | None) -> int | str:
    """Two cooperative warp groups if the rows of every asynchronous product split evenly, else one.

    The author's wish if the products allow it; else the reason why they do not.
    """
    found = [d.result.type for d in asynchronous_dots(kernel.body)]
    products = [t for t in found if isinstance(t, TileType)]
    able = min(consumer_warps(t.shape[0]) for t in products)
    warps = able if wish is None else wish
    if warps not in (4, able):
        return f"the rows of the products split over {able} warps, not {warps}"
    widest = max(products, key=lambda t: t.size)
    registers = widest.size // (32 * warps)
    if registers > machine.accumulator_registers:
        return (
            f"on {warps} warps the accumulator of a {widest.shape} product takes {registers} registers each"
        )
    return warps


def facts(schedules: tuple[Schedule, ...]) -> tuple[tuple[tuple[str, Any], ...], ...]:
    """What the schedules say, as plain data for ``kernel.attrs["schedule"]``."""
    names = ("loop", "ii", "sustained", "in_order", "bound", "reason", "status", "depths", "in_flight")
    return tuple(tuple((name, getattr(s, name)) for name in names) for s in schedules)


def ring_slots(kernel: Kernel) -> list[tuple[int, int]]:
    """(bytes, depth) of every ring of a SCHEDULED kernel."""
    types: list[Value] = [op.result for op in walk(kernel.body) if op.name == "aref.new"]
    return [(v.type.slot_bytes, v.type.depth or 1) for v in types if isinstance(v.type, ArefType)]
