"""The core of the checker: which accesses race, and how that is reported."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from tilec.ir.ptx.module import Instruction
from tilec.runtime.emulator import race
from tilec.runtime.emulator.check_lanes import LaneRecord
from tilec.runtime.emulator.clocks import CAUSE, FIRST, FOREVER, NOBODY, OBJECT, ORDER, Clocks, Timeline
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.observe import Observer, Unchanged
from tilec.runtime.emulator.report import Report
from tilec.runtime.emulator.shadow import Place, Shadow
from tilec.runtime.emulator.strand import cta_name

if TYPE_CHECKING:
    from tilec.runtime.emulator.cta import Cta
    from tilec.runtime.emulator.machine import Machine
    from tilec.runtime.emulator.strand import Strand

_STRONG = re.compile(r"(atom|red|cp\.reduce)\.|(ld|st)\.(volatile|relaxed|acquire|release|mmio)")


@dataclass(frozen=True)
class Memory:
    """A shadow with what messages call it: "shared" or "global", and the address of its start."""

    shadow: Shadow
    kind: str
    start: int
    rank: int = 0
    lanes: LaneRecord | None = None


def forget(memory: Memory, place: Place) -> None:
    """Something else than a lane writes here."""
    if memory.lanes is not None:
        memory.lanes.forget(place)


@dataclass(frozen=True)
class Actor:
    """Who accesses. ``who`` is what ``Clocks.lookup`` takes, ``column`` (one, or one for each
    granule) what the record names, ``kind`` one of race's, ``part`` the order that it needs, ``lanes`` those
    of each granule, where they matter."""

    who: Array
    column: int | Array
    kind: str
    part: int = ORDER
    lanes: Array | None = None


class RaceChecker(Observer):
    """Knows the actors, and compares accesses with the records of a memory."""

    checks = True

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.timeline = Timeline()
        self.unchanged: Unchanged = None
        self.whole = True
        self.unfenced: set[int] = set()

    def begin(self, ctas: Sequence[Cta]) -> None:
        self.ctas, self.per_cta = list(ctas), len(ctas[0].warp_alive)
        names = [f"CTA {cta_name(c.ctaid)} warp {w}" for c in ctas for w in range(self.per_cta)]
        self.clocks = Clocks(self.timeline, names)
        self.performed: list[list[int]] = [[] for _ in names]
        self.proxied: list[list[int]] = [[] for _ in names]

    def report(self, code: str, message: str, inst: Instruction, other: Instruction | None = None) -> None:
        """``other`` is the earlier one of two instructions."""
        second = () if other is None else (other.line, other.loc)
        self.machine.report(Report(code, message, inst.line, inst.loc, *second))

    def rows(self, s: Strand) -> Array:
        """The rows of a strand's warps in the clocks."""
        result: Array = s.warps + s.cta.slot * self.per_cta
        return result

    def row(self, s: Strand, thread: int) -> int:
        """The row of a thread's warp."""
        return s.cta.slot * self.per_cta + (thread >> 5)

    def note_read(self, shadow: Shadow, place: Place, actor: Actor, time: int) -> None:
        if isinstance(actor.column, int):
            shadow.note_read(place, actor.column, time)
        elif isinstance(place, np.ndarray):
            shadow.note_reads(place, actor.column, time)

    def note_write(self, shadow: Shadow, place: Place, actor: Actor, time: int) -> None:
        """A strong write is kept as a read too, since it need not be ordered after others."""
        shadow.note_write(place, self.clocks.id_of(actor.column), time, clear=not time & 1)
        if time & 1:
            self.note_read(shadow, place, actor, time)

    def check_read(self, memory: Memory, place: Place, actor: Actor, inst: Instruction) -> None:
        """Report a read that is not ordered after the last write."""
        missing = memory.shadow.after_writes(place, actor.who, actor.part, self.clocks)
        if missing.any():
            self._writes(memory, place, actor, missing, inst, writes=False)

    def check_write(self, memory: Memory, place: Place, actor: Actor, inst: Instruction) -> None:
        """Report a write that is not ordered after the last write and the reads since then."""
        missing = memory.shadow.after_writes(place, actor.who, actor.part, self.clocks)
        if missing.any():
            self._writes(memory, place, actor, missing, inst, writes=True)
        reads = memory.shadow.after_reads(place, actor.who, actor.part, self.clocks)
        if reads is not None and reads.any():
            self._reads(memory, place, actor, reads, inst)
        old = memory.shadow.after_old_reads(place, actor.who, self.clocks)
        if old is not None and old.any():
            self._old_reads(memory, place, actor, old, inst)

    def _writes(self, memory: Memory, place: Place, actor: Actor, missing: Array, inst: Instruction,
                writes: bool) -> None:  # fmt: skip
        """Of the last writes that are not known, report those that matter."""
        shadow, clocks = memory.shadow, self.clocks
        columns, times = clocks.column[shadow.writer[place]], shadow.wrote[place]
        self._special(memory, place, missing, columns, inst, writes)
        real = missing & (columns != NOBODY) & (columns != OBJECT)
        if strong(inst.opcode):
            real &= (times & 1) == 0
        if writes and real.any():
            real &= ~self._harmless(shadow.writer[place], real)
        racing = real & (clocks.lookup(actor.who, ORDER, columns) < times)
        settled = self._settled(memory, actor, columns, times, racing, writes)
        for mask, rule in self._kinds(actor, real, racing, settled, writes):
            at = int(np.flatnonzero(mask)[0])
            id, time = int(shadow.writer[place][at]), int(times[at])
            self._race(memory, place, at, actor, id, time, True, rule, inst, writes)

    def _harmless(self, writers: Array, real: Array) -> Array:
        """Where stores of values that memory has already follow ordinary ones."""
        kinds = {i: self.timeline.actors[i].kind for i in np.unique(writers[real]).tolist()}
        ordinary = [i for i, kind in kinds.items() if kind == race.WARP]
        return np.isin(writers, ordinary) & self.same(len(writers))

    def same(self, granules: int) -> Array:
        """Which of the granules of a store it does not change. One that touches several memories is taken
        as a whole."""
        if self.unchanged is None:
            return np.zeros(granules, bool)
        same = self.unchanged()
        each = granules // len(same)
        if self.whole and each * len(same) == granules:
            return np.repeat(same, each)
        return np.full(granules, bool(same.all()))

    def _special(self, memory: Memory, place: Place, missing: Array, columns: Array, inst: Instruction,
                 writes: bool) -> None:  # fmt: skip
        if not writes and (columns[missing] == NOBODY).any():
            self.report("W24", f"{memory.kind} memory is read that nothing has written", inst)
        if (columns[missing] == OBJECT).any():
            self.report("E12", "an ordinary access touches a live mbarrier", inst)

    def _reads(self, memory: Memory, place: Place, actor: Actor, missing: Array, inst: Instruction) -> None:
        """Report one of the reads that are not known."""
        shadow = memory.shadow
        times = shadow.read[: shadow.used, place]
        if strong(inst.opcode):
            missing = missing & ((times & 1) == 0)
        columns = np.broadcast_to(shadow.readers[:, None], times.shape)
        racing = missing & (self.clocks.lookup(actor.who, ORDER, shadow.readers[:, None]) < times)
        settled = self._settled(memory, actor, columns, times, racing, True)
        for mask, rule in self._kinds(actor, missing, racing, settled, True):
            row, at = (int(i[0]) for i in np.nonzero(mask))
            id = self.clocks.ids[int(shadow.readers[row])]
            self._race(memory, place, at, actor, id, int(times[row, at]), False, rule, inst)

    def _kinds(
        self, actor: Actor, missing: Array, racing: Array, settled: Array, writes: bool
    ) -> Iterator[tuple[Array, str]]:
        """Of accesses that miss something: those that race, those that only a relaxed arrival orders, and
        those that lack a proxy fence."""
        masks = {"race": racing & ~settled, "relaxed": settled}
        if actor.part != ORDER:
            masks["proxy"] = missing & ~racing if writes else missing & ~racing & ~settled
        found = [(m, rule) for rule, m in masks.items() if m.any()]
        yield from found[:1]

    def _settled(self, memory: Memory, actor: Actor, columns: Array, times: Array, racing: Array,
                 writes: bool) -> Array:  # fmt: skip
        """Which accesses to shared memory are over, though only relaxed arrivals tell: the warp has passed a
        barrier or fence since, and the later access comes after that. What the async proxy reads
        needs a proxy fence."""
        settled = np.zeros(racing.shape, bool)
        if memory.kind != "shared" or not racing.any():
            return settled
        over = self.performed if writes or actor.part == ORDER else self.proxied
        come = np.broadcast_to(self.clocks.lookup(actor.who, CAUSE, columns), racing.shape)
        warps = racing & (columns >= FIRST) & (columns < FIRST + self.clocks.warps)
        for column in np.unique(columns[warps]).tolist():
            here = warps & (columns == column)
            points = np.array([*over[column - FIRST], FOREVER], np.int64)
            settled[here] = come[here] >= points[np.searchsorted(points, times[here])]
        return settled

    def _old_reads(
        self, memory: Memory, place: Place, actor: Actor, missing: Array, inst: Instruction
    ) -> None:
        """Report one of the reads by earlier clusters that are not known."""
        shadow = memory.shadow
        if strong(inst.opcode):
            missing = missing & ((shadow.old_read[place] & 1) == 0)
        if missing.any() and shadow.old_reader is not None:
            at = int(np.flatnonzero(missing)[0])
            id, time = int(shadow.old_reader[place][at]), int(shadow.old_read[place][at])
            self._race(memory, place, at, actor, id, time, False, "race", inst)

    def _race(self, memory: Memory, place: Place, at: int, actor: Actor, id: int, time: int, wrote: bool,
              kind: str, inst: Instruction, writes: bool = True) -> None:  # fmt: skip
        before = self.timeline.site(time)
        earlier = race.Access(*self.timeline.actors[id], wrote, before)
        mine = actor.column if isinstance(actor.column, int) else int(actor.column[at])
        later = race.Access(self.clocks.name(mine), actor.kind, writes, inst)
        granule = place.start + at if isinstance(place, slice) else int(place[at])
        start, size = memory.start + (granule << memory.shadow.shift), 1 << memory.shadow.shift
        rule = race.rule_of(memory.kind, earlier, later, kind)
        if kind == "proxy" and writes:
            self.unfenced.add(inst.line)
        self.report(rule.code, race.text_of(rule, memory.kind, start, size, earlier, later), inst, before)


@cache
def strong(opcode: str) -> bool:
    """Atomic, volatile, or with a scope: two such accesses do not race."""
    return _STRONG.match(opcode) is not None
