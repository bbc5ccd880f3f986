"""Small tools that passes share: substitution, constants, and source lines for notes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tilec.ir.core import Block, Op, Value
from tilec.ir.ops import make
from tilec.ir.types import TileType


def substitute(block: Block, table: Mapping[Value, Value]) -> Block:
    """The block with uses replaced; results keep their identity."""
    return Block(block.params, tuple(substitute_op(op, table) for op in block.ops))


def substitute_op(op: Op, table: Mapping[Value, Value]) -> Op:
    """The op with uses replaced, in its blocks too."""
    args = tuple(table.get(a, a) for a in op.args)
    return op.with_(args=args, blocks=tuple(substitute(b, table) for b in op.blocks))


def without_yield(block: Block) -> tuple[Op, ...]:
    """The ops of a block before its terminator."""
    return block.ops[:-1] if block.ops and block.ops[-1].name == "yield" else block.ops


def constant_of(value: Value, defs: Mapping[Value, Op]) -> Any:
    """The number that fills a constant tile, or None if the value is not constant."""
    op = defs.get(value)
    return op.attrs["value"] if op is not None and op.name == "const" else None


def constant_like(op: Op, number: Any) -> Op:
    """A `const` op of the type of ``op``'s only result."""
    found = op.result.type
    assert isinstance(found, TileType)
    hints = (op.result.hint,)
    return make("const", loc=op.loc, hints=hints, dtype=found.dtype, shape=found.shape, value=number)


def where(op: Op) -> str:
    """The source line of an op, for a note."""
    return f"line {op.loc.line}"
