"""One step of the steady state: what runs, waits, is given back, and whose turn it is.

A step in which iteration 0 of stage 0 runs is step 0. Items of stage s work on iteration
T - s in step T; waits and releases have stages too, which may lie beyond those of the ops.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from tilec.ir.core import Op
from tilec.ir.types import ArefType
from tilec.passes.rewrite import where
from tilec.passes.schedule.modulo_body import Body, is_product, reads
from tilec.passes.schedule.modulo_line import Line, carried_bytes
from tilec.passes.schedule.modulo_plan import LoopPlan, Turns
from tilec.passes.schedule.modulo_wait import Access, Spot, wait_of

Kind = Literal["op", "wait", "release", "get", "enter", "exit"]
SEVERAL_STAGES = "is read in several stages"
RANK: dict[Kind, int] = {"op": 0, "wait": 1, "release": 2, "get": 3, "enter": 4, "exit": 5}


@dataclass(frozen=True, eq=False)
class Item:
    """``op``: the op; the product to wait for; the release or get. ``access``: what a wait passes on,
    as a value and the iterations since."""

    kind: Kind
    stage: int
    op: Op
    access: Access | None = None
    turn: int = 0


@dataclass(frozen=True)
class Step:
    """``stages`` is that of the ops alone, ``carried`` the bytes that live on into the next step."""

    items: tuple[Item, ...]
    stages: int
    turns: Turns | None = None
    carried: int = 0

    @property
    def merit(self) -> tuple[int, int]:
        """The larger, the better."""
        return self.flight(), -self.carried

    @cached_property
    def place(self) -> dict[Item, int]:
        return {item: i for i, item in enumerate(self.items)}

    @cached_property
    def products(self) -> list[Item]:
        return [i for i in self.items if i.kind == "op" and is_product(i.op)]

    @cached_property
    def emptying(self) -> Item | None:
        """The wait of the kernel for all products: the first whose value is read, if some run across steps.

        ptxas (13.5) loses count in a loop in which some product always runs: it takes any read of
        an accumulator there for one of a running product, and serializes them all (C7514).
        """
        issued = {p.op: p.stage for p in self.products}
        across = any(w.stage > issued[w.op] for w in self.of("wait"))
        return next((w for w in self.of("wait") if across and w.access is not None), None)

    def of(self, kind: Kind) -> list[Item]:
        return [i for i in self.items if i.kind == kind]

    def get_of(self, release: Item) -> Item:
        """The get of the slot that a release gives back."""
        return next(i for i in self.of("get") if i.op.args[0] is release.op.args[0])

    def held(self, release: Item) -> int:
        """Slots of the ring that are held at most, just after a get."""
        get = self.get_of(release)
        later = self.place[release] > self.place[get]
        return release.stage - get.stage + later

    def keep(self, release: Item, offset: int = 0, leaving: bool = False) -> int:
        """Slots that are held for later iterations than the one whose slot is given back.

        ``offset``: how many steps before the first (leaving: after the last) of the kernel.
        In the epilogue (``leaving``) no iteration has begun since the kernel ended.
        """
        get = self.get_of(release)
        newest = get.stage + offset + (self.place[get] > self.place[release])
        return max(0, release.stage + offset - _begun(newest, leaving))

    def pending(self, wait: Item, offset: int = 0, leaving: bool = False) -> int:
        """Products that were issued since the one to wait for, and need not be over.

        Where fewer iterations came before, fewer products were issued: the count is that of
        the first time that the product is there at all, so it is never too large. In the kernel it is
        no more than what earlier waits of the step have left: ptxas (13.5) counts by what waits say.
        """
        own = self._issued_since(wait, offset, leaving)
        if offset or leaving:
            return own
        earlier = [w for w in self.of("wait") if self.place[w] < self.place[wait]]
        return min([own, *(self.pending(w) + self._between(w, wait) for w in earlier)])

    def _between(self, first: Item, last: Item) -> int:
        """Products that a step issues between two of its items."""
        return sum(self.place[first] < self.place[p] < self.place[last] for p in self.products)

    def _issued_since(self, wait: Item, offset: int, leaving: bool) -> int:
        """Products that were issued since the one to wait for; in the kernel none if all are waited for."""
        if wait is self.emptying and offset == 0 and not leaving:
            return 0
        own = next(p for p in self.products if p.op is wait.op)
        age = wait.stage + offset
        oldest = max(self.stages - 1, age)
        count = 0
        for p in self.products:
            newest = _begun(p.stage + offset + (self.place[p] > self.place[wait]), leaving)
            since = p.stage + age - own.stage - (self.place[p] <= self.place[own])
            count += max(0, min(since, oldest) - newest + 1)
        return count

    def flight(self) -> int:
        """Ops that run beside products in a step of the kernel: from each issue to the first wait
        that, in the order of issue, is also for it."""
        pending = {i: self.pending(i) for i in self.of("wait")}
        return sum(self._flight(p, pending) for p in self.products)

    def _flight(self, product: Item, pending: dict[Item, int]) -> int:
        start, beside, since = self.place[product] + 1, 0, 0
        laps = 1 + max(i.stage for i in self.items)
        for item in (*self.items[start:], *self.items * laps):
            if item in pending and since >= pending[item]:
                break
            beside += item.kind == "op"
            since += item in self.products
        return beside


def _begun(age: int, leaving: bool) -> int:
    """The youngest iteration of those not younger than ``age``: at the end the last has age 1."""
    return max(age, 1) if leaving else age


@dataclass
class _Slots:
    """Where items go: before or after an op, or at the end (None)."""

    before: dict[Op | None, list[Item]] = field(default_factory=dict)
    after: dict[Op, list[Item]] = field(default_factory=dict)

    def flat(self, line: Line) -> tuple[Item, ...]:
        items: list[Item] = []
        for op in line.order:
            items += sorted(self.before.get(op, []), key=lambda i: RANK[i.kind])
            items.append(Item("op", line.stage[op], op))
            items += sorted(self.after.get(op, []), key=lambda i: RANK[i.kind])
        return (*items, *sorted(self.before.get(None, []), key=lambda i: RANK[i.kind]))


def step_of(body: Body, line: Line, plan: LoopPlan, across: bool) -> Step | str:
    """The step with waits and gets as late as their readers allow; ``across`` as in `wait_of`."""
    slots = _Slots()
    products = [op for op in line.order if is_product(op)]
    waits = {op: wait_of(body, line, op, plan.in_flight.get(op, 1), across) for op in products}
    for product, (spot, access) in waits.items():
        _put(slots, spot, Item("wait", spot.stage, product, access))
    reason = _place_rings(body, line, {p: spot for p, (spot, _) in waits.items()}, slots)
    if reason is None and plan.turns is not None:
        reason = _place_turns(body, line, plan.turns, slots)
    if reason is not None:
        return reason
    step = Step(slots.flat(line), line.stages, plan.turns, carried_bytes(body, line))
    return _why_not_deep(step) or step


def _put(slots: _Slots, spot: Spot, item: Item) -> None:
    if spot.after and spot.op is not None:
        slots.after.setdefault(spot.op, []).append(item)
    else:
        slots.before.setdefault(spot.op, []).append(item)


def _place_rings(body: Body, line: Line, waits: dict[Op, Spot], slots: _Slots) -> str | None:
    """Each get before its first reader, each release when the last one has read."""
    releases = {op.args[0]: op for op in body.ops if op.name == "aref.release"}
    gets = [op for op in body.ops if op.name == "aref.get"]
    if set(releases) != {g.args[0] for g in gets}:
        return f"{where(body.loop)}: an iteration does not give back the slots that it takes"
    for get in gets:
        readers = [op for op in line.order if any(leaf.op is get for _, leaf in reads(body, op))]
        stages = {line.stage[op] for op in readers}
        if len(stages) != 1:
            what = "is read by no op" if not stages else SEVERAL_STAGES
            return f"{where(get)}: the slot of {get.args[0].hint or 'a ring'} {what}"
        (stage,) = stages
        _put(slots, Spot(stage, readers[0]), Item("get", stage, get))
        done = [waits[op] if op in waits else Spot(stage, op, after=True) for op in readers]
        last = max(done, key=lambda s: s.key(line))
        _put(slots, last, Item("release", last.stage, releases[get.args[0]]))
    return None


def _place_turns(body: Body, line: Line, turns: Turns, slots: _Slots) -> str | None:
    ends = [line.place.get(op, -1) for s in turns.segments for op in (s.first, s.last)]
    indices, place = [s.index for s in turns.segments], where(body.loop)
    if -1 in ends or ends != sorted(ends) or len(set(ends[1::2])) != len(indices):
        return f"{place}: turns of {turns.chain} overlap, or end at an op that the plan does not have"
    if indices != sorted(set(indices)) or not all(0 <= i < turns.of for i in indices):
        return f"{place}: turns {indices} of {turns.chain} are not ascending numbers below {turns.of}"
    for s in turns.segments:
        _put(slots, Spot(0, s.first), Item("enter", 0, s.first, turn=s.index))
        _put(slots, Spot(0, s.last, after=True), Item("exit", 0, s.last, turn=s.index))
    return None


def _why_not_deep(step: Step) -> str | None:
    """A ring with fewer slots than the group wants to hold."""
    for release in step.of("release"):
        ring = release.op.args[0]
        depth = ring.type.depth if isinstance(ring.type, ArefType) else None
        held, name = step.held(release), ring.hint or "a ring"
        if depth is not None and held > depth:
            return f"{where(release.op)}: the plan holds {held} slots of {name}, which has {depth}"
    return None
