"""Emit rules of loads, stores, gathers, scatters and atomics. Nothing outside a tensor is touched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from tilec.backends.cpu import loops
from tilec.backends.cpu.access import from_memory, load, masked_store, store, to_memory
from tilec.backends.cpu.arith import apply
from tilec.backends.cpu.lanes import I32, I64, Lanes, element_constant, storage
from tilec.backends.cpu.rules import emits
from tilec.backends.cpu.shapes import tile_type
from tilec.backends.cpu.tiles import CHEAP, Code
from tilec.backends.cpu.views import At, Box, Coord, Tensor, View, box, corner, covered, place, read
from tilec.backends.cpu.workspace import Buffer
from tilec.ir.core import Op, Value
from tilec.ir.ops import attr
from tilec.ir.types import DType, TileType

# Bytes of a row from which on stores past the caches pay: shorter ones change pages too often.
LONG_ROW = 8192


def to_index(code: Code, value: Value) -> Any:
    """An integer scalar as i64; unsigned ones beyond its range become its largest."""
    return _widened(Lanes(code.b, 1, code.target), code.scalar(value), tile_type(value).dtype)


def _widened(e: Lanes, number: Any, dtype: DType) -> Any:
    if dtype.bits < 64:
        return (e.b.sext if dtype.kind == "int" else e.b.zext)(number, e.vec(I64))
    if dtype.kind == "int":
        return number
    beyond = e.b.icmp_signed("<", number, e.const(I64, 0))
    return e.b.select(beyond, e.const(I64, 2**63 - 1), number)


def _box(code: Code, tensor: Tensor, offsets: Sequence[Value], shape: tuple[int, ...]) -> Box:
    return box(code.b, tensor, [to_index(code, o) for o in offsets], shape)


def _axis(tensor: Tensor, shape: tuple[int, ...]) -> int | None:
    """The axis to run vectors along: the contiguous one."""
    axis = tensor.type.contiguous
    return axis if axis is not None and shape[axis] > 1 else None


def _whole(code: Code, tensor: Tensor, shape: tuple[int, ...], body: Callable[[At, int], None]) -> None:
    """Loops over a whole tile in the order of the tensor's memory."""
    axis = _axis(tensor, shape)
    bounds = [(0, 1 if d == axis else n) for d, n in enumerate(shape)]

    def inner(at: tuple[Any, ...]) -> None:
        coords = [Coord(i) for i in at]
        if axis is None:
            body(tuple(coords), 1)
            return
        for lanes, start, stop in loops.segments(shape[axis], code.target.lanes(tensor.type.dtype.bytes)):

            def one(i: Any, lanes: int = lanes) -> None:
                body((*coords[:axis], Coord(i, lanes > 1), *coords[axis + 1 :]), lanes)

            loops.each(code.b, start, stop, lanes, one)

    loops.nest(code.b, bounds, inner)


def _part(code: Code, tensor: Tensor, bounds: Sequence[tuple[Any, Any]], body: Callable[[At], None]) -> None:
    """Loops over the inside of a ragged tile, element by element, contiguous axis innermost."""
    axes = list(range(len(bounds)))
    if tensor.type.contiguous is not None:
        axes.remove(tensor.type.contiguous)
        axes.append(tensor.type.contiguous)

    def inner(at: tuple[Any, ...]) -> None:
        found = dict(zip(axes, at, strict=True))
        body(tuple(Coord(found[d]) for d in range(len(bounds))))

    loops.nest(code.b, [bounds[d] for d in axes], inner)


@emits("load")
def _load(code: Code, op: Op) -> None:
    tensor, type_ = code.env[op.args[0]], tile_type(op.result)
    if type_.shape == ():
        e = Lanes(code.b, 1, code.target)
        code.env[op.result] = from_memory(e, load(e, tensor.pointer, storage(type_.dtype), 1), type_)
        return
    view = View(tensor, _box(code, tensor, op.args[1:], type_.shape), type_, attr(op, "pad"))
    straight = _straight(tensor, type_.shape)
    if tensor.fixed and (straight or _only_multiplied(code, op.result)):
        code.env[op.result] = view
        return
    buffer = code.memory.allocate(type_)
    (_copy_rows if straight else _copy_across)(code, view, buffer)
    code.bind(op.result, buffer)


