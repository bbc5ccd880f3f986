"""Lanes of one warp that meet in shared memory without bar.warp.sync between.

The clocks know warps, not lanes. For each warp this keeps up to when its lanes know of one another: a
bar.warp.sync, also of some lanes, counts for all of them, and so does what the warp learns of
itself through a barrier, an mbarrier or an atomic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilec.ir.ptx.module import Instruction
from tilec.runtime.emulator import race
from tilec.runtime.emulator.clocks import Clocks
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.report import where
from tilec.runtime.emulator.shadow import Place

_EVERY = np.int64(0xFFFFFFFF)


def bits_of(threads: Array, each: int, every: bool) -> Array:
    """The lanes of an access to ``each`` granules a thread, as bits; ``every``: all lanes get the value."""
    bits = np.full(len(threads), _EVERY) if every else np.int64(1) << (threads & 31).astype(np.int64)
    return bits if each == 1 else np.repeat(bits, each)


@dataclass(frozen=True)
class Finding:
    """Lanes that race: the granule, the lanes of the two accesses as bits, which of them ``wrote`` (the
    earlier, the later), and the instruction of the earlier one."""

    granule: int
    lanes: int
    others: int
    wrote: tuple[bool, bool]
    before: Instruction

    @property
    def rule(self) -> race.Race:
        return race.LANES[self.wrote[1]]


class LaneRecord:
    """The last write of each granule of one CTA's shared memory by a warp, and its reads since by the
    last warp that read, each with its lanes as bits."""

    def __init__(self, count: int) -> None:
        self.wrote, self.writer = np.zeros(count, np.int32), np.full(count, -1, np.int32)
        self.read, self.reader = np.zeros(count, np.int32), np.full(count, -1, np.int32)
        self.writing, self.reading, self._sum = (np.zeros(count, np.int64) for _ in range(3))

    def together(self, place: Array, lanes: Array) -> Array:
        """For each granule of an access all lanes that touch it."""
        np.bitwise_or.at(self._sum, place, lanes)
        found: Array = self._sum[place]
        self._sum[place] = 0
        return found

    def after_write(self, place: Array, rows: Array, lanes: Array, clocks: Clocks) -> Array:
        """Which granules other lanes of the warp wrote last, and nothing orders the two."""
        late = (self.wrote[place] > clocks.within[rows]) & (self.writer[place] == rows)
        result: Array = late & ((lanes & ~self.writing[place]) != 0)
        return result

    def after_reads(self, place: Array, rows: Array, lanes: Array, clocks: Clocks) -> Array:
        """Which granules other lanes of the warp read since, and nothing orders the two."""
        late = (self.read[place] > clocks.within[rows]) & (self.reader[place] == rows)
        result: Array = late & ((self.reading[place] & ~lanes) != 0)
        return result

    def find(self, place: Array, rows: Array, lanes: Array, clocks: Clocks, writes: bool,
             strong: bool, same: Array) -> Finding | None:  # fmt: skip
        """The first race of an access, whose granules have these warps and lanes. Two strong accesses
        do not race, nor two writes where the later one leaves the ``same`` value."""
        mine = self.together(place, lanes) if writes else lanes
        kinds = [(self.after_write(place, rows, mine, clocks), self.wrote, self.writing, True)]
        if writes:
            kinds.append((self.after_reads(place, rows, mine, clocks), self.read, self.reading, False))
        for late, times, held, wrote in kinds:
            real = late & ((times[place] & 1) == 0) if strong else late
            real = real & ~same if wrote else real
            if real.any():
                at = int(np.flatnonzero(real)[0])
                granule, lane = int(place[at]), int(mine[at])
                others, before = int(held[granule]), clocks.timeline.site(int(times[granule]))
                return Finding(granule, lane, others & ~lane or others, (wrote, writes), before)
        return None

    def note_write(self, place: Array, rows: Array, lanes: Array, time: int) -> None:
        self.writing[place] = self.together(place, lanes)
        self.wrote[place], self.writer[place] = time, rows
        self.reader[place] = -1

    def note_read(self, place: Array, rows: Array, lanes: Array, time: int, clocks: Clocks) -> None:
        fresh = (self.reader[place] != rows) | (self.read[place] <= clocks.within[rows])
        self.reading[place[fresh]] = 0
        np.bitwise_or.at(self.reading, place, lanes)
        self.read[place], self.reader[place] = time, rows

    def forget(self, place: Place) -> None:
        """Something else than a lane writes here."""
        self.writer[place] = self.reader[place] = -1


def text_of(found: Finding, warp: str, start: int, size: int) -> str:
    """The message of a report."""
    before, verb = ("wrote" if found.wrote[0] else "read"), ("writes" if found.wrote[1] else "reads")
    return (
        f"{_name(found.lanes)} of {warp} {verb} shared memory at {start:#x}..{start + size - 1:#x}, which "
        f"{_name(found.others)} {before} at {where(found.before)}; {found.rule.edge}"
    )


def _name(lanes: int) -> str:
    return "every lane" if lanes == _EVERY else f"lane {(lanes & -lanes).bit_length() - 1}"
