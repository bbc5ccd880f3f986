"""Lower bounds of the interval in closed form: units and recurrences. Integers only."""

from __future__ import annotations

from dataclasses import replace

from tilec.passes.schedule.model import Bound, Buffer, Edge, Problem


def lower_bound(problem: Problem) -> Bound:
    """The larger of the two closed forms; "none" with value 1 where neither says more.

    A recurrence without distance has no interval at all: its bound is `NEVER`.
    """
    unit, cycle = resource_bound(problem), recurrence_bound(problem)
    return unit if unit.value >= cycle.value else cycle


NEVER = 2**62
"""The bound of a problem that no interval suits."""


def resource_bound(problem: Problem) -> Bound:
    """ResMII: the most loaded unit, or one reservation that must not meet its own next copies."""
    best = Bound(1, "none")
    for unit, count in problem.limits.units:
        users = [o for o in problem.ops if any(s.unit == unit for s in o.reserve)]
        alone = [(o, s) for o in users for s in o.reserve if s.unit == unit]
        value = -(-problem.load[unit] // count)
        names = (unit, *(o.id for o in users))
        for o, s in alone:
            least = NEVER if s.amount > count else -(-s.length // (count // s.amount))
            if least > value:
                value, names = least, (unit, o.id)
        if value > best.value:
            best = Bound(value, "unit", names)
    return best


def recurrence_bound(problem: Problem) -> Bound:
    """RecMII: the largest ceil(sum of d / sum of delta) over cycles, with its ops in order."""
    low, high = 1, 1 + sum(max(e.d, 0) for e in problem.edges)
    if _positive_cycle(problem, high):
        return Bound(NEVER, "cycle", _positive_cycle(problem, high))
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if _positive_cycle(problem, middle) else (low, middle)
    if low == 1:
        return Bound(1, "none")
    return Bound(low, "cycle", _positive_cycle(problem, low - 1))


def ring_bound(problem: Problem) -> int:
    """RecMII with two facts more: streams cross groups, and rings close recurrences.

    From each reader back to the writer it takes ``rd`` cycles over at most as many iterations
    as the ring can have slots. A search that starts here saves what z3 would find out slowly.
    """
    streams = {o.id for o in problem.ops if o.stream}
    edges = []
    for e in problem.edges:
        far = e.mem != "ord" and not e.same and (e.src in streams) != (e.dst in streams)
        edges.append(replace(e, d=e.d + problem.crossing(e)) if far else e)
    for b in problem.buffers:
        edges += [Edge(r.op, b.writer, r.rd, _most_slots(problem, b)) for r in b.readers]
    return recurrence_bound(replace(problem, edges=tuple(edges))).value


def _most_slots(problem: Problem, b: Buffer) -> int:
    """What fits beside one slot of each other ring, and what hints allow."""
    if b.alloc:
        return 1
    room = problem.limits.smem if b.mem == "smem" else problem.limits.tmem
    others = sum(o.size for o in problem.buffers if o is not b and not o.alloc and o.mem == b.mem)
    wishes = [h.value for h in problem.hints if h.kind == "stages" and (not h.names or b.id in h.names)]
    return max(1, min([b.max_depth, (room - others) // b.size, *wishes]))


def _positive_cycle(problem: Problem, ii: int) -> tuple[str, ...]:
    """The ops of a cycle with sum(d) > ii * sum(delta); empty if there is none."""
    reach = dict.fromkeys(problem.op, 0)
    last: dict[str, str] = {}
    moved = ""
    for _ in reach:
        moved = ""
        for e in problem.edges:
            far = reach[e.src] + e.d - e.delta * ii
            if far > reach[e.dst]:
                reach[e.dst], last[e.dst], moved = far, e.src, e.dst
        if not moved:
            return ()
    return _cycle_before(problem, last, moved) if moved else ()


def _cycle_before(problem: Problem, last: dict[str, str], v: str) -> tuple[str, ...]:
    """The cycle that predecessors lead to, from its first op in order."""
    for _ in problem.ops:
        v = last[v]
    cycle, u = [v], last[v]
    while u != v:
        cycle.append(u)
        u = last[u]
    cycle.reverse()
    first = cycle.index(next(o.id for o in problem.ops if o.id in cycle))
    return tuple(cycle[first:] + cycle[:first])