def _straight(tensor: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether vectors along the tile's last long axis are consecutive in memory."""
    long = [d for d, n in enumerate(shape) if n > 1]
    return not long or _axis(tensor, shape) == long[-1]


def _only_multiplied(code: Code, value: Value) -> bool:
    """Whether a tile, or a permutation or cast of it, is used by products only (not to add to)."""
    return all(
        (user.name == "dot" and value not in user.args[2:])
        or (user.name in ("permute", "cast", "reshape") and _only_multiplied(code, user.result))
        for user in code.users.get(value, ())
    )


def _copy_rows(code: Code, view: View, buffer: Buffer) -> None:
    """A tile from memory into a buffer, in vectors."""

    def copy(at: At, lanes: int) -> None:
        e = Lanes(code.b, lanes, code.target)
        code.write(buffer, view.type, at, e, read(e, view, at, view in code.inside, code.pointer))

    def run(_: bool) -> tuple[()]:
        code.over(view.type.shape, copy, view.type.dtype.bytes)
        return ()

    code.versions_of([view], run)


def _copy_across(code: Code, view: View, buffer: Buffer) -> None:
    """A tile whose vectors in memory are not those of the buffer, in the order of memory."""
    tensor, type_, part = view.tensor, view.type, view.part

    def copy(at: At, lanes: int) -> None:
        e = Lanes(code.b, lanes, code.target)
        source, step = corner(code.b, tensor, part, at)
        target, pitch = code.address(buffer, type_, at)
        store(e, target, load(e, source, storage(type_.dtype), step), pitch)

    def whole() -> tuple[()]:
        _whole(code, tensor, type_.shape, copy)
        return ()

    def ragged() -> tuple[()]:
        pad = element_constant(type_.dtype, view.pad)
        code.over(type_.shape, lambda at, n: _pad(code, buffer, type_, at, n, pad), type_.dtype.bytes)
        _part(code, tensor, part.bounds, lambda at: copy(at, 1))
        return ()

    loops.branch(code.b, part.inside, whole, ragged)


def _pad(code: Code, buffer: Buffer, type_: TileType, at: At, lanes: int, pad: Any) -> None:
    e = Lanes(code.b, lanes, code.target)
    code.write(buffer, type_, at, e, e.splat_constant(pad))


@emits("store")
def _store(code: Code, op: Op) -> None:
    tensor, value = code.env[op.args[0]], op.args[1]
    type_ = tile_type(value)
    if type_.shape == ():
        e = Lanes(code.b, 1, code.target)
        store(e, tensor.pointer, to_memory(e, code.scalar(value), type_), 1)
        return
    part = _box(code, tensor, op.args[2:], type_.shape)
    if _straight(tensor, type_.shape):
        _store_rows(code, tensor, part, value)
    else:
        _store_across(code, tensor, part, value)


def _store_rows(code: Code, tensor: Tensor, part: Box, value: Value) -> None:
    """Compute a tile straight into memory, in vectors; where it is ragged, in masked ones."""
    type_ = tile_type(value)

    def put(at: At, lanes: int, whole: bool) -> None:
        e = Lanes(code.b, lanes, code.target)
        found = to_memory(e, code.element(value, at, lanes), type_)
        target, step = corner(code.b, tensor, part, at)
        if whole:
            store(e, target, found, step)
        elif lanes > 1:
            masked_store(e, target, covered(e, part, at), found)
        else:
            with code.b.if_then(covered(e, part, at)):
                store(e, target, found, step)

    def walk(whole: bool) -> tuple[()]:
        within = None if whole else part.bounds
        code.over(type_.shape, lambda at, n: put(at, n, whole), type_.dtype.bytes, within)
        return ()

    def either(whole: bool) -> tuple[()]:
        past = _past_caches(code, tensor, value) if whole else None
        if past is not None:
            loops.branch(code.b, past, lambda: _stream(code, tensor, part, value), lambda: walk(True))
        else:
            walk(whole)
        return ()

    code.versions([value], either, part.inside)


def _past_caches(code: Code, tensor: Tensor, value: Value) -> Any:
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


def _stream(code: Code, tensor: Tensor, part: Box, value: Value) -> tuple[()]:
    """Store a whole tile past the caches: aligned vectors, and unaligned ones over both ends of a row."""
    b, type_, axis = code.b, tile_type(value), _contiguous(tensor)
    lanes, size = code.target.lanes(type_.dtype.bytes), type_.dtype.bytes
    e, extent = Lanes(b, lanes, code.target), type_.shape[axis]

    def row(at: tuple[Any, ...]) -> None:
        def put(i: Any, mask: Any = None) -> None:
            spot = tuple(Coord(i, True) if d == axis else Coord(c) for d, c in enumerate(at))
            found = to_memory(e, code.element(value, spot, lanes), type_)
            target, _ = corner(b, tensor, part, spot)
            if mask is None:
                store(e, target, found, 1, past_caches=True)
            else:
                masked_store(e, target, mask, found)

        start = b.ptrtoint(corner(b, tensor, part, tuple(Coord(c) for c in at))[0], I64)
        ahead = b.and_(b.sub(I64(0), start), I64(code.target.vector_bytes - 1))
        first = b.udiv(ahead, I64(size))
        rest = b.urem(b.sub(I64(extent), first), I64(lanes))
        put(0, _lanes_between(e, I64(0), first))
        loops.each(b, first, b.sub(I64(extent), rest), lanes, put)
        put(extent - lanes, _lanes_between(e, b.sub(I64(lanes), rest), I64(lanes)))

    loops.nest(b, [(0, 1 if d == axis else n) for d, n in enumerate(type_.shape)], row)
    return ()


def _lanes_between(e: Lanes, low: Any, high: Any) -> Any:
    """The mask of lanes low <= lane < high."""
    start, stop = (e.splat(e.b.trunc(v, I32)) for v in (low, high))
    up = e.b.icmp_unsigned(">=", e.iota(I32), start)
    return e.b.and_(up, e.b.icmp_unsigned("<", e.iota(I32), stop))


def _contiguous(tensor: Tensor) -> int:
    axis = tensor.type.contiguous
    return 0 if axis is None else axis


def _store_across(code: Code, tensor: Tensor, part: Box, value: Value) -> None:
    """Store a tile whose vectors in memory are not its own, in the order of memory."""
    type_, buffer = tile_type(value), code.buffer(value)

    def put(at: At, lanes: int) -> None:
        e = Lanes(code.b, lanes, code.target)
        target, step = corner(code.b, tensor, part, at)
        store(e, target, to_memory(e, code.read(buffer, type_, at, e), type_), step)

    def whole() -> tuple[()]:
        _whole(code, tensor, type_.shape, put)
        return ()

    def ragged() -> tuple[()]:
        _part(code, tensor, part.bounds, lambda at: put(at, 1))
        return ()

    loops.branch(code.b, part.inside, whole, ragged)


def _each(code: Code, shape: tuple[int, ...], body: Callable[[At], None]) -> None:
    loops.nest(code.b, [(0, n) for n in shape], lambda at: body(tuple(Coord(i) for i in at)))


def _cell(code: Code, tensor: Tensor, indices: Sequence[Value], mask: Value, at: At) -> tuple[Any, Any]:
    """Whether an element is to be accessed, and its address (only valid if so)."""
    e = Lanes(code.b, 1, code.target)
    ok, where = code.element(mask, at, 1), []
    for index, extent in zip(indices, tensor.extents, strict=True):
        number = _widened(e, code.element(index, at, 1), tile_type(index).dtype)
        where.append(number)
        ok = code.b.and_(ok, code.b.icmp_unsigned("<", number, extent))
    return ok, place(code.b, tensor, where)


def _fill(code: Code, op: Op, e: Lanes, one: Callable[[At], Any]) -> None:
    """The result of ``op``, an element at a time."""
    type_ = tile_type(op.result)
    if type_.shape == ():
        code.env[op.result] = one(())
        return
    buffer = code.memory.allocate(type_)
    _each(code, type_.shape, lambda at: code.write(buffer, type_, at, e, one(at)))
    code.bind(op.result, buffer)


@emits("gather")
def _gather(code: Code, op: Op) -> None:
    tensor, type_ = code.env[op.args[0]], tile_type(op.result)
    *indices, mask, other = op.args[1:]
    e = Lanes(code.b, 1, code.target)

    def one(at: At) -> Any:
        ok, address = _cell(code, tensor, indices, mask, at)
        safe = code.b.select(ok, address, code.pointer)
        found = from_memory(e, load(e, safe, storage(type_.dtype), 1), type_)
        return code.b.select(ok, found, code.element(other, at, 1))

    _fill(code, op, e, one)


@emits("scatter")
def _scatter(code: Code, op: Op) -> None:
    tensor = code.env[op.args[0]]
    *indices, value, mask = op.args[1:]
    e = Lanes(code.b, 1, code.target)

    def one(at: At) -> None:
        ok, address = _cell(code, tensor, indices, mask, at)
        found = to_memory(e, code.element(value, at, 1), tile_type(value))
        with code.b.if_then(ok):
            store(e, address, found, 1)

    _each(code, tile_type(value).shape, one)


@emits("atomic")
def _atomic(code: Code, op: Op) -> None:
    tensor, type_ = code.env[op.args[0]], tile_type(op.result)
    *indices, value, mask = op.args[1:]
    e = Lanes(code.b, 1, code.target)

    def one(at: At) -> Any:
        ok, address = _cell(code, tensor, indices, mask, at)
        new = code.element(value, at, 1)
        nothing = element_constant(type_.dtype, 0)

        def update() -> tuple[Any]:
            return (_update(e, op.attrs["kind"], type_, address, new),)

        return loops.branch(code.b, ok, update, lambda: (nothing,))[0]

    _fill(code, op, e, one)


def _update(e: Lanes, kind: str, type_: TileType, address: Any, value: Any) -> Any:
    """Read, combine, compare and swap until nobody came between; gives the old element."""
    b, dtype = e.b, type_.dtype
    bits, plain = ir.IntType(dtype.bytes * 8), storage(dtype)

    def as_bits(x: Any) -> Any:
        return x if plain == bits else b.bitcast(x, bits)

    def from_bits(x: Any) -> Any:
        return from_memory(e, x if plain == bits else b.bitcast(x, plain), type_)

    before = b.block
    first = b.load(address, typ=bits, align=dtype.bytes)
    again, done = b.append_basic_block("again"), b.append_basic_block("swapped")
    b.branch(again)
    b.position_at_end(again)
    old = b.phi(bits)
    old.add_incoming(first, before)
    new = as_bits(to_memory(e, _combine(e, kind, dtype, from_bits(old), value), type_))
    pair = b.cmpxchg(address, old, new, "seq_cst")
    old.add_incoming(b.extract_value(pair, 0), b.block)
    b.cbranch(b.extract_value(pair, 1), done, again)
    b.position_at_end(done)
    return from_bits(old)


_BOOL = {"add": "or", "max": "or", "min": "and"}
_NAMES = {"max": "maximum", "min": "minimum"}


def _combine(e: Lanes, kind: str, dtype: DType, old: Any, new: Any) -> Any:
    if kind == "xchg":
        return new
    name = _BOOL.get(kind, kind) if dtype.kind == "bool" else _NAMES.get(kind, kind)
    return apply(e, name, dtype, dtype, old, new)
