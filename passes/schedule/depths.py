"""How many slots each ring of a kernel gets, and how many products run at once.

The schedules say what each loop would like; shared memory, and the author's
`stages=`, say what it gets.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from tilec.ir.core import Kernel, walk
from tilec.ir.errors import InfeasibleError, ResourceError
from tilec.ir.loc import Loc
from tilec.ir.types import ArefType, TileType
from tilec.passes.schedule.machine import Machine
from tilec.passes.schedule.problem import Buffer, Problem
from tilec.passes.schedule.schedule import Schedule, least_depth, least_interval, lifetime, serial_length

IN_FLIGHT = 2  # more products than two keep no tensor core busier, but hold slots


@dataclass(frozen=True)
class Wish:
    """One ring: bytes per slot, the depth it would like, and whether the author fixed it."""

    name: str
    bytes: int
    depth: int
    fixed: bool
    loc: Loc


def choose_depths(
    kernel: Kernel,
    problems: tuple[Problem, ...],
    schedules: tuple[Schedule, ...],
    machine: Machine,
    scratch: int = 0,
) -> tuple[Schedule, ...]:
    """The schedules with depths and products in flight. ResourceError if one slot each does not fit.

    ``scratch`` bytes are kept free beside the rings if that is possible.
    """
    wishes = _wishes(kernel, problems, schedules, machine)
    depths = _fit(wishes, machine.smem, scratch, staging_bytes(kernel))
    return tuple(_with_depths(p, s, depths) for p, s in zip(problems, schedules, strict=True))


def _wishes(
    kernel: Kernel, problems: tuple[Problem, ...], schedules: tuple[Schedule, ...], machine: Machine
) -> tuple[Wish, ...]:
    """Wishes in program order; a ring outside of all ring loops is filled rarely and gets one slot."""
    wanted: dict[str, tuple[int, bool]] = {}
    for problem, schedule in zip(problems, schedules, strict=True):
        for buffer in problem.buffers:
            wanted[buffer.name] = _wanted(problem, schedule, buffer, machine)
    news = [op for op in walk(kernel.body) if op.name == "aref.new"]
    found = []
    for op in news:
        assert isinstance(op.result.type, ArefType)
        depth, fixed = wanted.get(op.result.hint, (1, False))
        found.append(Wish(op.result.hint, op.result.type.slot_bytes, depth, fixed, op.loc))
    return tuple(found)


def _wanted(problem: Problem, schedule: Schedule, buffer: Buffer, machine: Machine) -> tuple[int, bool]:
    if buffer.stages is not None:
        return max(buffer.stages, 1), True
    flying = IN_FLIGHT if buffer.lag else 1
    least = least_depth(lifetime(problem, schedule.starts, buffer), schedule.ii, flying)
    return min(least + (machine.jitter if least == flying else 0), machine.max_depth), False


def staging_bytes(kernel: Kernel) -> int:
    """Shared memory that the largest stored tile passes through on its way out."""
    stored = (op.args[1].type for op in walk(kernel.body) if op.name == "store")
    return max((t.bytes for t in stored if isinstance(t, TileType) and len(t.shape) > 1), default=0)


def _fit(wishes: tuple[Wish, ...], smem: int, scratch: int, staging: int) -> dict[str, int]:
    """Take slots away, one at a time from the deepest ring, until all fit.

    The space for scratch, and then that for stored tiles, is kept free if that is possible
    with one slot per ring; else it is left to the backend to complain, or to store without it.
    """
    depths = {w.name: w.depth for w in wishes}
    free = [w for w in wishes if not w.fixed]
    limits = (smem - scratch - staging, smem - scratch, smem)
    least = _total(wishes, _least(wishes))
    limit = next((n for n in limits if least <= n), smem)
    while _total(wishes, depths) > limit:
        victims = [w for w in free if depths[w.name] > 1]
        if not victims:
            raise _too_big(wishes, depths, smem)
        victim = max(victims, key=lambda w: (depths[w.name], w.bytes))
        depths[victim.name] -= 1
    return depths


def _least(wishes: tuple[Wish, ...]) -> dict[str, int]:
    return {w.name: w.depth if w.fixed else 1 for w in wishes}


def _total(wishes: Iterable[Wish], depths: dict[str, int]) -> int:
    return sum(w.bytes * depths[w.name] for w in wishes)


def _too_big(wishes: tuple[Wish, ...], depths: dict[str, int], smem: int) -> ResourceError | InfeasibleError:
    users = ", ".join(f"{w.name} {depths[w.name]} x {w.bytes}" for w in wishes)
    text = f"shared memory: {users} = {_total(wishes, depths)} bytes, and one program has {smem}"
    largest = max(wishes, key=lambda w: w.bytes * depths[w.name])
    if any(w.fixed and w.depth > 1 for w in wishes):
        return InfeasibleError("I101", text, help="lower stages= or make the tiles smaller", loc=largest.loc)
    return ResourceError("R101", text, help="make the tiles smaller", loc=largest.loc)


def _with_depths(problem: Problem, schedule: Schedule, depths: dict[str, int]) -> Schedule:
    own = {b.name: depths[b.name] for b in problem.buffers}
    flying = {b.name: min(IN_FLIGHT, own[b.name]) if b.lag else 1 for b in problem.buffers}
    allowed = [
        least_interval(lifetime(problem, schedule.starts, b), own[b.name], flying[b.name])
        for b in problem.buffers
    ]
    sustained = max([schedule.ii, *allowed])
    overlapping = all(n > 1 for n in flying.values())
    return replace(
        schedule,
        depths=tuple(own.items()),
        in_flight=tuple(flying.items()),
        sustained=sustained,
        in_order=sustained if overlapping else max(sustained, serial_length(problem)),
    )
