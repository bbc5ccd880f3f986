"""Vector clocks of the actors of one cluster.

An actor is a warp, or the part of the hardware that acts for it: its cp.async, the tensor
core of a warpgroup, the bulk stores of a thread, the copies that complete on an mbarrier.
Times are numbers of events of the whole run. For each warp a and actor b the clocks hold
how far a knows b: all that b did up to that time is ordered before what a does next.
``ORDER`` counts every access; ``SHARED`` and ``GLOBAL`` only those that a proxy fence for
that memory covers too, which the async proxy needs of accesses by the generic proxy. ``CAUSE``
is what has happened before, whether or not memory is ordered by it: a copy that has landed says
that its issuer had come to it, and a relaxed arrival that its warp had.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from tilec.ir.ptx.module import Instruction
from tilec.runtime.emulator.numbers import Array

ORDER, SHARED, GLOBAL, CAUSE = 0, 1, 2, 3
PARTS = 4
# Columns that are no actors: the host (known to all), nobody (a place that nothing wrote), a
# live mbarrier, and actors of other clusters. Nobody knows the last three.
HOST, NOBODY, OBJECT, FOREIGN, FIRST = 0, 1, 2, 3, 4
FOREVER = np.int32(2**30)


_OTHERS = ("the host", "nobody", "an mbarrier", "another CTA")


class Name(NamedTuple):
    """What messages call an actor, and its kind (see ``race``)."""

    text: str
    kind: str


@dataclass
class Timeline:
    """Times of a whole run: each event has an instruction, and an even time; the odd time after it
    marks a strong access (atomic, volatile or with a scope)."""

    sites: list[Instruction] = field(default_factory=list)
    actors: list[Name] = field(default_factory=lambda: [Name(n, "") for n in _OTHERS])

    def tick(self, inst: Instruction) -> int:
        """The time of a new event."""
        self.sites.append(inst)
        return 2 * len(self.sites)

    def site(self, time: int) -> Instruction:
        return self.sites[((time & ~int(FOREVER)) >> 1) - 1]


class Clocks:
    """``known[a, part, column]``. An actor's id is unique in the run, its column in the cluster;
    ``column`` maps ids to columns. Warps come first. ``within``: for each warp, up to when its lanes
    know of one another."""

    def __init__(self, timeline: Timeline, names: list[str]) -> None:
        self.timeline = timeline
        self.warps = len(names)
        self.ids: list[int] = [HOST, NOBODY, OBJECT, FOREIGN]
        self._ids = np.zeros(0, np.int32)
        self.column = np.full(len(timeline.actors) + len(names), FOREIGN, np.int32)
        self.column[:FIRST] = range(FIRST)
        self.known = np.zeros((self.warps, PARTS, FIRST + 2 * self.warps), np.int32)
        self.known[:, :, HOST] = FOREVER
        for name in names:
            self.add(name, "warp")
        own = np.arange(self.warps)
        self.known[own, ORDER, FIRST + own] = FOREVER
        self.known[own, CAUSE, FIRST + own] = FOREVER
        self.start = 2 * len(timeline.sites)
        self.within = np.zeros(self.warps, np.int32)

    def add(self, name: str, kind: str) -> int:
        """A new actor; its column."""
        self.timeline.actors.append(Name(name, kind))
        return self.adopt(len(self.timeline.actors) - 1)

    def adopt(self, id: int) -> int:
        """A column for an actor, which may belong to an earlier cluster."""
        if id >= len(self.column):
            self.column = np.append(self.column, np.full(id + 64, FOREIGN, np.int32))
        if self.column[id] == FOREIGN:
            self.column[id] = len(self.ids)
            self.ids.append(id)
            if len(self.ids) > self.known.shape[2]:
                self.known = np.concatenate([self.known, np.zeros_like(self.known)], axis=2)
        return int(self.column[id])

    def lookup(self, who: Array, part: int, column: Array) -> Array:
        """How far ``who`` knows the actors of some columns. ``who`` is a vector (parts, columns), or
        has the row of a warp for each element of the last axis of ``column``."""
        found: Array = who[part, column] if who.ndim == 2 else self.known[who, part, column]
        return found

    def id_of(self, column: int | Array) -> int | Array:
        """The ids of actors."""
        if isinstance(column, int):
            return self.ids[column]
        if len(self._ids) != len(self.ids):
            self._ids = np.array(self.ids, np.int32)
        found: Array = self._ids[column]
        return found

    def name(self, column: int) -> str:
        return self.timeline.actors[self.ids[column]].text

    def publish(self, rows: Array, time: int) -> Array:
        """What these warps together know when they release: (parts, columns)."""
        vector: Array = self.known[rows[0]].copy() if len(rows) == 1 else self.known[rows].max(axis=0)
        vector[ORDER, FIRST + rows] = time
        vector[CAUSE, FIRST + rows] = time
        return vector

    def acquire(self, rows: Array, vector: Array) -> None:
        """The warps learn what a vector holds. What comes back to a warp of itself orders its lanes."""
        self.within[rows] = np.maximum(self.within[rows], vector[ORDER, FIRST + rows])
        if len(rows) == 1:
            target = self.known[rows[0], :, : vector.shape[1]]
            np.maximum(target, vector, out=target)
        else:
            width = vector.shape[1]
            self.known[rows, :, :width] = np.maximum(self.known[rows, :, :width], vector)

    def learn(self, rows: Array, column: int, time: int) -> None:
        """The warps learn that an asynchronous actor is done up to a time."""
        self.known[rows, :, column] = np.maximum(self.known[rows, :, column], np.int32(time))

    def fence(self, rows: Array, parts: tuple[int, ...], time: int) -> None:
        """A proxy fence covers all that the warps did and know."""
        for part in parts:
            self.known[rows, part] = self.known[rows, ORDER]
            self.known[rows, part, FIRST + rows] = time


def join(into: Array | None, vector: Array) -> Array:
    """The maximum of two vectors, of which either may lack the newest columns."""
    if into is None:
        return vector.copy()
    if into.shape[1] < vector.shape[1]:
        into, vector = vector.copy(), into
    part = into[:, : vector.shape[1]]
    np.maximum(part, vector, out=part)
    return into
