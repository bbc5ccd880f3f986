"""Ranges are made where they are read, so that no register holds them while a loop runs."""

from __future__ import annotations

from collections.abc import Mapping

from tilec.ir.core import Block, Kernel, Op, Value

LOOPS = ("for", "while")


def remade(kernel: Kernel) -> Kernel:
    """The kernel in which a loop makes the ranges that it reads, and so does what follows a loop.

    An `arange` costs an instruction for each register, and within a loop mostly none: it is added to
    the loop's index. Held over a loop with products it costs registers that ptxas may spill.
    """
    return kernel.with_(body=_block(kernel.body, {}, {}))


def _block(block: Block, names: Mapping[Value, Value], old: Mapping[Value, Op]) -> Block:
    """``names``: what values are called that were made again; ``old``: ranges that must be made again."""
    names, stale, made = dict(names), dict(old), dict(old)
    ops: list[Op] = []
    for op in block.ops:
        for value in [a for a in dict.fromkeys(op.args) if a in stale]:
            names[value] = Value(value.type, value.hint)
            ops.append(stale.pop(value).with_(results=(names[value],)))
        loops = op.name in LOOPS
        blocks = tuple(_block(b, names, made if loops else stale) for b in op.blocks)
        ops.append(op.with_(args=tuple(names.get(a, a) for a in op.args), blocks=blocks))
        if op.name == "arange":
            made[op.result] = op
        if loops:
            stale = dict(made)
    return Block(block.params, tuple(ops))
