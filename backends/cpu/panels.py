"""Operands of products as the microkernel reads them, packed once per use or once per loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from tilec.backends.cpu import loops
from tilec.backends.cpu.access import prefetch, store
from tilec.backends.cpu.floats import convert
from tilec.backends.cpu.lanes import F32, I16, I32, I64, Lanes, element_constant, register
from tilec.backends.cpu.loops import Index
from tilec.backends.cpu.microkernel import Form, Left, Right, panel_widths
from tilec.backends.cpu.shapes import tile_type
from tilec.backends.cpu.squares import transpose
from tilec.backends.cpu.tiles import Code, Lazy
from tilec.backends.cpu.views import Coord, View, corner, place
from tilec.backends.cpu.workspace import Buffer
from tilec.ir.core import Op, Value
from tilec.ir.types import TileType, int16

LINE = 64  # bytes of a cache line
AHEAD = 8  # rows from a copy to the prefetch
SAME_SET = 2048  # bytes: rows that are a multiple apart lie in one or two sets of the first cache


def natural_axis(code: Code, value: Value) -> int:
    """The axis of a matrix along which its elements are consecutive in memory."""
    found = code.env[value]
    if isinstance(found, View) and found.tensor.type.contiguous is not None:
        shape = found.type.shape
        return 1 if len(shape) < 2 or found.tensor.type.contiguous == len(shape) - 1 else 0
    if isinstance(found, Lazy) and found.op.name == "permute":
        return 1 - natural_axis(code, found.op.args[0])
    if isinstance(found, Lazy) and found.op.name in ("cast", "reshape", "bitcast"):
        return natural_axis(code, found.op.args[0])
    return 1


def in_place(code: Code, value: Value, form: Form) -> Left | None:
    """The left operand in the buffer where it already is, if the microkernel can read it there."""
    found, turned = _origin(code, value)
    if not isinstance(found, Buffer) or not _as_panels(value, form):
        return None
    pitch = tile_type(value).shape[0 if turned else 1]
    return Left(code.base(found), *((1, pitch) if turned else (pitch, 1)), found)


def right_in_place(code: Code, value: Value, form: Form) -> Right | None:
    """The right operand in its buffer, if its rows are as long as those of a panel."""
    found, turned = _origin(code, value)
    depth, columns = tile_type(value).shape
    (lanes, vectors), *_ = panel_widths(columns, code.target.lanes(form.total.bytes))[0]
    fits = isinstance(found, Buffer) and not turned and lanes * vectors == columns
    return Right(found, depth) if fits and _as_panels(value, form) else None


def _as_panels(value: Value, form: Form) -> bool:
    return not form.pairs and tile_type(value).dtype == form.total


def _origin(code: Code, value: Value) -> tuple[Any, bool]:
    """What a matrix is behind shape ops that move nothing, and whether it is turned."""
    found, turned = code.env.get(value), False
    while isinstance(found, Lazy) and _same_matrix(found.op):
        turned ^= found.op.name == "permute"
        found = code.env.get(found.op.args[0])
    return found, turned


def _same_matrix(op: Op) -> bool:
    """Whether an op turns a matrix, or drops leading extents of 1."""
    if op.name not in ("permute", "reshape"):
        return False
    shape = tile_type(op.args[0]).shape
    return len(shape) == 2 if op.name == "permute" else shape[-2:] == tile_type(op.result).shape


def in_tensor(code: Code, value: Value, form: Form) -> tuple[Any, Left] | None:
    """(condition, the left operand in its tensor): its rows lie close, and not all in one cache set."""
    found, turned = _origin(code, value)
    if not isinstance(found, View) or not _as_panels(value, form):
        return None
    b, axis, rank = code.b, found.tensor.type.contiguous, found.tensor.type.rank
    if axis is None or axis < rank - 2:
        return None
    pitch = found.tensor.strides[2 * rank - 3 - axis]
    close = b.icmp_unsigned("<=", pitch, I64(2 * found.type.shape[axis]))
    apart = b.icmp_unsigned("!=", b.urem(pitch, I64(SAME_SET // form.total.bytes)), I64(0))
    strides = found.tensor.strides[-2:]
    left = Left(place(b, found.tensor, found.part.starts), *(strides[::-1] if turned else strides))
    return b.and_(found.part.inside, b.and_(close, apart)), left


def _pitch(form: Form, depth: int) -> int:
    """Elements between rows: a power of two would put all rows of a block into one cache set."""
    size = form.total.bytes
    return depth + LINE // size if depth * size % SAME_SET == 0 else depth


def left_room(code: Code, value: Value, form: Form, depth: int) -> Buffer:
    """Memory for a left operand over ``depth`` elements of k."""
    rows = tile_type(value).shape[0]
    return code.memory.allocate(TileType(form.total, (rows, _pitch(form, depth))))


def left_in(code: Code, buffer: Buffer, value: Value, form: Form, depth: int) -> Left:
    """How a left operand lies in its room: in the order of its own memory."""
    if natural_axis(code, value) == 0 and not form.pairs:
        return Left(code.base(buffer), 1, tile_type(value).shape[0], buffer)
    return Left(code.base(buffer), _pitch(form, depth), 1, buffer)


def new_left(code: Code, value: Value, form: Form, depth: int) -> Left:
    """Room for a left operand over ``depth`` elements of k."""
    return left_in(code, left_room(code, value, form, depth), value, form, depth)


def new_right(code: Code, value: Value, form: Form, depth: int) -> Right:
    """Room for a right operand over ``depth`` elements of k."""
    columns = tile_type(value).shape[1]
    return Right(code.memory.allocate(TileType(form.total, (depth, columns))), depth)


def pack_left(
    code: Code, value: Value, form: Form, into: Left, start: Index, tf32: bool,
    part: tuple[Index, Index] | None = None,
) -> None:  # fmt: skip
    """Write a left operand from element ``start`` of k on, at least ``part`` of its rows and columns."""
    shape = tile_type(value).shape
    kind, per = (I16, 2) if form.pairs else (register(form.total), 1)

    def copy(at: Sequence[Coord], lanes: int) -> None:
        e = Lanes(code.b, lanes, code.target)
        found = operand_element(code, value, form, tuple(at), e, tf32)
        k = loops.add(code.b, loops.mul(code.b, start, per), at[1].base)
        offset = loops.add(
            code.b, loops.mul(code.b, at[0].base, into.row * per), loops.mul(code.b, k, into.step)
        )
        pitch = into.row * per if at[0].lane else into.step
        long = 0 if at[1].lane else 1
        later = Coord(loops.add(code.b, at[long].base, AHEAD), False)
        _prefetch(code, value, (later, at[1]) if long == 0 else (at[0], later))
        store(e, code.b.gep(into.pointer, [loops.i64(offset)], source_etype=kind), found, pitch)

    def run(_: bool) -> tuple[()]:
        axis = 0 if into.step != 1 else 1
        within = [(0, n) for n in part or shape]
        code.over(shape, copy, form.total.bytes, within, axis)
        if form.pairs and shape[1] % 2:
            _clear_last(code, into, shape, start)
        return ()

    code.versions([value], run)


def _clear_last(code: Code, into: Left, shape: tuple[int, ...], start: Index) -> None:
    """The second half of the last pair of an odd number of products is zero."""

    def clear(i: Index) -> None:
        k = loops.add(code.b, loops.mul(code.b, start, 2), shape[1])
        offset = loops.add(code.b, loops.mul(code.b, i, 2 * into.row), k)
        spot = code.b.gep(into.pointer, [loops.i64(offset)], source_etype=I16)
        store(Lanes(code.b, 1, code.target), spot, I16(0), 1)

    loops.each(code.b, 0, shape[0], 1, clear)


def operand_element(code: Code, value: Value, form: Form, at: tuple[Coord, ...], e: Lanes, tf32: bool) -> Any:
    """An element or vector of an operand in the dtype of the panels."""
    target = int16 if form.pairs else form.total
    found = convert(e, code.element(value, at, e.lanes), tile_type(value).dtype, target)
    if not tf32:
        return found
    # tf32: drop the low 13 bits of the mantissa.
    bits = e.b.and_(e.b.bitcast(found, e.vec(I32)), e.const(I32, 0xFFFFE000))
    return e.b.bitcast(bits, e.vec(F32))


def _prefetch(code: Code, value: Value, at: tuple[Coord, ...]) -> None:
    """Bring what will be copied soon closer: rows are short, and the hardware does not guess the next."""
    found = code.env[value]
    if isinstance(found, View):
        pointer, _ = corner(code.b, found.tensor, found.part, at)
        prefetch(code.b, pointer)
    elif isinstance(found, Lazy) and found.op.name == "permute":
        _prefetch(code, found.op.args[0], at[::-1])
    elif isinstance(found, Lazy) and found.op.name == "cast":
        _prefetch(code, found.op.args[0], at)
    elif isinstance(found, Lazy) and found.op.name == "reshape":
        shape = tile_type(found.op.args[0]).shape
        if shape[-2:] == tile_type(value).shape:
            _prefetch(code, found.op.args[0], (*(Coord(0) for _ in shape[2:]), *at))


def pack_right(
    code: Code, value: Value, form: Form, into: Right, start: Index, tf32: bool,
    part: tuple[Index, Index] | None = None,
) -> None:  # fmt: skip
    """Write a right operand into its panels from element ``start`` of k on, at least ``part`` of it."""
    columns = tile_type(value).shape[1]
    lanes = code.target.lanes(form.total.bytes)

    widths = panel_widths(columns, lanes)

    def panels(pack: Callable[[tuple[Index, int, int]], None]) -> None:
        for width, first, stop in widths:
            last = stop if part is None else loops.least(code.b, stop, part[1])

            def one(j: Index, width: tuple[int, int] = width) -> None:
                pack((j, *width))

            loops.each(code.b, first, last, width[0] * width[1], one)

    def run(_: bool) -> tuple[()]:
        rows = part[0] if part else tile_type(value).shape[0]
        if natural_axis(code, value) == 0:
            panels(lambda p: _turned_panel(code, value, form, into, p, start, tf32, rows))
            return ()
        rows = -(-rows // form.depth) if isinstance(rows, int) else code.b.udiv(
            code.b.add(rows, I64(form.depth - 1)), I64(form.depth))  # fmt: skip

        # A few rows at a time, so that each is read from end to end.
        def band(k: Index) -> None:
            stop = least(code.b, loops.add(code.b, k, AHEAD), rows)
            panels(lambda p: _panel(code, value, form, into, p, start, tf32, (k, stop)))

        loops.each(code.b, 0, rows, AHEAD, band)
        return ()

    code.versions([value], run)


def least(b: Any, x: Index, y: Index) -> Index:
    """The smaller of two numbers."""
    if isinstance(x, int):
        return loops.least(b, x, y)
    return loops.least(b, y, x) if isinstance(y, int) else b.select(b.icmp_signed("<", x, y), x, y)


def _spot(code: Code, form: Form, into: Right, columns: tuple[Index, int, int], k: Index) -> Any:
    """The address of row k of a panel."""
    j, lanes, vectors = columns
    offset = loops.add(code.b, loops.mul(code.b, j, into.depth), loops.mul(code.b, k, lanes * vectors))
    return code.pointer_to(into.buffer, register(form.total), offset)


def _panel(code: Code, value: Value, form: Form, into: Right, columns: tuple[Index, int, int],
           start: Index, tf32: bool, rows: tuple[Index, Index]) -> None:  # fmt: skip
    """Vectors along the columns, some rows of a panel (pairs: two rows of the tile interleaved)."""
    j, lanes, vectors = columns
    extent = tile_type(value).shape[0]
    e = Lanes(code.b, lanes, code.target)

    def row(k: Index, v: int) -> Any:
        column = Coord(loops.add(code.b, j, v * lanes), lanes > 1)
        _prefetch(code, value, (Coord(loops.add(code.b, k, AHEAD * form.depth)), column))
        return operand_element(code, value, form, (Coord(k), column), e, tf32)

    def pair(k: Index, v: int) -> Any:
        first = loops.mul(code.b, k, 2)
        second = least(code.b, loops.add(code.b, first, 1), extent - 1)
        low, high = row(first, v), row(second, v)
        if extent % 2:  # The last row has no partner.
            alone = code.b.icmp_unsigned("==", loops.i64(first), I64(extent - 1))
            high = code.b.select(e.splat(alone), e.splat_constant(element_constant(int16, 0)), high)
        return _pair(e, low, high)

    def copy(k: Index) -> None:
        spot = _spot(code, form, into, columns, loops.add(code.b, start, k))
        for v in range(vectors):
            place = code.b.gep(spot, [loops.i64(v * lanes)], source_etype=register(form.total))
            store(e, place, pair(k, v) if form.pairs else row(k, v), 1)

    loops.each(code.b, *rows, 1, copy)


def _pair(e: Lanes, low: Any, high: Any) -> Any:
    """Two int16 in an int32, the first in the low half."""
    wide = e.b.shl(e.b.zext(high, e.vec(I32)), e.const(I32, 16))
    return e.b.or_(e.b.zext(low, e.vec(I32)), wide)


def _turned_panel(code: Code, value: Value, form: Form, into: Right, columns: tuple[Index, int, int],
                  start: Index, tf32: bool, rows: Index) -> None:  # fmt: skip
    """Vectors along k, a square of them transposed in registers at a time."""
    j, lanes, vectors = columns
    if lanes == 1 or lanes < code.target.lanes(form.total.bytes):
        _panel(
            code, value, form, into, columns, start, tf32, (0, -(-tile_type(value).shape[0] // form.depth))
        )
        return
    element, per = register(form.total), form.depth
    whole = tile_type(value).shape[0] // (lanes * per) * lanes

    def square(k: Index) -> None:
        def one(c: Index) -> None:
            found = [_along_k(code, value, form, (k, loops.add(code.b, j, loops.add(code.b, c, r))), tf32)
                     for r in range(lanes)]  # fmt: skip
            for r, vector in enumerate(transpose(code.b, found)):
                spot = _spot(code, form, into, columns, loops.add(code.b, start, loops.add(code.b, k, r)))
                place = code.b.gep(spot, [loops.i64(c)], source_etype=element)
                store(Lanes(code.b, lanes, code.target), place, vector, 1)

        loops.each(code.b, 0, lanes * vectors, lanes, one)

    stop = whole if form.pairs else loops.least(code.b, whole, rows)
    loops.each(code.b, 0, stop, lanes, square)
    for k in range(whole, -(-tile_type(value).shape[0] // per)):

        def single(c: Index, k: int = k) -> None:
            one = _along_k(code, value, form, (k, loops.add(code.b, j, c)), tf32, single=True)
            spot = _spot(code, form, into, columns, loops.add(code.b, start, k))
            place = code.b.gep(spot, [loops.i64(c)], source_etype=element)
            store(Lanes(code.b, 1, code.target), place, one, 1)

        loops.each(code.b, 0, lanes * vectors, 1, single)


def _along_k(code: Code, value: Value, form: Form, at: tuple[Index, Index], tf32: bool,
             single: bool = False) -> Any:  # fmt: skip
    """Panel elements k, k + 1, ... of one column (or only the first of them)."""
    lanes = 1 if single else code.target.lanes(form.total.bytes)
    k = loops.mul(code.b, at[0], form.depth)
    if not form.pairs or not single:
        e = Lanes(code.b, lanes * form.depth, code.target)
        found = operand_element(code, value, form, (Coord(k, e.lanes > 1), Coord(at[1])), e, tf32)
        return code.b.bitcast(found, ir.VectorType(I32, lanes)) if form.pairs else found
    e = Lanes(code.b, 1, code.target)
    low = operand_element(code, value, form, (Coord(k), Coord(at[1])), e, tf32)
    if isinstance(k, int) and k + 1 >= tile_type(value).shape[0]:
        return _pair(e, low, I16(0))
    return _pair(e, low, operand_element(code, value, form, (Coord(k + 1), Coord(at[1])), e, tf32))
