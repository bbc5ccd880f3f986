"""Emit rules of ops whose elements are computed on demand: elementwise, shape, create."""

from __future__ import annotations

from typing import Any

from tilec.backends.cpu import loops
from tilec.backends.cpu.arith import ELEMENTWISE, apply
from tilec.backends.cpu.floats import convert, saturated
from tilec.backends.cpu.lanes import I32, Lanes, element_constant, register
from tilec.backends.cpu.shapes import tile_type
from tilec.backends.cpu.tiles import POINTWISE, Code, Pointwise
from tilec.backends.cpu.views import At, Coord
from tilec.ir.core import Op

_EXPENSIVE = {
    "div": 4, "sqrt": 4, "rsqrt": 6, "floordiv": 10, "mod": 10, "pow": 40, "exp": 15, "exp2": 12,
    "log": 20, "log2": 20, "sin": 30, "cos": 30, "tanh": 30, "sigmoid": 20, "erf": 30,
}  # fmt: skip


def _elementwise(code: Code, op: Op, at: At, e: Lanes) -> Any:
    values = [code.element(a, at, e.lanes) for a in op.args]
    return apply(e, op.name, tile_type(op.args[-1]).dtype, tile_type(op.result).dtype, *values)


def _where(code: Code, op: Op, at: At, e: Lanes) -> Any:
    if op.args[0] in code.opened:
        return code.element(op.args[1], at, e.lanes)
    return e.b.select(*(code.element(a, at, e.lanes) for a in op.args))


def _cast(code: Code, op: Op, at: At, e: Lanes) -> Any:
    value = code.element(op.args[0], at, e.lanes)
    made = saturated if op.attrs.get("saturate") else convert
    return made(e, value, tile_type(op.args[0]).dtype, tile_type(op.result).dtype)


def _bitcast(code: Code, op: Op, at: At, e: Lanes) -> Any:
    value = code.element(op.args[0], at, e.lanes)
    target = e.vec(register(tile_type(op.result).dtype))
    return value if value.type == target else e.b.bitcast(value, target)


def _const(code: Code, op: Op, at: At, e: Lanes) -> Any:
    return e.splat_constant(element_constant(op.attrs["dtype"], op.attrs["value"]))


def _arange(code: Code, op: Op, at: At, e: Lanes) -> Any:
    (coord,) = at
    first = e.b.add(e.b.trunc(loops.i64(coord.base), I32), I32(op.attrs["start"]))
    return e.b.add(e.splat(first), e.iota(I32)) if coord.lane else e.splat(first)


def _broadcast(code: Code, op: Op, at: At, e: Lanes) -> Any:
    shape = tile_type(op.args[0]).shape
    inner = tuple(Coord(0) if n == 1 else c for n, c in zip(shape, at, strict=False))
    return code.element(op.args[0], inner, e.lanes)


def _permute(code: Code, op: Op, at: At, e: Lanes) -> Any:
    inner = dict(zip(op.attrs["perm"], at, strict=True))
    return code.element(op.args[0], tuple(inner[d] for d in range(len(at))), e.lanes)


def _reshape(code: Code, op: Op, at: At, e: Lanes) -> Any:
    """Only extents of 1 come or go; other reshapes share a buffer."""
    long = iter([c for c, n in zip(at, tile_type(op.result).shape, strict=True) if n != 1])
    inner = tuple(Coord(0) if n == 1 else next(long) for n in tile_type(op.args[0]).shape)
    return code.element(op.args[0], inner, e.lanes)


for _name in ELEMENTWISE:
    POINTWISE[_name] = Pointwise(_elementwise, _EXPENSIVE.get(_name, 1), True)
POINTWISE["where"] = Pointwise(_where, 1, True)
POINTWISE["cast"] = Pointwise(_cast, 2, True)
POINTWISE["bitcast"] = Pointwise(_bitcast, 0, True)
POINTWISE["const"] = Pointwise(_const, 0, False)
POINTWISE["arange"] = Pointwise(_arange, 0, False)
POINTWISE["broadcast"] = Pointwise(_broadcast, 0, False)
POINTWISE["permute"] = Pointwise(_permute, 8, False)
POINTWISE["reshape"] = Pointwise(_reshape, 0, False)
