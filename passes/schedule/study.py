"""An explanation with what is asked for beside it: baselines, what-if, sensitivity."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tilec.passes.schedule.baselines import Baseline, baselines
from tilec.passes.schedule.explain import CORE_RLIMIT, Explanation, explain
from tilec.passes.schedule.model import Answer, Problem
from tilec.passes.schedule.search import RLIMIT
from tilec.passes.schedule.sensitivity import Moved, sensitivity
from tilec.passes.schedule.whatif import (
    SLACK_RLIMIT,
    Threshold,
    WhatIf,
    most_slack,
    thresholds,
    what_if,
)


@dataclass(frozen=True)
class Study:
    """``most_slack``: the slack of the plan that has most of it, and whether that is proven."""

    explanation: Explanation
    baselines: tuple[Baseline, ...] = ()
    what_if: tuple[WhatIf, ...] = ()
    thresholds: tuple[Threshold, ...] = ()
    most_slack: tuple[int, bool] | None = None
    sensitivity: tuple[Moved, ...] = ()

    def to_text(self) -> str:
        """For people: the explanation, then a table for each question."""
        return "\n".join(_lines(self))

    def to_json(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            **self.explanation.to_json(),
            "baselines": [_baseline(b) for b in self.baselines],
            "what_if": [asdict(w) for w in self.what_if],
            "thresholds": [asdict(t) for t in self.thresholds],
            "most_slack": None if self.most_slack is None else list(self.most_slack),
            "sensitivity": [{**asdict(m), "stays_optimal": m.stays} for m in self.sensitivity],
        }


def study(
    problem: Problem,
    answer: Answer,
    asked: Collection[str] = (),
    *,
    resolve: bool = True,
    budget: int | None = None,
) -> Study:
    """Explain an answer; ``asked`` may have "baselines", "what_if" and "sensitivity".

    ``resolve``: sensitivity also solves again. ``budget`` in z3's units for each question;
    None is what each kind of question has by default.
    """
    rlimit = budget or RLIMIT
    found = baselines(problem, rlimit) if "baselines" in asked else ()
    explanation = explain(problem, answer, found, rlimit=budget or CORE_RLIMIT)
    plan, curious = answer.schedule, "what_if" in asked
    return Study(
        explanation,
        found,
        tuple(what_if(problem, answer, rlimit)) if curious else (),
        tuple(thresholds(problem, answer, rlimit)) if curious else (),
        most_slack(problem, plan.ii, budget or SLACK_RLIMIT) if curious and plan else None,
        tuple(sensitivity(problem, answer, resolve=resolve, rlimit=rlimit)) if "sensitivity" in asked else (),
    )


def _baseline(b: Baseline) -> dict[str, Any]:
    ii = b.answer.schedule.ii if b.answer.schedule else None
    return {
        "name": b.name, "what": b.what, "source": b.source, "status": b.answer.status, "ii": ii,
        "copies": b.copies, "interval": b.interval,
    }  # fmt: skip


def _lines(s: Study) -> Iterator[str]:
    yield s.explanation.to_text()
    if s.baselines:
        yield "baselines"
        yield from (f"  {b.text}: {b.what}" for b in s.baselines)
    if s.what_if:
        yield "what if"
        yield from (f"  {w.what} ({w.value}): {w.text}" for w in s.what_if)
        yield from (f"  {t.what}: {t.text}" for t in s.thresholds)
    if s.most_slack is not None:
        cycles, proven = s.most_slack
        least = "" if proven else "at least "
        yield f"  slack: some plan of this interval lets every wait take {least}{cycles} cycles more"
    if s.sensitivity:
        yield from _sensitivity(s.sensitivity)


def _sensitivity(rows: tuple[Moved, ...]) -> Iterator[str]:
    """A line for each cost, with all its factors."""
    factors = " and ".join(f"x {f}" for f in dict.fromkeys(m.factor for m in rows))
    best = "; (best N): another plan" if any(m.solved is not None for m in rows) else ""
    yield f"sensitivity: interval of this plan's structure with a cost {factors}{best}"
    for cost in dict.fromkeys(m.cost for m in rows):
        yield f"  {cost}: " + ", ".join(_moved(m) for m in rows if m.cost == cost)


def _moved(m: Moved) -> str:
    kept = "breaks" if m.fixed is None else str(m.fixed)
    if m.solved is None or m.stays:
        return kept
    return f"{kept} (best {m.solved})" if m.proven else f"{kept} (best at most {m.solved}, not proven)"
