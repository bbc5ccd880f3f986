"""Small tools that passes share: substitution, rules, constants, and source lines for notes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tilec.ir.core import Block, Kernel, Op, Value
from tilec.ir.ops import make
from tilec.ir.types import TileType


class Emit:
    """Makes ops one after the other, at the line of an op that they stand for or come before."""

    def __init__(self, op: Op) -> None:
        self.op = op
        self.ops: list[Op] = []

    def __call__(self, name: str, *args: Value, **attrs: Any) -> Value:
        """A new op; its only result."""
        self.ops.append(make(name, args, loc=self.op.loc, **attrs))
        return self.ops[-1].result

    def spread(self, value: Value, shape: tuple[int, ...]) -> Value:
        """The value broadcast, if its shape is another one."""
        same = isinstance(value.type, TileType) and value.type.shape == shape
        return value if same else self("broadcast", value, shape=shape)


Rule = Callable[[Op, Mapping[Value, Op], Emit], None]


def rewritten(kernel: Kernel, rule: Rule) -> Kernel:
    """The kernel with each op replaced by what the rule emits for it, if it emits something.

    The rule sees the ops that come before by their results. The last op that it emits has the
    result of the op that it replaces.
    """
    defs: dict[Value, Op] = {}

    def block(old: Block) -> Block:
        ops: list[Op] = []
        for op in old.ops:
            op = op.with_(blocks=tuple(map(block, op.blocks))) if op.blocks else op
            emit = Emit(op)
            rule(op, defs, emit)
            made = [*emit.ops[:-1], emit.ops[-1].with_(results=op.results)] if emit.ops else [op]
            defs.update((r, o) for o in made for r in o.results)
            ops += made
        return Block(old.params, tuple(ops))

    return kernel.with_(body=block(kernel.body))


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


def is_zero(value: Value, defs: Mapping[Value, Op]) -> bool:
    """Whether a tile is made of a constant zero, through changes of shape or layout."""
    op = defs.get(value)
    while op is not None and op.name in ("broadcast", "reshape", "convert_layout"):
        value = op.args[0]
        op = defs.get(value)
    return bool(constant_of(value, defs) == 0)


def constant_like(op: Op, number: Any) -> Op:
    """A `const` op of the type of ``op``'s only result."""
    found = op.result.type
    assert isinstance(found, TileType)
    hints = (op.result.hint,)
    return make("const", loc=op.loc, hints=hints, dtype=found.dtype, shape=found.shape, value=number)


def where(op: Op) -> str:
    """The source line of an op, for a note."""
    return f"line {op.loc.line}"
