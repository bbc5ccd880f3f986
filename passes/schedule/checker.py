"""Refuses wrong schedules: integers only, no solver, no code shared with the search.

Each rule yields sentences that begin with its class in brackets and name the ops and cycles;
no sentence means that the schedule is right. `checker_space` has the rules about room.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

from tilec.passes.schedule.checker_space import allocations, budgets, capacities, registers, rings, units
from tilec.passes.schedule.model import Edge, Hint, Problem, Schedule

K = TypeVar("K", str, int)


def violations(problem: Problem, schedule: Schedule) -> Iterator[str]:
    """What is wrong with a schedule. A malformed one ([form]) is judged no further.

    Groups need not be numbered in order of first use: that is a normal form, not a rule.
    """
    malformed = [f"[form] {fault}" for fault in _form(problem, schedule)]
    yield from malformed
    if malformed:
        return
    for rule in (_groups, _dependences, units, _waits, rings, capacities, allocations):
        yield from rule(problem, schedule)
    for rule in (registers, budgets, _hints, _deadlock):
        yield from rule(problem, schedule)


def _form(problem: Problem, schedule: Schedule) -> Iterator[str]:
    """Every id has its number, nothing else has one, and numbers are in their ranges."""
    ops = [o.id for o in problem.ops]
    yield from _exactly("times", schedule.times, ops, 0)
    yield from _exactly("groups", schedule.groups, ops, 0)
    yield from _exactly("depths", schedule.depths, [b.id for b in problem.buffers if not b.alloc], 1)
    yield from _exactly("offsets", schedule.offsets, [b.id for b in problem.buffers if b.alloc], 0)
    yield from _exactly("registers", schedule.registers, sorted(set(schedule.groups.values())), 0)
    if type(schedule.ii) is not int or schedule.ii < 1:
        yield f"the interval is {schedule.ii!r}, not a number of cycles from 1"


def _exactly(what: str, table: Mapping[K, int], ids: Sequence[K], least: int) -> Iterator[str]:
    """The table has these ids, no others, and integers from ``least``."""
    for missing in ids:
        if missing not in table:
            yield f"{what} has no {missing!r}"
    for key, value in table.items():
        if key not in ids:
            yield f"{what} has {key!r}, which is not in the problem"
        if type(value) is not int or value < least:
            yield f"{what} of {key!r} is {value!r}, not an integer from {least}"


def _groups(problem: Problem, schedule: Schedule) -> Iterator[str]:
    """Group 0 has the streams and nothing else, and counts among the groups even if it is empty."""
    for o in problem.ops:
        group = schedule.groups[o.id]
        if o.stream and group != 0:
            yield f"[stream] {o.id} has variable latency and must be in group 0, not in group {group}"
        if not o.stream and group == 0:
            yield f"[stream] {o.id} is in group 0, which runs streams only"
    used = len({0, *schedule.groups.values()})
    if used > problem.groups_max:
        yield f"[groups] {used} groups, the producer counted, where {problem.groups_max} are allowed"


def _dependences(problem: Problem, schedule: Schedule) -> Iterator[str]:
    """times[dst] + delta * ii - times[src] >= d, and more between groups; `same` stays in one group."""
    for e in problem.edges:
        far = schedule.groups[e.src] != schedule.groups[e.dst]
        if far and e.same:
            yield f"[same] {_between(e, schedule)} shares registers: both must be in one group"
        crossing = problem.crossing(e) if far else 0
        gap = schedule.times[e.dst] + e.delta * schedule.ii - schedule.times[e.src]
        if gap < e.d + crossing:
            extra = f" and {crossing} to cross" if crossing else ""
            yield f"[dependence] {_between(e, schedule)} leaves {gap} cycles, but needs {e.d}{extra}"


def _between(edge: Edge, schedule: Schedule) -> str:
    """The edge with cycle and group of both ends."""
    ends = [f"{v} (cycle {schedule.times[v]}, group {schedule.groups[v]})" for v in (edge.src, edge.dst)]
    later = f" {edge.delta} iterations of {schedule.ii} later" if edge.delta else ""
    return f"{ends[0]} > {ends[1]}{later}"


def _waits(problem: Problem, schedule: Schedule) -> Iterator[str]:
    """No op of the group may be under way where another one waits: a wait is one point of the program."""
    for v in problem.ops:
        reason = _reason_to_wait(problem, schedule, v.id)
        for o in problem.ops if reason else ():
            since = (schedule.times[v.id] - schedule.times[o.id]) % schedule.ii
            if o.id != v.id and schedule.groups[o.id] == schedule.groups[v.id] and since < o.cyc:
                yield (
                    f"[wait] {v.id} waits for {reason} at cycle {schedule.times[v.id] % schedule.ii} of "
                    f"{schedule.ii}, in the middle of {o.id}, issued {since} cycles before and {o.cyc} long"
                )


def _reason_to_wait(problem: Problem, schedule: Schedule, op: str) -> str:
    """What an op waits for, or "": a blocking edge, a value from another group, the slot of a ring."""
    home = schedule.groups[op]
    for e in problem.edges:
        if e.dst == op and e.src != op and e.mem != "ord" and (e.blocking or schedule.groups[e.src] != home):
            return e.src
    for b in problem.buffers:
        far = any(schedule.groups[r.op] != home for r in b.readers)
        if b.writer == op and far and not b.alloc and not problem.op[op].stream:
            return f"a slot of {b.id}"
    return ""


def _hints(problem: Problem, schedule: Schedule) -> Iterator[str]:
    """Wishes of the author bind."""
    for hint in problem.hints:
        fault = _unmet(hint, schedule)
        if fault:
            yield f"[hint] {hint.id} ({hint.kind}): {fault}"


def _unmet(hint: Hint, schedule: Schedule) -> str:
    """How a schedule misses a hint, or ""."""
    homes = {v: schedule.groups[v] for v in hint.names if v in schedule.groups}
    groups = len(set(schedule.groups.values()))
    depths = {b: d for b, d in schedule.depths.items() if b in (hint.names or schedule.depths)}
    most = max(schedule.registers.values(), default=0)
    met = {
        "stages": (set(depths.values()) <= {hint.value}, f"depths are {depths}, not {hint.value}"),
        "groups": (groups == hint.value, f"{groups} groups, not {hint.value}"),
        "registers": (most <= hint.value, f"a group has {most} registers, more than {hint.value}"),
        "ii": (schedule.ii <= hint.value, f"the interval is {schedule.ii}, more than {hint.value}"),
        "together": (len(set(homes.values())) <= 1, f"groups are {homes}, not one"),
        "apart": (len(set(homes.values())) == len(homes), f"groups are {homes}, not different ones"),
    }
    good, fault = met[hint.kind]
    return "" if good else fault


def _deadlock(problem: Problem, schedule: Schedule) -> Iterator[str]:
    """In the steady state no op waits, through others, for itself of the same step."""
    ring = _cycle(_awaited(problem, schedule))
    if ring:
        yield f"[deadlock] each of these waits for the next one in the same step: {' < '.join(ring)}"


def _awaited(problem: Problem, schedule: Schedule) -> dict[str, list[str]]:
    """op -> what it waits for without a token that an earlier step left.

    Step j runs v for iteration j - stage(v), so an edge holds delta + stage(dst) - stage(src)
    tokens; the back edge of a ring, from each reader to the writer, has its depth as delta.
    """
    arcs = [(e.src, e.dst, e.delta) for e in problem.edges]
    arcs += [(r.op, b.writer, schedule.depths.get(b.id, 1)) for b in problem.buffers for r in b.readers]
    awaited: dict[str, list[str]] = {o.id: [] for o in problem.ops}
    for src, dst, delta in arcs:
        if delta + schedule.stage(dst) - schedule.stage(src) <= 0:
            awaited[dst].append(src)
    for group in sorted(set(schedule.groups.values())):
        order = [o.id for o in problem.ops if schedule.groups[o.id] == group]
        order.sort(key=lambda v: schedule.times[v] % schedule.ii)
        for before, after in pairwise(order):
            awaited[after].append(before)
    return awaited


def _cycle(graph: dict[str, list[str]]) -> list[str]:
    """Nodes of one cycle in order, the first repeated at the end; [] if there is none."""
    done: set[str] = set()
    for root in graph:
        path, todo = [root], [iter(graph[root])]
        while todo:
            node = next((n for n in todo[-1] if n not in done), None)
            if node is None:
                todo.pop()
                done.add(path.pop())
            elif node in path:
                return [*path[path.index(node) :], node]
            else:
                path.append(node)
                todo.append(iter(graph[node]))
    return []
