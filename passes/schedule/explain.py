"""Why a loop's interval is what it is, in words: each statement is computed from the problem and the plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from tilec.ir.errors import SolverUnknownError
from tilec.passes.schedule.baselines import Baseline, sentence
from tilec.passes.schedule.bounds import NEVER
from tilec.passes.schedule.cores import conflicting_hints, small_core
from tilec.passes.schedule.goals import slack
from tilec.passes.schedule.heuristic import serial_length
from tilec.passes.schedule.model import Answer, Bound, Problem, Schedule
from tilec.passes.schedule.reasons import MEMORY, Reason, of_bound, of_core, of_hints
from tilec.passes.schedule.registers import pressures

CORE_RLIMIT = 50_000_000
"""z3 resource units for a minimal core; attention loops take less than a tenth."""


@dataclass(frozen=True)
class UnitLoad:
    """``cycles`` times instances of ``count`` that an iteration holds, and the share of the interval."""

    unit: str
    count: int
    cycles: int
    share: float


@dataclass(frozen=True)
class GroupRow:
    """A group's program: "QKa@0" issues in cycle 0 of the interval, "+1" one interval later.

    ``busy``: cycles that the group itself spends. ``registers``: per thread, the most that it
    holds, at the issue of ``peak``; ``budget`` is what it gets.
    """

    number: int
    order: tuple[str, ...]
    busy: int
    share: float
    registers: int
    budget: int
    peak: str


@dataclass(frozen=True)
class RingRow:
    """A buffer: slots, size of one, and cycles from its write to the end of its last read."""

    id: str
    mem: str
    size: int
    depth: int
    offset: int | None
    life: int


@dataclass(frozen=True)
class Explanation:
    """What `explain` found. ``reasons`` say why the interval is not smaller, or why there is none.

    ``slack``: cycles by which all blocking and crossing latencies may grow while these very
    issue times stay legal.
    """

    name: str
    machine: str
    status: str
    ii: int | None
    bound: Bound
    reasons: tuple[Reason, ...]
    units: tuple[UnitLoad, ...] = ()
    groups: tuple[GroupRow, ...] = ()
    rings: tuple[RingRow, ...] = ()
    memory: tuple[tuple[str, int, int], ...] = ()
    slack: int = 0
    goals: tuple[tuple[str, int, bool], ...] = ()
    compared: str = ""

    @property
    def headline(self) -> str:
        """The interval and how far it is proven."""
        return _headline(self)

    @property
    def why(self) -> tuple[str, ...]:
        """The reasons, after a line that says what they are reasons of."""
        return tuple(line.strip() for line in _why(self))

    def to_text(self) -> str:
        """For people: about fifteen lines."""
        return "\n".join(_lines(self))

    def to_json(self) -> dict[str, Any]:
        """The fields as plain data."""
        data: dict[str, Any] = asdict(self)
        return data


def explain(
    problem: Problem,
    answer: Answer,
    found: tuple[Baseline, ...] = (),
    *,
    core: bool = True,
    rlimit: int = CORE_RLIMIT,
) -> Explanation:
    """Explain an answer of `solve`; ``found`` are baselines to compare with.

    Without ``core`` the solver is not asked: closed forms and hints in conflict are the only
    reasons. Where the budget does not suffice for a minimal core, that is the reason given.
    """
    plan = answer.schedule
    reasons = _asked(problem, answer, rlimit) if core else _known(problem, answer)
    head = (
        problem.name,
        problem.limits.name,
        answer.status,
        plan.ii if plan else None,
        answer.bound,
        reasons,
    )
    compared = sentence(problem, answer, found) if found else ""
    if plan is None:
        return Explanation(*head, compared=compared)
    return Explanation(
        *head,
        tuple(_units(problem, plan)),
        tuple(_groups(problem, plan)),
        tuple(_rings(problem, plan)),
        tuple(_memory(problem, plan)),
        slack(problem, plan),
        answer.goals,
        compared,
    )


def _known(problem: Problem, answer: Answer) -> tuple[Reason, ...]:
    """The reasons that need no solver."""
    if answer.status == "infeasible" and answer.bound.value == NEVER:
        return (_never(problem, answer.bound),)
    return of_hints(problem, answer.conflicts) or of_bound(problem, answer.bound)


def _asked(problem: Problem, answer: Answer, rlimit: int) -> tuple[Reason, ...]:
    try:
        return _reasons(problem, answer, rlimit)
    except SolverUnknownError:
        return (Reason("open", "z3's budget ended before the constraints that do it were found"),)


def _reasons(problem: Problem, answer: Answer, rlimit: int) -> tuple[Reason, ...]:
    """A closed form explains itself; a refuted range is narrowed to a minimal core."""
    bound = answer.bound
    if answer.status == "infeasible":
        return _infeasible(problem, answer, rlimit)
    if bound.kind == "range":
        return _core(problem, bound.value - 1, rlimit)
    return of_bound(problem, bound)


def _core(problem: Problem, at_most: int, rlimit: int) -> tuple[Reason, ...]:
    """What rules out every interval up to a value; the last reason says if some may be too many."""
    labels, minimal = small_core(problem, at_most, rlimit)
    more = () if minimal else (Reason("open", "not proven is that each of these is needed"),)
    return (*of_core(problem, labels), *more)


def _infeasible(problem: Problem, answer: Answer, rlimit: int) -> tuple[Reason, ...]:
    """What rules out every interval, with those hints that are to blame."""
    if answer.bound.value == NEVER:
        return (_never(problem, answer.bound),)
    blamed = answer.conflicts or conflicting_hints(problem, rlimit)
    hints = tuple(h for h in problem.hints if h.id in blamed)
    problem = replace(problem, hints=hints)
    core = _core(problem, _largest(problem), rlimit)
    most = problem.groups_max
    return core or (Reason("groups", f"at most {most} group{'s' * (most != 1)}, that of the loads counted"),)


def _largest(problem: Problem) -> int:
    """If no interval up to this one has a plan, none has."""
    wished = [h.value for h in problem.hints if h.kind == "ii"]
    return min([serial_length(problem), *wished])


def _never(problem: Problem, bound: Bound) -> Reason:
    if bound.kind == "cycle":
        return Reason("cycle", f"{' -> '.join(bound.names)} wait for each other in one iteration")
    return Reason("unit", f"{bound.names[1]} takes more of {bound.names[0]} than there is")


def _units(problem: Problem, plan: Schedule) -> Iterator[UnitLoad]:
    """The units that are used, fullest first."""
    rows = [
        UnitLoad(unit, count, problem.load[unit], problem.load[unit] / (count * plan.ii))
        for unit, count in problem.limits.units
        if problem.load[unit]
    ]
    yield from sorted(rows, key=lambda r: -r.share)


def _groups(problem: Problem, plan: Schedule) -> Iterator[GroupRow]:
    for group in sorted(set(plan.groups.values())):
        order = plan.order(group)
        busy = sum(problem.op[v].cyc for v in order)
        held = [(p.total, p.op.id) for p in pressures(problem, plan) if p.group == group]
        most, peak = max(held, key=lambda h: h[0], default=(0, ""))
        steps = tuple(_step(plan, v) for v in order)
        yield GroupRow(group, steps, busy, busy / plan.ii, most, plan.registers[group], peak)


def _step(plan: Schedule, v: str) -> str:
    first = min(map(plan.stage, plan.times))
    stage = plan.stage(v) - first
    return f"{v}@{plan.times[v] % plan.ii}" + (f"+{stage}" if stage else "")


def _rings(problem: Problem, plan: Schedule) -> Iterator[RingRow]:
    for b in problem.buffers:
        life = max(plan.times[r.op] + r.rd for r in b.readers) - plan.times[b.writer] if b.readers else 0
        yield RingRow(b.id, b.mem, b.size, plan.depths.get(b.id, 1), plan.offsets.get(b.id), life)


def _memory(problem: Problem, plan: Schedule) -> Iterator[tuple[str, int, int]]:
    """Each memory that has buffers: how much is used, of how much."""
    for mem, size in (("smem", problem.limits.smem), ("tmem", problem.limits.tmem)):
        mine = [b for b in problem.buffers if b.mem == mem]
        top = max((plan.offsets[b.id] + b.size for b in mine if b.alloc), default=0)
        if mine:
            yield mem, top + sum(b.size * plan.depths[b.id] for b in mine if not b.alloc), size


def _lines(x: Explanation) -> Iterator[str]:
    yield f"{x.name}{f' on {x.machine}' if x.machine else ''}: {_headline(x)}"
    yield from _why(x)
    if x.ii is not None:
        yield "  units: " + ", ".join(f"{u.unit} {u.share:.0%}" for u in x.units)
        for g in x.groups:
            yield from _group(g)
        for mem, used, size in x.memory:
            rows = ", ".join(_ring(r) for r in x.rings if r.mem == mem)
            yield f"  {MEMORY[mem][1]}: {used} of {size} {MEMORY[mem][0]}: {rows}"
        yield f"  slack: every wait may take {x.slack} cycles more before these issue times break"
    if x.goals:
        shown = [f"{name} {value}{'' if proven else ' (not proven)'}" for name, value, proven in x.goals]
        yield "  goals, in order: " + ", ".join(shown)
    if x.compared:
        yield "  compared: " + x.compared.partition(": ")[2]


def _headline(x: Explanation) -> str:
    if x.ii is None:
        known = {"infeasible": "there is no plan", "unknown": "no plan was found within the budget"}
        return known.get(x.status, x.status)
    if x.bound.value == x.ii:
        return f"an iteration every {x.ii} cycles, and no plan has fewer"
    return f"an iteration every {x.ii} cycles; proven is that no plan has fewer than {x.bound.value}"


def _why(x: Explanation) -> Iterator[str]:
    """The reasons, after a line that says what they are reasons of."""
    least = f"{x.bound.low} to {x.bound.value - 1}"
    if x.ii is None and x.status == "infeasible" and x.reasons:
        yield "  these cannot hold together:"
    elif x.bound.kind == "range" and x.reasons:
        needed = "" if x.reasons[-1].kind == "open" else ", and none of them can be left out"
        yield f"  these rule out {least} cycles{needed}:"
    elif x.bound.kind == "range":
        yield f"  z3 refuted {least} cycles; `tilec explain` says which constraints do that"
    elif x.reasons:
        yield f"  why not fewer than {x.bound.value}:"
    yield from (f"    {r.to_text()}" for r in x.reasons)


def _group(g: GroupRow) -> Iterator[str]:
    name = "loads" if g.number == 0 else f"group {g.number}"
    regs = f", {g.registers} registers at {g.peak}, budget {g.budget}" if g.peak else ""
    yield f"  {name}, busy {g.busy} cycles ({g.share:.0%}){regs}:"
    yield "    " + " ".join(g.order)


def _ring(r: RingRow) -> str:
    place = f"{r.depth} x {r.size}" if r.offset is None else f"{r.size} at {r.offset}"
    return f"{r.id} {place} in use for {r.life} cycles"
