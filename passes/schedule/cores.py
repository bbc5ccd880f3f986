"""Why not: minimal sets of constraints, or of hints, that no plan can satisfy together."""

from __future__ import annotations

from collections.abc import Sequence

from tilec.ir.errors import SolverUnknownError
from tilec.passes.schedule.bounds import NEVER, lower_bound
from tilec.passes.schedule.heuristic import serial_length
from tilec.passes.schedule.model import Problem, Schedule
from tilec.passes.schedule.query import Query
from tilec.passes.schedule.smt import Session

RLIMIT = 400_000_000
"""z3 resource units for one core."""

SHARES = 8
"""A single question gets this part of the budget at most."""


def conflicting_hints(problem: Problem, rlimit: int = RLIMIT) -> tuple[str, ...]:
    """The ids of hints that no plan can fulfil together, as few as their order allows.

    Without any of them a plan exists. Empty where the loop has no plan even without hints, or
    has one with all of them.
    """
    low = lower_bound(problem).value
    if not problem.hints or low == NEVER:
        return ()
    high = max(low, serial_length(problem))
    wished = any(h.kind == "ii" for h in problem.hints)
    query = Query(problem, low if wished else high, high, Session(rlimit))
    labels = [f"hint {h.id}" for h in problem.hints]
    return tuple(label.removeprefix("hint ") for label in _proven(*_minimal(query, labels)))


def why_not(problem: Problem, at_most: int, rlimit: int = RLIMIT) -> tuple[str, ...]:
    """Labels of constraints that rule out every interval up to ``at_most``; no label can be left out.

    A label is a class and an item: "dependence QK>MAX", "crossing QK>MAX", "together QK>CVT",
    "unit TC", "wait PV", "ring K", "life S", "capacity smem", "columns tmem", "registers",
    "file", "hint id". Empty if a plan exists. Below the closed-form bound, which explains
    itself, only ``at_most`` itself is looked at.
    """
    return _proven(*small_core(problem, at_most, rlimit))


def small_core(problem: Problem, at_most: int, rlimit: int = RLIMIT) -> tuple[tuple[str, ...], bool]:
    """Like `why_not`, and whether it is proven that no label can be left out."""
    low = min(lower_bound(problem).value, at_most)
    query = Query(problem, low, at_most, Session(rlimit), tracked=True)
    return _minimal(query, None)


def _proven(labels: tuple[str, ...], minimal: bool) -> tuple[str, ...]:
    if not minimal:
        raise _spent()
    return labels


def _minimal(query: Query, labels: Sequence[str] | None) -> tuple[tuple[str, ...], bool]:
    """Leave out one label after the other as long as the rest is unsatisfiable.

    A label also stays where its share of the budget does not decide; then the second value is False.
    """
    todo, minimal, budget = _core(query, labels), True, query.session.rlimit
    keep: list[str] = []
    while todo:
        tried = todo.pop()
        query.session.rlimit = min(budget, query.session.work + budget // SHARES)
        try:
            core = _core(query, [*keep, *todo])
        except SolverUnknownError:
            core, minimal = None, False
        if core is None:
            keep.append(tried)
        else:
            todo = [x for x in todo if x in core]
    order = list(query.encoding.labels)
    return tuple(sorted(keep, key=order.index)), minimal


def _core(query: Query, labels: Sequence[str] | None) -> list[str] | None:
    """Some of the labels that cannot hold together, None if all can."""
    found = query.ask(labels=labels)
    if isinstance(found, Schedule):
        return None
    if found == "unknown":
        raise _spent()
    names = {literal: label for label, literal in query.encoding.labels.items()}
    core = {names[literal] for literal in query.session.core()}
    return [label for label in query.encoding.labels if label in core]


def _spent() -> SolverUnknownError:
    return SolverUnknownError(
        "N131", "z3's budget is spent before the conflict is found", help="raise rlimit"
    )
