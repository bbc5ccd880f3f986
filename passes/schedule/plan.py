"""From an answer to what each group runs: which part of the kernel, in what order, in which stages.

A kernel whose rows are split has one part for each sub-tile, and the solver gives each
part a group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

from tilec.ir.core import Op
from tilec.passes.schedule.extract import LoopProblem
from tilec.passes.schedule.model import Problem, Schedule

PRODUCER = 0


@dataclass(frozen=True, eq=False)
class Program:
    """What one group runs of a loop: the stage of each op, and the ops in the order of one step."""

    stage: Mapping[Op, int]
    order: tuple[Op, ...]

    @property
    def stages(self) -> int:
        """How many iterations a step works on."""
        return 1 + max(self.stage.values(), default=0)


@dataclass(frozen=True)
class Turn:
    """A stretch of one group's step that no other group's may overlap: ops ``first`` to ``last``."""

    group: int
    first: str
    last: str


def compute_groups(schedule: Schedule) -> list[int]:
    """The groups beside the producer, in order."""
    return sorted(set(schedule.groups.values()) - {PRODUCER})


def program(found: LoopProblem, schedule: Schedule, group: int) -> Program:
    """The group's ops; its first stage counts as 0."""
    ids = schedule.order(group)
    first = min((schedule.stage(v) for v in ids), default=0)
    stage = {op: schedule.stage(v) - first for v in ids for op in found.nodes[v]}
    return Program(stage, tuple(op for v in ids for op in found.nodes[v]))


def turns(problem: Problem, schedule: Schedule, unit: str) -> tuple[Turn, ...]:
    """The order in which groups take a unit, as stretches of one step; empty if they do not take turns.

    Groups that start in different stages are out of step, and keep no turns.
    """
    users = [o.id for o in problem.ops if any(s.unit == unit for s in o.reserve) and not o.stream]
    users.sort(key=lambda v: schedule.times[v] % schedule.ii)
    runs = [(g, list(ids)) for g, ids in groupby(users, key=lambda v: schedule.groups[v])]
    starts = {min(schedule.stage(v) for v in schedule.order(g)) for g in compute_groups(schedule)}
    if len({g for g, _ in runs}) < 2 or len(starts) > 1:
        return ()
    return tuple(Turn(g, ids[0], ids[-1]) for g, ids in runs)
