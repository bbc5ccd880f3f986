"""What the model says of whole kernels that others timed: GEMM and attention, on a whole GPU.

A kernel is a loop per tile, scheduled by `solve` and run by `simulate`, with a fill before it and
a store after it; tiles are dealt to the SMs, the longest first. Nothing overlaps between tiles
unless the kernel is persistent. Launch: 1.24 us (flash-vla hardware-unit-test/sm90).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from heapq import heappop, heappush
from math import ceil

from tilec.ir.core import Op as IrOp
from tilec.ir.core import Value, frozen
from tilec.ir.types import DType, TileType, float32
from tilec.passes.schedule.costs import Cost, cost, product_cycles
from tilec.passes.schedule.loops import fa3_forward
from tilec.passes.schedule.machines import Machine, limits
from tilec.passes.schedule.model import Buffer, Edge, Hint, Op, Problem, Reader, Schedule, Segment
from tilec.passes.schedule.search import solve
from tilec.passes.schedule.simulate import simulate

LAUNCH = 1.24e-6
SIMULATED = 12  # iterations after which each further one takes the interval


@dataclass(frozen=True)
class Timing:
    """``cycles`` for ``work`` (FLOP or bytes); ``launch`` seconds come on top, ``floor`` is the least.

    ``ideal``: cycles if the tensor cores of all SMs were always busy, what a roofline knows.
    """

    cycles: float
    work: float = 0
    launch: float = 0
    floor: float = 0
    ideal: float = 0

    def seconds(self, clock: float) -> float:
        """At a clock in GHz."""
        return self.launch + max(self.cycles / clock / 1e9, self.floor)


@dataclass(frozen=True)
class Tile:
    """A GEMM program: ``groups`` products of ``rows`` x ``cols`` x ``k`` per step, from ``loaded`` bytes."""

    groups: int
    rows: int
    cols: int
    k: int
    loaded: int
    stages: int
    persistent: bool = False
    hidden_store: bool = False


def product(rows: int, cols: int, k: int, dtype: DType) -> IrOp:
    """A dot of that shape, to ask for its cost."""
    a, b, c = (
        Value(TileType(t, s)) for t, s in ((dtype, (rows, k)), (dtype, (k, cols)), (float32, (rows, cols)))
    )
    return IrOp("dot", (a, b, c), frozen(), (c,))


def product_loop(
    machine: Machine, tile: Tile, dtype: DType, *, near: bool = False, beside: float = 1.0
) -> Problem:
    """One slot of both operands per step. ``beside``: how much slower copies are beside products."""
    copy, dot = machine.copy, product(tile.rows, tile.cols, tile.k, dtype)
    one, chain = cost(dot, machine), product_cycles(dot, machine)
    held = ceil(beside * tile.loaded / copy.rate)
    arrival = (copy.near if near else copy.latency) + held
    names = [f"MMA{g}" for g in range(tile.groups)]
    load = Op("L", (Segment(copy.unit, 0, held),), copy.issue, stream=True)
    products = [Op(v, one.reserve, one.cyc, pinned=_accumulator(tile, machine), min_warps=4) for v in names]
    edges = [Edge("L", "L", ceil(beside * copy.turn), 1, "ord")]
    edges += [Edge("L", v, arrival, mem="smem", blocking=True) for v in names]
    edges += [Edge(v, v, chain, 1, "ord") for v in names]
    ring = Buffer("AB", "smem", tile.loaded, "L", tuple(Reader(v, one.latency) for v in names), tile.stages)
    hint = Hint("stages", "stages", tile.stages)
    room = replace(limits(machine), smem=tile.loaded * tile.stages)
    return Problem("product", (load, *products), tuple(edges), (ring,), room, tile.groups + 1, (hint,))


def _accumulator(tile: Tile, machine: Machine) -> int:
    return 0 if machine.tmem else tile.rows * tile.cols // 128


@cache
def planned(problem: Problem) -> Schedule:
    """The problem's normal form."""
    schedule = solve(problem).schedule
    assert schedule is not None, problem.name
    return schedule


@cache
def loop_cycles(problem: Problem, iterations: int) -> int:
    """Cycles of a loop from its first issue until all is done."""
    schedule = planned(problem)
    short = min(iterations, SIMULATED)
    done = simulate(problem, schedule, short).cycles
    return done + (iterations - short) * schedule.ii


