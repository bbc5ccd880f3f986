"""Emit rules of loops and branches: carried scalars in registers, carried tiles in pinned buffers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tilec.backends.cpu import dot, gathers, loops
from tilec.backends.cpu.cells import to_index
from tilec.backends.cpu.lanes import I32, I64, Lanes, register
from tilec.backends.cpu.reduce import on_the_way
from tilec.backends.cpu.rules import RULES, emits
from tilec.backends.cpu.shapes import tile_type
from tilec.backends.cpu.tiles import POINTWISE, Code
from tilec.backends.cpu.views import place
from tilec.backends.cpu.workspace import Buffer
from tilec.ir.core import Block, Op, Value, free_values
from tilec.ir.errors import UnsupportedError
from tilec.ir.loc import located


def run(code: Code, block: Block) -> None:
    """Emit the ops of a block up to its terminator."""
    for op in block.ops:
        if op.name == "yield":
            break
        with located(op.loc):
            _one(code, op)
        code.end_op()


def _one(code: Code, op: Op) -> None:
    if op.name in POINTWISE and (op.name != "gather" or gathers.is_lazy(code, op)):
        code.define(op)
        return
    if op.name not in RULES:
        raise UnsupportedError("U201", f"{op.name} is not supported on the CPU", help="use another backend")
    inner = {v for block in op.blocks for v in free_values(block)}
    folds = op.name == "reduce" and not op.attrs["kind"].startswith("arg")
    fused = on_the_way(code, op.args[0]) if folds else None
    code.settle_pending([*op.args, *inner], fused)
    RULES[op.name](code, op)
    code.release(*op.args, *inner)


def _is_tile(value: Value) -> bool:
    return tile_type(value).shape != ()


def _enter(code: Code, initial: Sequence[Value]) -> list[Any]:
    """Registers and pinned buffers that hold the carried values."""
    carried: list[Any] = []
    for value in initial:
        if not _is_tile(value):
            carried.append(code.scalar(value))
            continue
        buffer = code.owned(value)
        if buffer.pinned:  # Belongs to an outer loop, which would lose it.
            spare = code.memory.allocate(tile_type(value))
            _copy(code, buffer, spare, value)
            buffer.live -= 1
            buffer = spare
        buffer.live, buffer.pinned = 0, True
        carried.append(buffer)
    return carried


def _leave(code: Code, block: Block, carried: Sequence[Any]) -> list[Any]:
    """Bring the yielded values into the carried buffers; gives the scalars (None for tiles)."""
    homes = [c for c in carried if isinstance(c, Buffer)]
    code.settle_pending(block.yielded)
    out: list[Any] = []
    moves: list[tuple[Buffer, Buffer, Value]] = []
    for value, home in zip(block.yielded, carried, strict=True):
        if not _is_tile(value):
            out.append(code.scalar(value))
            continue
        out.append(None)
        source = code.owned(value, home if home.live == 0 else None)
        code.release(value)
        if source is not home:
            moves.append((source, home, value))
    _move(code, moves, homes)
    return out


def _move(code: Code, moves: Sequence[tuple[Buffer, Buffer, Value]], homes: Sequence[Buffer]) -> None:
    """Copies that happen at once: what lies in another's home goes through a spare first."""
    safe = []
    for source, home, value in moves:
        if source in homes:
            spare = code.temporary(tile_type(value))
            _copy(code, source, spare, value)
            source = spare
        safe.append((source, home, value))
    for source, home, value in safe:
        _copy(code, source, home, value)
    for home in homes:
        home.live = 0


def _copy(code: Code, source: Buffer, target: Buffer, value: Value) -> None:
    type_ = tile_type(value)

    def one(at: Any, lanes: int) -> None:
        e = Lanes(code.b, lanes, code.target)
        code.write(target, type_, at, e, code.read(source, type_, at, e))

    code.over(type_.shape, one, type_.dtype.bytes)


def _results(code: Code, op: Op, carried: Sequence[Any]) -> None:
    for result, found in zip(op.results, carried, strict=True):
        if isinstance(found, Buffer):
            found.live, found.pinned = 0, False
        code.bind(result, found)


def _bind(code: Code, params: Sequence[Value], carried: Sequence[Any]) -> None:
    for param, found in zip(params, carried, strict=True):
        code.bind(param, found)


def _header(code: Code, carried: Sequence[Any]) -> tuple[Any, list[Any], list[Any]]:
    """A loop head with a phi per scalar; gives (block, phis, carried with the phis)."""
    before = code.b.block
    head = code.b.append_basic_block("head")
    code.b.branch(head)
    code.b.position_at_end(head)
    phis, inside = [], []
    for found in carried:
        if isinstance(found, Buffer):
            inside.append(found)
            continue
        phi = code.b.phi(found.type)
        phi.add_incoming(found, before)
        phis.append(phi)
        inside.append(phi)
    return head, phis, inside


def _close(code: Code, head: Any, phis: Sequence[Any], following: Sequence[Any], after: Any) -> None:
    scalars = [v for v in following if v is not None]
    for phi, value in zip(phis, scalars, strict=True):
        phi.add_incoming(value, code.b.block)
    code.b.branch(head)
    code.b.position_at_end(after)


