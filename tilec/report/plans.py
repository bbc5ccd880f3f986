"""A plan as the report's document has it: what it is, why it is not faster, and all that is drawn of it."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from tilec.ir.errors import SolverUnknownError
from tilec.passes.schedule.baselines import LIST
from tilec.passes.schedule.certificate import certificate
from tilec.passes.schedule.cores import small_core
from tilec.passes.schedule.document import answer_data
from tilec.passes.schedule.explain import Explanation, GroupRow, RingRow, explain
from tilec.passes.schedule.model import Bound, Edge, Problem, Schedule
from tilec.passes.schedule.registers import pressures
from tilec.report.bars import bars, group_name, lanes, length, life, origin
from tilec.report.front import Point, groups, registers, smem


def plan_data(point: Point, names: tuple[str, ...], rlimit: int) -> dict[str, Any]:
    """The document of a plan. The solver is asked for reasons only where the plan is the chosen one."""
    problem, plan, chosen = point.problem, point.plan, point.kind == "chosen"
    asked = point.answer if chosen else replace(point.answer, bound=Bound(0, "none"))
    x = explain(problem, asked, core=chosen, rlimit=rlimit)
    why = x.why if chosen else explain(point.within, point.answer, core=False).why
    return {
        "name": point.name, "kind": point.kind, "about": point.about,
        "answer": answer_data(point.within, point.answer),
        "headline": x.headline if chosen else _headline(point), "why": list(why), "slack": x.slack,
        "ii": plan.ii, "stages": 1 + max(map(plan.stage, plan.times)) - origin(plan) // plan.ii,
        "smem": smem(problem, plan), "registers": registers(problem, plan), "groups": groups(problem, plan),
        "length": length(problem, plan),
        "proof": _proof(point, rlimit) if chosen else None,
        "units": [asdict(u) | {"share": round(u.share, 4)} for u in x.units],
        "programs": _programs(problem, x, names),
        "rings": [_ring(problem, plan, r) for r in x.rings],
        "memory": [list(m) for m in x.memory],
        "lanes": [list(lane) for lane in lanes(problem, plan, names)],
        "bars": [list(b) for b in bars(problem, plan)],
        "held": _held(problem, plan),
    }  # fmt: skip


def _headline(point: Point) -> str:
    """The interval, and how far it is proven under the limits or rules of the plan."""
    bound, ii = point.answer.bound.value, point.plan.ii
    if point.name == LIST:
        return f"an iteration every {ii} cycles, found without a solver"
    if bound == ii:
        return f"an iteration every {ii} cycles, the least under {point.under}"
    return f"an iteration every {ii} cycles; under {point.under} none has fewer than {bound}"


def _programs(problem: Problem, x: Explanation, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """A row for each group that runs ops."""
    return [_program(problem, g, group_name(i, g.number, names)) for i, g in enumerate(x.groups)]


def _program(problem: Problem, g: GroupRow, name: str) -> dict[str, Any]:
    order = [step.rpartition("@")[0] for step in g.order]
    return {
        **asdict(g),
        "share": round(g.share, 4),
        "order": order,
        "name": name,
        "limit": problem.limits.reg_limit,
    }


def _ring(problem: Problem, plan: Schedule, row: RingRow) -> dict[str, Any]:
    """A buffer with the times of one iteration."""
    buffer = next(b for b in problem.buffers if b.id == row.id)
    readers = [r.op for r in buffer.readers]
    own = life(problem, plan, buffer)._asdict()
    return {**asdict(row), "writer": buffer.writer, "readers": readers, **own}


def _held(problem: Problem, plan: Schedule) -> list[list[Any]]:
    """[group, cycle of the interval, op, registers]: what a group holds when an op issues."""
    rows = [[p.group, plan.times[p.op.id] % plan.ii, p.op.id, p.total] for p in pressures(problem, plan)]
    return sorted(rows, key=lambda r: (r[0], r[1]))


def _proof(point: Point, rlimit: int) -> dict[str, Any]:
    """What the claim rests on: the bound's kind in words, a certificate's hash, the path that binds."""
    made = certificate(point.problem, point.answer)
    bound = point.answer.bound
    return {
        "how": HOW[bound.kind].format(low=bound.low, high=bound.value - 1),
        "problem": made["answer"]["problem"], "certificate": made["sha256"], "solver": made["solver"],
        "work": point.answer.work, "path": [_step(e) for e in _path(point.problem, bound, rlimit)],
        "unit": bound.names[0] if bound.kind == "unit" else None,
    }  # fmt: skip


HOW = {
    "unit": "by arithmetic: the ops of one iteration hold the unit for as long",
    "cycle": "by arithmetic: the recurrence takes as long",
    "range": "z3 refuted every interval from {low} to {high}, what is below is ruled out by arithmetic",
    "none": "nothing is proven about smaller intervals",
}


def _step(e: Edge) -> dict[str, Any]:
    return {"src": e.src, "dst": e.dst, "cycles": e.d, "delta": e.delta}


def _path(problem: Problem, bound: Bound, rlimit: int) -> list[Edge]:
    """Dependences that rule out a smaller interval: the recurrence, or those of a minimal core."""
    if bound.kind == "cycle":
        pairs = zip(bound.names, (*bound.names[1:], bound.names[0]), strict=True)
        return [_tightest(problem, src, dst) for src, dst in pairs]
    if bound.kind != "range":
        return []
    try:
        labels, _ = small_core(problem, bound.value - 1, rlimit)
    except SolverUnknownError:
        return []
    ends = [
        label.removeprefix("dependence ").split(">") for label in labels if label.startswith("dependence ")
    ]
    return [_tightest(problem, src, dst) for src, dst in ends]


def _tightest(problem: Problem, src: str, dst: str) -> Edge:
    """Of parallel edges the one that asks for most."""
    found = [e for e in problem.edges if (e.src, e.dst) == (src, dst)]
    return min(found, key=lambda e: (e.delta, -e.d))
