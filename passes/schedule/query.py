"""One incremental solver for a range of intervals: asks, reads plans, refines registers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

from tilec.passes.schedule.constraints import constrain
from tilec.passes.schedule.encode import FALSE, TRUE, Encoding
from tilec.passes.schedule.model import Problem, Schedule
from tilec.passes.schedule.registers import budgets, refuse
from tilec.passes.schedule.smt import Clause, Session

Found = Schedule | Literal["unsat", "unknown"]


class Query:
    """Questions about the plans of a problem with an interval in [low, high]."""

    def __init__(
        self,
        problem: Problem,
        low: int,
        high: int,
        session: Session,
        *,
        tracked: bool = False,
        dropped: frozenset[str] = frozenset(),
    ) -> None:
        self.problem, self.session = problem, session
        self.encoding = Encoding(problem, low, high, tracked=tracked, dropped=dropped)
        constrain(self.encoding)
        self.refined = 0

    def ask(self, assumptions: Sequence[str] = (), labels: Sequence[str] | None = None) -> Found:
        """A plan under assumptions; ``labels`` are the constraints that hold, None all."""
        enc = self.encoding
        while True:
            self.session.read(enc.take())
            assumed = enc.labels if labels is None else labels
            verdict = self.session.check([*assumptions, *(enc.labels[x] for x in assumed)])
            if verdict != "sat":
                return verdict
            plan = self._plan()
            if self._registers_hold(plan, assumed):
                return plan
            self.refined += 1

    def at_most(self, ii: int) -> str:
        """The assumption that the interval is at most ii."""
        return self.assume(f"u{ii}", [(f"(<= {self.encoding.interval} {ii})",)])

    def assume(self, name: str, clauses: Iterable[Clause]) -> str:
        """A literal under which clauses hold."""
        if name not in self.encoding.seen:
            literal = self.encoding.boolean(name)
            for clause in clauses:
                self.encoding.require((f"(not {literal})", *clause))
        return name

    def _registers_hold(self, plan: Schedule, labels: Iterable[str]) -> bool:
        """Whether the plan's registers suffice; if not, the encoding has new clauses."""
        if self.encoding.tracked and "registers" in self.encoding.labels and "registers" not in labels:
            return True
        hints = self.problem.hints
        wishes = [h.value for h in hints if h.kind == "registers" and f"hint {h.id}" in labels]
        return not refuse(self.encoding, plan, wishes)

    def _plan(self) -> Schedule:
        """The model as a schedule; budgets are the least that it needs."""
        enc, ops, buffers = self.encoding, self.problem.ops, self.problem.buffers
        count = len(ops)
        times = self.session.values([f"{x}{v}" for x in "sr" for v in range(count)])
        ii = enc.low if enc.low == enc.high else self.session.values(["II"])[0]
        groups = [self._group(v) for v in range(count)]
        placed = self.session.values([f"{'o' if b.alloc else 'd'}{i}" for i, b in enumerate(buffers)])
        plan = Schedule(
            ii,
            {o.id: ii * times[v] + times[count + v] for v, o in enumerate(ops)},
            {o.id: g for o, g in zip(ops, groups, strict=True)},
            {b.id: x for b, x in zip(buffers, placed, strict=True) if not b.alloc},
            {b.id: x * b.align for b, x in zip(buffers, placed, strict=True) if b.alloc},
        )
        return replace(plan, registers=budgets(self.problem, plan))

    def _group(self, v: int) -> int:
        enc = self.encoding
        names = [(g, enc.runs_in(v, g)) for g in enc.numbers]
        return next(g for g, w in names if w == TRUE or (w != FALSE and self.session.values([w])[0]))


def smt2(problem: Problem, low: int, high: int, rlimit: int = 400_000_000) -> str:
    """The question "is there a plan with an interval in [low, high]" as SMT-LIB 2.6 (QF_LIA).

    The register clauses that z3 needed to answer it are part of the text: where the answer is
    "unsat" any solver finds it so. Names go by index; comments say of what.
    """
    query = Query(problem, low, high, Session(rlimit))
    query.ask()
    ops = [f"; op {i}: {o.id!r}\n" for i, o in enumerate(problem.ops)]
    buffers = [f"; buffer {i}: {b.id!r}\n" for i, b in enumerate(problem.buffers)]
    hints = [f"(assert {literal})\n" for literal in query.encoding.labels.values()]
    head = f"; {problem.name!r}: intervals {low} to {high}\n(set-logic QF_LIA)\n"
    return "".join([head, *ops, *buffers, *query.session.texts, *hints, "(check-sat)\n"])
