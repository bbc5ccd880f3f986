"""The roofline of a loop, and the time that the model predicts for a launch.

Everything is per cycle of one SM, from the machine's table. Work is what the products of an
iteration multiply and add; traffic is what its rings are filled with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from tilec.ir.core import Op, walk
from tilec.ir.types import TileType
from tilec.passes.schedule.machines import Machine
from tilec.passes.schedule.model import Problem, Schedule
from tilec.report.bars import length

FITTED = {"H100": (1.02, 1.57)}
"""GHz at which the model gives published times: attention and the fastest GEMM (docs/machine-model.md).

They are below real clocks, since real kernels reach less than the bound; no kernel of this
compiler was timed.
"""
K_BYTES = 32  # of each operand's k, that one tensor core instruction takes


def roof(problem: Problem, nodes: Mapping[str, tuple[Op, ...]], machine: Machine) -> dict[str, Any] | None:
    """Work, traffic and the rates that bound them; None for a loop without products or copies."""
    dots = [d for members in nodes.values() for m in members for d in _dots(m)]
    work = sum(_flops(d) for d in dots)
    traffic = sum(b.size for b in problem.buffers if b.mem == "smem" and not b.alloc)
    if not work or not traffic:
        return None
    host = machine.host
    return {
        "flops": work, "bytes": traffic, "peak": round(work / sum(_least(d, machine) for d in dots), 1),
        "tma": machine.copy.rate, "dram": round(host.dram / (host.sms * host.clock), 2),
        "sms": host.sms, "clock": host.clock, "fitted": list(FITTED.get(machine.device, ())),
    }  # fmt: skip


def _dots(op: Op) -> Iterable[Op]:
    inner = [o for b in op.blocks for o in walk(b)]
    return [o for o in (op, *inner) if o.name == "dot"]


def _shape(op: Op, operand: int) -> TileType:
    return cast(TileType, op.args[operand].type)


def _flops(dot: Op) -> int:
    (*batch, m, k), n = _shape(dot, 0).shape, _shape(dot, 1).shape[-1]
    total = 2 * m * n * k
    for extent in batch:
        total *= extent
    return total


def _least(dot: Op, machine: Machine) -> float:
    """Cycles at the peak rate: the steepest line of the instruction's interval, without its start."""
    product = machine.product
    slope = max(s for _, s in product.interval)
    depth = K_BYTES * 8 / _shape(dot, 0).dtype.bits
    return _flops(dot) * slope / (2 * product.rows * depth)


def launch_time(
    problem: Problem, plan: Schedule, machine: Machine, trips: int, programs: int
) -> dict[str, Any]:
    """Microseconds of a launch's loop: the model's bound, and the range of published kernels.

    One program per SM at a time. What stands before and after the loop is not counted.
    """
    host = machine.host
    waves = -(-programs // host.sms)
    cycles = waves * (length(problem, plan) + (trips - 1) * plan.ii)
    clocks = FITTED.get(machine.device)
    return {
        "trips": trips, "programs": programs, "waves": waves, "cycles": cycles,
        "bound": _time(cycles, host.clock),
        "low": _time(cycles, clocks[1]) if clocks else None,
        "high": _time(cycles, clocks[0]) if clocks else None,
    }  # fmt: skip


def _time(cycles: int, clock: float) -> float:
    """Microseconds to three digits; the model is not better than that."""
    return float(f"{cycles / (clock * 1e3):.3g}")
