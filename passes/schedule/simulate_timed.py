"""Timed: every op issues in exactly its scheduled cycle, and each rule that this breaks is a fault.

Counted over events in time, not over a wheel of ii cycles: nothing here knows that the
schedule repeats itself, so enough iterations must run for all of its overlaps to occur
(`settled`). Of opposite predicates both arms run and the larger one counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import combinations_with_replacement
from typing import NamedTuple

from tilec.passes.schedule.model import Buffer
from tilec.passes.schedule.simulate_plan import Plan
from tilec.passes.schedule.simulate_run import Fault


class Span(NamedTuple):
    """``amount`` of something is held in [start, end) by a name, under a predicate."""

    start: int
    end: int
    amount: int
    name: str
    predicate: str | None = None


def faults(plan: Plan) -> tuple[Fault, ...]:
    """The first fault of each kind and subject, in order of time. Empty: every rule held."""
    found: dict[tuple[str, str], Fault] = {}
    for fault in (
        *_values(plan),
        *_units(plan),
        *_waits(plan),
        *_rings(plan),
        *_places(plan),
        *_registers(plan),
    ):
        key = (fault.kind, fault.text)
        if key not in found or fault.cycle < found[key].cycle:
            found[key] = fault
    return tuple(sorted(found.values(), key=lambda f: (f.cycle, f.kind, f.text)))


def settled(plan: Plan) -> int:
    """Iterations after which every overlap of the steady state has occurred."""
    problem, schedule = plan.problem, plan.schedule
    longest = [s.offset + s.length for o in problem.ops for s in o.reserve] + [o.cyc for o in problem.ops]
    longest += [r.rd for b in problem.buffers for r in b.readers] + [e.rd for e in problem.edges]
    back = [e.delta for e in problem.edges] + list(schedule.depths.values())
    windows = (max(schedule.times.values(), default=0) + max(longest, default=0)) // schedule.ii
    return 2 * windows + max(back, default=0) + 3


def _values(plan: Plan) -> Iterator[Fault]:
    for e in plan.problem.edges:
        for i in range(e.delta, plan.iterations):
            source = (e.src, i - e.delta)
            ready = plan.at(*source) + plan.delay(e) + plan.late.get(source, 0)
            if plan.at(e.dst, i) < ready:
                yield Fault("dependence", plan.at(e.dst, i), f"{e.dst} reads {e.src} before it is there")


def _units(plan: Plan) -> Iterator[Fault]:
    for unit, count in plan.problem.limits.units:
        spans = [
            Span(
                plan.at(o.id, i) + s.offset,
                plan.at(o.id, i) + s.offset + s.length,
                s.amount,
                o.id,
                o.predicate,
            )
            for i in range(plan.iterations)
            for o in plan.problem.ops
            for s in o.reserve
            if s.unit == unit
        ]
        for cycle, used in _sweep(spans):
            if used > count:
                yield Fault("unit", cycle, f"{unit} is held more than {count} times")
                break


def _sweep(spans: Iterable[Span]) -> Iterator[tuple[int, int]]:
    """How much is held after each change, of opposite predicates the larger arm."""
    changes: dict[int, list[tuple[str | None, int]]] = defaultdict(list)
    for s in spans:
        if s.start < s.end:
            changes[s.start].append((s.predicate, s.amount))
            changes[s.end].append((s.predicate, -s.amount))
    held: dict[str | None, int] = defaultdict(int)
    for cycle in sorted(changes):
        for predicate, amount in changes[cycle]:
            held[predicate] += amount
        names = {p.lstrip("!") for p in held if p is not None}
        yield cycle, held[None] + sum(max(held.get(n, 0), held.get("!" + n, 0)) for n in names)


def _waits(plan: Plan) -> Iterator[Fault]:
    """A group at a wait has no other code under way."""
    for ops in plan.groups.values():
        for v in (v for v in ops if v in plan.waiting):
            for o in (o for o in ops if o != v and plan.problem.op[o].cyc > 0):
                yield from _straddled(plan, v, o)


def _straddled(plan: Plan, v: str, o: str) -> Iterator[Fault]:
    cyc, ii = plan.problem.op[o].cyc, plan.schedule.ii
    for i in range(plan.iterations):
        cycle = plan.at(v, i)
        last = min((cycle - plan.schedule.times[o]) // ii, plan.iterations - 1)
        if last >= 0 and cycle < plan.at(o, last) + cyc:
            yield Fault("wait", cycle, f"{v} waits while {o} is under way")
            return


def _rings(plan: Plan) -> Iterator[Fault]:
    for b in (b for b in plan.problem.buffers if not b.alloc):
        depth = plan.schedule.depths[b.id]
        for i in range(depth, plan.iterations):
            for r in b.readers:
                if plan.at(b.writer, i) < plan.at(r.op, i - depth) + r.rd:
                    yield Fault(
                        "ring", plan.at(b.writer, i), f"{b.id} is written while {r.op} reads the slot"
                    )


def _places(plan: Plan) -> Iterator[Fault]:
    """Two tenants of one place, or one tenant twice."""
    placed = [b for b in plan.problem.buffers if b.alloc]
    for a, b in combinations_with_replacement(placed, 2):
        if a.mem != b.mem or not _meet(plan, a, b):
            continue
        spans = sorted((*_lives(plan, a), *(() if a is b else _lives(plan, b))))
        for cycle, used in _sweep(spans):
            if used > 1:
                yield Fault("place", cycle, f"{a.id} and {b.id} lie in the same place")
                break


def _meet(plan: Plan, a: Buffer, b: Buffer) -> bool:
    at = plan.schedule.offsets
    return at[a.id] < at[b.id] + b.size and at[b.id] < at[a.id] + a.size


def _lives(plan: Plan, b: Buffer) -> Iterator[Span]:
    for i in range(plan.iterations):
        start = plan.at(b.writer, i)
        yield Span(start, max([start + 1, *(plan.at(r.op, i) + r.rd for r in b.readers)]), 1, b.id)


def _registers(plan: Plan) -> Iterator[Fault]:
    """Live results of each group, cycle by cycle, against its budget; the producer has none."""
    for group, ops in ((g, ops) for g, ops in plan.groups.items() if g):
        fixed = plan.problem.limits.reg_fixed + sum(plan.problem.op[v].pinned for v in ops)
        budget = plan.schedule.registers.get(group, 0)
        spans = (s for v in ops if plan.problem.op[v].regs for s in _held(plan, v))
        peak = max(((used, -cycle) for cycle, used in _sweep(spans)), default=(0, 0))
        if fixed + peak[0] > budget:
            text = f"group {group} holds {fixed + peak[0]} registers of {budget}"
            yield Fault("registers", -peak[1], text)


def _held(plan: Plan, u: str) -> Iterator[Span]:
    """A result lives until its readers have it, those of iterations that never run included."""
    reads = [e for e in plan.problem.edges if e.src == u and e.mem == "reg"]
    for i in range(plan.iterations):
        ends = [plan.at(e.dst, i + e.delta) + max(1, e.rd) for e in reads]
        start = plan.at(u, i)
        yield Span(start, max(ends, default=start + 1), plan.problem.op[u].regs, u)
