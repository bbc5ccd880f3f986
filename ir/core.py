"""The nodes: Value, Op, Block, Kernel. Frozen, compared by identity.

There are no parent pointers or use lists: kernels are small, so `walk` and
`uses` recompute what a pass needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from tilec.ir.loc import UNKNOWN, Loc
from tilec.ir.types import Type

Attrs = Mapping[str, Any]
NO_ATTRS: Attrs = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Value:
    """Something computed once. ``hint`` is the source name, for printing only."""

    type: Type
    hint: str = ""


@dataclass(frozen=True, eq=False)
class Block:
    """A list of ops with parameters; the last op is a terminator (`yield`)."""

    params: tuple[Value, ...]
    ops: tuple[Op, ...]

    @property
    def yielded(self) -> tuple[Value, ...]:
        """Operands of the terminator."""
        return self.ops[-1].args if self.ops and self.ops[-1].name == "yield" else ()


@dataclass(frozen=True, eq=False)
class Op:
    """One operation. Attributes are plain data (numbers, strings, tuples, types)."""

    name: str
    args: tuple[Value, ...] = ()
    attrs: Attrs = field(default_factory=lambda: NO_ATTRS)
    results: tuple[Value, ...] = ()
    blocks: tuple[Block, ...] = ()
    loc: Loc = UNKNOWN

    @property
    def result(self) -> Value:
        """The only result."""
        (value,) = self.results
        return value

    def with_(self, **changes: Any) -> Op:
        return replace(self, **changes)


@dataclass(frozen=True, eq=False)
class Kernel:
    """A kernel in one of the forms "tile", "aref", "scheduled".

    ``params`` are the run-time arguments in order; ``attrs`` holds facts for the
    whole kernel (num_warps, schedule, target, ...).
    """

    name: str
    params: tuple[Value, ...]
    body: Block
    form: str = "tile"
    attrs: Attrs = field(default_factory=lambda: NO_ATTRS)

    def with_(self, **changes: Any) -> Kernel:
        return replace(self, **changes)


def frozen(**attrs: Any) -> Attrs:
    """Attributes, sorted by name so that equal ones print alike."""
    return MappingProxyType(dict(sorted(attrs.items())))


def walk(block: Block) -> Iterator[Op]:
    """All ops in program order, outer before inner."""
    for op in block.ops:
        yield op
        for inner in op.blocks:
            yield from walk(inner)


def uses(block: Block) -> dict[Value, list[Op]]:
    """For every value the ops that take it as an argument, in program order."""
    table: dict[Value, list[Op]] = {}
    for op in walk(block):
        for arg in op.args:
            table.setdefault(arg, []).append(op)
    return table


def definitions(block: Block) -> dict[Value, Op]:
    """For every op result the op that defines it."""
    return {result: op for op in walk(block) for result in op.results}


def free_values(block: Block) -> list[Value]:
    """Values used in the block (or deeper) but defined outside, in first-use order."""
    defined: set[Value] = set(block.params)
    found: dict[Value, None] = {}
    for op in block.ops:
        for arg in op.args:
            if arg not in defined:
                found.setdefault(arg)
        for inner in op.blocks:
            for value in free_values(inner):
                if value not in defined:
                    found.setdefault(value)
        defined.update(op.results)
    return list(found)


Rewriter = Callable[[Op, dict[Value, Value]], Iterable[Op]]


def clone_block(block: Block, env: dict[Value, Value], rewrite: Rewriter) -> Block:
    """A copy of the block with fresh values.

    ``env`` maps old values to new ones and is extended on the way. ``rewrite``
    is called for each op in program order and gives the ops that replace it; it
    must map the op's results in ``env``. Use `clone_op` for "copy as it is".
    """
    params = []
    for param in block.params:
        env[param] = Value(param.type, param.hint)
        params.append(env[param])
    ops: list[Op] = []
    for op in block.ops:
        ops.extend(rewrite(op, env))
    return Block(tuple(params), tuple(ops))


def clone_op(op: Op, env: dict[Value, Value], rewrite: Rewriter) -> Op:
    """A copy of the op with mapped arguments, fresh results and cloned blocks."""
    blocks = tuple(clone_block(b, env, rewrite) for b in op.blocks)
    results = tuple(Value(r.type, r.hint) for r in op.results)
    env.update(zip(op.results, results, strict=True))
    args = tuple(env.get(a, a) for a in op.args)
    return Op(op.name, args, op.attrs, results, blocks, op.loc)
