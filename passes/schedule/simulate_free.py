"""Free running: every op issues as soon as its group, its values, its slots and its units let it.

Groups are actors that run their programs in order. An op holds up its group until its first
reservations are granted; one that starts later than the op queues at its unit and delays what
comes after it in that op (its stretch). The earliest step that is possible is made next.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from tilec.passes.schedule.model import Segment
from tilec.passes.schedule.simulate_plan import Instance, Plan
from tilec.passes.schedule.simulate_run import Event, Stall

Arbiter = Literal["schedule", "first"]
NEVER = -1  # a cycle that is not known yet


class Need(NamedTuple):
    """An instance may not issue before ``cycle`` (NEVER: not known yet), because of ``cause``."""

    cycle: int
    cause: str


@dataclass
class Unit:
    """Instances of a unit. With an order, a reservation waits for all that are scheduled before it."""

    count: int
    order: list[int] | None
    held: list[tuple[int, int]] = field(default_factory=list)  # (end, amount)
    granted: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    first: int = 0

    def free(self, amount: int, scheduled: int) -> int:
        """The earliest cycle with ``amount`` free instances, NEVER if its turn has not come."""
        if amount > self.count or not self._turn(scheduled):
            return NEVER
        used, now = 0, 0
        for end, taken in sorted(self.held, reverse=True):
            used += taken
            if used + amount > self.count:
                return max(now, end)
        return now

    def _turn(self, scheduled: int) -> bool:
        return self.order is None or self.first >= len(self.order) or scheduled <= self.order[self.first]

    def take(self, start: int, s: Segment, scheduled: int) -> None:
        """Grant a reservation from ``start`` on."""
        self.held = [(end, n) for end, n in self.held if end > start] + [(start + s.length, s.amount)]
        self.granted[scheduled] += 1
        while self.order and self.first < len(self.order) and self.granted[self.order[self.first]]:
            self.granted[self.order[self.first]] -= 1
            self.first += 1


@dataclass
class Free:
    """The state of a free run. `run` executes it; then the fields hold what happened."""

    plan: Plan
    arbiter: Arbiter = "schedule"
    now: int = 0
    issued: dict[Instance, int] = field(default_factory=dict)
    delays: dict[Instance, list[tuple[int, int]]] = field(default_factory=dict)  # (offset, stretch so far)
    queue: dict[Instance, list[Segment]] = field(default_factory=dict)  # reservations not granted yet
    trace: list[Event] = field(default_factory=list)
    idle: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))

    def __post_init__(self) -> None:
        self.programs = {g: self.plan.program(g) for g in self.plan.groups}
        self.position = dict.fromkeys(self.programs, 0)
        self.code: dict[int, dict[str, Instance]] = {g: {} for g in self.programs}
        self.units = {u: Unit(n, self._order(u)) for u, n in self.plan.problem.limits.units}

    def _order(self, unit: str) -> list[int] | None:
        if self.arbiter == "first":
            return None
        ops = [o for o in self.plan.problem.ops if o.id not in self.plan.skipped]
        starts = [(o.id, s.offset) for o in ops for s in o.reserve if s.unit == unit and s.length]
        return sorted(self.plan.at(v, i) + at for v, at in starts for i in range(self.plan.iterations))

    def run(self) -> tuple[str, ...]:
        """Execute; returns who waits for what if the loop stands still, else nothing."""
        while steps := list(self._steps()):
            cycle, _, _, group, instance = min(steps)
            self.now = max(self.now, cycle)
            if group == NEVER:
                self._grant(instance)
            else:
                self._issue(group, instance)
        return tuple(self._stuck())

    def _steps(self) -> Iterator[tuple[int, int, int, int, Instance]]:
        """Possible next steps: (cycle, scheduled cycle, op's place, group or NEVER, instance)."""
        for group, program in self.programs.items():
            if self.position[group] < len(program):
                instance = program[self.position[group]]
                needs = list(self._needs(group, instance))
                if all(n.cycle != NEVER for n in needs):
                    key = (self.plan.at(*instance), self.plan.place[instance[0]])
                    yield max(n.cycle for n in needs), *key, group, instance
        for instance, segments in self.queue.items():
            first = segments[0]
            cycle = self.units[first.unit].free(first.amount, self.plan.at(*instance) + first.offset)
            if cycle != NEVER:
                asked = self._asked(instance, first)
                key = (self.plan.at(*instance), self.plan.place[instance[0]])
                yield max(cycle, asked), *key, NEVER, instance

    # -- what an instance waits for

    def _needs(self, group: int, instance: Instance) -> Iterator[Need]:
        v, _ = instance
        yield Need(self.now, "order")
        if v in self.plan.skipped:
            return
        if v in self.plan.waiting:
            yield from (Need(self._code_end(x), f"code {o}") for o, x in self.code[group].items() if o != v)
        yield from self._values(instance)
        yield from self._slots(instance)
        at_once = [s for s in self.plan.problem.op[v].reserve if s.offset == 0 and s.length]
        for unit in dict.fromkeys(s.unit for s in at_once):
            amount = sum(s.amount for s in at_once if s.unit == unit)
            yield Need(self.units[unit].free(amount, self.plan.at(*instance)), f"unit {unit}")

    def _values(self, instance: Instance) -> Iterator[Need]:
        v, i = instance
        for e in self.plan.sources[v]:
            source = (e.src, i - e.delta)
            if source[1] >= 0 and e.src not in self.plan.skipped:
                extra = self.plan.delay(e) + self.plan.late.get(source, 0)
                yield Need(self._after(source, extra), f"value {e.src}")

    def _slots(self, instance: Instance) -> Iterator[Need]:
        """A ring's slot is free when its readers have read; a place when whoever had it is done."""
        v, i = instance
        schedule = self.plan.schedule
        for b in self.plan.written[v]:
            if not b.alloc:
                past = [(r, i - schedule.depths[b.id]) for r in b.readers]
                yield from (Need(self._after((r.op, j), r.rd), f"slot {b.id}") for r, j in past if j >= 0)
                continue
            for other in self.plan.problem.buffers:
                j = self._last_before(other.writer, instance)
                if other.alloc and other.mem == b.mem and j >= 0 and self._meet(b.id, other.id):
                    past = [(r, j) for r in other.readers if (r.op, j) != instance]
                    yield from (Need(self._after((r.op, j), r.rd), f"place {other.id}") for r, j in past)

    def _last_before(self, writer: str, instance: Instance) -> int:
        """The last iteration of a writer that the schedule puts before an instance."""
        gap = self.plan.at(*instance) - self.plan.schedule.times[writer]
        return min(-(-gap // self.plan.schedule.ii) - 1, self.plan.iterations - 1)

    def _meet(self, a: str, b: str) -> bool:
        sizes = {x.id: x.size for x in self.plan.problem.buffers}
        at = self.plan.schedule.offsets
        return at[a] < at[b] + sizes[b] and at[b] < at[a] + sizes[a]

    def _after(self, instance: Instance, cycles: int) -> int:
        """When an op has come as far as ``cycles`` after its issue, NEVER if that is not known yet."""
        queued = self.queue.get(instance, ())
        if instance not in self.issued or any(s.offset < cycles for s in queued):
            return NEVER
        stretch = max((n for at, n in self.delays.get(instance, ()) if at < cycles), default=0)
        return self.issued[instance] + cycles + stretch

    def _code_end(self, instance: Instance) -> int:
        return self._after(instance, self.plan.problem.op[instance[0]].cyc)

    def _asked(self, instance: Instance, s: Segment) -> int:
        stretch = max((n for _, n in self.delays.get(instance, ())), default=0)
        return self.issued[instance] + s.offset + stretch

    # -- steps

    def _issue(self, group: int, instance: Instance) -> None:
        v, i = instance
        self._count_idle(group, instance)
        self.issued[instance] = self.now
        self.position[group] += 1
        if v in self.plan.skipped:
            return
        op = self.plan.problem.op[v]
        self.code[group][v] = instance
        self.trace.append(Event(f"group {group}", v, i, self.now, self.now + op.cyc))
        for s in op.reserve:
            if s.offset == 0 and s.length:
                self._take(instance, s)
        later = sorted((s for s in op.reserve if s.offset and s.length), key=lambda s: s.offset)
        if later:
            self.queue[instance] = later

    def _grant(self, instance: Instance) -> None:
        first, *rest = self.queue[instance]
        stretch = self.now - self.issued[instance] - first.offset
        self.delays.setdefault(instance, []).append((first.offset, stretch))
        self._take(instance, first)
        self.queue[instance] = rest
        if not rest:
            del self.queue[instance]

    def _take(self, instance: Instance, s: Segment) -> None:
        self.units[s.unit].take(self.now, s, self.plan.at(*instance) + s.offset)
        self.trace.append(Event(s.unit, *instance, self.now, self.now + s.length))

    def _count_idle(self, group: int, instance: Instance) -> None:
        """Cycles in which a group has no code to run, by what its next op waits for."""
        needs = [n for n in self._needs(group, instance) if n.cause != "order"]
        ends = [self.issued[x] + self.plan.problem.op[v].cyc for v, x in self.code[group].items()]
        idle = self.now - max(ends, default=0)
        if idle > 0 and needs:
            self.idle[instance[0], max(needs, key=lambda n: n.cycle).cause] += idle

    def _stuck(self) -> Iterator[str]:
        for group, program in self.programs.items():
            if self.position[group] < len(program):
                v, i = program[self.position[group]]
                causes = [n.cause for n in self._needs(group, (v, i)) if n.cycle == NEVER]
                yield f"group {group} at {v} of iteration {i} waits for {', '.join(dict.fromkeys(causes))}"
        for (v, i), segments in self.queue.items():
            yield f"{v} of iteration {i} waits for unit {segments[0].unit}"

    def stalls(self) -> tuple[Stall, ...]:
        """Idle cycles of the groups by op and cause, the longest first."""
        found = [Stall(op, cause, n) for (op, cause), n in self.idle.items()]
        return tuple(sorted(found, key=lambda s: (-s.cycles, s.op, s.cause)))
