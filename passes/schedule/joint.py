"""One plan for a whole kernel: its loops solved one after the other, as it is or with its rows split.

A kernel whose rows can be split is solved both ways. It is split where that makes a
loop's proven interval smaller: then two groups, each with its own rows, can be busy at
different things.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tilec.ir.core import Kernel, Op
from tilec.ir.errors import InternalError
from tilec.passes.schedule import shares
from tilec.passes.schedule.checker import violations
from tilec.passes.schedule.extract import LoopProblem, Wishes, ring_loops
from tilec.passes.schedule.follow import Place, places
from tilec.passes.schedule.machines import Machine
from tilec.passes.schedule.model import Answer, Problem, Schedule
from tilec.passes.schedule.plan import compute_groups, program, turns
from tilec.passes.schedule.slots import Ring, budget, least, rings, total, with_spares

UNIT = "TC"
RLIMIT = 30_000_000  # z3 resource units for one loop, some seconds: what a compilation may cost


@dataclass(frozen=True, eq=False)
class KernelPlan:
    """How a kernel is emitted.

    ``kernel``: the AREF kernel that is distributed. ``groups`` compute groups of ``warps``
    warps run it. ``places``: stage and place of the ops of its loops. ``depths``: slots of
    each ring, by name.
    """

    kernel: Kernel
    groups: int
    warps: int
    loops: tuple[LoopProblem, ...]
    answers: tuple[Answer, ...]
    depths: Mapping[str, int]
    places: Mapping[Op, Place]
    notes: tuple[str, ...] = ()

    @property
    def interval(self) -> int:
        """The sum of the loops' intervals: what two plans of one kernel are compared by."""
        return sum(a.schedule.ii if a.schedule else 1 << 30 for a in self.answers)


def plan_kernel(
    kernel: Kernel,
    machine: Machine,
    *,
    warps: int,
    parts: int = 1,
    stages: int | None = None,
    scratch: int = 0,
    share: int | None = None,
) -> KernelPlan:
    """The plan of an AREF kernel of ``parts`` sub-tiles, each run by ``warps`` warps.

    ``scratch`` bytes of shared memory are kept free if the rings can spare them; ``share`` of 16
    exponentials are polynomials, or as many as pay. ResourceError
    or InfeasibleError if the rings do not fit.
    """
    found = rings(kernel, stages)
    limit = budget(kernel, found, machine.smem - machine.smem_kept, scratch)
    depths, loops, answers = least(found), list[LoopProblem](), list[Answer]()
    shared, where, notes = kernel, list[shares.Place](), list[str]()
    for number, loop in enumerate(ring_loops(kernel)):
        taken = machine.smem - machine.smem_kept - limit + _others(found, depths, loop)
        wishes = Wishes(stages, warps, parts, taken)
        where.append(shares.Place(number, machine, wishes, RLIMIT))
        best, note = shares.best_variant(shared, where[-1], share)
        shared, notes = best.kernel, [*notes, *([note] if note else [])]
        loops.append(best.loop)
        answers.append(best.answer)
        if answers[-1].schedule is not None:
            depths.update(answers[-1].schedule.depths)
    depths = with_spares(found, depths, limit, machine.max_depth)
    answers = [_deepened(a, depths) for a in answers]
    for solved, answer in zip(loops, answers, strict=True):
        check(solved.problem, answer)
    if shared is not kernel:
        shares.check_costs(shared, zip(where, loops, strict=True))
    count = max((len(compute_groups(a.schedule)) for a in answers if a.schedule), default=1)
    return KernelPlan(
        shared,
        count,
        warps,
        tuple(loops),
        tuple(answers),
        depths,
        _places(tuple(zip(loops, answers, strict=True))),
        tuple(notes),
    )


def check(problem: Problem, answer: Answer) -> None:
    """InternalError X301 with all faults if an answer's plan or its claim is wrong."""
    plan = answer.schedule
    faults = [] if plan is None else list(violations(problem, plan))
    if plan is not None and answer.bound.value > plan.ii:
        faults.append(f"[bound] {answer.bound.value} is above the interval {plan.ii}")
    if answer.status == "optimal" and (plan is None or answer.bound.value != plan.ii):
        faults.append("[bound] called optimal, but the bound is not the interval")
    if faults:
        raise InternalError("X301", f"{problem.name}: wrong schedule: " + "; ".join(faults))


def _others(found: tuple[Ring, ...], depths: Mapping[str, int], loop: Op) -> int:
    """Bytes of the rings that the loop does not fill."""
    return total(tuple(r for r in found if r.loop is not loop), depths)


def _deepened(answer: Answer, depths: Mapping[str, int]) -> Answer:
    """The answer with the slots that its rings get."""
    if answer.schedule is None:
        return answer
    own = {name: depths[name] for name in answer.schedule.depths}
    return replace(answer, schedule=replace(answer.schedule, depths=own))


def _places(solved: tuple[tuple[LoopProblem, Answer], ...]) -> dict[Op, Place]:
    found: dict[Op, Place] = {}
    for number, (loop, answer) in enumerate(solved):
        if answer.schedule is not None:
            found.update(_loop_places(loop, answer.schedule, f"tc{number}"))
    return found


def _loop_places(loop: LoopProblem, schedule: Schedule, chain: str) -> dict[Op, Place]:
    """The places of the ops of the compute groups, with the turns in which they take the tensor cores."""
    taken = turns(loop.problem, schedule, UNIT)
    found: dict[Op, Place] = {}
    for group in compute_groups(schedule):
        mine: dict[Op, tuple[int, int]] = {}
        for number, turn in enumerate(taken):
            if turn.group == group:
                for end in (turn.first, turn.last):
                    mine.update(dict.fromkeys(loop.nodes[end], (number, len(taken))))
        found.update(places(program(loop, schedule, group), mine, chain))
    return found
