"""The document behind a report: all that the page shows, computed and solved beforehand.

Its form is `schema.REPORT_SCHEMA`. The same kernel gives the same bytes: no times, no paths.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tilec.ir.core import Kernel, Op, walk
from tilec.passes.schedule.document import answer_data, problem_data, problem_hash
from tilec.passes.schedule.explain import explain
from tilec.passes.schedule.machines import MACHINES, Machine
from tilec.passes.schedule.model import Answer, Problem
from tilec.passes.schedule.sensitivity import sensitivity
from tilec.passes.schedule.whatif import WhatIf, most_slack, thresholds, what_if
from tilec.report import source
from tilec.report.elsewhere import elsewhere
from tilec.report.front import points
from tilec.report.plans import plan_data
from tilec.report.roof import launch_time, roof
from tilec.report.slots import slots_moved

if TYPE_CHECKING:
    from tilec.compiled import Compiled

FORMAT = "tilec-report/1"
RLIMIT = 4_000_000
"""z3's units for a question beside the plan itself, under a second; beyond it the page says "not proven"."""


@dataclass(frozen=True)
class Ask:
    """What a report is to contain. ``rlimit``: z3's budget for each question.

    ``again``: where a cost moves, the loop is solved again too, which takes longest.
    ``trips`` of the loop and ``programs`` of a launch: for the predicted time. ``measured``: seconds
    of that launch, if somebody has measured it.
    """

    rlimit: int = RLIMIT
    again: bool = False
    trips: int | None = None
    programs: int | None = None
    measured: float | None = None


def of_compiled(compiled: Compiled, ask: Ask = Ask()) -> dict[str, Any]:
    """The report of a compiled kernel."""
    stages, places = compiled.stages, source.Places()
    emitted = _emitted(stages.scheduled)
    names = tuple(name for name, _, _ in emitted)
    texts = [source.text("tile", source.of_kernel(stages.tile, places))]
    if stages.problems:
        owners = {
            n: op for nodes in stages.nodes for n, op in source.lines_of_ops(stages.aref, nodes).items()
        }
        texts.append(source.text("aref", source.of_kernel(stages.aref, places), owners))
    texts.append(source.text("scheduled", source.of_kernel(stages.scheduled, places)))
    code = "llvm" if compiled.target == "cpu" else "ptx"
    texts.append(source.text(code, source.of_ptx(compiled.asm[code], names, places)))
    machine = MACHINES.get(compiled.target)
    parts = zip(stages.problems, stages.answers, stages.nodes, elsewhere(compiled), strict=True)
    loops = [_loop(p, a, ask, names, _Code(nodes, places, machine, rows)) for p, a, nodes, rows in parts]
    return _plain({
        "format": FORMAT, "name": compiled.kernel.name, "target": compiled.target,
        "machine": machine.device if machine else compiled.target,
        "files": source.files(compiled.kernel), "texts": texts, "places": list(places.table),
        "loops": loops, "emitted": emitted, "log": list(stages.log), "notes": list(compiled.notes),
    })  # fmt: skip


def of_problem(problem: Problem, answer: Answer, ask: Ask = Ask()) -> dict[str, Any]:
    """The report of a loop without a kernel: of the gallery, or of another compiler."""
    return _plain({
        "format": FORMAT, "name": problem.name, "target": "", "machine": problem.limits.name, "files": [],
        "texts": [], "places": [], "loops": [_loop(problem, answer, ask)], "emitted": [], "log": [],
        "notes": [],
    })  # fmt: skip


def _plain(data: Any) -> dict[str, Any]:
    """The same as JSON gives it back: lists instead of tuples."""
    plain: dict[str, Any] = json.loads(json.dumps(data))
    return plain


def _emitted(scheduled: Kernel) -> list[tuple[str, int, int]]:
    """Name, warps and registers of each warp group."""
    for op in walk(scheduled.body):
        if op.name == "warp_groups":
            return list(zip(op.attrs["names"], op.attrs["warps"], op.attrs["registers"], strict=True))
    return []


@dataclass(frozen=True, eq=False)
class _Code:
    """Where the ops of a loop come from, the machine that runs them, and what others would give."""

    nodes: Mapping[str, Sequence[Op]]
    places: source.Places
    machine: Machine | None
    elsewhere: Sequence[WhatIf]


def _loop(
    problem: Problem, answer: Answer, ask: Ask, names: tuple[str, ...] = (), code: _Code | None = None
) -> dict[str, Any]:
    plans = [
        plan_data(p, names if p.kind == "chosen" else (), ask.rlimit)
        for p in points(problem, answer, ask.rlimit)
    ]
    places = {v: code.places.of_ops(members) for v, members in code.nodes.items()} if code else {}
    plan = answer.schedule
    x = explain(problem, answer, core=plan is None, rlimit=ask.rlimit)
    questions = (*what_if(problem, answer, ask.rlimit), *slots_moved(problem, answer, ask.rlimit))
    questions = (*questions, *(code.elsewhere if code else ()))
    moved = sensitivity(problem, answer, resolve=ask.again, rlimit=ask.rlimit)
    return {
        "name": problem.name, "loc": problem.loc, "problem": problem_data(problem),
        "hash": problem_hash(problem), "status": answer.status,
        "answer": answer_data(problem, answer), "headline": x.headline, "why": list(x.why),
        "ops": {o.id: places.get(o.id, []) for o in problem.ops},
        "plans": plans,
        "what_if": [asdict(w) | {"text": w.text} for w in questions],
        "thresholds": [asdict(t) | {"text": t.text} for t in thresholds(problem, answer, ask.rlimit)],
        "most_slack": list(most_slack(problem, plan.ii, ask.rlimit)) if plan else None,
        "sensitivity": [asdict(m) for m in moved],
        "roof": _roof(problem, answer, ask, code),
    }  # fmt: skip


def _roof(problem: Problem, answer: Answer, ask: Ask, code: _Code | None) -> dict[str, Any] | None:
    if code is None or code.machine is None or answer.schedule is None:
        return None
    found = roof(problem, {v: tuple(m) for v, m in code.nodes.items()}, code.machine)
    if found is None:
        return None
    launch = None
    if ask.trips and ask.programs:
        launch = launch_time(problem, answer.schedule, code.machine, ask.trips, ask.programs)
        launch["measured"] = ask.measured
    return {**found, "launch": launch}
