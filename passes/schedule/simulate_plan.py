"""A loop and its schedule, prepared for execution: who runs what in which order, and what delays it."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property

from tilec.passes.schedule.model import Buffer, Edge, Problem, Schedule

Instance = tuple[str, int]  # (op, iteration)


@dataclass(frozen=True, eq=False)
class Plan:
    """``iterations`` iterations of a scheduled loop; streams arrive up to ``jitter`` cycles late."""

    problem: Problem
    schedule: Schedule
    iterations: int
    jitter: int = 0
    seed: int = 0

    def at(self, v: str, i: int) -> int:
        """The scheduled cycle of an instance."""
        return self.schedule.times[v] + i * self.schedule.ii

    def delay(self, e: Edge) -> int:
        """Cycles of an edge, the change of group included."""
        groups = self.schedule.groups
        return e.d if groups[e.src] == groups[e.dst] else e.d + self.problem.crossing(e)

    @cached_property
    def groups(self) -> dict[int, list[str]]:
        """The ops of each group in the problem's order."""
        found: dict[int, list[str]] = {g: [] for g in sorted(set(self.schedule.groups.values()))}
        for o in self.problem.ops:
            found[self.schedule.groups[o.id]].append(o.id)
        return found

    @cached_property
    def place(self) -> dict[str, int]:
        """The position of each op in the problem: of two ops at one cycle the first one runs first."""
        return {o.id: k for k, o in enumerate(self.problem.ops)}

    def program(self, group: int) -> list[Instance]:
        """What a group runs, prologue and epilogue included, in its order."""
        n = range(self.iterations)
        return sorted(
            ((v, i) for v in self.groups[group] for i in n), key=lambda x: (self.at(*x), self.place[x[0]])
        )

    @cached_property
    def sources(self) -> dict[str, list[Edge]]:
        """The edges into each op."""
        found: dict[str, list[Edge]] = {o.id: [] for o in self.problem.ops}
        for e in self.problem.edges:
            found[e.dst].append(e)
        return found

    @cached_property
    def written(self) -> dict[str, list[Buffer]]:
        """The buffers that each op writes."""
        found: dict[str, list[Buffer]] = {o.id: [] for o in self.problem.ops}
        for b in self.problem.buffers:
            found[b.writer].append(b)
        return found

    @cached_property
    def waiting(self) -> frozenset[str]:
        """Ops that stand at a barrier before they issue.

        Their value is asynchronous or another group's, or they fill a ring that another group reads.
        """
        group = self.schedule.groups
        found = set()
        for e in self.problem.edges:
            if e.mem != "ord" and e.src != e.dst and (e.blocking or group[e.src] != group[e.dst]):
                found.add(e.dst)
        for b in self.problem.buffers:
            crosses = any(group[r.op] != group[b.writer] for r in b.readers)
            if crosses and not b.alloc and not self.problem.op[b.writer].stream:
                found.add(b.writer)
        return frozenset(found)

    @cached_property
    def late(self) -> dict[Instance, int]:
        """Extra cycles of each stream's latency, the same for the same seed."""
        dice = random.Random(self.seed)
        streams = [o.id for o in self.problem.ops if o.stream] if self.jitter else []
        return {(v, i): dice.randint(0, self.jitter) for i in range(self.iterations) for v in streams}

    @cached_property
    def skipped(self) -> frozenset[str]:
        """Of two opposite predicates the ops of the one with less work do not run."""
        work: dict[str, int] = defaultdict(int)
        for o in self.problem.ops:
            if o.predicate:
                work[o.predicate] += sum(s.length * s.amount for s in o.reserve)
        off = {p for p in work if work[p] < work.get(_opposite(p), -1)}
        off |= {p for p in work if p.startswith("!") and work[p] == work.get(_opposite(p), -1)}
        return frozenset(o.id for o in self.problem.ops if o.predicate in off)


def _opposite(predicate: str) -> str:
    return predicate[1:] if predicate.startswith("!") else "!" + predicate
