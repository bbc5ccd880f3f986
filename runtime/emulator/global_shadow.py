"""Shadows of global memory: one for each allocation that the kernel writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from tilec.runtime.emulator.clocks import Clocks
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.shadow import Place, Shadow
from tilec.runtime.emulator.spaces import GLOBAL_BASE, GlobalMemory
from tilec.runtime.emulator.tensormap import TensorMap

_LOG = 4096


@dataclass(frozen=True)
class Note:
    """A read of an allocation that nothing has written yet."""

    clocks: Clocks
    place: Place
    columns: int | Array
    time: int


@dataclass
class Allocation:
    """Reads are only listed until the first write, since most allocations are read only. ``dirty``:
    there has been one."""

    start: int
    size: int
    granule: int
    dirty: bool = False
    shadow: Shadow | None = None
    log: list[Note] = field(default_factory=list)

    def read(self, clocks: Clocks, place: Place, columns: int | Array, time: int) -> None:
        note = Note(clocks, place, columns, time)
        if self.dirty:
            _replay(self.made(), note, clocks)
        else:
            self.log.append(note)

    def made(self) -> Shadow:
        """The shadow, made when it is needed."""
        if self.shadow is None:
            self.shadow = Shadow(self.size, self.granule, fresh=False)
        return self.shadow

    def written(self, clocks: Clocks) -> Shadow:
        """The shadow, for a write."""
        shadow, self.dirty = self.made(), True
        for note in self.log:
            _replay(shadow, note, clocks)
        self.log.clear()
        return shadow

    def retire(self, clocks: Clocks) -> None:
        """A cluster has ended. Long lists become records of old reads."""
        if self.dirty:
            self.made().retire(clocks)
        elif len(self.log) > _LOG:
            for note in self.log:
                self.made().note_old_read(note.place, _ids(note), note.time)
            self.log.clear()


def _replay(shadow: Shadow, note: Note, clocks: Clocks) -> None:
    if note.clocks is not clocks:
        shadow.note_old_read(note.place, _ids(note), note.time)
    elif isinstance(note.columns, int):
        shadow.note_read(note.place, note.columns, note.time)
    elif isinstance(note.place, np.ndarray):
        shadow.note_reads(note.place, note.columns, note.time)


def _ids(note: Note) -> int | Array:
    return note.clocks.id_of(note.columns)


class GlobalShadow:
    """All allocations, by their places in ``GlobalMemory``."""

    def __init__(self, memory: GlobalMemory, granule: int) -> None:
        self.memory, self.granule = memory, granule
        self.starts = np.array(memory.starts, np.uint64)
        self.made: dict[int, Allocation] = {}

    def allocation(self, which: int) -> Allocation:
        found = self.made.get(which)
        if found is None:
            start = self.memory.starts[which]
            found = self.made[which] = Allocation(start, self.memory.ends[which] - start, self.granule)
        return found

    def split(self, address: Array) -> Iterator[tuple[Allocation, Array | None, Array]]:
        """(allocation, mask or None for all, offsets in it) of addresses that are known to be legal."""
        offset = address - np.uint64(GLOBAL_BASE)
        which = np.searchsorted(self.starts, offset, side="right") - 1
        if which[0] == which[-1] and (which == which[0]).all():
            found = self.allocation(int(which[0]))
            yield found, None, offset - np.uint64(found.start)
            return
        for one in np.unique(which).tolist():
            mask = which == one
            found = self.allocation(one)
            yield found, mask, offset[mask] - np.uint64(found.start)

    def of_range(self, address: int, size: int) -> tuple[Allocation, Place] | None:
        """The granules that lie wholly in a range."""
        return self._whole(np.array([address], np.int64), size)

    def of_box(self, m: TensorMap, at: Sequence[int]) -> tuple[Allocation, Place] | None:
        """The granules that lie wholly in the rows of a box of a tensor map."""
        if any(step > 1 for step in m.steps):
            return None
        low, high = max(at[0], 0), min(at[0] + m.box[0], m.dims[0])
        row = np.zeros(1, np.int64)
        for start, extent, size, stride in zip(at[1:], m.box[1:], m.dims[1:], m.strides, strict=True):
            index = np.arange(max(start, 0), min(start + extent, size))
            row = (row[:, None] + index * stride).ravel()
        if high <= low or not len(row):
            return None
        return self._whole(row + (m.address + low * m.size), (high - low) * m.size)

    def _whole(self, starts: Array, size: int) -> tuple[Allocation, Place] | None:
        g, first = self.granule, int(starts[0])
        found = self.allocation(int(np.searchsorted(self.starts, first - GLOBAL_BASE, side="right")) - 1)
        offset = starts - (GLOBAL_BASE + found.start)
        skip = -int(offset[0]) % g
        count = (size - skip) // g
        if count <= 0:
            return None
        first_granule = (offset + skip) // g
        if len(starts) == 1:
            return found, slice(int(first_granule[0]), int(first_granule[0]) + count)
        return found, (first_granule[:, None] + np.arange(count)).ravel()

    def retire(self, clocks: Clocks) -> None:
        """A cluster has ended."""
        for found in self.made.values():
            found.retire(clocks)
