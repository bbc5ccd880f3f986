"""Registers of the groups: counted exactly for a plan, and forbidden lazily to the solver.

The count depends on which values are held when an op issues. Stating that for every op, value
and number of copies costs fifty times what the rest does; so the solver first answers without,
and a plan that holds too much is answered by a clause against just that combination. A clause
is true for every interval and is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tilec.passes.schedule.encode import FALSE, TRUE, Encoding
from tilec.passes.schedule.model import Edge, Op, Problem, Schedule
from tilec.passes.schedule.smt import Clause, Sum, negate, number, total

LEAST = 24  # the fewest registers per thread that setmaxnreg gives (PTX ISA)


@dataclass(frozen=True)
class Held:
    """``copies`` of a value are held until ``reader`` (None: nobody reads it)."""

    value: Op
    copies: int
    reader: Edge | None

    @property
    def registers(self) -> int:
        return self.value.regs * self.copies


@dataclass(frozen=True)
class Pressure:
    """What the group of ``op`` holds when it issues: ``fixed``, accumulators and live values."""

    op: Op
    group: int
    fixed: int
    pinned: tuple[Op, ...]
    held: tuple[Held, ...]

    @property
    def always(self) -> int:
        return self.fixed + sum(o.pinned for o in self.pinned)

    @property
    def total(self) -> int:
        return self.always + sum(h.registers for h in self.held)


def pressures(problem: Problem, plan: Schedule) -> Iterator[Pressure]:
    """The registers per thread at the issue of each op that is not a stream."""
    values = [(o, plan.times[o.id], *_last_read(problem, plan, o)) for o in problem.ops if o.regs]
    for e in problem.ops:
        if e.stream:
            continue
        group, now = plan.groups[e.id], plan.times[e.id]
        held = []
        for o, start, end, reader in values:
            copies = (now - start) // plan.ii - (now - end) // plan.ii
            if plan.groups[o.id] == group and copies > 0:
                held.append(Held(o, copies, reader))
        pinned = tuple(o for o in problem.ops if o.pinned and plan.groups[o.id] == group)
        yield Pressure(e, group, problem.limits.reg_fixed, pinned, tuple(held))


def _last_read(problem: Problem, plan: Schedule, value: Op) -> tuple[int, Edge | None]:
    """When a value's register is free again, and the edge that holds it longest."""
    end, reader = plan.times[value.id] + 1, None
    for e in problem.edges:
        if e.src == value.id and e.mem == "reg":
            until = plan.times[e.dst] + e.delta * plan.ii + max(1, e.rd)
            if reader is None or until > end:
                end, reader = until, e
    return end, reader


