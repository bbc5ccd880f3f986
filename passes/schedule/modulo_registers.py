"""What a step of a pipelined loop holds in registers at most, in bytes of tiles."""

from __future__ import annotations

from collections.abc import Iterator

from tilec.ir.core import Op
from tilec.ir.types import TileType
from tilec.passes.schedule.modulo_body import Body, reads
from tilec.passes.schedule.modulo_step import Item, Step


def held_bytes(body: Body, step: Step) -> int:
    """The most bytes of register tiles that are held at a place of the step, in the steady state.

    A tile is held from the op that makes it to the last that reads it; a product reads its first
    operand, and holds what it adds to, until it is waited for.
    """
    length = len(step.items)
    total = [0] * length
    for first, last, size in _lives(body, step):
        for moment in range(first, last):
            total[moment % length] += size
    return max(total, default=0)


def _lives(body: Body, step: Step) -> Iterator[tuple[int, int, int]]:
    """Moments from and until which each tile is held, and its bytes; a moment is an item of a step."""
    length, ops = len(step.items), {i.op: i for i in step.of("op")}
    waits = {i.op: i for i in step.of("wait")}

    def moment(item: Item, later: int = 0) -> int:
        return (item.stage + later) * length + step.place[item]

    ends: dict[Op, int] = {}
    for item in step.of("op"):
        for n, leaf in reads(body, item.op):
            if leaf.op in ops:
                end = item if n == 2 or item.op not in waits else waits[item.op]
                ends[leaf.op] = max(ends.get(leaf.op, 0), moment(end, leaf.distance))
    for op, end in ends.items():
        size = sum(r.type.bytes for r in op.results if isinstance(r.type, TileType) and r.type.space == "reg")
        yield moment(ops[op]), end, size
