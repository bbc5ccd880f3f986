"""Units on the wheel of ii cycles: how many instances are held, and whether there are enough."""

from __future__ import annotations

from tilec.passes.schedule.model import Op, Problem, Segment

Held = tuple[int, Op, Segment]  # when a reservation starts, whose it is


def held(problem: Problem, times: dict[str, int], unit: str) -> list[Held]:
    """The reservations of a unit by the ops that have times."""
    ops = [(t, problem.op[v]) for v, t in times.items()]
    return [(t + s.offset, o, s) for t, o in ops for s in o.reserve if s.unit == unit and s.length]


def in_use(reservations: list[Held], at: int, ii: int) -> int:
    """Instances held at a cycle by all iterations; of opposite predicates the larger."""
    arms: dict[str, int] = {}
    for start, o, s in reservations:
        gap = (at - start) % ii
        if gap < s.length:
            arm = o.predicate or ""
            arms[arm] = arms.get(arm, 0) + s.amount * (1 + (s.length - gap - 1) // ii)
    names = {p.lstrip("!") for p in arms if p}
    return arms.get("", 0) + sum(max(arms.get(n, 0), arms.get("!" + n, 0)) for n in names)


def units_suffice(problem: Problem, times: dict[str, int], ii: int, units: set[str] | None = None) -> bool:
    """Whether no unit is ever overbooked; use only peaks where a reservation starts."""
    for unit, count in problem.limits.units:
        if units is None or unit in units:
            reservations = held(problem, times, unit)
            if any(in_use(reservations, start, ii) > count for start, _, _ in reservations):
                return False
    return True
