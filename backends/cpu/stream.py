"""Stores past the caches: tiles of tensors that no cache holds are not read before they are written."""

from __future__ import annotations

from typing import Any

from tilec.backends.cpu import loops
from tilec.backends.cpu.access import load, masked_store, store, to_memory
from tilec.backends.cpu.lanes import I32, I64, Lanes, storage
from tilec.backends.cpu.shapes import tile_type
from tilec.backends.cpu.tiles import CHEAP, Code
from tilec.backends.cpu.views import Box, Coord, Tensor, corner
from tilec.ir.core import Value
from tilec.ir.types import TileType

# Bytes of a row from which on this pays: shorter ones change pages too often.
LONG_ROW = 8192
# Vectors that are computed before they are stored. A load waits for an older store whose address
# it shares in the last 12 bits, and in a row of stores to memory there is always one.
GROUP = 4


def worthwhile(code: Code, tensor: Tensor, value: Value) -> Any:
    """Whether a tensor is larger than the caches; None where its stores always go through them.

    Where computing takes longer than writing there is nothing to gain.
    """
    type_, axis = tile_type(value), tensor.type.contiguous
    if not code.target.x86 or axis is None or code.cost(value) > 4 * CHEAP:
        return None
    if type_.shape[axis] * type_.dtype.bytes < LONG_ROW:
        return None
    total: Any = I64(type_.dtype.bytes)
    for extent in tensor.extents:
        total = code.b.mul(total, extent)
    return code.b.icmp_unsigned(">=", total, I64(code.target.last_bytes))


def write(code: Code, tensor: Tensor, part: Box, value: Value) -> tuple[()]:
    """Store a tile that lies in a tensor: aligned vectors, and masked ones at both ends of a row."""
    type_, axis = tile_type(value), tensor.type.contiguous
    assert axis is not None
    bounds = [(0, 1 if d == axis else n) for d, n in enumerate(type_.shape)]
    loops.nest(code.b, bounds, lambda at: _row(code, tensor, part, value, at, axis))
    return ()


def _row(code: Code, tensor: Tensor, part: Box, value: Value, at: tuple[Any, ...], axis: int) -> None:
    b, type_ = code.b, tile_type(value)
    size, extent, lanes = type_.dtype.bytes, type_.shape[axis], code.target.lanes(type_.dtype.bytes)
    e = Lanes(b, lanes, code.target)

    def computed(i: Any) -> tuple[Any, Any]:
        spot = tuple(Coord(i, True) if d == axis else Coord(c) for d, c in enumerate(at))
        found = to_memory(e, code.element(value, spot, lanes), type_)
        return corner(b, tensor, part, spot)[0], found

    def whole(i: Any, count: int = 1) -> None:
        for target, found in [computed(loops.add(b, i, k * lanes)) for k in range(count)]:
            store(e, target, found, 1, past_caches=True)

    start = b.ptrtoint(corner(b, tensor, part, tuple(Coord(c) for c in at))[0], I64)
    first = b.udiv(b.and_(b.sub(I64(0), start), I64(code.target.vector_bytes - 1)), I64(size))
    rest = b.urem(b.sub(I64(extent), first), I64(lanes))
    stop = b.sub(I64(extent), rest)
    middle = b.sub(stop, b.urem(b.sub(stop, first), I64(GROUP * lanes)))
    with b.if_then(b.icmp_unsigned("!=", first, I64(0))):
        target, found = computed(0)
        masked_store(e, target, _first_lanes(e, first), found)
    loops.each(b, first, middle, GROUP * lanes, lambda i: whole(i, GROUP))
    loops.each(b, middle, stop, lanes, whole)
    with b.if_then(b.icmp_unsigned("!=", rest, I64(0))):
        target, found = computed(extent - lanes)
        after = b.gep(target, [b.sub(I64(lanes), rest)], source_etype=storage(type_.dtype))
        masked_store(e, after, _first_lanes(e, rest), _last_lanes(code, e, found, type_, rest))


def _first_lanes(e: Lanes, count: Any) -> Any:
    """The mask of so many lanes."""
    return e.b.icmp_unsigned("<", e.iota(I32), e.splat(e.b.trunc(count, I32)))


def _last_lanes(code: Code, e: Lanes, found: Any, type_: TileType, count: Any) -> Any:
    """The last lanes moved to the front, through memory.

    A masked store that began before them would wait for the line that was just sent to memory.
    """
    element = storage(type_.dtype)
    spare = code.base(code.temporary(TileType(type_.dtype, (2 * e.lanes,))))
    store(e, spare, found, 1)
    last = e.b.gep(spare, [e.b.sub(I64(e.lanes), count)], source_etype=element)
    return load(e, last, element, 1)
