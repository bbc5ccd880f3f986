"""Values that one compute group hands to another, as a loop's problem sees them.

A put in a compute group stores a tile to shared memory; what reads it in another group loads it,
unless the tensor cores do. Both are ordinary code of their groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from math import ceil

from tilec.ir.core import Block, Op, Value
from tilec.ir.ops import attr
from tilec.ir.types import TileType
from tilec.passes.make_async import LOAD
from tilec.passes.schedule.body import Body, get_behind, reads
from tilec.passes.schedule.costs import Cost
from tilec.passes.schedule.distribute import producer
from tilec.passes.schedule.machines import Machine
from tilec.passes.schedule.model import Hint, Segment


def hands_over(op: Op) -> bool:
    """Whether an op is the put of a compute group."""
    return op.name == "aref.put" and producer(op) != LOAD


def put_cost(put: Op, machine: Machine) -> Cost:
    """A tile into a slot; its readers are told when all of it is there."""
    held = ceil(sum(map(_bytes, put.args[1:])) / machine.smem_rate)
    return Cost((Segment("LSU", 0, held),), held, held + machine.smem_latency)


def handed_tiles(block: Block) -> dict[Value, Op]:
    """The ops of a loop by result, without gets of loaded tiles."""
    rings = {op.args[0] for op in block.ops if hands_over(op)}
    kept = (op for op in block.ops if op.name != "aref.get" or op.args[0] in rings)
    return {r: op for op in kept for r in op.results}


def read_cost(op: Op, handed: Mapping[Value, Op], machine: Machine) -> Cost | None:
    """What an op other than a product takes to load the tiles that were handed to it; None if none was."""
    found = [get_behind(v, handed) for v in dict.fromkeys(op.args)] if op.name != "dot" else []
    size = sum(_bytes(get.result) for get in found if get is not None)
    held = ceil(size / machine.smem_rate)
    spent = held + machine.smem_latency
    return Cost((Segment("LSU", 0, held),), spent, spent) if size else None


def role_hints(body: Body, names: Mapping[Op, str]) -> Iterator[Hint]:
    """Where groups hand values over, what gets or puts is of the group that says so; ids by ``names``."""
    groups: dict[str, dict[str, None]] = {}
    for lead, members in body.members.items() if body.handed else ():
        for group in _groups_of(body, members) if lead not in body.streams else ():
            groups.setdefault(group, {})[names[lead]] = None
    for group, mine in groups.items():
        if len(mine) > 1:
            yield Hint(f"role {group}", "together", names=tuple(mine))
    for (a, first), (b, second) in combinations(groups.items(), 2):
        yield Hint(f"roles {a} and {b}", "apart", names=(next(iter(first)), next(iter(second))))


def _groups_of(body: Body, members: tuple[Op, ...]) -> Iterator[str]:
    for op in members:
        if hands_over(op):
            yield producer(op)
        for get in (get_behind(v, body.defs) for v in reads(op)):
            if get is not None:
                yield attr(get, "group")


def _bytes(value: Value) -> int:
    return value.type.bytes if isinstance(value.type, TileType) else 0
