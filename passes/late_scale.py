"""late_scale: a tile that is multiplied by a constant is multiplied where it is used.

Softmax scales its scores, takes their largest, subtracts it. A positive factor commutes with
choices and with the largest of a row, and the product that is left goes into the subtraction:
one `fma` a score instead of a product and a difference. For targets with wgmma;
docs/language.md says which rounding is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, isfinite

from tilec.ir.core import Kernel, Op, Value, uses
from tilec.ir.types import TileType, float32
from tilec.passes.canonicalize import canonicalize
from tilec.passes.rewrite import Emit, constant_of, rewritten

Defs = Mapping[Value, Op]


def late_scale(kernel: Kernel) -> Kernel:
    """The kernel with products by constants moved into what reads them.

    All but the last rule keep every bit: rounding and a positive factor keep the order of numbers.
    - where(m, x * c, k) is where(m, x, k) * c for c > 0 and k of 0, inf or -inf;
    - max and min of x * c are c times those of x, for c > 0;
    - x * c - y, y - x * c and x * c + y round once, as `fma`, where y is constant or a broadcast
      and nothing else reads the product.
    """
    return _fused(_moved(kernel))


def _moved(kernel: Kernel) -> Kernel:
    readers = uses(kernel.body)

    def rule(op: Op, defs: Defs, emit: Emit) -> None:
        if op.name == "where":
            _choice(op, defs, emit, readers)
        elif op.name == "reduce" and op.attrs["kind"] in ("max", "min"):
            _extreme(op, defs, emit)

    return canonicalize(rewritten(kernel, rule))


def _fused(kernel: Kernel) -> Kernel:
    readers = uses(kernel.body)

    def rule(op: Op, defs: Defs, emit: Emit) -> None:
        if op.name in ("add", "sub"):
            _sum(op, defs, emit, readers)

    return canonicalize(rewritten(kernel, rule))


Readers = Mapping[Value, list[Op]]


def _choice(op: Op, defs: Defs, emit: Emit, readers: Readers) -> None:
    cond, product, other = op.args
    found, limit = _scaled(product, defs), constant_of(other, defs)
    if found and found[1] > 0 and limit in (0.0, inf, -inf) and len(readers[product]) == 1:
        x, c = found
        emit("mul", emit("where", cond, x, other), _filled(emit, c, op.result))


def _extreme(op: Op, defs: Defs, emit: Emit) -> None:
    found = _scaled(op.args[0], defs)
    if found and found[1] > 0:
        most = emit("reduce", found[0], **op.attrs)
        emit("mul", most, _filled(emit, found[1], op.result))


def _sum(op: Op, defs: Defs, emit: Emit, readers: Readers) -> None:
    """The left operand's product if both are products."""
    for product, other in (op.args, op.args[::-1]):
        found = _scaled(product, defs)
        if found is None or len(readers[product]) != 1 or not _is_small(other, defs):
            continue
        x, c = found
        if op.name == "sub":
            c, other = (c, _negated(other, defs, emit)) if product is op.args[0] else (-c, other)
        emit("fma", x, _filled(emit, c, op.result), other)
        return


def _scaled(value: Value, defs: Defs) -> tuple[Value, float] | None:
    """(x, c) of a float32 tile x * c whose finite constant c is not 0."""
    op = defs.get(value)
    if op is None or op.name != "mul" or not _is_float32(value):
        return None
    for x, factor in (op.args, op.args[::-1]):
        c = constant_of(factor, defs)
        if c is not None and c != 0 and isfinite(c):
            return x, c
    return None


def _is_float32(value: Value) -> bool:
    return isinstance(value.type, TileType) and value.type.dtype == float32 and bool(value.type.shape)


def _is_small(value: Value, defs: Defs) -> bool:
    """Whether a tile costs little to negate: a constant, or a broadcast of a smaller tile."""
    op = defs.get(value)
    return op is not None and op.name in ("const", "broadcast")


def _negated(value: Value, defs: Defs, emit: Emit) -> Value:
    op = defs[value]
    if op.name == "const":
        return _filled(emit, -op.attrs["value"], value)
    return emit("broadcast", emit("neg", op.args[0]), **op.attrs)


def _filled(emit: Emit, number: float, like: Value) -> Value:
    assert isinstance(like.type, TileType)
    return emit("const", dtype=like.type.dtype, shape=like.type.shape, value=number)
