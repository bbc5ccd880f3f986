"""Masks that hide nothing of a tile, known before its loops: `where(mask, x, y)` is x there.

Attention hides keys beyond the end, or beyond the diagonal; most tiles lie before both. The bounds of
indices tell, as scalars: comparisons of sums, differences and extremes of ranges and numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tilec.backends.cpu.lanes import I1, I64
from tilec.backends.cpu.shapes import tile_type
from tilec.backends.cpu.tiles import Code, Lazy
from tilec.backends.cpu.views import larger, smaller
from tilec.ir.core import Op, Value
from tilec.ir.types import bool_, int32
from tilec.passes.layout_rules import SHAPES

_LEAST, _MOST = I64(-(2**31)), I64(2**31 - 1)
# Comparisons as (operand that must be smaller, the other one, LLVM's sign).
_COMPARE = {"lt": (0, 1, "<"), "le": (0, 1, "<="), "gt": (1, 0, "<"), "ge": (1, 0, "<=")}


@dataclass(frozen=True)
class Interval:
    """All elements of an index tile are in [low, high], if ``sure``: then no sum wrapped."""

    low: Any
    high: Any
    sure: Any


def opened(code: Code, values: Sequence[Value]) -> tuple[frozenset[Value], Any]:
    """Masks behind some values, and the condition that all are true everywhere; or none, and None."""
    found: dict[Value, Any] = {}
    for source in (s for v in values for s in code.sources(v)):
        lazy = code.env.get(source)
        if isinstance(lazy, Lazy) and lazy.op.name == "where":
            condition = _true(code, lazy.op.args[0])
            if condition is not None:
                found[lazy.op.args[0]] = condition
    together: Any = None
    for condition in found.values():
        together = condition if together is None else code.b.and_(together, condition)
    return frozenset(found), together


def _true(code: Code, mask: Value) -> Any:
    """The condition that a mask is true everywhere; None where bounds do not tell."""
    op = code.definitions.get(mask)
    if op is None:
        return None
    if op.name in SHAPES:
        return _true(code, op.args[0])
    if op.name == "and" and tile_type(mask).dtype == bool_:
        both = [_true(code, a) for a in op.args]
        return None if None in both else code.b.and_(*both)
    if op.name not in _COMPARE:
        return None
    first, second, sign = _COMPARE[op.name]
    x, y = (interval(code, op.args[i]) for i in (first, second))
    if x is None or y is None:
        return None
    return code.b.and_(code.b.and_(x.sure, y.sure), code.b.icmp_signed(sign, x.high, y.low))


def interval(code: Code, value: Value) -> Interval | None:
    """Bounds of an int32 tile in 64 bits; None where they are not known."""
    type_, op = tile_type(value), code.definitions.get(value)
    if type_.dtype != int32:
        return None
    if type_.shape == ():
        number = code.b.sext(code.scalar(value), I64)
        return Interval(number, number, I1(1))
    return _RULES[op.name](code, op) if op is not None and op.name in _RULES else None


def _constant(code: Code, op: Op) -> Interval:
    return Interval(I64(op.attrs["value"]), I64(op.attrs["value"]), I1(1))


def _range(code: Code, op: Op) -> Interval:
    return Interval(I64(op.attrs["start"]), I64(op.attrs["stop"] - 1), I1(1))


def _view(code: Code, op: Op) -> Interval | None:
    return interval(code, op.args[0])


def _pair(combine: Callable[[Any, Interval, Interval], tuple[Any, Any]]) -> Rule:
    """A rule of two operands; the result must fit 32 bits, else the elements wrapped."""

    def rule(code: Code, op: Op) -> Interval | None:
        b, (x, y) = code.b, (interval(code, a) for a in op.args)
        if x is None or y is None:
            return None
        low, high = combine(b, x, y)
        fits = b.and_(b.icmp_signed(">=", low, _LEAST), b.icmp_signed("<=", high, _MOST))
        return Interval(low, high, b.and_(b.and_(x.sure, y.sure), fits))

    return rule


Rule = Callable[[Code, Op], Interval | None]
_RULES: dict[str, Rule] = {
    "const": _constant,
    "arange": _range,
    **dict.fromkeys(sorted(SHAPES), _view),
    "add": _pair(lambda b, x, y: (b.add(x.low, y.low), b.add(x.high, y.high))),
    "sub": _pair(lambda b, x, y: (b.sub(x.low, y.high), b.sub(x.high, y.low))),
    "minimum": _pair(lambda b, x, y: (smaller(b, x.low, y.low), smaller(b, x.high, y.high))),
    "maximum": _pair(lambda b, x, y: (larger(b, x.low, y.low), larger(b, x.high, y.high))),
}
