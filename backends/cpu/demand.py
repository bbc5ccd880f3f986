"""Which part of a product is needed: rows and columns that end up outside of every tensor are not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tilec.backends.cpu import loops
from tilec.backends.cpu.cells import to_index
from tilec.backends.cpu.lanes import Lanes
from tilec.backends.cpu.loops import Index
from tilec.backends.cpu.rules import RULES
from tilec.backends.cpu.shapes import is_cosmetic, tile_type
from tilec.backends.cpu.tiles import POINTWISE, Code, Lazy
from tilec.backends.cpu.views import View, box
from tilec.ir.core import Op, Value

Bounds = list[Index]
_GRID = ("program_id", "num_programs", "dim")


def needed(code: Code, value: Value) -> tuple[Index, ...]:
    """Per axis how many elements of a tile can reach a store inside its tensor; else its extents.

    Follows elementwise ops, sums of products, loops, permutations and reshapes that only drop extents of 1.
    """
    shape = tile_type(value).shape
    found = _follow(code, value, set())
    if not found:
        return shape
    out: Bounds = list(found[0])
    for other in found[1:]:
        out = [_larger(code, x, y) for x, y in zip(out, other, strict=True)]
    return tuple(out)


def _follow(code: Code, value: Value, seen: set[Value]) -> list[Bounds] | None:
    """The bounds of every store that the value reaches; None if something else uses it."""
    if value in seen:
        return []
    seen.add(value)
    out: list[Bounds] = []
    for op in code.users.get(value, ()):
        part = _user(code, value, op, seen)
        if part is None:
            return None
        out += part
    return out


def _user(code: Code, value: Value, op: Op, seen: set[Value]) -> list[Bounds] | None:
    if op.name == "store" and op.args[1] is value:
        bounds = _store_bounds(code, op)
        return None if bounds is None else [bounds]
    if op.name == "dot" and value not in op.args[:2]:
        return _follow(code, op.result, seen)
    if op.name == "yield":
        return _carried(code, value, op, seen)
    if op.name == "reshape" and is_cosmetic(op):
        found = _follow(code, op.result, seen)
        return None if found is None else [_reshaped(op, f) for f in found]
    if op.name == "permute":
        found = _follow(code, op.result, seen)
        where = [op.attrs["perm"].index(d) for d in range(len(op.attrs["perm"]))]
        return None if found is None else [[f[d] for d in where] for f in found]
    if op.name in POINTWISE and POINTWISE[op.name].identity:
        return _follow(code, op.result, seen)
    return None


def _carried(code: Code, value: Value, op: Op, seen: set[Value]) -> list[Bounds] | None:
    """Through the end of a loop's body: to the loop's result, if the next iteration only adds to it."""
    parent = code.parents.get(op)
    if parent is None or parent.name != "for":
        return None
    out: list[Bounds] = []
    for arg, param, result in zip(op.args, parent.blocks[0].params[1:], parent.results, strict=True):
        if arg is value:
            again, after = _follow(code, param, seen), _follow(code, result, seen)
            if again != [] or after is None:
                return None
            out += after
    return out


def _reshaped(op: Op, bounds: Bounds) -> Bounds:
    """Bounds of the operand of a reshape from those of its result."""
    long = iter([x for x, n in zip(bounds, tile_type(op.result).shape, strict=True) if n != 1])
    return [1 if n == 1 else next(long) for n in tile_type(op.args[0]).shape]


def _store_bounds(code: Code, op: Op) -> Bounds | None:
    """How much of a stored tile lies below the end of its tensor; None if that is not known yet."""
    made: list[Value] = []
    shape = tile_type(op.args[1]).shape
    known = all(_compute(code, v, made) for v in op.args[2:]) and op.args[0] in code.env
    bounds = None
    if known:
        part = box(code.b, code.env[op.args[0]], [to_index(code, v) for v in op.args[2:]], shape)
        bounds = [high for _, high in part.bounds]
    for value in made:
        del code.env[value]
    return bounds


def _compute(code: Code, value: Value, made: list[Value]) -> bool:
    """Emit a scalar's pure computation before its op is reached; ``made`` gets what was added."""
    if value in code.env:
        return True
    op = code.definitions.get(value)
    if op is None or tile_type(value).shape != () or op.name not in (*_GRID, *POINTWISE):
        return False
    if not all(_compute(code, a, made) for a in op.args):
        return False
    if op.name in _GRID:
        RULES[op.name](code, op)
    else:
        code.env[value] = POINTWISE[op.name].emit(code, op, (), Lanes(code.b, 1, code.target))
    made.append(value)
    return True


def _larger(code: Code, x: Index, y: Index) -> Index:
    if isinstance(x, int) and isinstance(y, int):
        return max(x, y)
    a, b = loops.i64(x), loops.i64(y)
    return code.b.select(code.b.icmp_signed(">", a, b), a, b)


def depth_of(code: Code, values: Sequence[tuple[Value, int]], extent: int) -> Index:
    """How many elements along k of both operands are not known to be zero; ``values``: (operand, k axis)."""
    highs = [_last_nonzero(code, value, axis) for value, axis in values]
    if any(h is None for h in highs):
        return extent
    return _larger(code, *highs)


def _last_nonzero(code: Code, value: Value, axis: int) -> Index | None:
    """The end of a loaded tile inside its tensor, along an axis of a matrix; its padding is zero."""
    found = code.env[value]
    if isinstance(found, Lazy) and found.op.name == "permute" and len(tile_type(value).shape) == 2:
        return _last_nonzero(code, found.op.args[0], 1 - axis)
    if isinstance(found, Lazy) and found.op.name == "cast":
        return _last_nonzero(code, found.op.args[0], axis)
    if isinstance(found, Lazy) and found.op.name == "reshape":
        shape = tile_type(found.op.args[0]).shape
        if len(shape) > 2 and shape[-2:] == tile_type(value).shape:
            inner = code.env[found.op.args[0]]
            return _end(inner, len(shape) - 2 + axis)
        return None
    return _end(found, axis)


def _end(found: Any, axis: int) -> Index | None:
    return found.part.bounds[axis][1] if isinstance(found, View) and found.pad == 0 else None
