"""The machine model: units, capacities and costs in cycles, for one SM.

Figures for sm_90a follow public measurements of the H100: tensor core interval by
N and drain from the flash-vla hardware tests, exp rate from the FlashAttention-4
paper, pipe widths from XLA's core tables. The scheduler needs their proportions.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from tilec.ir.core import Op, walk
from tilec.ir.types import TileType

Units = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Machine:
    """What one SM offers. Every unit has one instance that all groups share.

    ``smem`` is what the rings of one program may use in bytes, ``tma_latency`` the
    cycles from issue to data in shared memory, ``tma_rate`` its bytes per cycle,
    ``drain`` the cycles that a product takes beyond its occupancy, ``jitter`` the
    slots added to a ring against uneven load times, ``max_depth`` the slots beyond
    which a ring does not help.
    """

    name: str
    units: tuple[str, ...] = ("TC", "FMA", "ALU", "XU", "LSU", "TMA")
    smem: int = 232448 - 2048
    registers: int = 65536
    accumulator_registers: int = 192
    tma_latency: int = 1000
    tma_rate: int = 64
    drain: int = 46
    jitter: int = 1
    max_depth: int = 8


@dataclass(frozen=True)
class Cost:
    """``reserve`` lists (unit, cycles) held from issue on; ``latency`` is issue to usable result."""

    reserve: Units
    latency: int


SM90A = Machine("sm_90a")
MACHINES = {SM90A.name: SM90A}

_XU = ("exp", "exp2", "log", "log2", "sqrt", "rsqrt", "sin", "cos", "tanh", "sigmoid", "erf", "div", "pow")
_FMA = ("add", "sub", "mul", "fma", "neg", "abs")
_MEMORY = ("load", "store", "gather", "scatter", "atomic")
_LATENCY = {"XU": 20, "LSU": 600, "FMA": 4, "ALU": 4}


def cost(op: Op, machine: Machine, *, through_ring: bool = False) -> Cost:
    """What one op costs; control flow costs what its blocks cost, unit by unit.

    Ops on scalars and pure changes of shape are free.
    """
    if op.blocks:
        return _sum([cost(inner, machine) for inner in walk(op.blocks[0]) if not inner.blocks])
    if op.name == "dot":
        cycles = dot_cycles(op)
        return Cost((("TC", cycles),), cycles + machine.drain)
    if op.name == "load" and through_ring:
        cycles = ceil(_bytes(op) / machine.tma_rate)
        return Cost((("TMA", cycles),), machine.tma_latency + cycles)
    unit, rate = _pipe(op)
    elements = _elements(op)
    if not unit or elements <= 1:
        return Cost((), 0)
    cycles = ceil(elements / rate)
    return Cost(((unit, cycles),), cycles + _LATENCY[unit])


def dot_cycles(op: Op) -> int:
    """Tensor core cycles: one m64nNk(32 B) product takes max(17 + N/4, N/2 + 1)."""
    a, b = (v.type for v in op.args[:2])
    assert isinstance(a, TileType) and isinstance(b, TileType)
    (m, k), n = a.shape, b.shape[1]
    instructions = ceil(m / 64) * ceil(k * a.dtype.bytes / 32)
    return ceil(instructions * max(17 + n / 4, n / 2 + 1))


def _sum(costs: list[Cost]) -> Cost:
    totals: dict[str, int] = {}
    for unit, cycles in (r for c in costs for r in c.reserve):
        totals[unit] = totals.get(unit, 0) + cycles
    return Cost(tuple(totals.items()), sum(c.latency for c in costs))


def _pipe(op: Op) -> tuple[str, int]:
    """The unit that an op uses and the elements it handles per cycle."""
    if op.name in _MEMORY:
        return "LSU", 32
    if op.name in _XU:
        return "XU", 16
    if op.name == "cast":
        return "ALU", 128
    if op.name == "reduce":
        return ("FMA", 128) if op.attrs["kind"] == "sum" else ("ALU", 64)
    if op.name in ("const", "arange", "reshape", "permute", "broadcast", "bitcast"):
        return "", 1
    first = op.args[0].type if op.args else None
    is_float = isinstance(first, TileType) and first.dtype.is_float
    return ("FMA", 128) if op.name in _FMA and is_float else ("ALU", 64)


def _elements(op: Op) -> int:
    return max((v.type.size for v in (*op.args, *op.results) if isinstance(v.type, TileType)), default=0)


def _bytes(op: Op) -> int:
    return sum(r.type.bytes for r in op.results if isinstance(r.type, TileType))
