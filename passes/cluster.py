"""Clusters: programs side by side on a grid axis that load the same tiles, each of which TMA copies once.

Two programs that differ along one axis only load the same tile where its place depends on nothing
that they do not share; and they may wait for one another where both make the same trips.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, prod

from tilec.ir.core import Block, Kernel, Op, Value, definitions, frozen, walk
from tilec.ir.ops import attr, opdef, written_tensors
from tilec.ir.types import TileType
from tilec.passes.schedule import joint
from tilec.passes.schedule.machines import Machine
from tilec.passes.schedule.model import Answer, Problem
from tilec.passes.schedule.proofs import solve_once
from tilec.passes.schedule.reach import steering
from tilec.passes.sweep import CARRIED, carried_sources, carried_values

AT_LAUNCH, IF_IT_PAYS = None, 0
SIZES = (1, 2, 4)
NEVER = 1 << 30
ROWS = 8  # of a tile that a program copies for all: whole patterns of the swizzle


@dataclass(frozen=True, eq=False)
class Sharing:
    """The loads of a kernel that programs along a grid axis have in common, and the ring of each."""

    axis: int
    loads: tuple[Op, ...]
    rings: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """What they bring into shared memory in one trip of each loop."""
        return sum(map(_bytes, self.loads))

    @property
    def names(self) -> str:
        return ", ".join(dict.fromkeys(load.args[0].hint for load in self.loads))

    def saved(self, problem: Problem, size: int) -> int:
        """Bytes of a loop's iteration that each of ``size`` programs need not read from L2."""
        mine = {b.id for b in problem.buffers}
        shared = sum(_bytes(x) for x, ring in zip(self.loads, self.rings, strict=True) if ring in mine)
        return shared - shared // size


def _bytes(load: Op) -> int:
    return load.result.type.bytes if isinstance(load.result.type, TileType) else 0


Solved = Sequence[tuple[Problem, Answer]]


def clustered(kernel: Kernel, machine: Machine, solved: Solved, wish: int | None) -> tuple[Kernel, str]:
    """A SCHEDULED kernel of warp groups as one of clusters of ``wish`` programs, and a sentence that says
    why, or why not.

    `IF_IT_PAYS`: pairs, where L2 takes longer than a loop's interval to give one of all SMs the
    tiles of an iteration. `AT_LAUNCH`: the kernel as it is, and such a pair noted as "pairs" for
    launches, which know the grid. Along the axis along which the most bytes are shared.
    """
    size, free = wish or 2, wish in (IF_IT_PAYS, AT_LAUNCH)
    axes = sorted({op.attrs["axis"] for op in walk(kernel.body) if op.name == "program_id"})
    found = [sharing(kernel, axis, size) for axis in axes]
    best = max(found, key=lambda s: (s.bytes, -s.axis), default=Sharing(0, ()))
    reason = _why_not(best, machine, solved, size, free)
    if reason is not None:
        return kernel, f"no cluster: {reason}"
    gain = f"({best.names} by TMA multicast): interval with L2 {_gain(best, machine, solved, size)}"
    if wish is AT_LAUNCH:
        pairs = frozen(**{**kernel.attrs, "pairs": (best.axis, size)})
        line = f"a launch on whole pairs of programs along grid axis {best.axis} takes clusters {gain}"
        return kernel.with_(attrs=pairs), line
    return _marked(kernel, best, size), f"cluster of {size} along grid axis {best.axis} {gain}"


def _why_not(best: Sharing, machine: Machine, solved: Solved, size: int, free: bool) -> str | None:
    """Why programs are no cluster; ``free``: it must pay."""
    if not best.loads:
        return "programs side by side have no tile in common, or other trips"
    alone, read = _alone(machine, solved), sum(l2_cycles(p, machine) for p, _ in solved)
    if not free or (alone is not None and _together(best, machine, solved, size, alone) < alone):
        return None
    if alone is None:
        return "a loop has no plan to compare with"
    return f"the interval with L2 is {alone}, and no less in pairs; L2 gives an iteration's tiles in {read}"


def _gain(best: Sharing, machine: Machine, solved: Solved, size: int) -> str:
    alone = _alone(machine, solved)
    return "not known" if alone is None else f"{alone} -> {_together(best, machine, solved, size)}"


def l2_cycles(problem: Problem, machine: Machine, saved: int = 0) -> int:
    """Cycles in which L2 gives one of all SMs what an iteration copies; 0 if its rate is not known."""
    writers = {o.id for o in problem.ops if o.stream}
    copied = sum(b.size for b in problem.buffers if b.writer in writers) - saved
    return ceil(copied / machine.l2_rate) if machine.l2_rate else 0


def _alone(machine: Machine, solved: Solved) -> int | None:
    """The sum of the loops' intervals, each at least what L2 takes; None if a loop has no plan."""
    found = [max(a.schedule.ii, l2_cycles(p, machine)) if a.schedule else None for p, a in solved]
    return sum(n for n in found if n is not None) if None not in found else None


def _together(best: Sharing, machine: Machine, solved: Solved, size: int, most: int | None = None) -> int:
    """The same in a cluster: each copies its share, and slots come back after arrivals from all. Loops are
    solved again only where that can still be below ``most``."""
    read = [l2_cycles(p, machine, best.saved(p, size)) for p, _ in solved]
    least = sum(max(n, a.schedule.ii if a.schedule else 0) for n, (_, a) in zip(read, solved, strict=True))
    if most is not None and least >= most:
        return least
    again = [solve_once(_remote(best, p, machine), joint.RLIMIT).schedule for p, _ in solved]
    return sum(max(n, plan.ii if plan else NEVER) for n, plan in zip(read, again, strict=True))


def _remote(best: Sharing, problem: Problem, machine: Machine) -> Problem:
    """The loop where what reads shared slots arrives at the barriers of other SMs, too."""
    far = tuple(
        replace(b, readers=tuple(r._replace(rd=r.rd + machine.remote) for r in b.readers))
        if b.id in best.rings else b
        for b in problem.buffers
    )  # fmt: skip
    return replace(problem, buffers=far)


def sharing(kernel: Kernel, axis: int, size: int) -> Sharing:
    """The loads that all programs of a cluster of ``size`` along ``axis`` have in common."""
    differs = _differing(kernel, axis)
    defs = definitions(kernel.body)
    found: list[tuple[Op, str]] = []
    for put, around in _puts(kernel.body, ()):
        loads = [defs[value] for value in put.args[1:] if value in defs]
        same_trips = not any(v in differs for op in around for v in steering(op))
        by_tma = len(loads) == len(put.args) - 1 and all(_by_tma(load) for load in loads)
        if same_trips and by_tma:
            same = [load for load in loads if not differs & set(load.args) and _divides(load, size)]
            found += [(load, put.args[0].hint) for load in same]
    return Sharing(axis, tuple(load for load, _ in found), tuple(ring for _, ring in found))


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
