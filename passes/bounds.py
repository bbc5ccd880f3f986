"""join_bounds: two bounds on one tile of integers become one, before the comparison.

A causal mask asks `columns < keys` and `columns <= rows`. The bounds are small tiles, the
masks are as large as the scores: min(keys - 1, rows) is one comparison an element, not two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tilec.ir.core import Kernel, Op, Value
from tilec.ir.types import TileType
from tilec.passes.rewrite import Emit, rewritten

Defs = Mapping[Value, Op]
_JOINED = {"lt": "minimum", "le": "minimum", "gt": "maximum", "ge": "maximum"}
_NEVER_NEGATIVE = ("dim", "program_id", "num_programs")


@dataclass(frozen=True)
class _Bound:
    """``tile`` (integers, broadcast) is compared with ``limit`` (broadcast)."""

    kind: str
    tile: Value
    limit: Value


def join_bounds(kernel: Kernel) -> Kernel:
    """The kernel with `and` of two upper, or two lower, bounds as one comparison. Any form."""
    return rewritten(kernel, _join)


def _join(op: Op, defs: Defs, emit: Emit) -> None:
    if op.name != "and":
        return
    first, second = (_bound(a, defs) for a in op.args)
    if first is None or second is None or not _one_way(first, second):
        return
    like = _like(first, second, defs, emit)
    if like is not None:
        kind, *limits = like
        small = np.broadcast_shapes(*map(_shape, limits))
        limit = emit(_JOINED[kind], *(emit.spread(v, small) for v in limits))
        emit(kind, *(emit.spread(v, _shape(op.result)) for v in (first.tile, limit)))


def _like(a: _Bound, b: _Bound, defs: Defs, emit: Emit) -> tuple[str, Value, Value] | None:
    """(comparison, limit, limit): x < n is x <= n - 1 where n cannot be the least number."""
    if a.kind == b.kind:
        return a.kind, a.limit, b.limit
    strict, other = (a, b) if a.kind in ("lt", "gt") else (b, a)
    source = defs.get(strict.limit)
    if strict.kind != "lt" or source is None or source.name not in _NEVER_NEGATIVE:
        return None
    one = emit("const", dtype=_tile(strict.limit).dtype, shape=_shape(strict.limit), value=1)
    return "le", emit("sub", strict.limit, one), other.limit


def _bound(value: Value, defs: Defs) -> _Bound | None:
    op = defs.get(_source(value, defs))
    if op is None or op.name not in _JOINED or not _tile(op.args[0]).dtype.is_int:
        return None
    return _Bound(op.name, _source(op.args[0], defs), _source(op.args[1], defs))


def _source(value: Value, defs: Defs) -> Value:
    """What a value is a broadcast of, of the same rank or a scalar."""
    op = defs.get(value)
    while op is not None and op.name == "broadcast":
        value = op.args[0]
        op = defs.get(value)
    return value


def _one_way(a: _Bound, b: _Bound) -> bool:
    """Whether both bound one tile from one side, and one limit has the shape of both."""
    together = np.broadcast_shapes(_shape(a.limit), _shape(b.limit))
    one = a.tile is b.tile and _JOINED[a.kind] == _JOINED[b.kind]
    return one and together in (_shape(a.limit), _shape(b.limit))


def _shape(value: Value) -> tuple[int, ...]:
    return _tile(value).shape


def _tile(value: Value) -> TileType:
    assert isinstance(value.type, TileType)
    return value.type
