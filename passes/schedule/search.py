"""The least interval of a problem, with proof, and of its plans the best by goals.

First the closed-form bound, then questions about ranges of intervals to one solver: "none is
possible up to m" rules out all of them, which bisection relies on since a feasible interval
need not stay feasible when it grows.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilec.passes.schedule.bounds import NEVER, lower_bound, ring_bound
from tilec.passes.schedule.cores import conflicting_hints
from tilec.passes.schedule.goals import names_of
from tilec.passes.schedule.heuristic import list_schedule, serial_length
from tilec.passes.schedule.model import Answer, Bound, Problem, Schedule, Status
from tilec.passes.schedule.polish import polish as polished
from tilec.passes.schedule.query import Found, Query
from tilec.passes.schedule.smt import Session, Verdict
from tilec.passes.schedule.structure import compact

RLIMIT = 400_000_000
"""z3 resource units for the interval of one problem, about a minute; attention loops take 1 to 10 million."""


def solve(
    problem: Problem,
    objective: str | tuple[str, ...] = "fewest",
    give: float = 0.0,
    rlimit: int = RLIMIT,
    polish: bool = True,
) -> Answer:
    """The best plan of a problem, and how far it is proven.

    ``objective``: "fewest", "balanced" or names of goals (`goals.MEASURES`), which choose among
    the plans of the least interval, or of (1 + give) times that: then the status can be no
    more than "feasible". ``rlimit`` is z3's budget for the interval, and half of it that
    for the goals. Without ``polish`` the plan is any of the least interval. The answer depends
    on nothing but the arguments.
    """
    names = names_of(objective)
    search = Search(problem, rlimit, lower_bound(problem))
    verdict = search.run()
    if search.best is None:
        return _without_plan(search, verdict)
    plan, work = search.best, search.spent()
    goals: tuple[tuple[str, int, bool], ...] = ()
    if polish:
        plan, goals, used = polished(
            problem, plan, int(plan.ii * (1 + give)), names, rlimit // 2, search.query
        )
        work += used
    status: Status = "optimal" if plan.ii == search.bound.value else "feasible"
    return Answer(status, plan, search.bound, goals, work=work)


def _without_plan(search: Search, verdict: Verdict) -> Answer:
    """Infeasible with the hints that are to blame, or unknown with the bound so far."""
    if verdict != "unsat":
        return Answer("unknown", None, search.bound, work=search.spent())
    conflicts = conflicting_hints(search.problem, search.rlimit)
    return Answer("infeasible", None, search.bound, conflicts=conflicts, work=search.spent())


@dataclass
class Search:
    """What is known: no plan below ``bound``, and ``best``, the plan with the least interval."""

    problem: Problem
    rlimit: int
    bound: Bound
    best: Schedule | None = None
    query: Query | None = None
    before: int = 0

    def run(self) -> Verdict:
        """Until the interval is proven ("sat"), refuted ("unsat") or the budget is spent."""
        if self.bound.value == NEVER:
            return "unsat"
        self.best = list_schedule(self.problem)
        verdict: Verdict = "sat"
        for step in (self._ask_rings, self._ask_bound, self._ask_any, self._bisect):
            if verdict == "sat" and not self._proven():
                verdict = step()
        return verdict

    def spent(self) -> int:
        """z3 resource units of all solvers."""
        return self.before + (self.query.session.work if self.query else 0)

    def _proven(self) -> bool:
        return self.best is not None and self.best.ii == self.bound.value

    def _start(self, low: int, high: int) -> Query:
        """A solver for a range of intervals."""
        self.before = self.spent()
        self.query = Query(self.problem, low, high, Session(self.rlimit - self.before))
        return self.query

    def _learn(self, found: Found, high: int) -> Verdict:
        """From a question about all intervals up to ``high``: a better plan, or a better bound."""
        if isinstance(found, Schedule):
            plan = compact(self.problem, found, self.bound.value)
            if self.best is None or plan.ii < self.best.ii:
                self.best = plan
            return "sat"
        if found == "unsat":
            low = self.bound.low if self.bound.kind == "range" else self.bound.value
            self.bound = Bound(high + 1, "range", (), low)
        return found

    def _ask_rings(self) -> Verdict:
        """All intervals that recurrences through rings rule out, at once."""
        high = min(ring_bound(self.problem), self.best.ii if self.best else NEVER) - 1
        if high < self.bound.value or high >= NEVER - 1:
            return "sat"
        verdict = self._learn(self._start(self.bound.value, high).ask(), high)
        return "sat" if verdict == "unsat" else verdict

    def _ask_bound(self) -> Verdict:
        """The closed-form bound itself: a constant interval is the quickest question."""
        value = self.bound.value
        query = self._start(value, value)
        verdict = self._learn(query.ask(), value)
        return "sat" if verdict == "unsat" else verdict

    def _ask_any(self) -> Verdict:
        """Whether there is any plan, where neither the list scheduler nor a wish gives an upper end."""
        if self.best is not None or self._wished() is not None:
            return "sat"
        high = max(self.bound.value, serial_length(self.problem))
        query = self._start(high, high)
        return self._learn(query.ask(), high)

    def _wished(self) -> int | None:
        """The largest interval that hints allow."""
        return min((h.value for h in self.problem.hints if h.kind == "ii"), default=None)

    def _bisect(self) -> Verdict:
        """Halve what is between the bound and the best plan; "none up to m" is one question."""
        high = self.best.ii - 1 if self.best else self._wished()
        if high is None or high < self.bound.value:
            return "unsat"
        query = self._start(self.bound.value, high)
        while self.best is None or self.bound.value < self.best.ii:
            middle = (self.bound.value + self.best.ii - 1) // 2 if self.best else high
            verdict = self._learn(query.ask([query.at_most(middle)]), middle)
            if verdict == "unknown" or self.best is None:
                return verdict
        return "sat"
