"""Where values die: what an emit rule may overwrite."""

from __future__ import annotations

from collections.abc import Mapping

from tilec.ir.core import Block, Op, Value, free_values, walk

Deaths = Mapping[Op, frozenset[Value]]


def op_uses(op: Op) -> set[Value]:
    """Values that an op reads, itself or in its blocks, and that are defined outside of it."""
    used = set(op.args)
    for block in op.blocks:
        used.update(free_values(block))
    return used


def deaths(body: Block) -> Deaths:
    """For each op the values whose last use it is.

    A value dies only in the block that defines it: a use inside a loop of a value from
    outside may run again. Results without a use die at their own op.
    """
    found: dict[Op, frozenset[Value]] = {}
    blocks = [body, *(b for op in walk(body) for b in op.blocks)]
    for block in blocks:
        local = set(block.params) | {r for op in block.ops for r in op.results}
        for op in reversed(block.ops):
            dying = (op_uses(op) | set(op.results)) & local
            found[op] = frozenset(dying)
            local -= dying
    return found