def budgets(problem: Problem, plan: Schedule) -> dict[int, int]:
    """The least budget of each group that is used."""
    need = dict.fromkeys(sorted(set(plan.groups.values())), LEAST)
    for p in pressures(problem, plan):
        need[p.group] = max(need[p.group], p.total)
    step = problem.limits.reg_step
    return {g: -(-n // step) * step for g, n in need.items()}


def warps(problem: Problem, plan: Schedule, group: int) -> int:
    """Warps of a group, in whole warpgroups, as budgets are given."""
    return max(_whole(o.min_warps) for o in problem.ops if plan.groups[o.id] == group)


def _whole(count: int) -> int:
    return -(-count // 4) * 4


def most(problem: Problem) -> int:
    """The largest budget that a group may have."""
    return problem.limits.reg_limit // problem.limits.reg_step * problem.limits.reg_step


# What the solver is told at the start


def limit(enc: Encoding) -> None:
    """Accumulators against the limit; budgets, where something depends on them."""
    problem = enc.problem
    pinned = [o for o in problem.ops if o.pinned and not o.stream]
    room = most(problem) - problem.limits.reg_fixed
    for g in enc.numbers[1:]:
        terms = [f"(ite {enc.runs_in(enc.index[o.id], g)} {o.pinned} 0)" for o in pinned]
        if sum(o.pinned for o in pinned) > room:
            enc.add("registers", [(f"(<= {total(terms)} {number(room)})",)])
        if has_budgets(problem):
            _budget(enc, g, terms)
    if problem.limits.reg_file is not None:
        _file(enc, problem.limits.reg_file)


def has_budgets(problem: Problem) -> bool:
    """Whether budgets are variables; else each group simply takes what it needs."""
    return problem.limits.reg_file is not None or any(h.kind == "registers" for h in problem.hints)


def _budget(enc: Encoding, g: int, pinned: list[str]) -> None:
    """b counts steps of registers."""
    limits = enc.problem.limits
    enc.integer(f"b{g}", -(-LEAST // limits.reg_step), most(enc.problem) // limits.reg_step)
    need = total([*pinned, number(limits.reg_fixed)])
    enc.add("registers", [(f"(>= (* {limits.reg_step} b{g}) {need})",)])


def _file(enc: Encoding, registers: int) -> None:
    """All used groups together; x is what a group takes of the file."""
    problem, step, taken = enc.problem, enc.problem.limits.reg_step, []
    streams = [_whole(o.min_warps) for o in problem.ops if o.stream]
    producer = 32 * max(streams, default=0) * -(-LEAST // step) * step
    for g in enc.numbers[1:]:
        taken.append(enc.integer(f"x{g}", 0))
        for size, v in sorted({(_whole(o.min_warps), enc.head[v]) for v, o in enumerate(problem.ops)}):
            member = enc.runs_in(v, g)
            if member != FALSE:
                enc.add("file", [(negate(member), f"(>= x{g} (* {32 * size * step} b{g}))")])
    enc.add("file", [(f"(<= {total([*taken, number(producer)])} {registers})",)])


# What it is told after a plan that holds too much


def refuse(enc: Encoding, plan: Schedule, wishes: list[int]) -> bool:
    """Whether a plan holds too many registers; then clauses against it are added.

    ``wishes``: the values of those hints on registers that are assumed.
    """
    problem = enc.problem
    if "registers" in enc.dropped:
        return False
    bad = [p for p in pressures(problem, plan) if p.total > most(problem)]
    for p in bad:
        enc.add("registers", [_against(enc, p, _smallest(p, most(problem)))])
    if not bad and has_budgets(problem):
        bad = _over_budget(enc, plan, wishes)
        least = min(wishes, default=most(problem))
        for p in bad:
            held = _smallest(p, least) if p.total > least else p.held
            _raise_budget(enc, p, held)
    return bool(bad)


def _over_budget(enc: Encoding, plan: Schedule, wishes: list[int]) -> list[Pressure]:
    """The peaks of the groups whose budgets exceed a wish or, all together, the file."""
    problem = enc.problem
    need = budgets(problem, plan)
    peak = {
        g: max((p for p in pressures(problem, plan) if p.group == g), key=lambda p: p.total)
        for g in need
        if g
    }
    least = min(wishes, default=most(problem))
    over = [p for g, p in peak.items() if need[g] > least]
    taken = sum(32 * warps(problem, plan, g) * need[g] for g in need)
    file = None if "file" in enc.dropped else problem.limits.reg_file
    return over or ([*peak.values()] if file is not None and taken > file else [])


def _smallest(p: Pressure, allowed: int) -> tuple[Held, ...]:
    """Few values, the largest first, and as few copies as break ``allowed``."""
    chosen, sum_ = [], p.always
    for h in sorted(p.held, key=lambda h: -h.registers):
        if sum_ <= allowed:
            copies = min(h.copies, (allowed - sum_) // h.value.regs + 1)
            chosen.append(Held(h.value, copies, h.reader))
            sum_ += copies * h.value.regs
    return tuple(chosen)


def _against(enc: Encoding, p: Pressure, held: tuple[Held, ...]) -> Clause:
    """Not all of these in the group of p at its issue."""
    e = enc.index[p.op.id]
    values = [*p.pinned, *(h.value for h in held)]
    near = dict.fromkeys(enc.same(enc.index[o.id], e) for o in values)
    return (*(negate(x) for x in near if x != TRUE), *(negate(_alive(enc, h, e)) for h in held))


def _raise_budget(enc: Encoding, p: Pressure, held: tuple[Held, ...]) -> None:
    """In whatever group this happens, the budget covers it."""
    e, clause = enc.index[p.op.id], _against(enc, p, held)
    need = p.always + sum(h.registers for h in held)
    for g in enc.numbers[1:]:
        covered = f"(>= (* {enc.problem.limits.reg_step} b{g}) {need})"
        enc.add("registers", [(negate(enc.runs_in(e, g)), *clause, covered)])


def _alive(enc: Encoding, h: Held, e: int) -> str:
    """The literal that must be true where at least ``copies`` of a value are held when op e issues."""
    u, edges = enc.index[h.value.id], enc.problem.edges
    reader = "n" if h.reader is None else str(edges.index(h.reader))
    name = f"h{u}_{e}_{reader}_{h.copies}"
    if name not in enc.seen:
        enc.boolean(name)
        for clause in _dead(enc, u, e, h.reader, h.copies):
            enc.require((name, *clause))
    return name


def _dead(enc: Encoding, u: int, e: int, reader: Edge | None, copies: int) -> Iterator[Clause]:
    """Fewer than ``copies`` of u's value are held when e issues, as far as one reader goes.

    The stage of e cancels out, so the clauses hold for all of its iterations.
    """
    if reader is None:
        yield enc.reaches(enc.gap(u, e), 1), enc.reaches(enc.gap(e, u), 1)
        return
    v, rd = enc.index[reader.dst], max(1, reader.rd)
    k = (
        Sum((f"s{u}",), (f"s{v}",), copies - 1 - reader.delta)
        if u != v
        else Sum(const=copies - 1 - reader.delta)
    )
    before = enc.reaches(enc.gap(e, u), 1) if u != e else FALSE
    for clause in enc.at_least(k, enc.gap(v, e), rd):
        yield (before, *clause)
    if before != FALSE:
        for clause in enc.at_least(k.add(1), enc.gap(v, e), rd):
            yield (negate(before), *clause)
