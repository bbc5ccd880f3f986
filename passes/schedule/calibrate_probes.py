"""What the model says of micro-benchmarks: one instruction or one copy at a time, or a short loop."""

from __future__ import annotations

from math import ceil

from tilec.ir.types import float16
from tilec.passes.schedule.calibrate_loops import Tile, Timing, planned, product_loop
from tilec.passes.schedule.machines import Machine
from tilec.passes.schedule.model import Buffer, Edge, Hint, Limits, Op, Problem, Reader, Segment
from tilec.passes.schedule.simulate import simulate

BESIDE = 1.25  # copies are slower beside products by this factor: flash-vla hardware-unit-test/sm90


def product_interval(machine: Machine, n: int) -> float:
    """Cycles between independent products of 64 x n x 32 bytes."""
    return max(fixed + slope * n for fixed, slope in machine.product.interval)


def warp_product_interval(machine: Machine, accumulators: int) -> float:
    """Cycles per m16n8k16 of one warp, which has a quarter of the SM's tensor cores."""
    kind = machine.warp_product
    return max(kind.drain / accumulators, 4 * max(fixed + slope * 8 for fixed, slope in kind.interval))


def in_flight(machine: Machine, n: int, group: int, groups: int) -> float:
    """Cycles per product with ``groups`` groups of ``group`` products before the first is waited for."""
    held = round(group * product_interval(machine, n))
    ops = (Op("MMA", (Segment("TC", 0, held),)), Op("WAIT", ()))
    edges = (Edge("MMA", "WAIT", held + machine.product.drain, blocking=True),)
    window = Buffer("W", "smem", 1, "MMA", (Reader("WAIT", 1),), groups)
    hint = Hint("window", "stages", groups)
    problem = Problem("in flight", ops, edges, (window,), Limits((("TC", 1),), smem=groups), 2, (hint,))
    ii = simulate(problem, planned(problem), 96).ii
    assert ii is not None
    return float(ii) / group


def stages(machine: Machine, depth: int, near: bool) -> float:
    """Cycles per slot of 24 KiB (64 and 128 rows of 128 bytes) relative to the slower side alone.

    The consumer gives a slot back one product later, so one slot less is in turn.
    """
    tile = Tile(1, 64, 128, 64, 24 * 1024, depth - 1)
    problem = product_loop(machine, tile, float16, near=near, beside=BESIDE)
    ii = simulate(problem, planned(problem), 96).ii
    assert ii is not None
    copies = max(machine.copy.turn, tile.loaded // machine.copy.rate)
    return float(ii) / max(copies, ceil(4 * product_interval(machine, 128)))


def box_stream(machine: Machine, box: int, depth: int) -> Timing:
    """One box after the other from DRAM on every SM, ``depth`` in flight."""
    arrival = machine.copy.latency + box / machine.copy.rate
    cycles = max(machine.copy.turn, arrival / depth, box / machine.copy.rate)
    return _whole(machine, cycles, box * machine.host.sms)


def bulk_stream(machine: Machine, size: int, grid: int) -> Timing:
    """One copy in flight per CTA, ``grid`` CTAs."""
    rounds = grid / machine.host.sms
    cycles = max(machine.copy.latency + size / machine.copy.rate, rounds * size / machine.copy.rate)
    return _whole(machine, cycles, grid * size)


def _whole(machine: Machine, cycles: float, bytes_moved: float) -> Timing:
    return Timing(cycles, bytes_moved, floor=bytes_moved / machine.host.dram / 1e9)


def peak(machine: Machine, flops_per_cycle: float) -> Timing:
    """All SMs at a rate."""
    return Timing(1, flops_per_cycle * machine.host.sms)
