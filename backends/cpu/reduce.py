"""Emit rule of reductions. Sums and products of floats are taken in any order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tilec.backends.cpu import loops
from tilec.backends.cpu.arith import apply
from tilec.backends.cpu.floats import narrow, widen
from tilec.backends.cpu.lanes import I32, Lanes, element_constant, is_small, register
from tilec.backends.cpu.masks import opened
from tilec.backends.cpu.rules import emits
from tilec.backends.cpu.shapes import tile_type
from tilec.backends.cpu.tiles import POINTWISE, Code, Lazy
from tilec.backends.cpu.views import At, Coord
from tilec.backends.cpu.workspace import Buffer
from tilec.ir.core import Op, Value
from tilec.ir.types import DType, bool_, float32, int32

_COMBINE = {
    "sum": "add", "prod": "mul", "max": "maximum", "min": "minimum", "any": "or", "all": "and",
    "xor_sum": "xor",
}  # fmt: skip
Element = Callable[[At, int], Any]
# Independent chains of a reduction: more than one operation's latency hides.
CHAINS = 4


@emits("reduce")
def _reduce(code: Code, op: Op) -> None:
    kind, source = op.attrs["kind"], op.args[0]
    if kind.startswith("arg"):
        buffer = code.buffer(source)
        _store_result(code, op, lambda at, lanes: _position(code, op, buffer, at, lanes))
        return
    kept = on_the_way(code, source)
    if kept is None:
        _store_result(code, op, _folding(code, op))
    else:
        code.settle_with(kept, lambda buffer: _store_result(code, op, _folding(code, op, (kept, buffer))))


def on_the_way(code: Code, value: Value) -> Value | None:
    """The pending value that loops over ``value`` compute as they go: itself, or the only one behind it."""
    if value in code.pending:
        return value
    found = [s for s in code.sources(value) if s in code.pending]
    return found[0] if len(found) == 1 and _in_step(code, value, found[0]) else None


def _in_step(code: Code, value: Value, source: Value) -> bool:
    """Whether element i of a value needs element i of a source only."""
    what = code.env.get(value)
    if value is source or not isinstance(what, Lazy) or source not in code.sources(value):
        return True
    return POINTWISE[what.op.name].identity and all(_in_step(code, a, source) for a in what.op.args)


def _store_result(code: Code, op: Op, element: Element) -> None:
    type_ = tile_type(op.result)
    if type_.shape == ():
        (code.env[op.result],) = code.versions(op.args, lambda _: (element((), 1),))
        return
    buffer = code.memory.allocate(type_)

    def one(at: At, lanes: int) -> None:
        code.write(buffer, type_, at, Lanes(code.b, lanes, code.target), element(at, lanes))

    masks, clear = opened(code, op.args)

    def run(inside: bool) -> tuple[()]:
        before, code.opened = code.opened, masks if inside else frozenset()
        loop()
        code.opened = before
        return ()

    def loop() -> None:
        if any(n > 1 for n in tile_type(op.args[0]).shape[op.attrs["axis"] + 1 :]):
            code.over(type_.shape, one)
        else:
            loops.nest(code.b, [(0, n) for n in type_.shape], lambda at: one(tuple(map(Coord, at)), 1))

    code.versions(op.args, run, clear)
    code.bind(op.result, buffer)


def _folding(code: Code, op: Op, keep: tuple[Value, Buffer] | None = None) -> Element:
    """Reduce at a place of the result, in the accumulation dtype, then round.

    ``keep``: a value that is computed on the way, and the buffer that gets it.
    """
    source, dtype = op.args[0], tile_type(op.result).dtype
    wide = float32 if is_small(dtype) else dtype
    name = _COMBINE[op.attrs["kind"]]

    def element(place: At, n: int) -> Any:
        e, found = Lanes(code.b, n, code.target), code.element(source, place, n)
        if keep is not None:
            kept, buffer = keep
            same = found if kept is source else code.element(kept, place, n)
            code.write(buffer, tile_type(kept), place, e, same)
        return widen(e, found, dtype)

    def fold(at: At, lanes: int) -> Any:
        found = along(code, source, op.attrs["axis"], at, lanes, (name, wide), element)
        return narrow(Lanes(code.b, lanes, code.target), found, dtype)

    return fold


def along(
    code: Code, source: Value, axis: int, at: At, lanes: int, fold: tuple[str, DType], element: Element
) -> Any:
    """Fold ``element`` over an axis with an elementwise op; lanes lie in other axes, or along it."""
    extent = tile_type(source).shape[axis]
    name, wide = fold

    def combine(e: Lanes, a: Any, b: Any) -> Any:
        return apply(e, name, wide, wide, a, b)

    def run(n: int, start: int, stop: int) -> Any:
        e = Lanes(code.b, max(n, lanes), code.target)

        def step(i: Any, carried: list[Any]) -> list[Any]:
            places = [
                (*at[:axis], Coord(loops.add(code.b, i, k * n), n > 1), *at[axis:])
                for k in range(len(carried))
            ]
            return [combine(e, c, element(p, e.lanes)) for c, p in zip(carried, places, strict=True)]

        first = e.splat_constant(_identity(name, wide))
        chains = CHAINS if stop - start >= 2 * CHAINS * n else 1
        middle = start + (stop - start) // (chains * n) * chains * n
        sums = loops.loop(code.b, start, middle, chains * n, [first] * chains, step)
        while len(sums) > 1:
            sums = [combine(e, *pair) for pair in zip(sums[::2], sums[1::2], strict=True)]
        return loops.loop(code.b, middle, stop, n, sums, step)[0] if middle < stop else sums[0]

    if lanes > 1:
        return run(1, 0, extent)
    total = None
    for n, start, stop in loops.segments(extent, code.target.lanes(4)):
        part = Lanes(code.b, n, code.target).halves(run(n, start, stop), combine)
        total = part if total is None else combine(Lanes(code.b, 1, code.target), total, part)
    return total


def _identity(name: str, dtype: DType) -> Any:
    if name in ("maximum", "minimum"):
        if dtype.is_float:
            return element_constant(dtype, float("-inf" if name == "maximum" else "inf"))
        low = -(2 ** (dtype.bits - 1)) if dtype.kind == "int" else 0
        return element_constant(dtype, low if name == "maximum" else low + 2**dtype.bits - 1)
    if name == "add" and dtype.is_float:
        return element_constant(dtype, -0.0)
    return element_constant(dtype, {"mul": 1, "and": 1}.get(name, 0))


def _position(code: Code, op: Op, buffer: Any, at: At, lanes: int) -> Any:
    """The first index of the extremum: find it, then the smallest index that has it."""
    source, axis = op.args[0], op.attrs["axis"]
    type_ = tile_type(source)
    wide = float32 if is_small(type_.dtype) else type_.dtype
    name = "maximum" if op.attrs["kind"] == "argmax" else "minimum"

    def value(place: At, n: int) -> Any:
        e = Lanes(code.b, n, code.target)
        return widen(e, code.read(buffer, type_, place, e) if n == 1 or any(c.lane for c in place)
                     else e.splat(code.read(buffer, type_, place, Lanes(code.b, 1, code.target))),
                     type_.dtype)  # fmt: skip

    best = along(code, source, axis, at, lanes, (name, wide), value)

    def index(place: At, n: int) -> Any:
        e, found = Lanes(code.b, n, code.target), value(place, n)
        target = best if lanes > 1 else e.splat(best)
        same = apply(e, "eq", wide, bool_, found, target)
        if wide.is_float:
            nan = [e.b.fcmp_unordered("uno", x, x) for x in (found, target)]
            same = e.b.or_(same, e.b.and_(*nan))
        coord = place[axis]
        where = e.splat(code.b.trunc(loops.i64(coord.base), I32))
        where = e.b.add(where, e.iota(I32)) if coord.lane else where
        return e.b.select(same, where, e.const(register(int32), 2**31 - 1))

    return along(code, source, axis, at, lanes, ("minimum", int32), index)
