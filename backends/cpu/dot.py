"""Emit rule of `dot`: pack the operands, multiply, round once if the result is a small float.

Two things are decided for a whole loop: an operand that the loop does not change is
packed before it, and a sum that only grows by one product per iteration is
multiplied once for several iterations, whose operands lie side by side in the
panels. Neither changes the order in which products follow each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tilec.backends.cpu import loops
from tilec.backends.cpu.demand import depth_of, needed
from tilec.backends.cpu.floats import convert
from tilec.backends.cpu.lanes import I64, Lanes, is_small
from tilec.backends.cpu.loops import Index
from tilec.backends.cpu.microkernel import VECTORS, Form, Left, Right, Sums, multiply
from tilec.backends.cpu.panels import (
    in_place,
    in_tensor,
    left_in,
    left_room,
    new_left,
    new_right,
    pack_left,
    pack_right,
    right_in_place,
)  # fmt: skip
from tilec.backends.cpu.rules import emits
from tilec.backends.cpu.shapes import tile_type
from tilec.backends.cpu.tiles import CHEAP, Code, Lazy
from tilec.backends.cpu.views import At, View
from tilec.backends.cpu.workspace import Buffer
from tilec.ir.core import Op, Value, walk
from tilec.ir.ops import attr
from tilec.ir.types import DType, TileType, float32, int32


@dataclass(frozen=True)
class Batch:
    """Panels for the operands of several iterations of a loop; ``number`` counts the iterations."""

    left: Buffer
    right: Right
    iterations: int
    number: Any
    count: Any
    needed: tuple[Index, ...]


def form_of(op: Op) -> Form:
    """How the products of a dot are formed."""
    a, out = tile_type(op.args[0]).dtype, tile_type(op.result).dtype
    return Form(_wide(out), pairs=a.is_int and a.bits == 8 and out == int32)


def _wide(out: DType) -> DType:
    return float32 if is_small(out) else out


def _is_tf32(op: Op) -> bool:
    return attr(op, "precision") == "tf32" and tile_type(op.args[0]).dtype == float32


def _steps(op: Op) -> int:
    """Panel elements along k of one product."""
    return -(-tile_type(op.args[0]).shape[1] // form_of(op).depth)


@emits("dot")
def _dot(code: Code, op: Op) -> None:
    out = tile_type(op.result)
    batch = code.batches.get(op)
    if batch is not None:
        buffer = code.owned(op.args[2])
        _batched(code, op, batch, buffer)
    elif _wide(out.dtype) == out.dtype and _on_the_way(code, op.args[2]):
        code.settle_with(op.args[2], lambda into: _product(code, op, into, out, False, op.args[2]))
        buffer = code.owned(op.args[2])
    elif _wide(out.dtype) == out.dtype:
        zero = _is_zero(code, op.args[2])
        buffer = code.memory.allocate(out) if zero else code.owned(op.args[2])
        _product(code, op, buffer, out, zero)
    else:
        total = out.with_(dtype=_wide(out.dtype))
        work = code.temporary(total)
        _convert(code, op.args[2], work, total)
        _product(code, op, work, total, False)
        buffer = code.memory.allocate(out)
        _round(code, work, total, buffer, out)
    buffer.live = 0
    code.bind(op.result, buffer)


def _on_the_way(code: Code, acc: Value) -> bool:
    """Whether the sum so far is cheap to compute where the product is added to it."""
    single = isinstance(code.env[acc], Lazy) and code.uses(acc) == 1 and not _is_zero(code, acc)
    return single and code.cost(acc) <= 2 * CHEAP and not any(
        isinstance(code.env.get(v), View) for v in code.sources(acc)
    )  # fmt: skip


def _product(
    code: Code, op: Op, buffer: Buffer, type_: TileType, zero: bool, before: Value | None = None
) -> None:
    """buffer = (0 if zero else ``before`` or else buffer) + a @ b."""
    form, limits = form_of(op), needed(code, op.result)
    ends, steps = _depth(code, op)
    left, right = _left(code, op, form, (limits[0], ends)), _right(code, op, form, (ends, limits[1]))
    multiply(code, form, (left, right), Sums(buffer, type_, zero, before), steps, limits)


def _left(code: Code, op: Op, form: Form, part: tuple[Index, Index]) -> Left:
    value = op.args[0]
    found = code.packed.get((value, form)) or (None if _is_tf32(op) else in_place(code, value, form))
    if found is not None:
        return found
    packed = new_left(code, value, form, _steps(op))
    code.temporaries += [packed.buffer] if packed.buffer else []
    there = None if _is_tf32(op) else in_tensor(code, value, form)
    return _either(code, there, packed, lambda: pack_left(code, value, form, packed, 0, _is_tf32(op), part))


def _either(code: Code, there: tuple[Any, Left] | None, packed: Left, pack: Callable[[], None]) -> Left:
    """The left operand in its tensor where a condition holds, else packed."""
    if there is None:
        pack()
        return packed
    condition, left = there

    def lay() -> list[Any]:
        pack()
        return [packed.pointer, loops.i64(packed.row), loops.i64(packed.step)]

    pointer, *steps = loops.branch(
        code.b, condition, lambda: [left.pointer, loops.i64(left.row), loops.i64(left.step)], lay
    )
    row, step = (
        1 if old == 1 and new == 1 else found
        for old, new, found in zip((left.row, left.step), (packed.row, packed.step), steps, strict=True)
    )
    return Left(pointer, row, step, packed.buffer)


def _right(code: Code, op: Op, form: Form, part: tuple[Index, Index]) -> Right:
    value = op.args[1]
    found = code.packed.get((value, form, "right"))
    if found is None and not _is_tf32(op):
        found = right_in_place(code, value, form)
    if found is None:
        found = new_right(code, value, form, _steps(op))
        code.temporaries.append(found.buffer)
        pack_right(code, value, form, found, 0, _is_tf32(op), part)
    return found


def _is_zero(code: Code, acc: Value) -> bool:
    found = code.env[acc]
    while isinstance(found, Lazy) and found.op.name == "broadcast":
        found = code.env[found.op.args[0]]
    return isinstance(found, Lazy) and found.op.name == "const" and found.op.attrs["value"] == 0


def _convert(code: Code, value: Value, work: Buffer, total: TileType) -> None:
    source = tile_type(value).dtype

    def one(at: At, lanes: int) -> None:
        e = Lanes(code.b, lanes, code.target)
        code.write(work, total, at, e, convert(e, code.element(value, at, lanes), source, total.dtype))

    code.over(total.shape, one)


def _round(code: Code, work: Buffer, total: TileType, buffer: Buffer, out: TileType) -> None:
    def one(at: At, lanes: int) -> None:
        e = Lanes(code.b, lanes, code.target)
        found = code.read(work, total, at, e)
        code.write(buffer, out, at, e, convert(e, found, total.dtype, out.dtype))

    code.over(out.shape, one)


def pack_before(code: Code, op: Op) -> list[tuple[Any, ...]]:
    """Pack the operands of products in a loop that are known before it; gives their keys."""
    keys: list[tuple[Any, ...]] = []
    for dot in (d for block in op.blocks for d in walk(block) if d.name == "dot" and not _is_tf32(d)):
        form = form_of(dot)
        a, b = dot.args[:2]
        made = [v for operand in (a, b) for v in _shapes_before(code, operand)]
        if a in code.env and (a, form) not in code.packed and in_place(code, a, form) is None:
            left = new_left(code, a, form, _steps(dot))
            pack_left(code, a, form, left, 0, False)
            code.packed[a, form] = left
            keys.append((a, form))
        there = right_in_place(code, b, form)
        if b in code.env and (b, form, "right") not in code.packed and there is None:
            right = new_right(code, b, form, _steps(dot))
            pack_right(code, b, form, right, 0, False)
            code.packed[b, form, "right"] = right
            keys.append((b, form, "right"))
        for value in made:
            del code.env[value]
    return keys


def _shapes_before(code: Code, value: Value) -> list[Value]:
    """Define what only turns or casts a value that is known already; gives what was defined."""
    op = code.definitions.get(value)
    if value in code.env or op is None or op.name not in ("permute", "cast"):
        return []
    made = _shapes_before(code, op.args[0])
    if op.args[0] not in code.env:
        return made
    code.env[value] = Lazy(op)
    return [*made, value]


def unpack_after(code: Code, keys: Sequence[tuple[Any, ...]]) -> None:
    """Give the panels of `pack_before` back."""
    for key in keys:
        code.memory.free(code.packed.pop(key).buffer)


def batchable(code: Code, op: Op) -> dict[Op, tuple[Index, ...]]:
    """The products of a loop that can wait for each other, with the parts of their sums that are needed."""
    (body,) = op.blocks
    found = [d for d in body.ops if d.name == "dot" and _can_wait(code, op, d)]
    return {d: needed(code, d.result) for d in found}


def batch(code: Code, limits: Mapping[Op, tuple[Index, ...]], number: Any, count: Any) -> None:
    """Make batches for products of a loop."""
    for dot in limits:
        iterations = panel_depth(code, form_of(dot)) // _steps(dot)
        total = iterations * _steps(dot)
        left = left_room(code, dot.args[0], form_of(dot), total)
        right = new_right(code, dot.args[1], form_of(dot), total)
        code.batches[dot] = Batch(left, right, iterations, number, count, limits[dot])


def end_batch(code: Code, dots: Iterable[Op]) -> None:
    """Give the panels of `batch` back."""
    for dot in dots:
        found = code.batches.pop(dot)
        code.memory.free(found.left)
        code.memory.free(found.right.buffer)


def panel_depth(code: Code, form: Form) -> int:
    """How far k runs at once: a panel of the right operand fills half of the first cache."""
    width = VECTORS * code.target.lanes(form.total.bytes) * form.total.bytes
    return max(code.target.l1_bytes // 2 // width, 1)


def _can_wait(code: Code, op: Op, dot: Op) -> bool:
    """Whether the sum is carried by the loop, touched by nothing else, and the product is short."""
    (body,) = op.blocks
    acc, out = dot.args[2], tile_type(dot.result)
    if acc not in body.params[1:] or _wide(out.dtype) != out.dtype:
        return False
    known = any(v in code.env for v in dot.args[:2])
    users = [code.users.get(v, []) for v in (acc, dot.result)]
    place = body.params.index(acc) - 1
    mine = users[0] == [dot] and [u.name for u in users[1]] == ["yield"]
    return mine and not known and body.yielded[place] is dot.result and (
        panel_depth(code, form_of(dot)) >= 2 * _steps(dot)
    )  # fmt: skip


def _batched(code: Code, op: Op, found: Batch, buffer: Buffer) -> None:
    """Pack the operands into this iteration's place; multiply when the panels are full, or at the end."""
    b, form, steps = code.b, form_of(op), _steps(op)
    slot = b.urem(found.number, I64(found.iterations))
    start = b.mul(slot, I64(steps))
    full = b.icmp_unsigned("==", slot, I64(found.iterations - 1))
    last = b.icmp_unsigned("==", b.add(found.number, I64(1)), found.count)
    ends, deep = _depth(code, op)
    # Only at the end may a part be left out: before it, what follows in the panels would be stale.
    part = ends if isinstance(ends, int) else b.select(last, ends, I64(tile_type(op.args[0]).shape[1]))
    left = left_in(code, found.left, op.args[0], form, found.iterations * steps)
    pack_left(code, op.args[0], form, left, start, _is_tf32(op), (found.needed[0], part))
    pack_right(code, op.args[1], form, found.right, start, _is_tf32(op), (part, found.needed[1]))
    with b.if_then(b.or_(full, last)):
        type_ = tile_type(op.result)
        sums = Sums(buffer, type_, False)
        multiply(code, form, (left, found.right), sums, loops.add(b, start, deep), found.needed)


def _depth(code: Code, op: Op) -> tuple[Index, Index]:
    """How far k runs until both operands are known to be zero: in elements, and in panel elements."""
    form, extent = form_of(op), tile_type(op.args[0]).shape[1]
    found = depth_of(code, [(op.args[0], 1), (op.args[1], 0)], extent)
    if isinstance(found, int):
        return found, -(-found // form.depth)
    return found, code.b.lshr(code.b.add(found, I64(1)), I64(1)) if form.pairs else found
