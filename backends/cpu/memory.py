"""Emit rules of loads, stores, gathers, scatters and atomics. Nothing outside a tensor is touched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from tilec.backends.cpu import loops
from tilec.backends.cpu.arith import apply
from tilec.backends.cpu.lanes import I64, Lanes, element_constant, storage
from tilec.backends.cpu.rules import emits
from tilec.backends.cpu.tiles import (
    At,
    Code,
    Coord,
    Lazy,
    Tensor,
    from_memory,
    load,
    store,
    tile_type,
    to_memory,
)  # fmt: skip
from tilec.backends.cpu.workspace import Buffer
from tilec.ir.core import Op, Value
from tilec.ir.ops import attr
from tilec.ir.types import DType, TileType


@dataclass(frozen=True)
class Box:
    """The part of a tile inside a tensor: where it starts, and local bounds per axis."""

    starts: tuple[Any, ...]
    bounds: tuple[tuple[Any, Any], ...]
    inside: Any


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


def box(code: Code, tensor: Tensor, offsets: Sequence[Value], shape: tuple[int, ...]) -> Box:
    """Clamp a tile to a tensor."""
    b, starts, bounds = code.b, [], []
    inside: Any = ir.Constant(ir.IntType(1), True)
    for extent, offset, n in zip(tensor.extents, offsets, shape, strict=True):
        start = to_index(code, offset)
        # Where start + n or low - start wraps, high is low: nothing is inside.
        low = _larger(b, start, I64(0))
        high = _larger(b, _smaller(b, b.add(start, I64(n)), extent), low)
        local = (b.sub(low, start), b.sub(high, start))
        whole = b.icmp_signed("==", b.sub(high, low), I64(n))
        inside = b.and_(inside, whole)
        starts.append(start)
        bounds.append(local)
    return Box(tuple(starts), tuple(bounds), inside)


def _smaller(b: Any, x: Any, y: Any) -> Any:
    return b.select(b.icmp_signed("<", x, y), x, y)


def _larger(b: Any, x: Any, y: Any) -> Any:
    return b.select(b.icmp_signed(">", x, y), x, y)


def place(code: Code, tensor: Tensor, indices: Sequence[Any]) -> Any:
    """The address of an element."""
    offset: Any = 0
    for index, stride in zip(indices, tensor.strides, strict=True):
        offset = loops.add(code.b, offset, loops.mul(code.b, index, stride))
    return code.b.gep(tensor.pointer, [loops.i64(offset)], source_etype=storage(tensor.type.dtype))


def _corner(code: Code, tensor: Tensor, part: Box, at: At) -> tuple[Any, Any]:
    """The address under a tile position, and the tensor's stride along the lanes."""
    indices = [loops.add(code.b, s, c.base) for s, c in zip(part.starts, at, strict=True)]
    steps = [s for s, c in zip(tensor.strides, at, strict=True) if c.lane]
    return place(code, tensor, indices), steps[0] if steps else 0


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
    e = Lanes(code.b, 1, code.target)
    if type_.shape == ():
        code.env[op.result] = from_memory(e, load(e, tensor.pointer, storage(type_.dtype), 1), type_)
        return
    buffer, part = code.memory.allocate(type_), box(code, tensor, op.args[1:], type_.shape)

    def copy(at: At, lanes: int) -> None:
        wide = Lanes(code.b, lanes, code.target)
        source, step = _corner(code, tensor, part, at)
        target, pitch = code.address(buffer, type_, at)
        store(wide, target, load(wide, source, storage(type_.dtype), step), pitch)

    def whole() -> tuple[()]:
        _whole(code, tensor, type_.shape, copy)
        return ()

    def ragged() -> tuple[()]:
        pad = element_constant(type_.dtype, attr(op, "pad"))
        code.over(type_.shape, lambda at, n: _pad(code, buffer, type_, at, n, pad), type_.dtype.bytes)
        _part(code, tensor, part.bounds, lambda at: copy(at, 1))
        return ()

    loops.branch(code.b, part.inside, whole, ragged)
    code.bind(op.result, buffer)


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
    part = box(code, tensor, op.args[2:], type_.shape)
    long = [d for d, n in enumerate(type_.shape) if n > 1]
    straight = not long or _axis(tensor, type_.shape) == long[-1]
    buffer = None if straight and isinstance(code.env[value], Lazy) else code.buffer(value)
    spare = code.temporary(type_) if buffer is None else buffer

    def put(at: At, lanes: int, source: Buffer | None) -> None:
        e = Lanes(code.b, lanes, code.target)
        found = code.element(value, at, lanes) if source is None else code.read(source, type_, at, e)
        target, step = _corner(code, tensor, part, at)
        store(e, target, to_memory(e, found, type_), step)

    def whole() -> tuple[()]:
        walk = code.over if buffer is None else lambda shape, body: _whole(code, tensor, shape, body)
        walk(type_.shape, lambda at, lanes: put(at, lanes, buffer))
        return ()

    def ragged() -> tuple[()]:
        if buffer is None:
            code.fill(spare, value)
        _part(code, tensor, part.bounds, lambda at: put(at, 1, spare))
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
    return ok, place(code, tensor, where)


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
