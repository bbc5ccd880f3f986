"""Roles: ways to deal the ops of a loop to groups that hand values on, for the scheduler to choose from.

AREF -> AREF. Ops that a recurrence ties together stay together, and values go one way: from a role
to later ones. Of the ways that remain, those come first whose busiest unit or role is least
busy, and then those that hand over the fewest bytes. Who runs what outside of the loop follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from math import ceil

from tilec.ir.core import Kernel, Op, Value, uses, walk
from tilec.ir.errors import TilecValueError
from tilec.ir.ops import opdef
from tilec.ir.types import TileType
from tilec.passes.canonicalize import canonicalize
from tilec.passes.hand_over import Cut, hand_over
from tilec.passes.layout_rules import is_pointwise
from tilec.passes.rewrite import where
from tilec.passes.schedule.apply import refused
from tilec.passes.schedule.body import FREE, Body, reads
from tilec.passes.schedule.distribute import consumers
from tilec.passes.schedule.extract import Wishes, loop_body, ring_loops
from tilec.passes.schedule.live import Registers
from tilec.passes.schedule.machines import Machine
from tilec.passes.schedule.reach import Reach
from tilec.passes.thread_copies import role_registers

WAYS = 4096  # ways to deal a loop that are looked at
NAMES = ("compute_1", "compute_2", "compute_3")
Way = dict[Op, int]  # the role of each node, by its lead
Crossing = tuple[Value, int, int]  # a value, the role that makes it, one that takes it


@dataclass(frozen=True, eq=False)
class Division:
    """An AREF kernel of ``count`` roles. ``estimate`` of its loop's interval: the most that a
    unit or the code of a role takes, nearly a bound."""

    kernel: Kernel
    count: int
    estimate: int


def divisions(kernel: Kernel, machine: Machine, warps: int, count: int, most: int) -> list[Division] | str:
    """The best ``most`` ways to deal an AREF kernel to ``count`` roles of ``warps`` warps; or why none is."""
    loops = ring_loops(kernel)
    if len(loops) != 1 or loops[0].name != "for":
        return "roles need one loop that fills rings, a `for`"
    body = loops[0].blocks[0]
    if any(op.blocks or opdef(op.name).effect == "write" for op in body.ops):
        return f"{where(loops[0])}: the loop branches or writes memory"
    dealer = _Dealer(kernel, machine, warps, count, loops[0])
    made = (dealer.division(way) for way in dealer.best())
    found = list(islice((d for d in made if d is not None), most))
    return found or f"{where(loops[0])}: its ops cannot be dealt to {count} roles of {warps} warps"


@dataclass(frozen=True, eq=False)
class _Dealer:
    kernel: Kernel
    machine: Machine
    warps: int
    count: int
    loop: Op

    @cached_property
    def body(self) -> Body:
        return loop_body(self.kernel, 0, self.machine, Wishes(None, self.warps, self.count))

    @cached_property
    def nodes(self) -> list[Op]:
        return [lead for lead in self.body.members if lead not in self.body.streams]

    @cached_property
    def links(self) -> list[tuple[Op, Op, int, int]]:
        """What nodes read of others: source, reader, iterations ago, operand."""
        return [
            (source, lead, distance, place)
            for lead in self.nodes
            for member in self.body.members[lead]
            for place, value in enumerate(reads(member))
            for source, distance in self.body.sources(value)
            if source is not lead and source not in self.body.streams
        ]

    @cached_property
    def parts(self) -> list[list[Op]]:
        """Nodes that stay together, in program order: recurrences, and products that add to one sum."""
        home = {lead: lead for lead in self.nodes}
        for source, lead, distance, place in self.links:
            if distance or (source.name == lead.name == "dot" and place == 2):
                old, new = home[lead], home[source]
                home = {n: new if h is old else h for n, h in home.items()}
        return [[n for n in self.nodes if home[n] is root] for root in dict.fromkeys(home.values())]

    def best(self) -> list[Way]:
        """The ways to deal the parts, the best first, without those that cannot have their registers."""
        ways = [w for w in islice(self._ways([]), WAYS) if self._may_fit(w)]
        return sorted(ways, key=lambda w: (self.estimate(w), sum(_bytes(v) for v, _, _ in self.crossings(w))))

    def _ways(self, roles: list[int]) -> Iterator[Way]:
        """The rest of the ways that begin with the roles of the first parts."""
        if len(roles) == len(self.parts):
            if set(roles) == set(range(self.count)):
                yield {n: role for part, role in zip(self.parts, roles, strict=True) for n in part}
            return
        for role in range(self.count):
            more = [*roles, role]
            if all(more[a] <= more[b] for a, b in self.order if max(a, b) == len(roles)):
                yield from self._ways(more)

    @cached_property
    def order(self) -> list[tuple[int, int]]:
        """Parts of which the second reads the first in the same iteration."""
        home = {n: i for i, part in enumerate(self.parts) for n in part}
        pairs = ((home[a], home[b]) for a, b, distance, _ in self.links if not distance)
        return [(a, b) for a, b in dict.fromkeys(pairs) if a != b]

    def crossings(self, way: Way) -> list[Crossing]:
        pairs = ((a, way[a], way[b]) for a, b, _, _ in self.links if way[a] != way[b])
        return list(dict.fromkeys((a.result, x, y) for a, x, y in pairs if len(a.results) == 1))

    def estimate(self, way: Way) -> int:
        """The most that a unit or the code of a role takes, with what puts and their readers add."""
        spent, units = [0] * self.count, dict.fromkeys(("LSU",), 0)
        for lead in self.nodes:
            costs = [self.body.costs[op] for op in (*self.body.again(lead), *self.body.members[lead])]
            spent[way[lead]] += sum(c.cyc for c in costs)
            for s in (s for c in costs for s in c.reserve):
                units[s.unit] = units.get(s.unit, 0) + s.length
        for value, source, target in self.crossings(way):
            moved = ceil(_bytes(value) / self.machine.smem_rate)
            spent[source] += moved
            units["LSU"] += moved
            for _ in range(self._loads(value, way, target)):
                spent[target] += moved + self.machine.smem_latency
                units["LSU"] += moved
        return max(*spent, *units.values())

    def _loads(self, value: Value, way: Way, role: int) -> int:
        """How many nodes of a role load a value; the tensor cores read it where it lies."""
        readers = {b for a, b, _, _ in self.links if a.result is value and way[b] == role and b.name != "dot"}
        return len(readers)

    def _may_fit(self, way: Way) -> bool:
        """Whether what a role keeps for the whole loop, and its largest tile, have registers."""
        live, limit = Registers(self.body, self.warps), role_registers(self.kernel, self.count, self.warps)[1]
        kept, largest = [0] * self.count, [0] * self.count
        for lead in self.nodes:
            kept[way[lead]] += live.pinned.get(lead, 0)
            largest[way[lead]] = max(largest[way[lead]], live.held.get(lead, 0))
        most = limit - self.machine.reg_fixed
        return all(a + b <= most for a, b in zip(kept, largest, strict=True))

    def division(self, way: Way) -> Division | None:
        """The kernel dealt that way; None where it cannot be."""
        after = self._after(way)
        crossings = [*self.crossings(way), *(after[0] if after else ())]
        if after is None or not all(self._may_cross(v, role, way) for v, _, role in crossings):
            return None
        cuts = tuple(Cut(v, NAMES[x], NAMES[y]) for v, x, y in crossings)
        writers = {op: NAMES[role] for op, role in after[1].items()}
        try:
            made = canonicalize(hand_over(self.kernel, cuts, NAMES[self.count - 1], writers))
        except TilecValueError:
            return None
        fine = len(consumers(made)) == self.count and refused(made) is None
        return Division(made, self.count, self.estimate(way)) if fine else None

    def _after(self, way: Way) -> tuple[list[Crossing], dict[Op, int]] | None:
        """What crosses behind the loop, and the role of each write: the last one that it needs a value of."""
        reach, writers, found = Reach(self.kernel.body), dict[Op, int](), dict[Crossing, None]()
        for op in (op for op in walk(self.kernel.body) if opdef(op.name).effect == "write"):
            needed = _loop_results(self.loop, reach, op)
            makers = {n: self._makers(n, way) for n in needed}
            if any(len(m) > 1 for m in makers.values()):
                return None
            writers[op] = max((r for m in makers.values() for r in m), default=self.count - 1)
            for n, (role,) in ((n, m) for n, m in makers.items() if m):
                if role != writers[op]:
                    found[self._reduced(self.loop.results[n]), role, writers[op]] = None
        return list(found), writers

    def _reduced(self, value: Value) -> Value:
        """The value, or what it is reduced to before anything else reads it."""
        users = self.users.get(value, [])
        return self._reduced(users[0].result) if len(users) == 1 and users[0].name == "reduce" else value

    @cached_property
    def users(self) -> dict[Value, list[Op]]:
        return uses(self.kernel.body)

    def _may_cross(self, value: Value, role: int, way: Way) -> bool:
        """Whether a value can lie in a slot, and all that reads it in a role can read it there."""
        t = value.type
        if not isinstance(t, TileType) or not t.shape or t.dtype.kind == "bool" or t.dtype.bits < 8:
            return False
        readers = [op for op in self.users.get(value, []) if op.name != "yield"]
        mine = [op for op in readers if way.get(self.body.lead.get(op, op), role) == role]
        return all(
            self._may_cross(op.result, role, way) if op.name in FREE else op.name == "dot" or is_pointwise(op)
            for op in mine
        )

    def _makers(self, n: int, way: Way) -> set[int]:
        """The roles that make a result of the loop."""
        sources = self.body.sources(self.body.block.yielded[n])
        return {way[s] for s, _ in sources if s in way}


def _loop_results(loop: Op, reach: Reach, write: Op) -> list[int]:
    """The results of the loop that a write needs."""
    todo, seen = list(write.args), set[Value]()
    while todo:
        value = todo.pop()
        if value not in seen:
            seen.add(value)
            todo += [] if value in loop.results else reach.before.get(value, [])
    return [n for n, r in enumerate(loop.results) if r in seen]


def _bytes(value: Value) -> int:
    return value.type.bytes if isinstance(value.type, TileType) else 0
