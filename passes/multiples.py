"""What is known of integers: multiples of powers of two, and tiles that count up along an axis."""

from __future__ import annotations

from collections.abc import Mapping

from tilec.ir.core import Op, Value
from tilec.ir.ops import opdef
from tilec.ir.types import TensorType, TileType
from tilec.passes.async_rules import SPAN, is_plus_zero
from tilec.passes.layout_rules import VECTOR_BYTES
from tilec.passes.rewrite import constant_of

Defs = Mapping[Value, Op]


def is_multiple(value: Value, of: int, defs: Defs) -> bool:
    """Whether an integer is known to be a multiple of a power of two."""
    op = defs.get(value)
    if op is None or of == 1:
        return of == 1
    if op.name == "const":
        return int(op.attrs["value"]) % of == 0
    if op.name == "mul":
        return any(is_multiple(a, of, defs) for a in op.args)
    if op.name in ("add", "sub"):
        return all(is_multiple(a, of, defs) for a in op.args)
    if op.name in ("minimum", "maximum"):
        return all(is_multiple(a, of, defs) for a in op.args)
    if op.name in ("broadcast", "reshape", "cast"):
        source = op.args[0].type
        return isinstance(source, TileType) and source.dtype.is_int and is_multiple(op.args[0], of, defs)
    return op.name == "where" and all(is_multiple(a, of, defs) for a in op.args[1:])


def row_axis(gather: Op, defs: Defs) -> int | None:
    """The axis of the tile along which a gather reads whole aligned units of 16 bytes; None if there is none.

    There the index into the contiguous dimension counts up from a multiple of a unit, and nothing
    else changes; what is masked or outside is zero.
    """
    t, tile = gather.args[0].type, gather.result.type
    assert isinstance(t, TensorType) and isinstance(tile, TileType)
    *indices, mask, other = gather.args[1:]
    zero = constant_of(_origin(other, defs), defs)
    if t.contiguous is None or not t.aligned or zero is None or not is_plus_zero(zero):
        return None
    steady = [mask, *(index for axis, index in enumerate(indices) if axis != t.contiguous)]
    for axis, extent in reversed(list(enumerate(tile.shape))):
        whole = extent * tile.dtype.bytes % SPAN == 0
        counts = _counts(indices[t.contiguous], axis, VECTOR_BYTES // tile.dtype.bytes, defs)
        if whole and counts and not any(_varies(v, axis, defs) for v in steady):
            return axis
    return None


def _origin(value: Value, defs: Defs) -> Value:
    """What a value is a reshape and broadcast of."""
    op = defs.get(value)
    while op is not None and op.name in ("broadcast", "reshape"):
        value = op.args[0]
        op = defs.get(value)
    return value


def _behind(op: Op, axis: int) -> int | None:
    """The axis of a shape op's operand that becomes ``axis``; None if it has none, or more than one."""
    source, target = (v.type for v in (op.args[0], op.result))
    assert isinstance(source, TileType) and isinstance(target, TileType)
    if op.name == "broadcast":
        return axis if len(source.shape) == len(target.shape) else None
    wide = [[d for d, n in enumerate(t.shape) if n != 1] for t in (source, target)]
    same = [source.shape[d] for d in wide[0]] == [target.shape[d] for d in wide[1]]
    return wide[0][wide[1].index(axis)] if same and axis in wide[1] else None


def _varies(value: Value, axis: int, defs: Defs) -> bool:
    """Whether a tile may have different elements along an axis."""
    t, op = value.type, defs.get(value)
    assert isinstance(t, TileType)
    if not t.shape or t.shape[axis] == 1 or (op is not None and op.name == "const"):
        return False
    if op is None:
        return True
    if op.name in ("broadcast", "reshape"):
        inner, source = _behind(op, axis), op.args[0].type
        assert isinstance(source, TileType)
        return _varies(op.args[0], inner, defs) if inner is not None else bool(source.shape)
    family = opdef(op.name).family
    return not family.startswith(("elementwise", "compare", "cast")) or any(
        _varies(a, axis, defs) for a in op.args
    )


def _counts(value: Value, axis: int, unit: int, defs: Defs) -> bool:
    """Whether a tile of integers counts up by one along an axis, from a multiple of ``unit``."""
    op, t = defs.get(value), value.type
    assert isinstance(t, TileType)
    if op is None or not t.dtype.is_int:
        return False
    if op.name == "arange":
        return bool(op.attrs["start"] % unit == 0)
    if op.name == "add":
        a, b = op.args
        return any(
            _counts(x, axis, unit, defs) and not _varies(y, axis, defs) and is_multiple(y, unit, defs)
            for x, y in ((a, b), (b, a))
        )
    if op.name == "cast":
        return _counts(op.args[0], axis, unit, defs)
    if op.name in ("broadcast", "reshape"):
        inner, source = _behind(op, axis), op.args[0].type
        assert isinstance(source, TileType)
        return inner is not None and source.shape[inner] > 1 and _counts(op.args[0], inner, unit, defs)
    return False
