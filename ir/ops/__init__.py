"""The op table: every operation of every form, declared once.

`OPS` maps names to `OpDef` rows; `make` builds ops through the type rules.
"""

from __future__ import annotations

from tilec.ir.ops import aref, arith, control, memory, shape, turns
from tilec.ir.ops.table import OPS, OpDef, attr, make, opdef, result_types, section_sources, written_tensors

__all__ = [
    "OPS", "OpDef", "aref", "arith", "attr", "control", "make", "memory", "opdef",
    "result_types", "section_sources", "shape", "turns", "written_tensors",
]  # fmt: skip
