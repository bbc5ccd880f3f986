"""Goals that choose among plans of one interval: what each measures, and how z3 hears of it.

Plans of equal interval have differed three times in speed elsewhere (facebookexperimental/triton,
paper_joint_solver), so the order of the goals is part of the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import gcd

from tilec.ir.errors import TilecValueError
from tilec.passes.schedule.encode import FALSE, TRUE, Encoding
from tilec.passes.schedule.model import Edge, Op, Problem, Schedule
from tilec.passes.schedule.smt import negate, number, total
from tilec.passes.schedule.structure import does_wait

OBJECTIVES = {
    "fewest": ("groups", "crossing", "span", "stages", "bytes", "slack"),
    "balanced": ("busy", "waits", "groups", "crossing"),
}


def names_of(objective: str | tuple[str, ...]) -> tuple[str, ...]:
    """The goals of an objective, in order."""
    names = OBJECTIVES.get(objective, (objective,)) if isinstance(objective, str) else objective
    unknown = [n for n in names if n not in MEASURES and n != "slack"]
    if unknown:
        known = ", ".join([*OBJECTIVES, *MEASURES, "slack"])
        raise TilecValueError("V131", f"there is no goal {unknown[0]!r}", help=f"known are {known}")
    return names


def measure(problem: Problem, plan: Schedule, goal: str) -> int:
    """A goal's value for a plan; all but "slack" are to be small.

    "groups" that are used. "crossing": values that cross groups, bulk loads aside. "span":
    how long carried values are under way, and the places of products taken: sum over edges
    to later iterations of t_src - t_dst where positive. "stages": the last stage. "bytes" of
    all rings in shared memory. "busy": cycles of the busiest group, producer aside. "waits" in
    groups that run SIMT code.
    """
    return MEASURES[goal](problem, plan)


def _groups(problem: Problem, plan: Schedule) -> int:
    return len(set(plan.groups.values()))


def _crossing(problem: Problem, plan: Schedule) -> int:
    return sum(plan.groups[e.src] != plan.groups[e.dst] for e in values(problem))


def values(problem: Problem) -> list[Edge]:
    """Edges that carry a value which some group makes."""
    return [e for e in problem.edges if e.src != e.dst and e.mem != "ord" and not problem.op[e.src].stream]


def _span(problem: Problem, plan: Schedule) -> int:
    return sum(max(0, plan.times[e.src] - plan.times[e.dst]) for e in carried(problem))


def carried(problem: Problem) -> list[Edge]:
    """Edges to later iterations."""
    return [e for e in problem.edges if e.delta and e.src != e.dst]


def _stages(problem: Problem, plan: Schedule) -> int:
    return max((plan.stage(o.id) for o in problem.ops), default=0)


def _bytes(problem: Problem, plan: Schedule) -> int:
    return sum(b.size * plan.depths[b.id] for b in problem.buffers if not b.alloc and b.mem == "smem")


def _busy(problem: Problem, plan: Schedule) -> int:
    cycles = [
        sum(o.cyc for o in problem.ops if plan.groups[o.id] == g) for g in set(plan.groups.values()) if g
    ]
    return max(cycles, default=0)


def _waits(problem: Problem, plan: Schedule) -> int:
    code = {plan.groups[o.id] for o in problem.ops if simt(o)}
    return sum(
        plan.groups[o.id] in code and does_wait(problem, plan.groups, o) for o in problem.ops if not o.stream
    )


def simt(o: Op) -> bool:
    """Whether a group's threads do the work themselves: they are busy as long as the units are."""
    held = max((s.offset + s.length for s in o.reserve), default=1)
    return not o.stream and o.cyc >= held


MEASURES: dict[str, Callable[[Problem, Schedule], int]] = {
    "groups": _groups,
    "crossing": _crossing,
    "span": _span,
    "stages": _stages,
    "bytes": _bytes,
    "busy": _busy,
    "waits": _waits,
}


def slower(problem: Problem, extra: int) -> Problem:
    """The problem with ``extra`` cycles on every blocking edge and on every crossing of groups."""
    edges = tuple(replace(e, d=e.d + extra) if e.blocking and e.mem != "ord" else e for e in problem.edges)
    limits = replace(problem.limits, hop=problem.limits.hop + extra, sync=problem.limits.sync + extra)
    return replace(problem, edges=edges, limits=limits)