@emits("for")
def _for(code: Code, op: Op) -> None:
    (body,) = op.blocks
    count, start, step = _trips(code, op)
    carried = _enter(code, op.args[3:])
    packed, waiting = dot.pack_before(code, op), dot.batchable(code, op)
    code.end_op()
    head, phis, inside = _header(code, [I64(0), *carried])
    dot.batch(code, waiting, phis[0], count)
    block, after = code.b.append_basic_block("body"), code.b.append_basic_block("after")
    code.b.cbranch(code.b.icmp_unsigned("<", phis[0], count), block, after)
    code.b.position_at_end(block)
    number = code.b.add(start, code.b.mul(phis[0], step))
    width = register(tile_type(body.params[0]).dtype)
    with code.frame(body):
        _bind(code, body.params, [number if width == I64 else code.b.trunc(number, width), *inside[1:]])
        run(code, body)
        following = _leave(code, body, inside[1:])
        code.end_op()
    _close(code, head, phis, [code.b.add(phis[0], I64(1)), *following], after)
    dot.end_batch(code, waiting)
    dot.unpack_after(code, packed)
    _results(code, op, inside[1:])


def _trips(code: Code, op: Op) -> tuple[Any, Any, Any]:
    """(number of iterations as unsigned i64, start, step); a step of 0 runs never."""
    b, unsigned = code.b, tile_type(op.args[0]).dtype.kind == "uint"
    start, stop, step = (_wide(code, v) for v in op.args[:3])
    less = b.icmp_unsigned if unsigned else b.icmp_signed
    up = b.icmp_signed(">", step, I64(0)) if not unsigned else b.icmp_unsigned(">", step, I64(0))
    down = b.icmp_signed("<", step, I64(0)) if not unsigned else b.icmp_unsigned("<", step, I64(0))
    some = b.or_(b.and_(up, less("<", start, stop)), b.and_(down, less(">", start, stop)))
    distance = b.select(up, b.sub(stop, start), b.sub(start, stop))
    size = b.select(up, step, b.sub(I64(0), step))
    size = b.select(b.icmp_unsigned("==", size, I64(0)), I64(1), size)
    count = b.add(b.udiv(b.sub(distance, I64(1)), size), I64(1))
    return b.select(some, count, I64(0)), start, step


def _wide(code: Code, value: Value) -> Any:
    return code.scalar(value) if tile_type(value).dtype.bits == 64 else to_index(code, value)


@emits("while")
def _while(code: Code, op: Op) -> None:
    condition, body = op.blocks
    head, phis, inside = _header(code, _enter(code, op.args))
    for found in inside:
        if isinstance(found, Buffer):
            found.live += 1  # The condition may only look.
    with code.frame(condition):
        _bind(code, condition.params, inside)
        run(code, condition)
        more = code.scalar(condition.yielded[0])
        code.end_op()
    for found in inside:
        if isinstance(found, Buffer):
            found.live = 0
    block, after = code.b.append_basic_block("body"), code.b.append_basic_block("after")
    code.b.cbranch(more, block, after)
    code.b.position_at_end(block)
    with code.frame(body):
        _bind(code, body.params, inside)
        run(code, body)
        following = _leave(code, body, inside)
        code.end_op()
    _close(code, head, phis, following, after)
    _results(code, op, inside)


@emits("if")
def _if(code: Code, op: Op) -> None:
    homes: list[Any] = []
    for result in op.results:
        if _is_tile(result):
            homes.append(code.memory.allocate(tile_type(result)))
            homes[-1].pinned = True
        else:
            homes.append(None)

    def side(block: Block) -> list[Any]:
        with code.frame(block):
            run(code, block)
            out = _leave(code, block, homes)
            code.end_op()
        return [v for v in out if v is not None]

    scalars = iter(loops.branch(
        code.b, code.scalar(op.args[0]), lambda: side(op.blocks[0]), lambda: side(op.blocks[1])
    ))  # fmt: skip
    _results(code, op, [next(scalars) if home is None else home for home in homes])


@emits("assume")
def _assume(code: Code, op: Op) -> None:
    """Nothing to gain from it here."""


@emits("program_id")
def _program_id(code: Code, op: Op) -> None:
    code.env[op.result] = code.b.trunc(code.program[op.attrs["axis"]], I32)


@emits("num_programs")
def _num_programs(code: Code, op: Op) -> None:
    code.env[op.result] = code.b.trunc(code.grid[op.attrs["axis"]], I32)


@emits("dim")
def _dim(code: Code, op: Op) -> None:
    code.env[op.result] = code.b.trunc(code.env[op.args[0]].extents[op.attrs["axis"]], I32)


@emits("stride")
def _stride(code: Code, op: Op) -> None:
    code.env[op.result] = loops.i64(code.env[op.args[0]].strides[op.attrs["axis"]])


@emits("section")
def _section(code: Code, op: Op) -> None:
    """The same memory, with bounds of its own."""
    axis, tensor = op.attrs["axis"], code.env[op.args[0]]
    start, stop = (to_index(code, a) for a in op.args[1:])
    low = _between(code.b, start, I64(0), tensor.extents[axis])
    high = _between(code.b, stop, low, tensor.extents[axis])
    extents = (*tensor.extents[:axis], code.b.sub(high, low), *tensor.extents[axis + 1 :])
    first = [low if d == axis else 0 for d in range(len(extents))]
    code.env[op.result] = replace(tensor, pointer=place(code.b, tensor, first), extents=extents)


def _between(b: Any, x: Any, low: Any, high: Any) -> Any:
    """``x`` cut to [low, high]."""
    above = b.select(b.icmp_signed(">", x, low), x, low)
    return b.select(b.icmp_signed("<", above, high), above, high)


@emits("yield")
def _yield(code: Code, op: Op) -> None:
    """The op around it reads the values of the terminator."""
