"""Certificates: a problem, its plan, and why no smaller interval exists, for others to check.

What a closed form proves is checked without a solver. A bound of the kind "range" carries
the question that z3 refuted as SMT-LIB text: any solver can be asked again. A short
certificate has only the hash of that text, which follows from the problem.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Iterator
from math import ceil
from typing import Any

from tilec.passes.schedule.checker import violations
from tilec.passes.schedule.document import (
    answer_data,
    answer_of,
    canonical,
    problem_data,
    problem_hash,
    problem_of,
    wrong,
)
from tilec.passes.schedule.model import Answer, Bound, Edge, Problem

FORMAT = "tilec-certificate/1"
RLIMIT = 400_000_000  # z3 resource units for one question
FIELDS = ("format", "problem", "answer", "smt2", "smt2_sha256", "solver", "sha256")


def certificate(problem: Problem, answer: Answer, *, short: bool = False) -> dict[str, Any]:
    """The certificate of an answer that has a schedule. ``short``: without the text of the question."""
    text = None
    if answer.bound.kind == "range":
        from tilec.passes.schedule.query import smt2

        text = smt2(problem, answer.bound.low, answer.bound.value - 1)
    body = {
        "format": FORMAT,
        "problem": problem_data(problem),
        "answer": answer_data(problem, answer),
        "smt2": None if short else text,
        "smt2_sha256": None if text is None else _hash(text),
        "solver": f"z3 {importlib.metadata.version('z3-solver')}",
    }
    return {**body, "sha256": _hash(canonical(body))}


def verify(data: Any, *, solver: bool = False) -> tuple[str, ...]:
    """What is wrong with a certificate; empty if it holds.

    Without ``solver`` a bound of the kind "range" is believed only as far as its text is the
    one that belongs to the problem; with it, z3 is asked again. TilecValueError V140 where
    the document itself cannot be read.
    """
    if not isinstance(data, dict) or set(data) != set(FIELDS) or data["format"] != FORMAT:
        raise wrong("$", f"no certificate of the format {FORMAT}: its fields are {', '.join(FIELDS)}")
    problem, answer = problem_of(data["problem"]), answer_of(data["answer"])
    body = {name: data[name] for name in FIELDS if name != "sha256"}
    changed = (
        []
        if data["sha256"] == _hash(canonical(body))
        else ["[hash] the certificate was changed after it was made"]
    )
    faults = list(_plan(problem, answer, data["answer"]["problem"]))
    return (*changed, *faults, *_bound(problem, answer.bound), *_range(problem, answer.bound, data, solver))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _plan(problem: Problem, answer: Answer, named: str) -> Iterator[str]:
    if problem_hash(problem) != named:
        yield f"[hash] the problem's hash is {problem_hash(problem)}, not {named}"
    if answer.schedule is None:
        yield "[plan] there is no schedule to check"
        return
    yield from violations(problem, answer.schedule)
    if answer.bound.value > answer.schedule.ii:
        yield f"[bound] {answer.bound.value} is above the interval {answer.schedule.ii}"
    if answer.status == "optimal" and answer.bound.value != answer.schedule.ii:
        yield f"[bound] called optimal at {answer.schedule.ii} with the bound {answer.bound.value}"
    if answer.status not in ("optimal", "feasible"):
        yield f"[status] {answer.status}, with a schedule"


def _bound(problem: Problem, bound: Bound) -> Iterator[str]:
    """Closed forms, computed again."""
    if bound.kind == "none" and bound.value > 1:
        yield f"[bound] {bound.value} without a reason"
    if bound.kind == "unit":
        least = _unit(problem, bound.names)
        if least != bound.value:
            yield f"[bound] {', '.join(bound.names[:1])} gives {least}, not {bound.value}"
    if bound.kind == "cycle":
        least = _cycle(problem, bound.names)
        if least != bound.value:
            yield f"[bound] the cycle {' -> '.join(bound.names)} gives {least}, not {bound.value}"


def _unit(problem: Problem, names: tuple[str, ...]) -> int:
    """What the named ops make of the first name, a unit; -1 if they are not its users."""
    counts = dict(problem.limits.units)
    if not names or names[0] not in counts or not set(names[1:]) <= set(problem.op):
        return -1
    unit, count = names[0], counts[names[0]]
    ops = [problem.op[n] for n in names[1:]]
    users = [o.id for o in problem.ops if any(s.unit == unit for s in o.reserve)]
    held = [s for o in ops for s in o.reserve if s.unit == unit and s.amount <= count]
    alone = [ceil(s.length / (count // s.amount)) for s in held]
    if len(ops) == 1 and users != [ops[0].id]:
        return max(alone, default=-1)
    return max([*alone, ceil(problem.load[unit] / count)]) if users == list(names[1:]) else -1


def _cycle(problem: Problem, names: tuple[str, ...]) -> int:
    """The interval that a cycle of dependences forces; -1 if it is none."""
    cycles, distance = 0, 0
    for src, dst in zip(names, (*names[1:], *names[:1]), strict=True):
        steps = [e for e in problem.edges if e.src == src and e.dst == dst]
        if not steps:
            return -1
        best = _tightest(steps, distance)
        cycles, distance = cycles + best.d, distance + best.delta
    return ceil(cycles / distance) if distance else -1


def _tightest(edges: list[Edge], distance: int) -> Edge:
    """Of parallel edges the one without distance, else that of the longest delay."""
    return min(edges, key=lambda e: (e.delta, -e.d))


def _range(problem: Problem, bound: Bound, data: dict[str, Any], solver: bool) -> Iterator[str]:
    text = data["smt2"]
    if bound.kind != "range":
        if text is not None or data["smt2_sha256"] is not None:
            yield "[range] a question to a solver, for a bound that needs none"
        return
    if text is not None and data["smt2_sha256"] != _hash(str(text)):
        yield "[range] the hash is not that of the question"
        return
    yield from _below(problem, bound)
    if solver:
        yield from _asked_again(problem, bound, data["smt2_sha256"])


def _below(problem: Problem, bound: Bound) -> Iterator[str]:
    """What is below the refuted range must be refuted by a closed form."""
    from tilec.passes.schedule.bounds import lower_bound

    if lower_bound(problem).value < bound.low:
        yield f"[range] nothing refutes intervals below {bound.low}"


def _asked_again(problem: Problem, bound: Bound, hash: str) -> Iterator[str]:
    from tilec.passes.schedule.query import smt2
    from tilec.passes.schedule.smt import Session

    text = smt2(problem, bound.low, bound.value - 1)
    if _hash(text) != hash:
        yield "[range] the question is not that of this problem"
    session = Session(RLIMIT)
    session.read(text.replace("(check-sat)", ""))
    verdict = session.check()
    if verdict != "unsat":
        yield f"[range] asked again, the solver says {verdict}"
