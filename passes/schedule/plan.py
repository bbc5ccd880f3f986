"""From an answer to what each group runs: which part of the kernel, in what order, in which stages.

A kernel whose rows are split has one part for each sub-tile, and the solver gives each
part a group. Groups that run the same program on different rows can share the code of
the kernel that is not split.
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


def alike(found: LoopProblem, schedule: Schedule) -> bool:
    """Whether all compute groups run one program, each on its own rows."""
    programs = [_signature(found, schedule, g) for g in compute_groups(schedule)]
    return all(p == programs[0] for p in programs)


def _signature(found: LoopProblem, schedule: Schedule, group: int) -> list[tuple[object, ...]]:
    """The program without the names of its values: the ops of each step with place and stage."""
    ids = schedule.order(group)
    place = {v: n for n, v in enumerate(v for v in schedule.times if schedule.groups[v] == group)}
    first = min(schedule.stage(v) for v in ids)
    return [(place[v], _kind(found.nodes[v]), schedule.stage(v) - first) for v in ids]


def _kind(ops: tuple[Op, ...]) -> tuple[tuple[str, int], ...]:
    return tuple((op.name, op.loc.line) for op in ops)


def transfer(split: LoopProblem, schedule: Schedule, whole: LoopProblem) -> Program | None:
    """The program of one sub-tile as a program of the loop that is not split; None if they do not match."""
    group = compute_groups(schedule)[0]
    ours = [v for v in split.nodes if schedule.groups[v] == group]
    theirs = [o.id for o in whole.problem.ops if not o.stream]
    if [_kind(split.nodes[v]) for v in ours] != [_kind(whole.nodes[v]) for v in theirs]:
        return None
    twin = dict(zip(ours, theirs, strict=True))
    order = [twin[v] for v in schedule.order(group)]
    first = min(schedule.stage(v) for v in ours)
    stage = {op: schedule.stage(v) - first for v in ours for op in whole.nodes[twin[v]]}
    return Program(stage, tuple(op for v in order for op in whole.nodes[v]))


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