def gemm(machine: Machine, tile: Tile, dtype: DType, m: int, n: int, k: int) -> Timing:
    """A product of m x k and k x n; the result has 16 bits."""
    problem = product_loop(machine, tile, dtype)
    fill = machine.copy.latency + tile.loaded // machine.copy.rate
    length = loop_cycles(problem, ceil(k / tile.k)) + (0 if tile.hidden_store else _store(machine, tile))
    rows, cols = tile.groups * tile.rows, tile.cols
    waves = ceil(ceil(m / rows) * ceil(n / cols) / machine.host.sms)
    hidden = fill * (waves - 1) if tile.persistent else 0
    moved = (m * k + k * n) * dtype.bytes + 2 * m * n
    ideal = _ideal(machine, 2 * m * n * k, dtype.bytes)
    return Timing(waves * length - hidden, 2 * m * n * k, LAUNCH, moved / machine.host.dram / 1e9, ideal)


def _ideal(machine: Machine, flops: int, item: int) -> float:
    """Cycles at the rate of the largest product, on all SMs."""
    kind = machine.product
    interval = max(fixed + slope * 256 for fixed, slope in kind.interval)
    return flops * interval / (2 * kind.rows * 256 * 32 // item) / machine.host.sms


def _store(machine: Machine, tile: Tile) -> int:
    """Accumulators to 16 bits, through shared memory, to global memory."""
    values = tile.groups * tile.rows * tile.cols
    from_tmem = machine.tmem_latency + 4 * values // machine.tmem_rate if machine.tmem else 0
    to_smem = values // 128 + 2 * values // machine.smem_rate + machine.smem_latency + machine.barrier
    return from_tmem + to_smem + 2 * values // machine.copy.rate


def attention(machine: Machine, shape: dict[str, int], *, specialised: bool) -> Timing:
    """Forward, 128 query rows a program; ``specialised`` as FlashAttention-3, else as -2 by mma.sync."""
    heads, length, d, causal = shape["B"] * shape["H"], shape["S"], shape["D"], bool(shape["causal"])
    keys = 80 if d == 256 else 128
    loop = fa3_forward(n=keys, d=d, causal=causal)
    problem = loop if specialised else _by_warps(loop, machine, keys, d)
    edge = machine.copy.latency + 4 * 128 * d // machine.copy.rate  # Q and K before, O after
    edge += 128 * d // 128 + 2 * 128 * d // machine.smem_rate + machine.smem_latency + machine.barrier
    blocks = [ceil((128 * (q + 1) if causal else length) / keys) for q in range(length // 128)]
    tiles = [loop_cycles(problem, n) + edge for n in blocks]
    flops = 4 * length * length * d * heads // (2 if causal else 1)
    moved = 4 * heads * length * d * 2
    cycles, floor = _dealt(tiles * heads, machine.host.sms), moved / machine.host.dram / 1e9
    return Timing(cycles, flops, LAUNCH, floor, _ideal(machine, flops, 2))


def _by_warps(loop: Problem, machine: Machine, keys: int, d: int) -> Problem:
    """The same loop with products that their warps compute themselves, as long as they take."""
    one = _warp_product(64, keys, d, machine)
    names = {o.id for o in loop.ops if o.reserve and o.reserve[0].unit == "TC"}
    ops = tuple(replace(o, reserve=one.reserve, cyc=one.cyc) if o.id in names else o for o in loop.ops)
    edges = tuple(replace(e, d=one.latency) if e.src in names else e for e in loop.edges)
    edges = tuple(replace(e, rd=one.cyc) if e.dst in names and e.rd else e for e in edges)
    buffers = tuple(replace(b, readers=tuple(Reader(r.op, one.cyc) for r in b.readers)) for b in loop.buffers)
    return replace(loop, name=loop.name + " by warps", ops=ops, edges=edges, buffers=buffers)


def _warp_product(m: int, n: int, k: int, machine: Machine) -> Cost:
    kind = machine.warp_product
    held = ceil(m / kind.rows * k / 16 * max(fixed + slope * n for fixed, slope in kind.interval))
    return Cost((Segment("TC", 0, held),), held, held + kind.drain)


def _dealt(tiles: Sequence[int], sms: int) -> int:
    """The last SM to finish, if the longest tiles go first to whoever is free."""
    free = [0] * sms
    for tile in sorted(tiles, reverse=True):
        heappush(free, heappop(free) + tile)
    return max(free)
