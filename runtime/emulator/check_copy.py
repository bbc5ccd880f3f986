"""The checker's copies: those that complete on mbarriers, and bulk stores with their groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tilec.ir.ptx.module import Instruction
from tilec.runtime.emulator import race
from tilec.runtime.emulator.check_access import AccessChecker
from tilec.runtime.emulator.check_mbarrier import BarrierWatch, Release, cause_of
from tilec.runtime.emulator.check_operand import unread
from tilec.runtime.emulator.check_race import Actor, Memory, forget, strong
from tilec.runtime.emulator.clocks import FIRST, FOREVER, GLOBAL, ORDER, SHARED, join
from tilec.runtime.emulator.global_shadow import Allocation
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.observe import Box, Landing, Range, Source
from tilec.runtime.emulator.report import where
from tilec.runtime.emulator.shadow import Place

if TYPE_CHECKING:
    from tilec.runtime.emulator.cta import Cta, MBarrier
    from tilec.runtime.emulator.machine import Machine
    from tilec.runtime.emulator.strand import Strand


@dataclass
class Groups:
    """Operations of one issuer: the time of the newest one not yet committed, and, group by
    group, the newest time and what its issuers knew."""

    column: int
    open: int = 0
    vector: Array | None = None
    committed: list[tuple[int, Array | None]] = field(default_factory=list)

    def add(self, time: int, vector: Array | None = None) -> None:
        self.open = time
        self.vector = vector if vector is None else join(self.vector, vector)

    def commit(self) -> None:
        self.committed.append((self.open, self.vector))
        self.open, self.vector = 0, None

    def wait(self, pending: int) -> tuple[int, Array | None]:
        """Take out all but the newest groups: the newest time among them, and what was known."""
        keep = max(len(self.committed) - pending, 0)
        gone, self.committed = self.committed[:keep], self.committed[keep:]
        vectors = [v for _, v in gone if v is not None]
        return max((t for t, _ in gone), default=0), vectors[-1] if vectors else None

    @property
    def busy(self) -> bool:
        return bool(self.open or any(t for t, _ in self.committed))


@dataclass
class Stores:
    """The bulk stores of a thread: their reads of shared memory, and their writes."""

    reading: Groups
    writing: Groups
    inst: Instruction | None = None


@dataclass(frozen=True)
class Suspect:
    """A wait of a warp that was, or can be, two phases late."""

    row: int
    text: str
    inst: Instruction


class CopyChecker(AccessChecker):
    """Adds mbarriers, the copies that complete on them, and bulk stores."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.watches: list[BarrierWatch] = []

    def begin(self, ctas: Sequence[Cta]) -> None:
        super().begin(ctas)
        self.watches = []
        self.last_acquire = np.zeros(self.clocks.warps, np.int64)
        self.active = np.zeros(self.clocks.warps, bool)
        self.suspects: list[Suspect] = []
        self.fenced: dict[int, Array] = {}
        self.pending: dict[int, Array] = {}
        self.stores: dict[tuple[int, int], Stores] = {}

    def watch(
        self, s: Strand, thread: int, barrier: MBarrier, address: int, inst: Instruction
    ) -> BarrierWatch:
        time = self.timeline.tick(inst)
        made = BarrierWatch(self, s.cta, barrier, address, self.row(s, thread), time, inst)
        memory = self.shared[s.cta.slot]
        span, row = memory.shadow.span(address, 8), made.row
        self.check_write(memory, span, Actor(self.clocks.known[row], FIRST + row, race.WARP), inst)
        memory.shadow.note_object(span)
        self.watches.append(made)
        return made

    def invalidated(self, watch: BarrierWatch, s: Strand, inst: Instruction) -> None:
        """The place is ordinary memory again, written by the thread that invalidated it."""
        if watch.flights:
            text = (
                f"{watch.name} is invalidated while the copy at {where(watch.flights[0].inst)} is under way"
            )
            self.report("E12", text, inst, watch.flights[0].inst)
        memory = self.shared[watch.cta.slot]
        row = int(self.rows(s)[0])
        memory.shadow.note_write(
            memory.shadow.span(watch.address, 8), self.clocks.ids[FIRST + row], self.timeline.tick(inst)
        )
        self.watches.remove(watch)

    def activate(self, rows: Array) -> None:
        """These warps act for others: what was let pass while they only waited is reported."""
        if self.active[rows].all():
            return
        self.active[rows] = True
        for suspect in [x for x in self.suspects if self.active[x.row]]:
            self.suspects.remove(suspect)
            self.report("E11", suspect.text, suspect.inst)

    def suspect(self, row: int, text: str, inst: Instruction) -> None:
        """E11 for a warp, now or when it acts for others."""
        self.suspects.append(Suspect(row, text, inst))
        if self.active[row]:
            self.active[row] = False
            self.activate(np.array([row]))

    def release(self, s: Strand, inst: Instruction, relaxed: bool = False) -> dict[int, Release]:
        time = self.timeline.tick(inst)
        out = {}
        self.activate(self.rows(s))
        for warp, row in zip(s.warps.tolist(), self.rows(s).tolist(), strict=True):
            vector = self.clocks.publish(np.array([row]), time)
            out[warp] = Release(row, time, self.relaxed(row, vector) if relaxed else vector)
        return out

    def relaxed(self, row: int, vector: Array) -> Array:
        """What a relaxed arrival hands on: that it has come, and what the last fence released."""
        return join(cause_of(vector), self.fenced[row]) if row in self.fenced else cause_of(vector)

    def phase_over(self, watch: BarrierWatch) -> None:
        """What waits for the phase learn: the arrivals, and the copies up to now."""
        time = self.timeline.tick(watch.inst)
        vector = np.zeros_like(self.clocks.known[0])
        vector[:, watch.column] = time
        watch.clock = join(watch.clock, vector)
        watch.older, watch.done = watch.done, watch.clock.copy()

    def remote(self, row: int, cta: Cta, column: int, time: int, inst: Instruction) -> None:
        """Note for E23 that a warp touches a CTA that may not be its own."""
        if row // self.per_cta != cta.slot:
            self.elsewhere[cta.slot, column] = (time, inst)

    def copy_in(self, s: Strand, thread: int, targets: Sequence[tuple[Cta, int, MBarrier]], size: int,
                source: Source, swizzle: int, inst: Instruction) -> Landing:  # fmt: skip
        row, flying = self.row(s, thread), self.timeline.tick(inst) | int(FOREVER)
        who = self.clocks.known[row].copy()
        self.activate(np.array([row]))
        issued = self.clocks.publish(np.array([row]), flying & ~int(FOREVER))
        flights = []
        for owner, place, barrier in targets:
            watch, memory = barrier.watch, self.shared[owner.slot]
            if not isinstance(watch, BarrierWatch):
                continue
            span = memory.shadow.span(place, size)
            self.check_unread(memory, span)
            flights.append((watch, watch.issue(row, inst), memory.shadow, span))
            self.check_write(memory, span, Actor(who, watch.column, race.MBARRIER, self.part(inst)), inst)
            memory.shadow.note_write(span, self.clocks.ids[watch.column], flying)
            forget(memory, span)
            memory.shadow.swizzle[span] = swizzle

        def land(target: int) -> None:
            watch, flight, shadow, span = flights[target]
            time = self.timeline.tick(inst)
            if target == 0:
                self._source(source, Actor(who, watch.column, race.MBARRIER, ORDER), time, inst)
            shadow.landed(span, flying, time)
            watch.land(flight, issued)
            self.elsewhere[watch.cta.slot, watch.column] = (time, inst)

        return land

    def check_unread(self, memory: Memory, place: Place) -> None:
        """W30: of what was put there for products, a part is overwritten or left at the end unread."""
        for found in unread(memory.shadow, place, self.clocks):
            product, copy = (self.timeline.site(t) for t in (found.product, found.write))
            size = 1 << memory.shadow.shift
            text = (
                f"this product and those before it read only a part of what was written at {where(copy)}: "
                f"nothing reads shared memory at {found.granule * size:#x}"
            )
            self.report("W30", text, product, copy)

    def part(self, inst: Instruction) -> int:
        """The order that an asynchronous write needs: with proxy fence, until its lack is reported."""
        return ORDER if inst.line in self.unfenced else SHARED

    def _source(self, source: Source, actor: Actor, time: int, inst: Instruction) -> None:
        """A copy reads its source."""
        if isinstance(source, Range) and source.cta is not None:
            memory = self.shared[source.cta.slot]
            place: Place = memory.shadow.span(source.start, source.size)
            self.check_read(memory, place, Actor(actor.who, actor.column, actor.kind, SHARED), inst)
            self.note_read(memory.shadow, place, actor, time)
            return
        found = self._global(source)
        if found is None:
            return
        allocation, place = found
        if allocation.dirty:
            memory = self.global_memory(allocation)
            self.check_read(memory, place, Actor(actor.who, actor.column, actor.kind, GLOBAL), inst)
        allocation.read(self.clocks, place, actor.column, time)

    def _global(self, source: Source) -> tuple[Allocation, Place] | None:
        if isinstance(source, Box):
            return self.globals.of_box(source.map, source.at)
        return self.globals.of_range(source.start, source.size)

    def store_async(self, s: Strand, address: Array, size: int, barrier: MBarrier,
                    inst: Instruction) -> Callable[[], None]:  # fmt: skip
        watch, flying = barrier.watch, self.timeline.tick(inst) | int(FOREVER)
        if not isinstance(watch, BarrierWatch):
            return lambda: None
        issued = self.clocks.publish(self.rows(s), flying & ~int(FOREVER))
        flights = [watch.issue(row, inst) for row in self.rows(s).tolist()]
        places = []
        for memory, actor, place in self.pieces(s, "shared", address, size, inst, None, writes=True):
            if isinstance(memory, Memory):
                self.check_write(memory, place, Actor(actor.who, watch.column, race.MBARRIER), inst)
                memory.shadow.note_write(place, self.clocks.ids[watch.column], flying)
                forget(memory, place)
                places.append((memory.shadow, place))

        def land() -> None:
            time = self.timeline.tick(inst)
            for shadow, place in places:
                shadow.landed(place, flying, time)
            for flight in flights:
                watch.land(flight, issued)
            self.remote(int(self.rows(s)[0]), watch.cta, watch.column, time, inst)

        return land

    def copy_out(
        self, s: Strand, thread: int, place: int, size: int, target: Source, inst: Instruction
    ) -> None:
        row, time = self.row(s, thread), self.timeline.tick(inst)
        who, stores = self.clocks.known[row], self._stores(s, thread)
        memory = self.shared[s.cta.slot]
        span = memory.shadow.span(place, size)
        self.check_read(memory, span, Actor(who, stores.reading.column, race.BULK_READ, SHARED), inst)
        memory.shadow.note_read(span, stores.reading.column, time)
        found = self._global(target)
        if found is not None:
            there = self.global_memory(found[0])
            actor = Actor(who, stores.writing.column, race.BULK_WRITE, ORDER)
            self.check_write(there, found[1], actor, inst)
            self.note_write(there.shadow, found[1], actor, time | strong(inst.opcode))
        stores.reading.add(time)
        stores.writing.add(time)
        stores.inst = inst

    def _stores(self, s: Strand, thread: int) -> Stores:
        key = (s.cta.slot, thread)
        if key not in self.stores:
            name = f"a bulk store of {self.clocks.name(FIRST + self.row(s, thread))}"
            columns = [self.clocks.add(name, kind) for kind in (race.BULK_READ, race.BULK_WRITE)]
            self.stores[key] = Stores(Groups(columns[0]), Groups(columns[1]))
        return self.stores[key]

    def _of_threads(self, s: Strand) -> list[tuple[int, Stores]]:
        """The bulk stores of the strand's threads, with the row of each."""
        if not self.stores:
            return []
        rank, here = s.cta.slot, set(s.threads.tolist())
        return [(self.row(s, t), x) for (r, t), x in self.stores.items() if r == rank and t in here]

    def bulk_commit(self, s: Strand) -> None:
        for _, stores in self._of_threads(s):
            stores.reading.commit()
            stores.writing.commit()

    def bulk_wait(self, s: Strand, pending: int, reading: bool, inst: Instruction) -> None:
        mine = self._of_threads(s)
        self._check_elected(s, mine, inst)
        for row, stores in mine:
            for groups in (stores.reading,) if reading else (stores.reading, stores.writing):
                time, _ = groups.wait(pending)
                self.clocks.learn(np.array([row]), groups.column, time)

    def _check_elected(self, s: Strand, mine: list[tuple[int, Stores]], inst: Instruction) -> None:
        """E25: a thread waits for stores that another lane of its warp has issued."""
        rank = s.cta.slot
        for warp in s.warps.tolist():
            if any(row == rank * self.per_cta + warp for row, _ in mine):
                continue
            for (r, thread), stores in self.stores.items():
                if r == rank and thread >> 5 == warp and stores.reading.busy:
                    text = (
                        f"{s.name()} waits for bulk stores that thread {thread} has issued: the wait covers "
                        "only stores of the same thread, and elect.sync may choose any lane"
                    )
                    self.report("E25", text, inst, stores.inst)
