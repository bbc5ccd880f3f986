"""Loops over the elements of a tile in vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tilec.backends.cpu import loops
from tilec.backends.cpu.loops import Index
from tilec.backends.cpu.target import CpuTarget
from tilec.backends.cpu.views import At, Coord


def over(
    b: Any, target: CpuTarget, shape: tuple[int, ...], body: Callable[[At, int], None], bytes_: int,
    within: Sequence[tuple[Index, Index]] | None, lane_axis: int | None,
) -> None:  # fmt: skip
    """``body(position, lanes)`` over a tile; the lanes run along an axis (the last one longer than 1).

    ``within``: bounds of the axes; along that of the vectors the lower one is not used.
    """
    long = [d for d, n in enumerate(shape) if n > 1]
    axis = lane_axis if lane_axis is not None else long[-1] if long else None
    limits = within or [(0, n) for n in shape]
    bounds = [(0, 1) if d == axis else limits[d] for d in range(len(shape))]

    def inner(at: tuple[Index, ...]) -> None:
        coords = [Coord(i) for i in at]
        if axis is None:
            body(tuple(coords), 1)
            return
        for lanes, start, stop in loops.segments(shape[axis], target.lanes(bytes_)):
            last = stop if within is None else loops.least(b, stop, within[axis][1])

            def one(i: Index, lanes: int = lanes) -> None:
                body((*coords[:axis], Coord(i, lanes > 1), *coords[axis + 1 :]), lanes)

            loops.each(b, start, last, lanes, one)

    loops.nest(b, bounds, inner)
