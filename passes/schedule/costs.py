"""What an IR op costs on a machine: units held, cycles of its group, latency, registers.

Elementwise ops count machine instructions per element, as `_WORK` says. All costs are for a
tile that one group computes; a group of fewer than four warps uses as many sub-cores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import ceil

from tilec.ir.core import Op, Value, walk
from tilec.ir.ops import attr
from tilec.ir.types import TileType
from tilec.passes.schedule.machines import Machine, Product
from tilec.passes.schedule.model import Segment

SUBCORES = 4
ISSUE = 128  # results of single-lane instructions that an SM can start per cycle: four warps of 32


@dataclass(frozen=True)
class Cost:
    """``reserve`` from the issue on, ``cyc`` cycles of the group, ``latency`` until the result can be used.

    ``regs``: 32-bit registers per thread that the results take.
    """

    reserve: tuple[Segment, ...]
    cyc: int
    latency: int
    regs: int = 0


FREE = Cost((), 0, 0)

# Instructions per element on the pipes (FMA, ALU, XU), on the path that ordinary numbers take:
# counted in SASS of ptxas 13.5 for sm_90a, made from what backends/ptx emits for float32.
_WORK: dict[str, tuple[float, float, float]] = {
    "add": (1, 0, 0), "sub": (1, 0, 0), "mul": (1, 0, 0), "fma": (1, 0, 0), "neg": (1, 0, 0),
    "abs": (1, 0, 0), "exp": (1, 0, 1), "exp2": (0, 0, 1), "log": (3, 1, 1), "log2": (2, 1, 1),
    "sqrt": (4, 3, 1), "rsqrt": (2, 1, 1), "sin": (5, 0, 2), "cos": (5, 0, 2), "tanh": (11, 3, 2),
    "sigmoid": (2, 0, 2), "erf": (17, 3, 2), "div": (6, 2, 1), "pow": (4, 16, 4), "mod": (8, 2, 2),
    "floordiv": (6, 2, 2), "floor": (0, 0, 1), "ceil": (0, 0, 1), "rint": (0, 0, 1),
}  # fmt: skip
POLYNOMIAL = (9, 3)  # of 2**x, on FMA and ALU, in place of one on XU (backends/ptx/exp2.py)
SIXTEEN = 16  # the ``share`` of an op is so many in 16 elements
_INTEGER = {
    "mul": (1.0, 0.0, 0.0),
    "div": (13.0, 20.0, 3.0),
    "floordiv": (13.0, 20.0, 3.0),
    "mod": (13.0, 20.0, 3.0),
}
# To 8 bits, also what makes numbers beyond the range NaN or infinity, and joins the bytes.
_NARROW = {"float8_e4m3": 2.75, "float8_e5m2": 5.5}
_SATURATED = 0.75
_FREE = ("const", "arange", "reshape", "permute", "broadcast", "bitcast", "slice", "assume", "yield")
_MEMORY = ("load", "store", "gather", "scatter", "atomic")
PIPES = ("FMA", "ALU", "XU")


def cost(op: Op, machine: Machine, *, warps: int = 4, through_ring: bool = False) -> Cost:
    """The cost of one op that a group of ``warps`` warps runs; scalars and changes of shape are free.

    ``through_ring``: a load or gather that fills a ring. An op with blocks costs its dearest block, a
    loop one trip: its trip count is not known here.
    """
    if op.blocks:
        return _dearest([_serial(_inner(op, i, machine, warps)) for i in range(len(op.blocks))])
    if through_ring and op.name in ("load", "gather"):
        return _filled(op, machine) if attr(op, "threads") else _copy(op, machine)
    found = _cost_of(op, machine, warps)
    return replace(found, regs=_registers(op, warps))


def _cost_of(op: Op, machine: Machine, warps: int) -> Cost:
    elements = _elements(op)
    if op.name in _FREE or op.name.startswith("aref.") or elements <= 1:
        return FREE
    if op.name == "dot":
        return _product(op, machine)
    if op.name in _MEMORY:
        return _access(op, machine)
    if op.name == "convert_layout":
        return _exchange(op, machine)
    if op.name == "reduce" and attr(op, "within"):
        return _simt(_work(op), elements - _size(op.result), machine, warps, 0)
    return _simt(_work(op), elements, machine, warps, machine.exchange if op.name == "reduce" else 0)


def product_cycles(op: Op, machine: Machine) -> int:
    """Cycles from a product's issue until the next one on the same accumulator may issue."""
    kind, count, n = _instructions(op, machine)
    return ceil(count * max(fixed + slope * n for fixed, slope in kind.chain))


def _product(op: Op, machine: Machine) -> Cost:
    kind, count, n = _instructions(op, machine)
    held = ceil(count * max(fixed + slope * n for fixed, slope in kind.interval))
    spent = machine.issue if kind.asynchronous else held
    return Cost((Segment("TC", 0, held),), spent, max(held, product_cycles(op, machine)) + kind.drain)


def _instructions(op: Op, machine: Machine) -> tuple[Product, int, int]:
    """The instruction that a product uses, how many of them, and their N."""
    a, b = (v.type for v in op.args[:2])
    assert isinstance(a, TileType) and isinstance(b, TileType)
    (m, k), n = a.shape, b.shape[1]
    kind = machine.product if m % 64 == 0 else machine.warp_product
    return kind, ceil(m / kind.rows) * ceil(k * a.dtype.bytes / 32), n


def _copy(op: Op, machine: Machine) -> Cost:
    held = ceil(_result_bytes(op) / machine.copy.rate)
    spent = machine.copy.issue or held
    return Cost((Segment(machine.copy.unit, 0, held),), spent, machine.copy.latency + held)


