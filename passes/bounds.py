"""join_bounds: two bounds on one tile of integers become one, before the comparison.

A causal mask asks `columns < keys` and `columns <= rows`. The bounds are small tiles, the
masks are as large as the scores: min(keys - 1, rows) is one comparison an element, not two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilec.ir.core import Block, Kernel, Op, Value
from tilec.ir.ops import make
from tilec.ir.types import TileType

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
    return kernel.with_(body=_Joiner().block(kernel.body))


class _Joiner:
    """One walk over a kernel; ``defs`` are the ops that have been passed."""

    def __init__(self) -> None:
        self.defs: dict[Value, Op] = {}

    def block(self, block: Block) -> Block:
        ops: list[Op] = []
        for op in block.ops:
            op = op.with_(blocks=tuple(self.block(b) for b in op.blocks)) if op.blocks else op
            found = self._joined(op) if op.name == "and" else []
            ops += found or [op]
            for made in found or [op]:
                self.defs.update(dict.fromkeys(made.results, made))
        return Block(block.params, tuple(ops))

    def _joined(self, op: Op) -> list[Op]:
        """The ops that stand for an `and`, the last with its results; [] if it is not of two bounds."""
        first, second = (self._bound(a) for a in op.args)
        if first is None or second is None or not _one_way(first, second):
            return []
        ops: list[Op] = []

        def emit(name: str, *args: Value, **attrs: Any) -> Value:
            ops.append(make(name, args, loc=op.loc, **attrs))
            return ops[-1].result

        def spread(value: Value, shape: tuple[int, ...]) -> Value:
            return value if _shape(value) == shape else emit("broadcast", value, shape=shape)

        like = self._like(first, second, emit)
        if like is None:
            return []
        kind, *limits = like
        small = np.broadcast_shapes(*map(_shape, limits))
        limit = emit(_JOINED[kind], *(spread(v, small) for v in limits))
        sides = [spread(v, _shape(op.result)) for v in (first.tile, limit)]
        return [*ops, make(kind, sides, loc=op.loc).with_(results=op.results)]

    def _like(self, a: _Bound, b: _Bound, emit: Callable[..., Value]) -> tuple[str, Value, Value] | None:
        """(comparison, limit, limit): x < n is x <= n - 1 where n cannot be the least number."""
        if a.kind == b.kind:
            return a.kind, a.limit, b.limit
        strict, other = (a, b) if a.kind in ("lt", "gt") else (b, a)
        source = self.defs.get(strict.limit)
        if strict.kind != "lt" or source is None or source.name not in _NEVER_NEGATIVE:
            return None
        one = emit("const", dtype=_tile(strict.limit).dtype, shape=_shape(strict.limit), value=1)
        return "le", emit("sub", strict.limit, one), other.limit

    def _bound(self, value: Value) -> _Bound | None:
        op = self.defs.get(self._source(value))
        if op is None or op.name not in _JOINED or not _tile(op.args[0]).dtype.is_int:
            return None
        return _Bound(op.name, self._source(op.args[0]), self._source(op.args[1]))

    def _source(self, value: Value) -> Value:
        """What a value is a broadcast of, of the same rank or a scalar."""
        op = self.defs.get(value)
        while op is not None and op.name == "broadcast":
            value = op.args[0]
            op = self.defs.get(value)
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
