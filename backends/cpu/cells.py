"""Elements at computed indices, and scatters. Nothing outside a tensor is touched.

Where indices go up by one along the last axis of a tile and the tensor is contiguous there, as in
the lookup of whole rows, a scatter writes masked vectors; else one element after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tilec.backends.cpu import loops
from tilec.backends.cpu.access import masked_store, prefetch, store, to_memory
from tilec.backends.cpu.lanes import I1, I32, I64, Lanes, storage
from tilec.backends.cpu.rules import emits
from tilec.backends.cpu.shapes import is_cosmetic, tile_type
from tilec.backends.cpu.tiles import POINTWISE, Code
from tilec.backends.cpu.views import At, Coord, Tensor, larger, place, smaller
from tilec.ir.core import Op, Value
from tilec.ir.types import DType, int32, int64

# Rows from a read to the prefetch: a row of some lines takes less time than a line from memory.
AHEAD = 6


@dataclass(frozen=True)
class Cells:
    """The elements that a gather or scatter of a tile's shape names."""

    tensor: Tensor
    indices: tuple[Value, ...]
    mask: Value
    shape: tuple[int, ...]


def to_index(code: Code, value: Value) -> Any:
    """An integer scalar as i64; unsigned ones beyond its range become its largest."""
    return widened(Lanes(code.b, 1, code.target), code.scalar(value), tile_type(value).dtype)


def widened(e: Lanes, number: Any, dtype: DType) -> Any:
    """Integers as i64; unsigned ones beyond its range become its largest."""
    if dtype.bits < 64:
        return (e.b.sext if dtype.kind == "int" else e.b.zext)(number, e.vec(I64))
    if dtype.kind == "int":
        return number
    beyond = e.b.icmp_signed("<", number, e.const(I64, 0))
    return e.b.select(beyond, e.const(I64, 2**63 - 1), number)


def to_i64(code: Code, value: Value, at: At) -> Any:
    """An element of an integer tile as i64."""
    return widened(Lanes(code.b, 1, code.target), code.element(value, at, 1), tile_type(value).dtype)


def cell(code: Code, tensor: Tensor, indices: Sequence[Value], mask: Value, at: At) -> tuple[Any, Any]:
    """Whether an element is to be accessed, and its address (only valid if so)."""
    ok, where = code.element(mask, at, 1), []
    for index, extent in zip(indices, tensor.extents, strict=True):
        where.append(to_i64(code, index, at))
        ok = code.b.and_(ok, code.b.icmp_unsigned("<", where[-1], extent))
    return ok, place(code.b, tensor, where)


def run_of(code: Code, cells: Cells, at: At, lanes: int) -> tuple[Any, Any]:
    """The same for consecutive elements along the contiguous axis: a mask, and where the first would be."""
    b, e, first = code.b, Lanes(code.b, lanes, code.target), tuple(Coord(c.base) for c in at)
    if lanes == 1:
        return cell(code, cells.tensor, cells.indices, cells.mask, at)
    ok, where = code.element(cells.mask, at, lanes), []
    for d, (index, extent) in enumerate(zip(cells.indices, cells.tensor.extents, strict=True)):
        where.append(to_i64(code, index, first))
        if d == cells.tensor.type.contiguous:
            some = _lanes_inside(e, where[-1], _reachable(code, cells, d))
        else:
            some = e.splat(b.icmp_unsigned("<", where[-1], extent))
        ok = b.and_(ok, some)
    return ok, place(b, cells.tensor, where)


def _lanes_inside(e: Lanes, start: Any, extent: Any) -> Any:
    """The mask of lanes with 0 <= start + lane < extent."""
    b, none = e.b, I64(0)
    low = larger(b, b.sub(none, larger(b, start, I64(-e.lanes))), none)
    high = smaller(b, larger(b, b.sub(extent, start), low), I64(e.lanes))
    first, count = (e.splat(b.trunc(v, I32)) for v in (low, b.sub(high, low)))
    return b.icmp_unsigned("<", b.sub(e.iota(I32), first), count)


def fill(code: Code, op: Op, one: Callable[[At], Any]) -> None:
    """The result of ``op``, an element at a time."""
    type_ = tile_type(op.result)
    if type_.shape == ():
        code.env[op.result] = one(())
        return
    buffer, e = code.memory.allocate(type_), Lanes(code.b, 1, code.target)
    _each(code, type_.shape, lambda at: code.write(buffer, type_, at, e, one(at)))
    code.bind(op.result, buffer)


def _each(code: Code, shape: tuple[int, ...], body: Callable[[At], None]) -> None:
    loops.nest(code.b, [(0, n) for n in shape], lambda at: body(tuple(map(Coord, at))))


@emits("scatter")
def _scatter(code: Code, op: Op) -> None:
    tensor = code.env[op.args[0]]
    *indices, value, mask = op.args[1:]
    type_ = tile_type(value)
    cells = Cells(tensor, tuple(indices), mask, type_.shape)

    def put(at: At, lanes: int, address: Any, ok: Any = None) -> None:
        e = Lanes(code.b, lanes, code.target)
        found = to_memory(e, code.element(value, at, lanes), type_)
        if ok is not None and lanes > 1:
            masked_store(e, address, ok, found)
        elif ok is not None:
            with code.b.if_then(ok):
                store(e, address, found, 1)
        else:
            store(e, address, found, 1)

    def part(at: At, lanes: int) -> None:
        ok, address = run_of(code, cells, at, lanes)
        put(at, lanes, address, ok)

    if side_by_side(code, tensor, indices):
        code.versions(op.args[1:], lambda _: _rows(code, cells, put, part))
    else:
        _each(code, type_.shape, lambda at: part(at, 1))


