"""Rules that replace an op by something simpler with the same value, bit for bit.

A rule takes an op and the table of definitions and gives a value that replaces
the op's only result, an op that replaces the op, or None. No rule changes a NaN,
an infinity or the sign of a zero. To add one: write it, and list it in RULES.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tilec.ir.core import Op, Value
from tilec.ir.ops import make, opdef
from tilec.ir.types import DType, TileType
from tilec.passes.rewrite import constant_like, constant_of

Defs = Mapping[Value, Op]
Rule = Callable[[Op, Defs], "Op | Value | None"]

_FOLDABLE = ("elementwise1", "elementwise2", "elementwise3", "compare", "cast")


def _tile(value: Value) -> TileType:
    assert isinstance(value.type, TileType)
    return value.type


def fold_constants(op: Op, defs: Defs) -> Op | None:
    """An elementwise op on constants is a constant: the table's numpy meaning says which."""
    numbers = [constant_of(a, defs) for a in op.args]
    if not numbers or any(n is None for n in numbers) or op.name == "bitcast":
        return None  # a bitcast may make a NaN whose bits a number cannot hold
    values = [np.full((), n).astype(_tile(a).dtype.np) for n, a in zip(numbers, op.args, strict=True)]
    with np.errstate(all="ignore"):
        return constant_like(op, _number(np.asarray(opdef(op.name).meaning(None, op, *values))))


def _number(value: np.ndarray[Any, Any]) -> Any:
    if value.dtype.kind in "iub":
        return value.item()
    return float(value.astype(np.float64))


def spread_constant(op: Op, defs: Defs) -> Op | None:
    """A reshaped, permuted or broadcast constant is a constant of the new shape."""
    number = constant_of(op.args[0], defs)
    return None if number is None else constant_like(op, number)


def neutral_right(number: int) -> Rule:
    """x op number is x (integers; for floats only where listed under FLOAT)."""

    def rule(op: Op, defs: Defs) -> Value | None:
        exact = _tile(op.result).dtype.is_int or (op.name in ("mul", "div") and number == 1)
        return op.args[0] if exact and _equals(op.args[1], number, defs) else None

    return rule


def neutral_left(number: int) -> Rule:
    """number op x is x, for commutative ops."""

    def rule(op: Op, defs: Defs) -> Value | None:
        exact = _tile(op.result).dtype.is_int or (op.name == "mul" and number == 1)
        return op.args[1] if exact and _equals(op.args[0], number, defs) else None

    return rule


def _equals(value: Value, number: int, defs: Defs) -> bool:
    found = constant_of(value, defs)
    return found is not None and bool(found == number)


def absorbing_zero(op: Op, defs: Defs) -> Op | None:
    """x * 0 and x & 0 are 0 for integers."""
    if not _is_int(op) or not any(_equals(a, 0, defs) for a in op.args):
        return None
    return constant_like(op, 0)


def remainder_of_one(op: Op, defs: Defs) -> Op | None:
    """x % 1 is 0 for integers."""
    return constant_like(op, 0) if _is_int(op) and _equals(op.args[1], 1, defs) else None


def difference_of_itself(op: Op, defs: Defs) -> Op | None:
    """x - x and x ^ x are 0 for integers."""
    return constant_like(op, 0) if _is_int(op) and op.args[0] is op.args[1] else None


def _is_int(op: Op) -> bool:
    return _tile(op.result).dtype.is_int


def idempotent(op: Op, defs: Defs) -> Value | None:
    """min, max, and, or of a value with itself."""
    return op.args[0] if op.args[0] is op.args[1] else None


def involution(op: Op, defs: Defs) -> Value | None:
    """neg(neg(x)) and not(not(x)) are x."""
    inner = defs.get(op.args[0])
    return inner.args[0] if inner is not None and inner.name == op.name else None


def chosen(op: Op, defs: Defs) -> Value | None:
    """`where` with a constant condition, or with equal arms."""
    cond, a, b = op.args
    known = constant_of(cond, defs)
    if known is not None:
        return a if known else b
    return a if a is b else None


def round_trip_cast(op: Op, defs: Defs) -> Value | None:
    """A cast to a wider type of the same kind and back."""
    inner = defs.get(op.args[0])
    if inner is None or inner.name != "cast" or op.attrs.get("saturate"):
        return None
    source, middle = _tile(inner.args[0]).dtype, _tile(op.args[0]).dtype
    return inner.args[0] if op.attrs["dtype"] == source and _holds(middle, source) else None


def _holds(wide: DType, narrow: DType) -> bool:
    """Every value of ``narrow`` is one of ``wide``."""
    if wide.kind != narrow.kind:
        return False
    if wide.is_float:
        return wide.exponent >= narrow.exponent and wide.mantissa >= narrow.mantissa
    return wide.bits >= narrow.bits


def no_change(op: Op, defs: Defs) -> Value | None:
    """A cast, reshape, broadcast or permute that changes nothing."""
    same = op.args[0].type == op.result.type
    moves = op.name == "permute" and tuple(op.attrs["perm"]) != tuple(range(len(op.attrs["perm"])))
    return op.args[0] if same and not moves else None


def outer_shape(op: Op, defs: Defs) -> Op | None:
    """A reshape of a reshape, or a broadcast of a broadcast: the outer one is enough."""
    inner = defs.get(op.args[0])
    if inner is None or inner.name != op.name:
        return None
    source = _tile(inner.args[0]).shape
    if op.name == "broadcast" and source and len(source) != len(op.attrs["shape"]):
        return None
    return _again(op, inner, shape=op.attrs["shape"])


def composed_permute(op: Op, defs: Defs) -> Op | None:
    """Two permutes are one."""
    inner = defs.get(op.args[0])
    if inner is None or inner.name != "permute":
        return None
    return _again(op, inner, perm=tuple(inner.attrs["perm"][p] for p in op.attrs["perm"]))


def _again(op: Op, inner: Op, **attrs: Any) -> Op:
    return make(op.name, inner.args, loc=op.loc, hints=(op.result.hint,), **attrs)


RULES: Mapping[str, tuple[Rule, ...]] = {
    "add": (neutral_right(0), neutral_left(0)),
    "sub": (neutral_right(0), difference_of_itself),
    "mul": (neutral_right(1), neutral_left(1), absorbing_zero),
    "div": (neutral_right(1),),
    "floordiv": (neutral_right(1),),
    "mod": (remainder_of_one,),
    "and": (absorbing_zero, idempotent),
    "or": (neutral_right(0), neutral_left(0), idempotent),
    "xor": (neutral_right(0), neutral_left(0), difference_of_itself),
    "shl": (neutral_right(0),),
    "shr": (neutral_right(0),),
    "minimum": (idempotent,),
    "maximum": (idempotent,),
    "neg": (involution,),
    "not": (involution,),
    "where": (chosen,),
    "cast": (no_change, round_trip_cast),
    "reshape": (no_change, spread_constant, outer_shape),
    "broadcast": (no_change, spread_constant, outer_shape),
    "permute": (no_change, spread_constant, composed_permute),
}


def simplify(op: Op, defs: Defs) -> Op | Value | None:
    """The first rule's answer whose type is the old one."""
    rules = RULES.get(op.name, ())
    if opdef(op.name).family in _FOLDABLE:
        rules = (fold_constants, *rules)
    for rule in rules:
        found = rule(op, defs)
        if found is not None and _type_of(found) == op.result.type:
            return found
    return None


def _type_of(found: Op | Value) -> object:
    return found.result.type if isinstance(found, Op) else found.type
