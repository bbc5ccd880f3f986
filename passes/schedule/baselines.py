"""What others would do with a loop, in the same terms and judged by the same checker.

A baseline is the problem with more constraints (orders, groups), solved: its interval is the
least that this way of scheduling allows. The plain pipeline and the list scheduler apply to
every problem, the published plans to the loops that have their ops.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

from tilec.passes.schedule.bounds import lower_bound
from tilec.passes.schedule.heuristic import list_schedule
from tilec.passes.schedule.joint import check
from tilec.passes.schedule.model import Answer, Buffer, Edge, Hint, Problem
from tilec.passes.schedule.published import OURS, RULES, Order, Rule
from tilec.passes.schedule.search import RLIMIT, solve


@dataclass(frozen=True)
class Baseline:
    """A way to schedule and what it gives.

    ``problem`` has the constraints of this way, ``answer`` is about it. ``copies``
    intervals do the work of one iteration of the original problem.
    """

    name: str
    what: str
    source: str
    problem: Problem
    answer: Answer
    copies: int = 1

    @property
    def interval(self) -> int | None:
        """Cycles for one iteration of the original problem; None without a plan."""
        return self.copies * self.answer.schedule.ii if self.answer.schedule else None

    @property
    def text(self) -> str:
        """As "one sub-tile 2 x 1276 = 2552"."""
        if self.answer.schedule is None:
            return f"{self.name} {'does not fit' if self.answer.status == 'infeasible' else 'not found'}"
        most = "" if self.answer.status == "optimal" or self.name == LIST else "at most "
        if self.copies == 1:
            return f"{self.name} {most}{self.interval}"
        return f"{self.name} {most}{self.copies} x {self.answer.schedule.ii} = {self.interval}"


PLAIN, LIST = "plain pipeline", "list scheduler"


def baselines(problem: Problem, rlimit: int = RLIMIT) -> tuple[Baseline, ...]:
    """All that apply to a problem: published plans first. InternalError X301 if one is not legal."""
    found = [_published(problem, rule, rlimit) for rule in RULES if set(rule.needs) <= set(problem.op)]
    found += [_plain(problem, rlimit), _listed(problem)]
    for b in found:
        check(b.problem if b.copies > 1 else problem, replace(b.answer, status="feasible"))
    return tuple(found)


def _published(problem: Problem, rule: Rule, rlimit: int) -> Baseline:
    """The problem under a rule, solved for the interval alone."""
    narrowed = constrained(problem, rule)
    answer = solve(narrowed, rlimit=rlimit, polish=False)
    return Baseline(rule.name, rule.what, rule.source, narrowed, answer, rule.copies)


def constrained(problem: Problem, rule: Rule) -> Problem:
    """A problem whose plans are the problem's plans that obey the rule."""
    if rule.keep:
        problem = _kept(problem, rule.keep)
    orders = [o for o in rule.orders if o.src in problem.op and o.dst in problem.op]
    teams = [tuple(v for v in team if v in problem.op) for team in rule.teams]
    return replace(
        problem,
        name=f"{problem.name}, {rule.name}",
        edges=(*problem.edges, *(_edge(problem, o) for o in orders)),
        hints=(*problem.hints, *_teams(teams)),
        groups_max=max(problem.groups_max, len(teams) + 1),
    )


def _edge(problem: Problem, order: Order) -> Edge:
    """An order as an edge without a value."""
    results = [e.d for e in problem.edges if e.src == order.src and e.mem != "ord"]
    return Edge(order.src, order.dst, max(results, default=1) if order.done else 1, order.delta, "ord")


def _teams(teams: list[tuple[str, ...]]) -> Iterator[Hint]:
    for i, team in enumerate(teams):
        yield Hint(f"team {i}", "together", names=team)
    for (i, a), (j, b) in combinations(enumerate(teams), 2):
        yield Hint(f"teams {i} and {j}", "apart", names=(a[0], b[0]))


def _kept(problem: Problem, tile: str) -> Problem:
    """The streams and the ops of one sub-tile."""
    ops = tuple(o for o in problem.ops if o.stream or o.id.endswith(tile))
    kept = {o.id for o in ops}
    edges = tuple(e for e in problem.edges if {e.src, e.dst} <= kept)
    buffers = tuple(_readers(b, kept) for b in problem.buffers if b.writer in kept)
    return replace(problem, ops=ops, edges=edges, buffers=buffers)


def _readers(buffer: Buffer, kept: set[str]) -> Buffer:
    return replace(buffer, readers=tuple(r for r in buffer.readers if r.op in kept))


def _plain(problem: Problem, rlimit: int) -> Baseline:
    """Loads run ahead as far as rings allow; all else issues in one order, iteration by iteration."""
    line = in_order(problem)
    orders = [Order(a, b) for a, b in pairwise(line)]
    orders += [Order(line[-1], line[0], 1)] if len(line) > 1 else []
    what = "loads run ahead, all else in one program order (num_stages)"
    return _published(problem, Rule(PLAIN, what, OURS, (), tuple(orders)), rlimit)


def in_order(problem: Problem) -> list[str]:
    """The ops that are no streams, as the operands of one lone iteration become ready; ties as listed."""
    ready = dict.fromkeys(problem.op, 0)
    for _ in problem.ops:
        for e in problem.edges:
            if e.delta == 0 and ready[e.src] + max(e.d, 1) > ready[e.dst]:
                ready[e.dst] = ready[e.src] + max(e.d, 1)
    return sorted((o.id for o in problem.ops if not o.stream), key=ready.__getitem__)


def _listed(problem: Problem) -> Baseline:
    plan = list_schedule(problem)
    answer = Answer("feasible" if plan else "unknown", plan, lower_bound(problem))
    return Baseline(LIST, "each op at the first cycle that is free, no solver", OURS, problem, answer)


def sentence(problem: Problem, answer: Answer, found: tuple[Baseline, ...]) -> str:
    """As "optimal II 2048, FA3 2048, plain pipeline 2640": this answer beside the baselines."""
    if answer.schedule is None:
        head = f"no plan ({answer.status})"
    elif answer.status == "optimal":
        head = f"optimal II {answer.schedule.ii}"
    else:
        head = f"II {answer.schedule.ii}, not proven (no less than {answer.bound.value})"
    return f"{problem.name}: " + ", ".join([head, *(b.text for b in found)])
