"""Emit rules of loads, stores and atomics. Nothing outside a tensor is touched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from tilec.backends.cpu import loops, stream
from tilec.backends.cpu.access import from_memory, load, masked_store, store, to_memory
from tilec.backends.cpu.arith import apply
from tilec.backends.cpu.cells import cell, fill, to_index
from tilec.backends.cpu.following import next_tile
from tilec.backends.cpu.gathers import by_rows, rows_behind
from tilec.backends.cpu.lanes import Lanes, element_constant, storage
from tilec.backends.cpu.rules import emits
from tilec.backends.cpu.shapes import tile_type
from tilec.backends.cpu.squares import settle_turned
from tilec.backends.cpu.tiles import Code
from tilec.backends.cpu.views import At, Box, Coord, Tensor, View, box, corner, covered, read
from tilec.backends.cpu.workspace import Buffer
from tilec.ir.core import Op, Value
from tilec.ir.ops import attr
from tilec.ir.types import DType, TileType


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
        following = next_tile(code, tensor, op.args[1:], type_) if straight else None
        if following is not None:
            code.ahead.starts[view] = following
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
        settle_turned(code, value)
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
        body, rows = (lambda at, n: put(at, n, whole)), rows_behind(code, value)
        if rows:
            by_rows(code, rows, type_.shape, body, type_.dtype.bytes, within)
        else:
            code.over(type_.shape, body, type_.dtype.bytes, within)
        return ()

    def either(whole: bool) -> tuple[()]:
        past = stream.worthwhile(code, tensor, value) if whole else None
        if past is not None:
            loops.branch(code.b, past, lambda: stream.write(code, tensor, part, value), lambda: walk(True))
        else:
            walk(whole)
        return ()

    code.versions([value], either, part.inside)


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


@emits("atomic")
def _atomic(code: Code, op: Op) -> None:
    tensor, type_ = code.env[op.args[0]], tile_type(op.result)
    *indices, value, mask = op.args[1:]
    e = Lanes(code.b, 1, code.target)

    def one(at: At) -> Any:
        ok, address = cell(code, tensor, indices, mask, at)
        new = code.element(value, at, 1)
        nothing = element_constant(type_.dtype, 0)

        def update() -> tuple[Any]:
            return (_update(e, op.attrs["kind"], type_, address, new),)

        return loops.branch(code.b, ok, update, lambda: (nothing,))[0]

    fill(code, op, one)


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
