"""Divisions of which the last bit is rounded away."""

from __future__ import annotations

from collections.abc import Mapping

from tilec.ir.core import Block, Op, Value, walk
from tilec.ir.types import DType, TileType, float32
from tilec.passes.layout_rules import SHAPES

MOVES = SHAPES | {"convert_layout"}


def rough_quotients(body: Block) -> set[Op]:
    """Divisions of float32 whose quotients are only converted to floats of 16 bits or fewer.

    Of these 2 ulp are enough, as `div.full` has them (NVIDIA PTX ISA, "div"): after the conversion an
    error of half a unit is at most 2**-11 of a unit larger. Exact division takes a branch for each element.
    """
    users: dict[Value, list[Op]] = {}
    for op in walk(body):
        for value in dict.fromkeys(op.args):
            users.setdefault(value, []).append(op)
    divisions = (op for op in walk(body) if op.name == "div" and _dtype(op.result) == float32)
    return {op for op in divisions if _narrowed(op.result, users)}


def _narrowed(value: Value, users: Mapping[Value, list[Op]]) -> bool:
    """Whether all uses of a tile convert it to a short float."""
    for op in users.get(value, ()):
        if op.name == "cast":
            to = _dtype(op.result)
            if not to.is_float or to.bits > 16:
                return False
        elif op.name not in MOVES or not _narrowed(op.result, users):
            return False
    return True


def _dtype(value: Value) -> DType:
    assert isinstance(value.type, TileType)
    return value.type.dtype