def slack(problem: Problem, plan: Schedule) -> int:
    """How much slower blocking edges and crossings may be before these very issue times break."""
    room = [plan.ii]
    for e in problem.edges:
        far = plan.groups[e.src] != plan.groups[e.dst]
        share = int(e.mem != "ord") * (int(e.blocking) + int(far))
        gap = plan.times[e.dst] + e.delta * plan.ii - plan.times[e.src]
        if share:
            room.append((gap - e.d - far * problem.crossing(e)) // share)
    return min(room)


def least(problem: Problem, ii: int, goal: str) -> int:
    """A lower bound of a goal at an interval, without a solver."""
    if goal == "groups":
        return int(any(o.stream for o in problem.ops)) + int(any(not o.stream for o in problem.ops))
    if goal == "span":
        return sum(max(0, _distance(problem, ii, e.dst, e.src)) for e in carried(problem))
    if goal == "bytes":
        return sum(b.size for b in problem.buffers if not b.alloc and b.mem == "smem")
    if goal == "busy":
        total_cycles = sum(o.cyc for o in problem.ops if not o.stream)
        return -(-total_cycles // max(1, problem.groups_max - 1))
    return 0


def _distance(problem: Problem, ii: int, src: str, dst: str) -> int:
    """The longest path of dependences between two ops, -ii without one."""
    far = {src: 0}
    for _ in problem.ops:
        for e in problem.edges:
            if e.src in far and far[e.src] + e.d - e.delta * ii > far.get(e.dst, -(2**62)):
                far[e.dst] = far[e.src] + e.d - e.delta * ii
    return far.get(dst, -ii)


# For the solver


def term(enc: Encoding, goal: str) -> tuple[str, int]:
    """An integer that is at least the goal divided by a step, and the step."""
    return TERMS[goal](enc)


def _groups_term(enc: Encoding) -> tuple[str, int]:
    """Groups are used without gaps: the last one tells."""
    last = enc.integer("xg", 0)
    streams = any(o.stream for o in enc.problem.ops)
    for v in set(enc.head):
        for g in enc.numbers[1:]:
            enc.require((negate(enc.runs_in(v, g)), f"(>= {last} {g})"))
    return f"(+ {last} 1)" if streams else last, 1


def _crossing_term(enc: Encoding) -> tuple[str, int]:
    near = [enc.same(enc.index[e.src], enc.index[e.dst]) for e in values(enc.problem)]
    return total([f"(ite {x} 0 1)" if x not in (TRUE, FALSE) else str(int(x == FALSE)) for x in near]), 1


def _span_term(enc: Encoding) -> tuple[str, int]:
    """The interval is a constant here, so times are linear."""
    parts = []
    for i, e in enumerate(carried(enc.problem)):
        part = enc.integer(f"xe{i}", 0)
        src, dst = (f"(+ (* {enc.low} s{enc.index[v]}) r{enc.index[v]})" for v in (e.src, e.dst))
        enc.require((f"(>= {part} (- {src} {dst}))",))
        parts.append(part)
    return total(parts), 1


def _stages_term(enc: Encoding) -> tuple[str, int]:
    last = enc.integer("xs", 0)
    for v in range(len(enc.problem.ops)):
        enc.require((f"(>= {last} s{v})",))
    return last, 1


def _bytes_term(enc: Encoding) -> tuple[str, int]:
    rings = [(i, b) for i, b in enumerate(enc.problem.buffers) if not b.alloc and b.mem == "smem"]
    step = gcd(*(b.size for _, b in rings)) or 1
    return total([f"(* {b.size // step} d{i})" for i, b in rings]), step


def _busy_term(enc: Encoding) -> tuple[str, int]:
    most = enc.integer("xb", 0)
    ops = [(v, o) for v, o in enumerate(enc.problem.ops) if o.cyc and not o.stream]
    for g in enc.numbers[1:]:
        cycles = [f"(ite {enc.runs_in(v, g)} {o.cyc} 0)" for v, o in ops]
        enc.require((f"(>= {most} {total(cycles)})",))
    return most, 1


def _waits_term(enc: Encoding) -> tuple[str, int]:
    """y3: op 3 waits among SIMT code; c2: group 2 runs such code."""
    terms, ops = [], enc.problem.ops
    for g in enc.numbers[1:]:
        enc.boolean(f"c{g}")
        for v in dict.fromkeys(enc.head[v] for v, o in enumerate(ops) if simt(o)):
            enc.require((negate(enc.runs_in(v, g)), f"c{g}"))
    for v, o in enumerate(ops):
        wait = FALSE if o.stream else enc.waits(v)
        if wait != FALSE:
            terms.append(f"(ite {enc.boolean(f'y{v}')} 1 0)")
            for g in enc.numbers[1:]:
                enc.require((negate(wait), negate(enc.runs_in(v, g)), negate(f"c{g}"), f"y{v}"))
    return total(terms or [number(0)]), 1


TERMS: dict[str, Callable[[Encoding], tuple[str, int]]] = {
    "groups": _groups_term,
    "crossing": _crossing_term,
    "span": _span_term,
    "stages": _stages_term,
    "bytes": _bytes_term,
    "busy": _busy_term,
    "waits": _waits_term,
}
