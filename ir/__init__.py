"""The intermediate representation: types, nodes, the op table and its meaning."""

from __future__ import annotations

from tilec.ir.core import Block, Kernel, Op, Value, clone_block, clone_op, definitions, frozen, uses, walk
from tilec.ir.loc import Loc
from tilec.ir.types import ArefType, DType, TensorType, TileType, Type

__all__ = [
    "ArefType", "Block", "DType", "Kernel", "Loc", "Op", "TensorType", "TileType", "Type",
    "Value", "clone_block", "clone_op", "definitions", "frozen", "uses", "walk",
]  # fmt: skip
