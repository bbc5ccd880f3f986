"""Plans beside the chosen one: what fewer groups, less memory and fewer registers cost, and what others do.

Each point is solved. From each number of groups on, one limit at a time is put just below what
the last plan took, until there is no plan: so a plan whose answer is optimal is the fastest for its limit.
Limits are not lowered together, so the front is that of each resource by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from tilec.passes.schedule.baselines import baselines
from tilec.passes.schedule.model import Answer, Problem, Schedule
from tilec.passes.schedule.published import OURS
from tilec.passes.schedule.search import solve
from tilec.passes.schedule.whatif import with_registers, with_smem
from tilec.report.roles import plan_renamed, renamed, roles

MOST = 6
"""Plans on one line of the front."""


@dataclass(frozen=True)
class Point:
    """A plan of ``problem``, the answer to ``within``, which allows less.

    ``kind``: "chosen", "front", "simple" or "published". ``about``: the plan in words; ``under``:
    what makes ``within`` narrower.
    """

    name: str
    kind: str
    about: str
    under: str
    problem: Problem
    within: Problem
    answer: Answer
    plan: Schedule


def smem(problem: Problem, plan: Schedule) -> int:
    """Bytes of the rings in shared memory."""
    return sum(b.size * plan.depths[b.id] for b in problem.buffers if b.mem == "smem" and not b.alloc)


def registers(problem: Problem, plan: Schedule) -> int:
    """The largest budget of a group that computes."""
    return max((r for g, r in plan.registers.items() if g), default=0)


def groups(problem: Problem, plan: Schedule) -> int:
    """Groups that run ops, that of the loads counted."""
    return len(set(plan.groups.values()))


Measure = Callable[[Problem, Schedule], int]
MEASURES: tuple[Measure, ...] = (smem, registers, groups)


@dataclass(frozen=True)
class Limit:
    """A resource that can be given less of: how much a plan takes, the problem with less, in words."""

    measure: Measure
    moved: Callable[[Problem, int], Problem]
    words: str


LIMITS = (
    Limit(smem, with_smem, "at most {} bytes of shared memory"),
    Limit(registers, with_registers, "at most {} registers"),
)


def points(problem: Problem, answer: Answer, rlimit: int) -> list[Point]:
    """The chosen plan, then the front by interval, then what is compared. Empty without a plan."""
    plan = answer.schedule
    if plan is None:
        return []
    chosen = Point("chosen", "chosen", "the plan of this report", "", problem, problem, answer, plan)
    found = [Point("", "front", "", *f) for f in _found(problem, plan, rlimit)]
    front = sorted((p for p in found if not _beaten(p, [chosen, *found])), key=_key)
    named = [replace(p, name=_name(p), about=_about(p)) for p in _once(front, {_key(chosen)})]
    return [chosen, *named, *_compared(problem, rlimit)]


Found = tuple[str, Problem, Problem, Answer, Schedule]  # the fields of a point from ``under`` on


def _found(problem: Problem, plan: Schedule, rlimit: int) -> Iterator[Found]:
    least = 1 + any(o.stream for o in problem.ops)
    for most in range(groups(problem, plan), least - 1, -1):
        narrow = replace(problem, groups_max=most)
        first = solve(narrow, rlimit=rlimit)
        for limit in LIMITS:
            for under, within, answer, found in _line(narrow, first, limit, rlimit):
                yield f"{under}at most {most} groups", problem, within, answer, found


def _line(
    problem: Problem, answer: Answer, limit: Limit, rlimit: int
) -> Iterator[tuple[str, Problem, Answer, Schedule]]:
    """Plans under a limit that is lowered again and again."""
    within, under = problem, ""
    for _ in range(MOST):
        if answer.schedule is None:
            return
        yield under, within, answer, answer.schedule
        amount = limit.measure(problem, answer.schedule) - 1
        if amount < 0:
            return
        within, under = limit.moved(problem, amount), limit.words.format(amount) + ", "
        answer = solve(within, rlimit=rlimit)


def _key(p: Point) -> tuple[int, ...]:
    return (p.plan.ii, *(m(p.problem, p.plan) for m in MEASURES))


def _beaten(p: Point, others: list[Point]) -> bool:
    """Whether another plan is nowhere worse and somewhere better."""
    mine = _key(p)
    return any(all(a <= b for a, b in zip(_key(q), mine, strict=True)) and _key(q) != mine for q in others)


def _once(found: list[Point], seen: set[tuple[int, ...]]) -> Iterator[Point]:
    for p in found:
        if _key(p) not in seen:
            seen.add(_key(p))
            yield p


def _name(p: Point) -> str:
    ii, bytes_, regs, count = _key(p)
    return f"{ii} cycles, {bytes_ // 1024} KiB, {regs} registers, {count} groups"


def _about(p: Point) -> str:
    """How far the plan is proven to be the fastest under its limits."""
    proven = p.answer.status == "optimal"
    return f"{'least' if proven else 'best that was found, not proven least,'} with {p.under}"


def _compared(problem: Problem, rlimit: int) -> Iterator[Point]:
    """Simple and published ways that give a plan of this very loop."""
    names = roles(problem)
    back = {new: old for old, new in names.items()}
    for b in baselines(renamed(problem, names), rlimit):
        if b.answer.schedule is None or b.copies != 1:
            continue
        plan, within = plan_renamed(b.answer.schedule, back), renamed(b.problem, back)
        bound = replace(b.answer.bound, names=tuple(back.get(n, n) for n in b.answer.bound.names))
        answer = replace(b.answer, schedule=plan, bound=bound)
        kind = "simple" if b.source == OURS else "published"
        about = f"{b.what} ({b.source})"
        yield Point(b.name, kind, about, f"the rules of {b.name}", problem, within, answer, plan)
