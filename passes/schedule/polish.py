"""The best plan of one interval: goal after goal tightened to a proof, then a normal form.

The normal form leaves one plan: op by op in order the least group and the least issue time,
then the least depths, offsets and budgets. So the answer does not depend on the solver's luck
as long as every step was proven.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tilec.passes.schedule.bounds import recurrence_bound
from tilec.passes.schedule.constraints import anchor_of, order
from tilec.passes.schedule.goals import carried, least, measure, slack, slower, term
from tilec.passes.schedule.heuristic import least_depth
from tilec.passes.schedule.model import Problem, Schedule
from tilec.passes.schedule.query import Found, Query
from tilec.passes.schedule.registers import budgets
from tilec.passes.schedule.smt import Clause, Session
from tilec.passes.schedule.structure import Arc, decided, least_times

Goal = tuple[str, int, bool]


@dataclass
class Polish:
    """The best plan so far, the goals that are settled, and the ops that are fixed.

    ``extra``: cycles that blocking edges and crossings must be able to take more.
    """

    problem: Problem
    query: Query
    plan: Schedule
    goals: list[Goal] = field(default_factory=list)
    fixed: dict[str, int] = field(default_factory=dict)
    extra: int = 0
    proven: bool = True

    def run(self, names: tuple[str, ...]) -> None:
        self._take(self.plan)
        for name in names:
            if name == "slack":
                self._most_slack()
            else:
                self._tighten(name)
        for v, o in enumerate(self.problem.ops):
            self._first(v)
            self.fixed[o.id] = self.plan.times[o.id]
        for i in range(len(self.problem.buffers)):
            self._first_place(i)
        self.plan = replace(self.plan, registers=budgets(self.problem, self.plan))

    # Goals

    def _tighten(self, name: str) -> None:
        """Bisect a goal down to a proof."""
        text, step = term(self.query.encoding, name)
        low, proven = least(self.problem, self.plan.ii, name) // step, True
        while low < (best := measure(self.problem, self.plan, name) // step):
            middle = (low + best - 1) // 2
            found = self.query.ask([self.query.assume(f"u{name}{middle}", [(f"(<= {text} {middle})",)])])
            if isinstance(found, Schedule):
                self._take(found)
            else:
                low, proven = middle + 1, proven and found == "unsat"
        self.query.encoding.require((f"(<= {text} {best})",))
        self.goals.append((name, measure(self.problem, self.plan, name), proven))

    def _most_slack(self) -> None:
        """The largest number of cycles, at most ii, that blocking edges and crossings may take more."""
        high = self._closed_slack()
        proven = True
        self.extra = slack(self.problem, self.plan)
        while self.extra < high:
            middle = (self.extra + high + 1) // 2
            found = self.query.ask([self.query.assume(f"uslack{middle}", self._slower(middle))])
            if isinstance(found, Schedule):
                self.extra = slack(self.problem, found)
                self._take(found)
            else:
                high, proven = middle - 1, proven and found == "unsat"
        for clause in self._slower(self.extra):
            self.query.encoding.require(clause)
        self.goals.append(("slack", self.extra, proven))

    def _closed_slack(self) -> int:
        """Beyond this the dependences alone need a larger interval."""
        low, high = 0, self.plan.ii
        while low < high:
            middle = (low + high + 1) // 2
            fits = recurrence_bound(slower(self.problem, middle)).value <= self.plan.ii
            low, high = (middle, high) if fits else (low, middle - 1)
        return low

    def _slower(self, extra: int) -> list[Clause]:
        """The dependences of the problem with ``extra``, as far as they differ."""
        problem = slower(self.problem, extra)
        return [
            clause
            for e in problem.edges
            if e.mem != "ord" and e.src != e.dst
            for _, clauses in order(self.query.encoding, e, problem.crossing(e))
            for clause in clauses
        ]

    # Normal form

    def _first(self, v: int) -> None:
        """The least group of an op and then its least issue time."""
        enc, name = self.query.encoding, self.problem.ops[v].id
        while self.plan.groups[name] > 1 and self._improves(self._lower_group(v)):
            pass
        enc.require((enc.runs_in(v, self.plan.groups[name]),))
        low, tries = self._earliest(v), 0
        while low < (now := self.plan.times[name]):
            # The plan's structure is at its best: at first only a refutation is expected.
            target = now - 1 if tries < 2 else (low + now - 1) // 2
            tries += 1
            if not self._improves(self._by(v, target)):
                low = target + 1
        stage, residue = divmod(self.plan.times[name], self.plan.ii)
        enc.require((f"(= s{v} {stage})",))
        enc.require((f"(= r{v} {residue})",))

    def _improves(self, assumption: str) -> bool:
        """Whether a plan under an assumption exists; it is taken."""
        found = self.query.ask([assumption])
        if isinstance(found, Schedule):
            self._take(found)
        elif found == "unknown":
            self.proven = False
        return isinstance(found, Schedule)

    def _earliest(self, v: int) -> int:
        """A lower bound of an op's time, from what is fixed."""
        ins = [e for e in self.problem.edges if e.dst == self.problem.ops[v].id and e.src in self.fixed]
        return max([0, *(self.fixed[e.src] + e.d - e.delta * self.plan.ii for e in ins)])

    def _lower_group(self, v: int) -> str:
        """The assumption that an op runs in a lower group than in the plan."""
        group = self.plan.groups[self.problem.ops[v].id]
        clause = tuple(self.query.encoding.runs_in(v, g) for g in range(group))
        return self.query.assume(f"ug{v}_{group}", [clause])

    def _by(self, v: int, time: int) -> str:
        """The assumption that an op issues by a time."""
        stage, residue = divmod(time, self.plan.ii)
        clauses = [(f"(<= s{v} {stage})",), (f"(< s{v} {stage})", f"(<= r{v} {residue})")]
        return self.query.assume(f"ut{v}_{time}", clauses)

    def _first_place(self, i: int) -> None:
        """The least depth or offset of a buffer."""
        b, enc = self.problem.buffers[i], self.query.encoding
        name, step = (f"o{i}", b.align) if b.alloc else (f"d{i}", 1)
        low = 0 if b.alloc else least_depth(self.problem, self.plan, b, ties=False)
        while (now := self._place(i) // step) > low:
            if not self._improves(self.query.assume(f"up{i}_{now}", [(f"(< {name} {now})",)])):
                break
        enc.require((f"(= {name} {self._place(i) // step})",))

    def _place(self, i: int) -> int:
        b = self.problem.buffers[i]
        return self.plan.offsets[b.id] if b.alloc else self.plan.depths[b.id]

    # Plans

    def _take(self, plan: Schedule) -> None:
        """A plan of the solver, with its ops as early as its structure allows.

        No time may grow, so no goal suffers as long as carried values do not take longer.
        """
        arcs = list(decided(slower(self.problem, self.extra), plan))
        for e in carried(self.problem):
            arcs.append(Arc(e.src, e.dst, min(0, plan.times[e.dst] - plan.times[e.src]), 0))
        fixed = dict(self.fixed)
        anchor = anchor_of(self.problem)
        if anchor is not None:
            fixed[self.problem.ops[anchor].id] = plan.times[self.problem.ops[anchor].id]
        times = least_times(self.problem, arcs, plan.ii, fixed)
        earlier = times is not None and all(times[v] <= plan.times[v] for v in times)
        self.plan = self._shallow(replace(plan, times=times)) if times is not None and earlier else plan

    def _shallow(self, plan: Schedule) -> Schedule:
        """With the least depths for its times."""
        rings = [b for b in self.problem.buffers if not b.alloc]
        least = {b.id: min(plan.depths[b.id], least_depth(self.problem, plan, b)) for b in rings}
        return replace(plan, depths=least)


def _turned(problem: Problem, plan: Schedule) -> Schedule:
    """The plan from the cycle on in which the encoding begins its window."""
    anchor = anchor_of(problem)
    if anchor is None:
        return plan
    by = -plan.times[problem.ops[anchor].id] % plan.ii
    return replace(plan, times={v: t + by for v, t in plan.times.items()})


def polish(
    problem: Problem, plan: Schedule, ii: int, names: tuple[str, ...], rlimit: int, query: Query | None
) -> tuple[Schedule, tuple[Goal, ...], int]:
    """The best plan at interval ii, each goal's value and whether it is proven, and the work.

    ``plan`` has at most this interval; ``query`` may already be about it.
    """
    before = 0
    if query is None or (query.encoding.low, query.encoding.high) != (ii, ii):
        query = Query(problem, ii, ii, Session(rlimit))
    else:
        before = query.session.work
        query.session.rlimit = before + rlimit
    first: Found = _turned(problem, plan) if plan.ii == ii else query.ask()
    if not isinstance(first, Schedule):
        return (
            plan,
            tuple((g, measure(problem, plan, g), False) for g in names if g != "slack"),
            query.session.work,
        )
    # A question that is too hard must not keep the later ones from being asked.
    query.session.parts = 2
    work = Polish(problem, query, first)
    work.run(names)
    return work.plan, tuple(work.goals), query.session.work - before