def _filled(op: Op, machine: Machine) -> Cost:
    """A tile that threads bring into a ring. By cp.async the group only issues 16 bytes for a lane; else it
    waits for the elements in its registers, and stores them."""
    size, read = _result_bytes(op), _access(op, machine)
    if op.name == "gather" and attr(op, "along") is not None:
        held = ceil(max(size / machine.global_rate, size / 16 / _rate(machine, "LSU")))
        return Cost((Segment("LSU", 0, held),), held, held + machine.global_latency)
    held = read.cyc + ceil(size / machine.smem_rate)
    return Cost((Segment("LSU", 0, held),), read.latency + held - read.cyc, read.latency + held - read.cyc)


def _access(op: Op, machine: Machine) -> Cost:
    """A load or store of registers: contiguous ones by bytes, others by lanes."""
    tiles = [v.type for v in (*op.args, *op.results) if isinstance(v.type, TileType) and v.type.shape]
    moved = max(t.bytes for t in tiles)
    if op.name in ("gather", "scatter", "atomic"):
        held = ceil(max(t.size for t in tiles) / _rate(machine, "LSU"))
    else:
        held = ceil(moved / machine.global_rate)
    return Cost((Segment("LSU", 0, held),), held, held + machine.global_latency)


def _exchange(op: Op, machine: Machine) -> Cost:
    """Through shared memory: written, a barrier, read."""
    held = 2 * ceil(_result_bytes(op) / machine.smem_rate)
    total = held + machine.barrier + 2 * machine.smem_latency
    return Cost((Segment("LSU", 0, held),), total, total)


def _simt(work: tuple[float, ...], elements: int, machine: Machine, warps: int, tail: int) -> Cost:
    """Instructions on the three pipes side by side; the group issues at most 128 results per cycle."""
    lengths = {p: ceil(elements * w / _rate(machine, p)) for p, w in zip(PIPES, work, strict=True) if w}
    share = SUBCORES / min(warps, SUBCORES)
    spent = ceil(share * max(*lengths.values(), ceil(elements * sum(work) / ISSUE))) + tail
    last = max(dict(machine.latency)[p] for p in lengths)
    return Cost(tuple(Segment(p, 0, n) for p, n in lengths.items()), spent, spent + last)


def _work(op: Op) -> tuple[float, float, float]:
    first = next(v.type for v in op.args if isinstance(v.type, TileType))
    if op.name == "cast":
        return _cast(op)
    if op.name == "reduce":
        return (1, 0, 0) if op.attrs["kind"] == "sum" and first.dtype.is_float else (0, 1, 0)
    if not first.dtype.is_float:
        return _INTEGER.get(op.name, (0, 1, 0))
    fma, alu, xu = _WORK.get(op.name, (0, 1, 0))
    if first.dtype.bits < 32:
        fma, alu = fma + len(op.args), alu + 1
    share = op.attrs.get("share", 0) / SIXTEEN
    return fma + share * POLYNOMIAL[0], alu + share * POLYNOMIAL[1], xu - share


def _cast(op: Op) -> tuple[float, float, float]:
    """F2FP packs two floats at a time; floats to integers take the XU."""
    source, target = (v.type for v in (op.args[0], op.result))
    assert isinstance(source, TileType) and isinstance(target, TileType)
    if source.dtype.is_float and target.dtype.is_float:
        narrower = target.dtype.bits < source.dtype.bits
        alu = _SATURATED if op.attrs.get("saturate") else _NARROW.get(target.dtype.name, 0.5)
        return (0, alu, 0) if narrower else (1, 0, 0)
    return (0, 2, 1) if source.dtype.is_float else (0, 1, 0)


def _inner(op: Op, block: int, machine: Machine, warps: int) -> list[Cost]:
    return [cost(o, machine, warps=warps) for o in walk(op.blocks[block]) if not o.blocks]


def _serial(costs: Iterable[Cost]) -> Cost:
    """One op after the other; each unit is held at the start for all that it does."""
    found = list(costs)
    totals: dict[str, int] = {}
    for s in (s for c in found for s in c.reserve):
        totals[s.unit] = totals.get(s.unit, 0) + s.length
    reserve = tuple(Segment(u, 0, n) for u, n in totals.items())
    waited = sum(max(c.cyc, c.latency) for c in found)
    return Cost(reserve, waited, waited)


def _dearest(blocks: list[Cost]) -> Cost:
    """One of the blocks runs: of each unit what the largest user takes."""
    most: dict[str, int] = {}
    for s in (s for c in blocks for s in c.reserve):
        most[s.unit] = max(most.get(s.unit, 0), s.length)
    reserve = tuple(Segment(u, 0, n) for u, n in most.items())
    return Cost(reserve, max(c.cyc for c in blocks), max(c.latency for c in blocks))


def _rate(machine: Machine, unit: str) -> int:
    rates: Mapping[str, int] = dict(machine.lanes)
    return rates[unit]


def _elements(op: Op) -> int:
    return max((v.type.size for v in (*op.args, *op.results) if isinstance(v.type, TileType)), default=0)


def _size(value: Value) -> int:
    assert isinstance(value.type, TileType)
    return value.type.size


def _result_bytes(op: Op) -> int:
    return sum(r.type.bytes for r in op.results if isinstance(r.type, TileType))


def _registers(op: Op, warps: int) -> int:
    words = sum(ceil(r.type.bytes / 4) for r in op.results if isinstance(r.type, TileType))
    return ceil(words / (32 * warps))
