"""Clusters: programs side by side on a grid axis that load the same tiles, each of which TMA copies once.

Two programs that differ along one axis only load the same tile where its place depends on nothing
that they do not share; and they may wait for one another where both make the same trips.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from tilec.ir.core import Block, Kernel, Op, Value, definitions, frozen, walk
from tilec.ir.ops import attr, opdef, written_tensors
from tilec.ir.types import TileType
from tilec.passes.schedule.machines import Machine
from tilec.passes.schedule.model import Answer, Problem
from tilec.passes.schedule.reach import steering
from tilec.passes.sweep import CARRIED, carried_sources, carried_values

IF_IT_PAYS = 0
SIZES = (1, 2, 4)
ROWS = 8  # of a tile that a program copies for all: whole patterns of the swizzle


@dataclass(frozen=True, eq=False)
class Sharing:
    """The loads of a kernel that programs along a grid axis have in common."""

    axis: int
    loads: tuple[Op, ...]

    @property
    def bytes(self) -> int:
        """What they bring into shared memory in one trip of each loop."""
        return sum(load.result.type.bytes for load in self.loads if isinstance(load.result.type, TileType))


def clustered(
    kernel: Kernel, machine: Machine, solved: Sequence[tuple[Problem, Answer]], wish: int
) -> tuple[Kernel, str]:
    """A SCHEDULED kernel of warp groups as one of clusters of ``wish`` programs, and a sentence that says
    why, or why not.

    `IF_IT_PAYS`: pairs, where L2 takes longer than a loop's interval to give one of all SMs the
    tiles of an iteration. Along the axis along which the most bytes are shared.
    """
    if wish == IF_IT_PAYS and not any(_l2_binds(p, a, machine) for p, a in solved):
        return kernel, "no cluster: L2 gives all tiles within the interval"
    size = wish or 2
    axes = sorted({op.attrs["axis"] for op in walk(kernel.body) if op.name == "program_id"})
    found = [sharing(kernel, axis, size) for axis in axes]
    best = max(found, key=lambda s: (s.bytes, -s.axis), default=Sharing(0, ()))
    if not best.loads:
        return kernel, "no cluster: programs side by side have no tile in common, or other trips"
    names = ", ".join(dict.fromkeys(load.args[0].hint for load in best.loads))
    return _marked(kernel, best, size), f"cluster of {size} along grid axis {best.axis}: shares {names}"


def _l2_binds(problem: Problem, answer: Answer, machine: Machine) -> bool:
    copied = sum(b.size for b in problem.buffers)
    rate = machine.l2_rate
    return rate > 0 and answer.schedule is not None and copied > rate * answer.schedule.ii


def sharing(kernel: Kernel, axis: int, size: int) -> Sharing:
    """The loads that all programs of a cluster of ``size`` along ``axis`` have in common."""
    differs = _differing(kernel, axis)
    defs = definitions(kernel.body)
    found = []
    for put, around in _puts(kernel.body, ()):
        loads = [defs[value] for value in put.args[1:] if value in defs]
        same_trips = not any(v in differs for op in around for v in steering(op))
        by_tma = len(loads) == len(put.args) - 1 and all(_by_tma(load) for load in loads)
        if same_trips and by_tma:
            found += [load for load in loads if not differs & set(load.args) and _divides(load, size)]
    return Sharing(axis, tuple(found))


def _by_tma(load: Op) -> bool:
    return load.name == "load" and not attr(load, "threads")


def _divides(load: Op, size: int) -> bool:
    """Whether each program can copy a share of the rows: the outermost long dimension is cut."""
    t, tensor = load.result.type, load.args[0].type
    assert isinstance(t, TileType)
    outer = [n for d, n in enumerate(t.shape) if d != getattr(tensor, "contiguous", None)]
    long = next((n for n in outer if n > 1), 1)
    return long % size == 0 and prod(outer) // size % ROWS == 0


def _puts(block: Block, around: tuple[Op, ...]) -> Iterator[tuple[Op, tuple[Op, ...]]]:
    """All puts with the loops and branches around them."""
    for op in block.ops:
        if op.name == "aref.put":
            yield op, around
        inside = around if op.name == "warp_groups" else (*around, op)
        for inner in op.blocks:
            yield from _puts(inner, inside)


def _differing(kernel: Kernel, axis: int) -> set[Value]:
    """Values that programs which differ along a grid axis may have different ones of."""
    found: set[Value] = set()
    written = written_tensors(kernel.body)
    while True:
        before = len(found)
        for op in walk(kernel.body):
            if _differs(op, axis, found, written):
                found |= {*op.results, *(op.blocks[0].params[:1] if op.name == "for" else ())}
            for i in range(len(op.results) if op.name in CARRIED else 0):
                if not found.isdisjoint(carried_sources(op, i)):
                    found |= set(carried_values(op, i))
        if len(found) == before:
            return found


def _differs(op: Op, axis: int, found: set[Value], written: set[Value]) -> bool:
    if op.name == "program_id":
        return bool(op.attrs["axis"] == axis)
    if op.name in CARRIED:
        return any(v in found for v in steering(op))
    unknown = opdef(op.name).effect in ("write", "sync") or not written.isdisjoint(op.args)
    return unknown or any(a in found for a in op.args)


def _marked(kernel: Kernel, shared: Sharing, size: int) -> Kernel:
    """The kernel with its shared loads marked, and the cluster among its attributes."""
    loads = set(shared.loads)

    def block(old: Block) -> Block:
        ops = []
        for op in old.ops:
            op_ = op.with_(blocks=tuple(map(block, op.blocks))) if op.blocks else op
            ops.append(op_.with_(attrs=frozen(**{**op.attrs, "cluster": size})) if op in loads else op_)
        return Block(old.params, tuple(ops))

    attrs = frozen(**{**kernel.attrs, "cluster": (shared.axis, size)})
    return kernel.with_(body=block(kernel.body), attrs=attrs)
