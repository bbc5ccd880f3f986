"""Gathers: computed where they are consumed, if that is once and the tensor is never written.

Rows whose elements lie side by side are checked once each, by the loops that store them or fill a
buffer with them (`by_rows`), and then are vectors at an address. Others are vectors of indices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from tilec.backends.cpu import loops
from tilec.backends.cpu.access import from_memory, load, masked_gather, masked_load, prefetch
from tilec.backends.cpu.cells import (
    Cells,
    cell,
    last_axis,
    later_row,
    run_of,
    side_by_side,
    whole_row,
    widened,
)
from tilec.backends.cpu.lanes import PTR, Lanes, scalar_constant, storage
from tilec.backends.cpu.loops import Index
from tilec.backends.cpu.rules import emits
from tilec.backends.cpu.shapes import tile_type
from tilec.backends.cpu.tiles import POINTWISE, Code, Lazy, Pointwise
from tilec.backends.cpu.views import At, Coord
from tilec.ir.core import Op, Value

COST = 20


def cells_of(code: Code, op: Op) -> Cells:
    """What a gather reads."""
    *indices, mask, _ = op.args[1:]
    return Cells(code.env[op.args[0]], tuple(indices), mask, tile_type(op.result).shape)


def is_lazy(code: Code, op: Op) -> bool:
    """Whether a gather waits for its consumer; rows only for a store, whose loops look at each row."""
    if not code.env[op.args[0]].fixed:
        return False
    rows = side_by_side(code, code.env[op.args[0]], op.args[1:-2])
    return not rows or _only_stored(code, op.result)


def _only_stored(code: Code, value: Value) -> bool:
    users = code.users.get(value, [])
    if len(users) != 1 or value in code.captured:
        return False
    user = users[0]
    if user.name == "store":
        return True
    return user.name in POINTWISE and POINTWISE[user.name].identity and _only_stored(code, user.result)


def rows_behind(code: Code, value: Value) -> list[Op]:
    """The gathers of rows that a value is lazily computed from, element by element."""
    found = [code.env.get(s) for s in code.sources(value)]
    ops = [f.op for f in found if isinstance(f, Lazy) and f.op.name == "gather"]
    shape = tile_type(value).shape
    return [
        op for op in ops
        if tile_type(op.result).shape == shape and side_by_side(code, code.env[op.args[0]], op.args[1:-2])
    ]  # fmt: skip


@emits("gather")
def _gather(code: Code, op: Op) -> None:
    """Into a buffer."""
    type_ = tile_type(op.result)
    if type_.shape == ():
        code.env[op.result] = element(code, op, (), Lanes(code.b, 1, code.target))
        return
    buffer = code.memory.allocate(type_)

    def write(at: At, lanes: int) -> None:
        e = Lanes(code.b, lanes, code.target)
        code.write(buffer, type_, at, e, element(code, op, at, e))

    def run(_: bool) -> tuple[()]:
        if side_by_side(code, code.env[op.args[0]], op.args[1:-2]):
            by_rows(code, [op], type_.shape, write, type_.dtype.bytes)
        else:
            code.over(type_.shape, write, type_.dtype.bytes)
        return ()

    code.versions(op.args[1:], run)
    code.bind(op.result, buffer)


def by_rows(
    code: Code, ops: Sequence[Op], shape: tuple[int, ...], body: Callable[[At, int], None], bytes_: int,
    within: Sequence[tuple[Index, Index]] | None = None,
) -> None:  # fmt: skip
    """`Code.over`, with a look at each row of gathers: where all are whole, they are read without masks."""
    b, axis = code.b, last_axis(shape)
    limits = within or [(0, n) for n in shape]

    def spot(at: Sequence[Index], i: Index, lanes: int = 1) -> At:
        return tuple(Coord(i, lanes > 1) if d == axis else Coord(c) for d, c in enumerate(at))

    def walk(at: Sequence[Index], later: Sequence[Any]) -> tuple[()]:
        for lanes, start, stop in loops.segments(shape[axis], code.target.lanes(bytes_)):

            def one(i: Index, lanes: int = lanes) -> None:
                for op, pointer in zip(ops, later, strict=False):
                    kind = storage(tile_type(op.result).dtype)
                    prefetch(b, b.gep(pointer, [loops.i64(i)], source_etype=kind))
                body(spot(at, i, lanes), lanes)

            last = stop if within is None else loops.least(b, stop, within[axis][1])
            loops.each(b, start, last, lanes, one)
        return ()

    def row(at: tuple[Index, ...]) -> None:
        found = [whole_row(code, cells_of(code, op), spot(at, 0), shape[axis]) for op in ops]
        whole = found[0][0]
        for inside, _ in found[1:]:
            whole = b.and_(whole, inside)
        later = [p for op in ops for p in later_row(code, cells_of(code, op), at, axis)]

        def fast() -> tuple[()]:
            code.rows.update({op: first for op, (_, first) in zip(ops, found, strict=True)})
            walk(at, later)
            code.rows.clear()
            return ()

        loops.branch(b, whole, fast, lambda: walk(at, ()))

    loops.nest(b, [(0, 1) if d == axis else limits[d] for d in range(len(shape))], row)


def element(code: Code, op: Op, at: At, e: Lanes) -> Any:
    """An element or vector of a gather."""
    type_ = tile_type(op.result)
    kind, cells = storage(type_.dtype), cells_of(code, op)
    if op in code.rows:
        along = loops.i64(at[last_axis(type_.shape)].base)
        place = code.b.gep(code.rows[op], [along], source_etype=kind)
        return from_memory(e, load(e, place, kind, 1), type_)
    if e.lanes == 1:
        ok, address = cell(code, cells.tensor, cells.indices, cells.mask, at)
        found = load(e, code.b.select(ok, address, code.pointer), kind, 1)
    else:
        nothing = e.splat_constant(scalar_constant(kind, 0))
        if side_by_side(code, cells.tensor, cells.indices) and at[last_axis(type_.shape)].lane:
            ok, address = run_of(code, cells, at, e.lanes)
            found = masked_load(e, address, ok, nothing)
        else:
            ok, addresses = _vector(code, cells, at, e)
            found = masked_gather(e, addresses, ok, nothing)
    return code.b.select(ok, from_memory(e, found, type_), code.element(op.args[-1], at, e.lanes))


def _vector(code: Code, cells: Cells, at: At, e: Lanes) -> tuple[Any, Any]:
    """Which lanes are to be read, and their addresses (only valid where so)."""
    b, ok, offset = code.b, code.element(cells.mask, at, e.lanes), None
    tensor = cells.tensor
    for index, extent, stride in zip(cells.indices, tensor.extents, tensor.strides, strict=True):
        where = widened(e, code.element(index, at, e.lanes), tile_type(index).dtype)
        ok = b.and_(ok, b.icmp_unsigned("<", where, e.splat(extent)))
        term = where if isinstance(stride, int) and stride == 1 else b.mul(where, e.splat(loops.i64(stride)))
        offset = term if offset is None else b.add(offset, term)
    addresses = b.gep(tensor.pointer, [offset], source_etype=storage(tensor.type.dtype))
    addresses.type = ir.VectorType(PTR, e.lanes)  # llvmlite types an address by its base alone.
    return ok, addresses


POINTWISE["gather"] = Pointwise(element, COST, False)
