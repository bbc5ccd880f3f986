"""Small facts about the shapes of tiles."""

from __future__ import annotations

from tilec.ir.core import Op, Value
from tilec.ir.types import TileType


def tile_type(value: Value) -> TileType:
    """The type of a tile value."""
    assert isinstance(value.type, TileType)
    return value.type


def is_cosmetic(op: Op) -> bool:
    """Whether a reshape only adds or drops extents of 1."""
    before, after = (tuple(n for n in tile_type(v).shape if n != 1) for v in (op.args[0], op.result))
    return before == after


def pitches(shape: tuple[int, ...]) -> list[int]:
    """Row-major strides in elements."""
    out, pitch = [], 1
    for n in reversed(shape):
        out.append(pitch)
        pitch *= n
    return out[::-1]
