"""How many slots of a ring a group holds at each release: intervals, by abstract execution."""

from __future__ import annotations

from tilec.ir.core import Block, Op, Value
from tilec.ir.ops import attr

Range = tuple[int, int]


def held_before(block: Block, ring: Value, depth: int) -> dict[Op, Range]:
    """For every release of ``ring`` in a group's block the least and most slots held before it.

    More than ``depth`` are never held, since the get would wait for ever.
    """
    found: dict[Op, Range] = {}
    _run(block, ring, depth, (0, 0), found)
    return found


def _run(block: Block, ring: Value, depth: int, held: Range, found: dict[Op, Range]) -> Range:
    for op in block.ops:
        if op.name == "aref.get" and op.args[0] is ring:
            held = (min(held[0] + 1, depth), min(held[1] + 1, depth))
        elif op.name == "aref.release" and op.args[0] is ring:
            found[op] = _join(found.get(op, held), held)
            keep = attr(op, "keep")
            held = (min(held[0], keep), min(held[1], keep))
        elif op.name in ("for", "while"):
            held = _loop(op, ring, depth, held, found)
        elif op.name == "if":
            ends = [_run(b, ring, depth, held, found) for b in op.blocks]
            held = _join(*ends)
    return held


def _loop(op: Op, ring: Value, depth: int, held: Range, found: dict[Op, Range]) -> Range:
    """Zero or more rounds: joined until nothing changes, which the depth bounds."""
    while True:
        after = held
        for block in op.blocks:
            after = _run(block, ring, depth, after, found)
        joined = _join(held, after)
        if joined == held:
            return held
        held = joined


def _join(a: Range, b: Range) -> Range:
    return min(a[0], b[0]), max(a[1], b[1])
