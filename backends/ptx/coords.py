"""Tile coordinates of the elements that a thread holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tilec.backends.ptx.context import Emitter
from tilec.ir.layout import Layout
from tilec.ir.ptx.module import Int, Reg


def thread_coord(e: Emitter, layout: Layout, axis: int) -> Reg | None:
    """What lane and warp contribute to a coordinate; None where that is always 0.

    A register's coordinate is this plus that of ``layout.register_coords()``: layouts
    never let both set the same bit.
    """
    lane = tuple(b[axis] for b in layout.lane)
    warp = tuple(b[axis] for b in layout.warp)
    return e.cached(("coord", lane, warp), lambda: _thread_coord(e, lane, warp))  # type: ignore[no-any-return]


def _thread_coord(e: Emitter, lane: Sequence[int], warp: Sequence[int]) -> Reg | None:
    apart = [(x, run, len(v)) for x, v in ((e.lane, lane), (e.warp, warp)) for run in runs(v)]
    joined = [(e.thread, run, len(lane) + len(warp)) for run in runs((*lane, *warp))]
    total: Reg | None = None
    for source, run, bits in joined if len(joined) < len(apart) else apart:
        part = _part(e, source, run, bits)
        total = part if total is None else e.make("b32", "or.b32", total, part)
    return total


def runs(values: Sequence[int]) -> list[tuple[int, int, int]]:
    """(first bit, number of bits, first value) of stretches of bits whose values double."""
    found: list[tuple[int, int, int]] = []
    for bit, value in enumerate(values):
        if not value:
            continue
        if found:
            first, n, start = found[-1]
            if first + n == bit and start << n == value:
                found[-1] = (first, n + 1, start)
                continue
        found.append((bit, 1, value))
    return found


def _part(e: Emitter, source: Callable[[], Reg], run: tuple[int, int, int], bits: int) -> Reg:
    first, n, start = run
    x = source()
    if first:
        x = e.make("b32", "shr.u32", x, Int(first))
    if first + n < bits:
        x = e.make("b32", "and.b32", x, Int((1 << n) - 1))
    shift = start.bit_length() - 1
    return e.make("b32", "shl.b32", x, Int(shift)) if shift else x


def is_first_holder(e: Emitter, layout: Layout) -> Reg | None:
    """A predicate: of all threads that hold the same elements this is the first. None: always."""
    lane_mask, warp_mask = layout.replicated
    if not lane_mask and not warp_mask:
        return None
    return e.cached(("first", lane_mask, warp_mask), lambda: _first(e, lane_mask, warp_mask))  # type: ignore[no-any-return]


def _first(e: Emitter, lane_mask: int, warp_mask: int) -> Reg:
    thread = e.make("b32", "and.b32", e.thread(), Int(lane_mask | warp_mask << 5))
    return e.make("pred", "setp.eq.u32", thread, Int(0))


def reach(layout: Layout, axis: int) -> int:
    """The largest value of `thread_coord`."""
    return sum(b[axis] for b in (*layout.lane, *layout.warp))


def inside(e: Emitter, layout: Layout, shape: Sequence[int], coords: Sequence[int]) -> Reg | bool:
    """Whether the element at a register's coordinates lies in ``shape``: known, or a predicate."""
    tests: list[Reg] = []
    for axis, (extent, c) in enumerate(zip(shape, coords, strict=True)):
        if c >= extent:
            return False
        if c + reach(layout, axis) >= extent:
            tests.append(_below(e, layout, axis, extent - c))
    return both(e, tests)


def is_padding(shape: Sequence[int], coords: Sequence[int]) -> bool:
    """Whether a register holds nothing but padding in every thread."""
    return any(c >= extent for extent, c in zip(shape, coords, strict=True))


def _below(e: Emitter, layout: Layout, axis: int, limit: int) -> Reg:
    at = thread_coord(e, layout, axis)
    assert at is not None
    return e.cached(("below", at, limit), lambda: e.make("pred", "setp.lt.u32", at, Int(limit)))  # type: ignore[no-any-return]


def both(e: Emitter, tests: Sequence[Reg | None]) -> Reg | bool:
    """The conjunction of predicates (None: true)."""
    found: Reg | bool = True
    for test in dict.fromkeys(t for t in tests if t is not None):
        found = test if isinstance(found, bool) else _and(e, found, test)
    return found


def _and(e: Emitter, a: Reg, b: Reg) -> Reg:
    return e.cached(("and", a, b), lambda: e.make("pred", "and.pred", a, b))  # type: ignore[no-any-return]


def linear(e: Emitter, layout: Layout, strides: Sequence[int]) -> Reg | None:
    """The thread's part of sum(coordinate * stride); None where that is always 0."""
    key = ("linear", layout.lane, layout.warp, tuple(strides))
    return e.cached(key, lambda: _linear(e, layout, strides))  # type: ignore[no-any-return]


def _linear(e: Emitter, layout: Layout, strides: Sequence[int]) -> Reg | None:
    total: Reg | None = None
    for axis, stride in enumerate(strides):
        at = thread_coord(e, layout, axis)
        if at is None:
            continue
        if total is not None:
            total = e.make("b32", "mad.lo.s32", at, Int(stride), total)
        else:
            total = at if stride == 1 else e.make("b32", "mul.lo.s32", at, Int(stride))
    return total


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides in elements."""
    strides, size = [], 1
    for n in reversed(shape):
        strides.append(size)
        size *= n
    return tuple(reversed(strides))


def dot(coords: Sequence[int], strides: Sequence[int]) -> int:
    return sum(c * s for c, s in zip(coords, strides, strict=True))
