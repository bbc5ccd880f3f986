"""What happens to a plan when costs move: its structure kept, and solved again.

The structure is what a plan decides: groups, who comes first on each unit and at each wait,
stage distances, depths, and which values are alive at each issue. What remains are
difference constraints, so its least interval needs no solver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product

from tilec.passes.schedule.checker import violations
from tilec.passes.schedule.model import Answer, Edge, Op, Problem, Reader, Schedule, Segment, exclusive
from tilec.passes.schedule.ratio import least_interval
from tilec.passes.schedule.registers import budgets
from tilec.passes.schedule.search import RLIMIT, solve
from tilec.passes.schedule.structure import Arc, decided

FACTORS = (0.8, 1.2)
Held = tuple[Op, Segment]


@dataclass(frozen=True)
class Moved:
    """One cost times ``factor``: the least interval of the plan's structure, and of any plan.

    ``fixed`` is None where the structure has no interval, ``solved`` where no plan was found.
    """

    cost: str
    factor: float
    fixed: int | None
    solved: int | None
    proven: bool

    @property
    def stays(self) -> bool:
        """Whether the structure is still optimal."""
        return self.proven and self.fixed is not None and self.fixed == self.solved


@dataclass(frozen=True)
class Cost:
    """A cost that can move: its name and the problem with the cost times a factor."""

    name: str
    scaled: Callable[[float], Problem]


def sensitivity(
    problem: Problem, answer: Answer, *, resolve: bool = True, rlimit: int = RLIMIT
) -> Iterator[Moved]:
    """Each unit's cost, each latency and what crossing groups takes, at each of FACTORS.

    Without ``resolve`` no solver is used and ``solved`` is None.
    """
    if answer.schedule is None:
        return
    for cost in costs(problem):
        for factor in FACTORS:
            moved = cost.scaled(factor)
            least = fixed_structure(problem, answer.schedule, moved)
            again = solve(moved, rlimit=rlimit, polish=False) if resolve else None
            solved = again.schedule.ii if again and again.schedule else None
            proven = again is not None and again.status == "optimal"
            yield Moved(cost.name, factor, least.ii if least else None, solved, proven)


def fixed_structure(problem: Problem, plan: Schedule, moved: Problem) -> Schedule | None:
    """The plan with its structure kept and the least interval that other costs of the same ops allow.

    None where there is none, or the checker refuses it.
    """
    least = least_interval(problem.op, structure(problem, plan, moved))
    if least is None:
        return None
    found = replace(plan, ii=least.ii, times=least.times)
    found = replace(found, registers=budgets(moved, found))
    return None if any(violations(moved, found)) else found


def structure(problem: Problem, plan: Schedule, moved: Problem) -> Iterator[Arc]:
    """Which comes first, and how many intervals apart, as in the plan; how long it takes, as moved.

    Where `decided` asks for more than the plan keeps, what the plan keeps is enough.
    """
    kept, new = (decided(_without_units(p), plan) for p in (problem, moved))
    for old, now in zip(kept, new, strict=True):
        gap = plan.times[old.dst] + old.delta * plan.ii - plan.times[old.src]
        yield Arc(now.src, now.dst, now.d - max(0, old.d - gap), old.delta)
    for unit, _ in problem.limits.units:
        pairs = zip(_held(problem, unit), _held(moved, unit), strict=True)
        yield from _orders(plan, list(pairs))


def _without_units(problem: Problem) -> Problem:
    return replace(problem, ops=tuple(replace(o, reserve=()) for o in problem.ops))


def _held(problem: Problem, unit: str) -> Iterator[Held]:
    yield from ((o, s) for o in problem.ops for s in o.reserve if s.unit == unit)


def _orders(plan: Schedule, pairs: list[tuple[Held, Held]]) -> Iterator[Arc]:
    """Where a reservation starts, no more copies of another are held than in the plan: usage peaks there."""
    for ((a, x), (_, new)), ((b, y), _) in product(pairs, repeat=2):
        if a is not b and exclusive(a, b):
            continue
        shift = x.offset - y.offset
        gap = plan.times[b.id] - plan.times[a.id] - shift
        windows = gap // plan.ii
        copies = windows - (gap - x.length) // plan.ii
        yield Arc(a.id, b.id, new.length + shift, copies - windows)
        if a is not b:
            yield Arc(b.id, a.id, 1 - shift, windows + 1)


def costs(problem: Problem) -> Iterator[Cost]:
    """Units that are used, latencies by unit and length, and what it takes to cross groups."""
    for unit, _ in problem.limits.units:
        if problem.load[unit]:
            yield Cost(unit, lambda f, u=unit: slower_unit(problem, u, f))  # type: ignore[misc]
    for name, edges in latencies(problem).items():
        yield Cost(name, lambda f, e=edges: _slower_edges(problem, e, f))  # type: ignore[misc]
    yield Cost("crossing groups", lambda f: _slower_crossing(problem, f))


def latencies(problem: Problem) -> dict[str, tuple[Edge, ...]]:
    """Edges of the same unit and length, as "latency 552 of TC (QKa, PVa, ...)"."""
    table: dict[tuple[str, int], list[Edge]] = {}
    for e in problem.edges:
        if e.mem != "ord" and e.d > 1:
            reserve = problem.op[e.src].reserve
            table.setdefault((reserve[0].unit if reserve else "no unit", e.d), []).append(e)
    return {
        f"latency {d} of {unit} ({', '.join(dict.fromkeys(e.src for e in edges))})": tuple(edges)
        for (unit, d), edges in table.items()
    }


def scale(cycles: int, factor: float) -> int:
    """Rounded to whole cycles, halves up."""
    return int(cycles * factor + 0.5)


def slower_unit(problem: Problem, unit: str, factor: float) -> Problem:
    """Each reservation of a unit times a factor, and what depends on it.

    Latencies and reads that are at least as long as an op's reservations change by as many
    cycles, shorter ones in proportion: a reader that starts before the op ends. The op's own
    cycles change if they are at least as long; an issue slot stays.
    """
    held = {o.id: sum(s.length for s in o.reserve if s.unit == unit) for o in problem.ops}
    more = {
        v: sum(scale(s.length, factor) - s.length for s in problem.op[v].reserve if s.unit == unit)
        for v in held
    }

    def moved(cycles: int, op: str) -> int:
        return cycles + more[op] if cycles >= held[op] else scale(cycles, factor)

    return replace(
        problem,
        ops=tuple(
            _slower_op(o, unit, factor, o.cyc + more[o.id] * (o.cyc >= held[o.id])) for o in problem.ops
        ),
        edges=tuple(replace(e, d=moved(e.d, e.src), rd=moved(e.rd, e.dst)) for e in problem.edges),
        buffers=tuple(
            replace(b, readers=tuple(Reader(r.op, moved(r.rd, r.op)) for r in b.readers))
            for b in problem.buffers
        ),
    )


def _slower_op(o: Op, unit: str, factor: float, cyc: int) -> Op:
    reserve = (s._replace(length=scale(s.length, factor)) if s.unit == unit else s for s in o.reserve)
    return replace(o, reserve=tuple(reserve), cyc=cyc)


def _slower_edges(problem: Problem, edges: tuple[Edge, ...], factor: float) -> Problem:
    moved = tuple(replace(e, d=scale(e.d, factor)) if e in edges else e for e in problem.edges)
    return replace(problem, edges=moved)


def _slower_crossing(problem: Problem, factor: float) -> Problem:
    limits = problem.limits
    moved = replace(
        limits,
        hop=limits.hop * factor,
        hop_per_reg=limits.hop_per_reg * factor,
        sync=scale(limits.sync, factor),
    )
    return replace(problem, limits=moved)
