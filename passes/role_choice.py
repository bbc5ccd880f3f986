"""Whether the groups of a kernel hand values on: where the author asks, or where the plan is better."""

from __future__ import annotations

from collections.abc import Callable

from tilec.ir.core import Kernel
from tilec.ir.errors import InfeasibleError, ResourceError
from tilec.passes.cluster import l2_cycles
from tilec.passes.roles import Division, divisions
from tilec.passes.schedule.apply import IN_ORDER
from tilec.passes.schedule.distribute import consumers
from tilec.passes.schedule.joint import KernelPlan
from tilec.passes.schedule.machines import Machine

ROLES = (2, 3)
TRIED = 2  # divisions of each number of roles that are solved
NONE = float("inf")
WORTH = 0.97  # of the interval: what replays of emitted loops differ from their plans by
Planned = tuple[KernelPlan, Kernel]
Follow = Callable[[Kernel, int, int], Planned]  # AREF kernel, warps of each group, groups


def with_roles(
    kernel: Kernel, machine: Machine, warps: int, wish: int | None, best: Planned, follow: Follow
) -> tuple[KernelPlan, Kernel, tuple[str, ...]]:
    """The plan and program of an AREF kernel, and a line for the log if it has roles.

    ``best``: the plan without. With ``wish`` roles if there is one, InfeasibleError I104 where they
    cannot be. Else where ``best`` is at no unit's bound and not at what L2 gives, or there is no plan, and
    roles have a plan that can be followed and is better by more than what replays differ.
    """
    counts = ROLES if wish is None else (wish,)
    limit = _interval(best) * WORTH if wish is None else NONE
    if wish == 1 or (wish is None and _is_full(best, machine, limit)):
        return *best, ()
    ways = [way for count in counts for way in _ways(kernel, machine, warps, count, wish is not None)]
    chosen = _best(ways, warps, limit, wish is not None, follow)
    return (*best, ()) if chosen is None else (*chosen, (_line(chosen, best),))


def _ways(kernel: Kernel, machine: Machine, warps: int, count: int, asked: bool) -> list[Division]:
    found = divisions(kernel, machine, warps, count, TRIED)
    if isinstance(found, str) and asked:
        refuse_roles(count, found)
    return [] if isinstance(found, str) else found


def _best(ways: list[Division], warps: int, limit: float, asked: bool, follow: Follow) -> Planned | None:
    """The best plan below a limit, if one is asked for at least in program order; only ways that may be
    better than what is there are solved."""
    chosen: Planned | None = None
    ways = sorted(ways, key=lambda w: w.estimate)
    for way in ways:
        if way.estimate >= limit:
            continue
        try:
            found = follow(way.kernel, warps, way.count)
        except (ResourceError, InfeasibleError):
            if asked and chosen is None and way is ways[-1]:
                raise
            continue
        if _interval(found) < limit or (asked and chosen is None):
            chosen, limit = found, min(limit, _interval(found))
    return chosen


def _is_full(best: Planned, machine: Machine, limit: float) -> bool:
    """Whether no plan can have an interval below ``limit``: some unit, or L2, needs as long."""
    problems = [loop.problem for loop in best[0].loops]
    return sum(max(l2_cycles(p, machine), *p.load.values()) for p in problems) >= limit


def _interval(planned: Planned) -> float:
    """The interval; none where the groups run in program order."""
    in_order = any(IN_ORDER in note for note in planned[1].attrs["notes"])
    return NONE if in_order else planned[0].interval


def _line(planned: Planned, best: Planned) -> str:
    plan = planned[0]
    handed = [
        op.result.hint for op in plan.kernel.body.ops if op.name == "aref.new" and "_of_" in op.result.hint
    ]
    count, *intervals = len(consumers(plan.kernel)), _told(planned), _told(best)
    return f"{count} roles, {', '.join(handed)}: interval {intervals[0]}, {intervals[1]} without"


def _told(planned: Planned) -> str:
    return "none" if _interval(planned) == NONE else str(planned[0].interval)


def refuse_roles(wish: int | None, why: str) -> None:
    """InfeasibleError I104 if roles are asked for where there are no groups to have them."""
    if wish in ROLES:
        raise InfeasibleError("I104", f"roles={wish}: {why}", help="leave roles= to the compiler")
