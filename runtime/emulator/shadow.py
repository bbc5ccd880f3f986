"""Who last wrote and read each granule of a memory, and which of these accesses a new one is not
ordered after.

A granule is 1 to 16 bytes: no access of the program is smaller, so records are exact.
"""

from __future__ import annotations

import numpy as np

from tilec.runtime.emulator.clocks import HOST, NOBODY, OBJECT, Clocks
from tilec.runtime.emulator.numbers import Array

Place = slice | Array


class Shadow:
    """Records of one memory. ``writer`` is an actor's id and ``wrote`` a time; ``read`` has a row
    for each actor of this cluster that has read, ``old_reader`` and ``old_read`` the latest reader
    of earlier clusters. ``swizzle`` is that of the last copy into shared memory; ``source``
    is where in global memory a cp.async took the granule from at the time ``sourced`` (-1: nowhere)."""

    def __init__(self, size: int, granule: int, fresh: bool) -> None:
        self.shift = granule.bit_length() - 1
        self.count = -(-size >> self.shift)
        self.writer = np.full(self.count, NOBODY if fresh else HOST, np.int32)
        self.wrote = np.full(self.count, 1 if fresh else 0, np.int32)
        self.read = np.zeros((0, self.count), np.int32)
        self.readers = np.zeros(0, np.int32)
        self.slots = np.full(0, -1, np.int32)
        self.used = 0
        self.swizzle = np.zeros(self.count if fresh else 0, np.int8)
        self.source: Array | None = None
        self.sourced = np.zeros(0, np.int32)
        self.old_reader: Array | None = None
        self.old_read = np.zeros(0, np.int32)

    def span(self, start: int, size: int) -> slice:
        """The granules of a range of bytes."""
        return slice(start >> self.shift, -(-(start + size) >> self.shift))

    def granules(self, offset: Array, size: int) -> Array:
        """The granules of accesses of ``size`` bytes, one access after the other."""
        first = (offset >> np.uint64(self.shift)).astype(np.intp)
        each = size >> self.shift
        return first if each <= 1 else (first[:, None] + np.arange(each)).ravel()

    def slot(self, column: int) -> int:
        """The row of ``read`` for an actor."""
        if column >= len(self.slots):
            self.slots = np.append(self.slots, np.full(column + 8, -1, np.int32))
        if self.slots[column] < 0:
            if self.used == len(self.read):
                extra = np.zeros((max(4, self.used), self.count), np.int32)
                self.read = np.concatenate([self.read, extra]) if self.used else extra
            self.slots[column] = self.used
            self.readers = np.append(self.readers, np.int32(column))
            self.used += 1
        return int(self.slots[column])

    def slots_of(self, columns: Array) -> Array:
        if int(columns.max()) >= len(self.slots) or (self.slots[columns] < 0).any():
            for column in np.unique(columns).tolist():
                self.slot(column)
        found: Array = self.slots[columns]
        return found

    def after_writes(self, place: Place, who: Array, part: int, clocks: Clocks) -> Array:
        """Which granules have a last write that ``who`` (see ``Clocks.lookup``) does not know."""
        have = clocks.lookup(who, part, clocks.column[self.writer[place]])
        missing: Array = have < self.wrote[place]
        return missing

    def after_reads(self, place: Place, who: Array, part: int, clocks: Clocks) -> Array | None:
        """(readers, granules) that ``who`` does not know; None if there are no records."""
        if not self.used:
            return None
        times = self.read[: self.used, place]
        if not times.any():
            return None
        missing: Array = times > clocks.lookup(who, part, self.readers[:, None])
        return missing

    def after_old_reads(self, place: Place, who: Array, clocks: Clocks) -> Array | None:
        """Which granules were read by an earlier cluster that ``who`` does not know."""
        if self.old_reader is None:
            return None
        have = clocks.lookup(who, 0, clocks.column[self.old_reader[place]])
        missing: Array = have < self.old_read[place]
        return missing

    def note_write(self, place: Place, id: int | Array, time: int, clear: bool = True) -> None:
        """A write that has been checked: the reads that it is ordered after need no record."""
        self.writer[place] = id
        self.wrote[place] = time
        if clear and self.used:
            self.read[: self.used, place] = 0

    def note_source(self, place: Array, source: Array, time: int) -> None:
        """What a cp.async has written is a copy of these addresses of global memory."""
        if self.source is None:
            self.source, self.sourced = np.full(self.count, -1, np.int64), np.zeros(self.count, np.int32)
        self.source[place], self.sourced[place] = source, time

    def note_object(self, place: slice) -> None:
        """An mbarrier lies here: no ordinary access may touch it."""
        self.writer[place], self.wrote[place] = OBJECT, 1

    def landed(self, place: Place, flying: int, time: int) -> None:
        """An asynchronous write, noted with the time ``flying``, is done."""
        self.wrote[place] = np.where(self.wrote[place] == flying, np.int32(time), self.wrote[place])

    def note_read(self, place: Place, column: int, time: int) -> None:
        row = self.slot(column)
        self.read[row, place] = time

    def note_reads(self, place: Array, columns: Array, time: int) -> None:
        """A read by several actors: a column for each granule."""
        rows = self.slots_of(columns)
        self.read[rows, place] = time

    def note_old_read(self, place: Place, id: int | Array, time: int | Array) -> None:
        """A read by an actor of an earlier cluster."""
        if self.old_reader is None:
            self.old_reader = np.full(self.count, HOST, np.int32)
            self.old_read = np.zeros(self.count, np.int32)
        self.old_reader[place] = id
        self.old_read[place] = time

    def retire(self, clocks: Clocks) -> None:
        """The cluster has ended: its readers become old ones."""
        for row, column in enumerate(self.readers.tolist()):
            place = np.flatnonzero(self.read[row])
            if len(place):
                self.note_old_read(place, clocks.ids[column], self.read[row][place])
        self.read[: self.used] = 0
        self.readers, self.slots, self.used = np.zeros(0, np.int32), np.full(0, -1, np.int32), 0
