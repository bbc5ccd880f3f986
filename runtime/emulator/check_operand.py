"""Whether products read what was put into shared memory for them, and in the order in which it was put."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tilec.runtime.emulator import race
from tilec.runtime.emulator.clocks import FOREVER, Clocks
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.shadow import Place, Shadow

_PRODUCTS = (race.WGMMA, race.TENSOR)
_WRITERS = (race.WARP, race.COPY, race.MBARRIER)


class Unread(NamedTuple):
    """A copy or store that products have read in part: its time, that of the last product, and the first
    granule that nothing has read."""

    write: int
    product: int
    granule: int


def unread(shadow: Shadow, place: Place, clocks: Clocks) -> Iterator[Unread]:
    """The copies and stores in some place that products have read, but not all of. A copy that nothing has
    read at all may be one too many; a part of it is left out where a descriptor does not move on."""
    actors, ids = clocks.timeline.actors, clocks.ids
    rows = [i for i, c in enumerate(shadow.readers.tolist()) if actors[ids[c]].kind in _PRODUCTS]
    if not rows:
        return
    reads, wrote = shadow.read[: shadow.used, place], shadow.wrote[place]
    latest, nobody = reads[rows].max(axis=0), ~reads.any(axis=0)
    for time in np.unique(wrote[latest > 0]).tolist():
        written = wrote == time
        left = np.flatnonzero(written & nobody)
        if not len(left) or time >= FOREVER:
            continue
        first = int(left[0])
        granule = place.start + first if isinstance(place, slice) else int(place[first])
        if _writer(shadow, granule, clocks) in _WRITERS:
            yield Unread(time, int(latest[written].max()), granule)


def _writer(shadow: Shadow, granule: int, clocks: Clocks) -> str:
    return clocks.timeline.actors[int(shadow.writer[granule])].kind


def reversed_rows(shadow: Shadow, pairs: Array) -> Array:
    """Where the second of two units of 16 bytes comes from before the first in global memory, while in the
    first row of the operand it comes from as far behind it. ``pairs``: the first granules of both units
    of each row. Only what cp.async wrote says where it comes from."""
    if shadow.source is None:
        return np.zeros(len(pairs), bool)
    source = shadow.source[pairs]
    known = (shadow.sourced[pairs] == shadow.wrote[pairs]).all(axis=1) & (source >= 0).all(axis=1)
    step = np.where(known, source[:, 1] - source[:, 0], 0)
    first = step[known][0] if known.any() else 0
    found: Array = known & (step == -first) & (first != 0)
    return found
