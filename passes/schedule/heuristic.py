"""A list scheduler: plans without a solver, legal but not proven best.

Ops are placed in topological order at the first cycle where their units are free and no wait
is disturbed, for a few ways to form groups and growing intervals.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tilec.passes.schedule.bounds import NEVER, lower_bound
from tilec.passes.schedule.model import Buffer, Edge, Hint, Op, Problem, Schedule
from tilec.passes.schedule.registers import budgets, most, pressures, warps
from tilec.passes.schedule.structure import after, compact, does_wait
from tilec.passes.schedule.wheel import units_suffice


def list_schedule(problem: Problem) -> Schedule | None:
    """A legal plan, None if the heuristic finds none. Deterministic."""
    low = lower_bound(problem).value
    order = _topological(problem)
    if low == NEVER or order is None:
        return None
    for ii in _intervals(low, serial_length(problem)):
        for groups in _assignments(problem):
            times = _place(problem, order, ii, groups)
            plan = _complete(problem, Schedule(ii, times, groups)) if times is not None else None
            if plan is not None:
                return compact(problem, plan, low)
    return None


def serial_length(problem: Problem) -> int:
    """An interval at which a problem has a plan if it has any.

    A plan of any interval keeps its order when all gaps grow, until one op follows another
    only after all that they could wait for; each op adds its longest constraint once.
    """
    return sum(_longest(problem, o) for o in problem.ops) + 1


def _longest(problem: Problem, o: Op) -> int:
    """The largest distance that any constraint asks for after o."""
    edges = [e.d + problem.crossing(e) for e in problem.edges if e.src == o.id]
    reads = [e.rd for e in problem.edges if e.dst == o.id]
    rings = [r.rd for b in problem.buffers for r in b.readers if r.op == o.id]
    return max([1, o.cyc, *edges, *reads, *rings, *(s.offset + s.length for s in o.reserve)])


def _intervals(low: int, high: int) -> Iterator[int]:
    while low < high:
        yield low
        low += low // 4 + 1
    yield max(low, high)


def _topological(problem: Problem) -> list[Op] | None:
    """Ops so that values of the same iteration come first; None if they depend in a circle."""
    order: list[Op] = []
    done: set[str] = set()
    while len(order) < len(problem.ops):
        ready = [o for o in problem.ops if o.id not in done and _inputs(problem, o) <= done]
        if not ready:
            return None
        order.append(ready[0])
        done.add(ready[0].id)
    return order


def _inputs(problem: Problem, o: Op) -> set[str]:
    return {e.src for e in problem.edges if e.dst == o.id and not e.delta}


def _assignments(problem: Problem) -> Iterator[dict[str, int]]:
    """Ways to form groups: by connected parts, by parts connected in registers, all in one."""
    values = [e for e in problem.edges if e.mem != "ord"]
    near = [e for e in values if e.mem == "reg" or e.same]
    together = [
        Edge(a, b, 0) for h in problem.hints if h.kind == "together" for a in h.names for b in h.names
    ]
    seen = []
    for edges in (values, near, None):
        groups = _parts(problem, edges if edges is None else edges + together)
        if groups not in seen and max(groups.values(), default=0) < problem.groups_max:
            seen.append(groups)
            yield groups


def _parts(problem: Problem, edges: list[Edge] | None) -> dict[str, int]:
    """Streams in group 0; connected ops in one group, parts dealt out in turn."""
    part = {o.id: o.id if edges is not None else "" for o in problem.ops if not o.stream}
    for e in edges or ():
        if e.src in part and e.dst in part and part[e.src] != part[e.dst]:
            old, new = part[e.dst], part[e.src]
            part = {v: new if p == old else p for v, p in part.items()}
    number = {p: i for i, p in enumerate(dict.fromkeys(part.values()))}
    room = max(1, problem.groups_max - 1)
    return {o.id: 0 if o.stream else 1 + number[part[o.id]] % room for o in problem.ops}


@dataclass(frozen=True)
class _Partial:
    """A plan under construction: the ops placed so far."""

    problem: Problem
    ii: int
    groups: dict[str, int]
    times: dict[str, int]

    def earliest(self, o: Op) -> int:
        """After everything that it depends on."""
        ins = [e for e in self.problem.edges if e.dst == o.id and e.src in self.times]
        return max([0, *(self.times[e.src] + self._length(e) - e.delta * self.ii for e in ins)])

    def latest(self, o: Op) -> int:
        """Before what depends on it in later iterations."""
        outs = [e for e in self.problem.edges if e.src == o.id and e.dst in self.times]
        return min([NEVER, *(self.times[e.dst] + e.delta * self.ii - self._length(e) for e in outs)])

    def _length(self, e: Edge) -> int:
        far = self.groups[e.src] != self.groups[e.dst]
        return after(self.problem, e.src, e.dst, e.d + (self.problem.crossing(e) if far else 0))

    def candidates(self, o: Op) -> list[int]:
        """The earliest cycle, and those where something placed ends, within one interval."""
        first = self.earliest(o)
        after = {first}
        for v, t in self.times.items():
            p = self.problem.op[v]
            for end in (1, p.cyc, *(s.offset + s.length for s in p.reserve)):
                after.add(first + (t + end - first) % self.ii)
        return sorted(t for t in after if t <= self.latest(o))

    def accepts(self, o: Op, t: int) -> bool:
        """Whether an op may issue at t, as far as units and waits go."""
        units = {s.unit for s in o.reserve}
        return self._undisturbed(o, t) and units_suffice(
            self.problem, {**self.times, o.id: t}, self.ii, units
        )

    def _undisturbed(self, o: Op, t: int) -> bool:
        """No op of the group is under way when one of them waits."""
        waiting = does_wait(self.problem, self.groups, o)
        for v in self.times:
            p, gap = self.problem.op[v], (t - self.times[v]) % self.ii
            if self.groups[v] != self.groups[o.id]:
                continue
            if waiting and gap < p.cyc:
                return False
            if -gap % self.ii < o.cyc and does_wait(self.problem, self.groups, p):
                return False
        return True


def _place(problem: Problem, order: list[Op], ii: int, groups: dict[str, int]) -> dict[str, int] | None:
    """Issue times, None where an op finds no cycle."""
    partial = _Partial(problem, ii, groups, {})
    for o in order:
        at = next((t for t in partial.candidates(o) if partial.accepts(o, t)), None)
        if at is None:
            return None
        partial.times[o.id] = at
    return {o.id: partial.times[o.id] for o in problem.ops}


def _complete(problem: Problem, plan: Schedule) -> Schedule | None:
    """Depths, offsets and budgets for the times; None if something does not fit."""
    depths = {b.id: least_depth(problem, plan, b) for b in problem.buffers if not b.alloc}
    if any(depths[b.id] > b.max_depth for b in problem.buffers if not b.alloc):
        return None
    offsets = _offsets(problem, replace(plan, depths=depths))
    if offsets is None:
        return None
    plan = replace(plan, depths=depths, offsets=offsets, registers=budgets(problem, plan))
    legal = _fits(problem, plan) and all(_granted(problem, plan, h) for h in problem.hints)
    return plan if legal else None


def least_depth(problem: Problem, plan: Schedule, b: Buffer, ties: bool = True) -> int:
    """The fewest slots for the times, or as many as a hint says.

    ``ties``: a read that ends in the cycle of the next write is too late for it (`after`).
    """
    ends = [plan.times[r.op] + (after(problem, r.op, b.writer, r.rd) if ties else r.rd) for r in b.readers]
    read = max(ends, default=0)
    least = max(1, -(-(read - plan.times[b.writer]) // plan.ii))
    wishes = [h.value for h in problem.hints if h.kind == "stages" and (not h.names or b.id in h.names)]
    return max([least, *wishes])


def _offsets(problem: Problem, plan: Schedule) -> dict[str, int] | None:
    """First fit in order of the buffers; one lives from its write to its last read."""
    offsets: dict[str, int] = {}
    room = {"smem": problem.limits.smem, "tmem": problem.limits.tmem}
    for b in problem.buffers:
        if not b.alloc:
            room[b.mem] -= b.size * plan.depths[b.id]
    if min(room.values()) < 0:
        return None
    for b in (b for b in problem.buffers if b.alloc):
        others = [a for a in problem.buffers if a.id in offsets and a.mem == b.mem and not _apart(plan, a, b)]
        ends = [0, *(-(-(offsets[a.id] + a.size) // b.align) * b.align for a in others)]
        free = (
            x
            for x in sorted(ends)
            if all(x >= offsets[a.id] + a.size or x + b.size <= offsets[a.id] for a in others)
        )
        offsets[b.id] = next(free)
        if offsets[b.id] + b.size > room[b.mem] or _life(plan, b) > plan.ii:
            return None
    return offsets


def _life(plan: Schedule, b: Buffer) -> int:
    return max([1, *(plan.times[r.op] + r.rd - plan.times[b.writer] for r in b.readers)])


def _apart(plan: Schedule, a: Buffer, b: Buffer) -> bool:
    """The lifetimes do not meet on the wheel."""
    gap = (plan.times[b.writer] - plan.times[a.writer]) % plan.ii
    return gap >= _life(plan, a) and plan.ii - gap >= _life(plan, b)


def _fits(problem: Problem, plan: Schedule) -> bool:
    """Registers of each group and of the file."""
    if any(p.total > most(problem) for p in pressures(problem, plan)):
        return False
    taken = sum(32 * warps(problem, plan, g) * r for g, r in plan.registers.items())
    return problem.limits.reg_file is None or taken <= problem.limits.reg_file


def _granted(problem: Problem, plan: Schedule, h: Hint) -> bool:
    """Whether a plan fulfils a hint."""
    if h.kind == "stages":
        return all(n == h.value for b, n in plan.depths.items() if not h.names or b in h.names)
    if h.kind == "registers":
        return all(n <= h.value for g, n in plan.registers.items() if g)
    if h.kind == "ii":
        return plan.ii <= h.value
    used = {plan.groups[v] for v in h.names or plan.groups}
    if h.kind == "groups":
        return len(used) == h.value
    return len(used) == (1 if h.kind == "together" else len(h.names))
