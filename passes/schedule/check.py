"""Refuses wrong schedules. Integers only; shares no code with the solver.

Each rule yields sentences about what is wrong; no sentence means correct.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import pairwise

from tilec.ir.errors import InternalError
from tilec.passes.schedule.problem import Buffer, Problem
from tilec.passes.schedule.schedule import Schedule


def check(problem: Problem, schedule: Schedule) -> None:
    """InternalError with all faults if the schedule does not solve the problem."""
    faults = list(violations(problem, schedule))
    if faults:
        raise InternalError("X301", f"loop at line {problem.line}: wrong schedule: " + "; ".join(faults))


def violations(problem: Problem, schedule: Schedule) -> Iterator[str]:
    """What is wrong with a schedule: dependences, units, rings, the claim of optimality."""
    if schedule.ii < 1 or len(schedule.starts) != len(problem.nodes) or min(schedule.starts, default=0) < 0:
        yield f"{len(schedule.starts)} starts, interval {schedule.ii}"
        return
    yield from _dependences(problem, schedule)
    yield from _units(problem, schedule)
    yield from _rings(problem, schedule)
    yield from _claim(problem, schedule)


def _dependences(problem: Problem, schedule: Schedule) -> Iterator[str]:
    for e in problem.edges:
        gap = schedule.starts[e.dst] + e.distance * schedule.ii - schedule.starts[e.src]
        if gap < e.latency:
            yield f"node {e.dst} issues {gap} cycles after node {e.src}, not {e.latency}"


def _units(problem: Problem, schedule: Schedule) -> Iterator[str]:
    """Fill a wheel of ii cycles span by span; a unit has one instance."""
    for unit in problem.units:
        spans: list[tuple[int, int, int]] = []
        for node in problem.nodes:
            for name, cycles in node.reserve:
                if name == unit:
                    spans += _wrapped(schedule.starts[node.id], cycles, schedule.ii, node.id)
        spans.sort()
        for (_, end, a), (start, _, b) in pairwise(spans):
            if start < end:
                yield f"nodes {a} and {b} hold {unit} at once"


def _wrapped(start: int, cycles: int, ii: int, node: int) -> list[tuple[int, int, int]]:
    """A span on the wheel, cut where it wraps; too long ones meet themselves."""
    first = start % ii
    end = first + cycles
    return [(first, min(end, ii), node), *((0, end - ii, node) for _ in range(end > ii))]


def _rings(problem: Problem, schedule: Schedule) -> Iterator[str]:
    """Every ring has slots for the products in flight, and P <= D."""
    depths, in_flight = dict(schedule.depths), dict(schedule.in_flight)
    names = [b.name for b in problem.buffers]
    if depths and (sorted(depths) != sorted(names) or sorted(in_flight) != sorted(names)):
        yield f"depths for {sorted(depths)}, rings {sorted(names)}"
        return
    for buffer in problem.buffers if depths else ():
        depth, flying = depths[buffer.name], in_flight[buffer.name]
        if not 1 <= flying <= depth:
            yield f"ring {buffer.name}: {flying} products in flight need as many slots, not {depth}"
        if flying > 1 and not buffer.lag:
            yield f"ring {buffer.name}: its readers must not overlap, but {flying} are in flight"
        yield from _capacity(buffer, schedule, depth, flying)


def _capacity(buffer: Buffer, schedule: Schedule, depth: int, flying: int) -> Iterator[str]:
    """At the sustained interval a slot is read before the ring comes round to it again."""
    written = min((schedule.starts[w] for w in buffer.writers), default=0)
    for reader, hold in buffer.readers:
        busy = schedule.starts[reader] + hold - written + (flying - 1) * schedule.sustained
        if busy > depth * schedule.sustained or schedule.sustained < schedule.ii:
            yield f"ring {buffer.name}: slots are held {busy} cycles, {depth} at {schedule.sustained}"


def _claim(problem: Problem, schedule: Schedule) -> Iterator[str]:
    """The bound is not above the interval, "optimal" means equal, and closed forms are true."""
    if schedule.bound > schedule.ii:
        yield f"the bound {schedule.bound} is above the interval {schedule.ii}"
    if schedule.status == "optimal" and schedule.bound != schedule.ii:
        yield f"optimal at {schedule.ii} with the bound {schedule.bound}"
    if schedule.reason == "recurrence" and not _has_cycle_of(problem, schedule.bound):
        yield f"no dependence cycle forces the interval {schedule.bound}"
    if schedule.reason in problem.units:
        used = sum(c for n in problem.nodes for u, c in n.reserve if u == schedule.reason)
        if used != schedule.bound:
            yield f"{schedule.reason} is used for {used} cycles, not {schedule.bound}"


def _has_cycle_of(problem: Problem, bound: int) -> bool:
    """Whether some dependence cycle has ceil(latency / distance) == bound or more."""
    # Longest walks with every edge at latency - distance * (bound - 1): a cycle of
    # positive weight is one whose interval must be at least bound.
    trial = Fraction(bound - 1)
    far = [Fraction(0)] * len(problem.nodes)
    for _ in range(len(far) + 1):
        before = list(far)
        for e in problem.edges:
            far[e.dst] = max(far[e.dst], far[e.src] + e.latency - e.distance * trial)
        if far == before:
            return False
    return True


def check_memory(slots: Iterable[tuple[int, int]], limit: int) -> None:
    """InternalError if the rings of a kernel, as (bytes, depth), exceed shared memory."""
    total = sum(size * depth for size, depth in slots)
    if total > limit:
        raise InternalError("X302", f"the rings take {total} bytes of {limit}")