def _rows(
    code: Code, cells: Cells, whole: Callable[[At, int, Any], None], part: Callable[[At, int], None]
) -> tuple[()]:
    """Row by row: vectors at an address where all of a row is to be accessed, else any way."""
    b, shape, axis = code.b, cells.shape, last_axis(cells.shape)
    dtype = cells.tensor.type.dtype

    def spot(at: Sequence[Any], i: Any, lanes: int) -> At:
        return tuple(Coord(i, lanes > 1) if d == axis else Coord(c) for d, c in enumerate(at))

    def walk(at: Sequence[Any], body: Callable[[At, int, Any], None]) -> tuple[()]:
        for lanes, start, stop in loops.segments(shape[axis], code.target.lanes(dtype.bytes)):

            def one(i: Any, lanes: int = lanes) -> None:
                body(spot(at, i, lanes), lanes, i)

            loops.each(b, start, stop, lanes, one)
        return ()

    def row(at: tuple[Any, ...]) -> None:
        inside, first = whole_row(code, cells, spot(at, 0, 1), shape[axis])
        ahead = later_row(code, cells, at, axis)

        def fast(place: At, lanes: int, i: Any) -> None:
            for pointer in ahead:
                prefetch(b, b.gep(pointer, [loops.i64(i)], source_etype=storage(dtype)))
            whole(place, lanes, b.gep(first, [loops.i64(i)], source_etype=storage(dtype)))

        loops.branch(b, inside, lambda: walk(at, fast), lambda: walk(at, lambda p, n, _: part(p, n)))

    loops.nest(b, [(0, 1 if d == axis else n) for d, n in enumerate(shape)], row)
    return ()


def whole_row(code: Code, cells: Cells, at: At, n: int) -> tuple[Any, Any]:
    """Whether n elements from here on are all to be accessed, and the address of the first."""
    ok, address = cell(code, cells.tensor, cells.indices, cells.mask, at)
    if _step(code, cells.mask, last_axis(cells.shape)) != 0:
        return I1(False), address
    axis = _contiguous(cells)
    start, stop = to_i64(code, cells.indices[axis], at), _reachable(code, cells, axis)
    return code.b.and_(ok, code.b.icmp_signed("<=", start, code.b.sub(stop, I64(n)))), address


def _reachable(code: Code, cells: Cells, axis: int) -> Any:
    """The extent of an axis as far as an index without wrapping goes."""
    limit = min(2 ** (tile_type(cells.indices[axis]).dtype.bits - 1), 2**63 - 1)
    return smaller(code.b, cells.tensor.extents[axis], I64(limit))


def later_row(code: Code, cells: Cells, at: Sequence[Any], axis: int) -> list[Any]:
    """Where a row begins that will be read some rows later, to fetch it; none if there is one row."""
    long = [d for d, n in enumerate(cells.shape[:axis]) if n > 1]
    if not long:
        return []
    later = loops.least(code.b, cells.shape[long[-1]] - 1, code.b.add(loops.i64(at[long[-1]]), I64(AHEAD)))
    spot = tuple(Coord(later if d == long[-1] else 0 if d == axis else c) for d, c in enumerate(at))
    return [cell(code, cells.tensor, cells.indices, cells.mask, spot)[1]]


def _contiguous(cells: Cells) -> int:
    axis = cells.tensor.type.contiguous
    assert axis is not None
    return axis


def last_axis(shape: tuple[int, ...]) -> int:
    """The last axis longer than 1."""
    return max(d for d, n in enumerate(shape) if n > 1)


def side_by_side(code: Code, tensor: Tensor, indices: Sequence[Value]) -> bool:
    """Whether elements along the last long axis of a tile are consecutive in memory."""
    shape = tile_type(indices[0]).shape
    if tensor.type.contiguous is None or all(n == 1 for n in shape):
        return False
    steps = [_step(code, index, last_axis(shape)) for index in indices]
    return steps == [int(d == tensor.type.contiguous) for d in range(len(indices))]


def _step(code: Code, value: Value, axis: int) -> int | None:
    """By how much a value grows from one place to the next along an axis; None if that varies.

    1 only for signed integers of 32 and 64 bits: where these wrap, they are negative for longer than
    a tile, so that every lane inside of a tensor lies where the first one says.
    """
    type_, op = tile_type(value), code.definitions.get(value)
    if not type_.shape or type_.shape[axis] == 1:
        return 0
    if op is None:
        return None
    if op.name in ("const", "arange"):
        return int(op.name == "arange")
    if op.name == "reshape" and is_cosmetic(op):
        return _step(code, op.args[0], _source_axis(op, axis))
    if op.name == "broadcast":
        return 0 if _extent(op.args[0], axis) == 1 else _step(code, op.args[0], axis)
    if op.name not in POINTWISE or not POINTWISE[op.name].identity:
        return None
    steps = [_step(code, a, axis) for a in op.args]
    if all(s == 0 for s in steps):
        return 0
    return (
        1
        if op.name == "add" and sorted(map(str, steps)) == ["0", "1"] and type_.dtype in (int32, int64)
        else None
    )


def _extent(value: Value, axis: int) -> int:
    shape = tile_type(value).shape
    return shape[axis] if shape else 1


def _source_axis(op: Op, axis: int) -> int:
    """The axis of a cosmetic reshape's operand that is a long axis of its result."""
    before, after = tile_type(op.args[0]).shape, tile_type(op.result).shape
    number = sum(n != 1 for n in after[:axis])
    return [d for d, n in enumerate(before) if n != 1][number]
