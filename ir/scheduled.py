"""The rules of the SCHEDULED form. `ring_flow` follows slots and running dots."""

from __future__ import annotations

from collections.abc import Iterator

from tilec.ir.core import Block, Op
from tilec.ir.ops import attr, opdef
from tilec.ir.program import MAIN, Fault, Program
from tilec.ir.ring_flow import VIEWS, escapes, walk_group
from tilec.ir.turn_flow import chains, walk_turns

__all__ = ["RULES", "VIEWS", "escapes"]


def one_warp_groups(program: Program) -> Iterator[Fault]:
    """At most one warp_groups, at top level."""
    found = [s for s in program.sites if s.op.name == "warp_groups"]
    for site in found[1:]:
        yield Fault("X220", site.op, "a second warp_groups")
    for site in found:
        if site.block is not program.kernel.body:
            yield Fault("X220", site.op, "warp_groups inside of another op")


def effects_in_groups(program: Program) -> Iterator[Fault]:
    """Beside warp_groups there is no write and no synchronisation but aref.new."""
    if not any(op.name == "warp_groups" for op in program.ops):
        return
    for site in program.sites:
        if site.group == MAIN and _acts(site.op):
            yield Fault("X221", site.op, f"{site.op.name} stands outside of the warp groups")


def _acts(op: Op) -> bool:
    """Whether some group must be named to run this op; an assumption binds nobody."""
    free = op.name in ("aref.new", "assume")
    return opdef(op.name).effect in ("write", "sync") and not free


def depths(program: Program) -> Iterator[Fault]:
    """Every ring has a depth, and a release keeps fewer slots than that."""
    for new, uses in program.rings():
        depth = attr(new, "depth")
        if depth is None:
            yield Fault("X222", new, "a ring without a depth")
            continue
        for site in uses.get("aref.release", []):
            keep = attr(site.op, "keep")
            if not 0 <= keep < depth:
                yield Fault("X225", site.op, f"a release keeps {keep} slots of a ring of depth {depth}")


def producers(program: Program) -> Iterator[Fault]:
    """The puts of a ring are in one group; a ring has puts and gets."""
    for new, uses in program.rings():
        puts = uses.get("aref.put", [])
        groups = sorted({s.group for s in puts})
        if len(groups) > 1:
            yield Fault("X223", puts[-1].op, f"puts of one ring in groups {' and '.join(groups)}")
        for name in ("aref.put", "aref.get"):
            if not uses.get(name):
                yield Fault("X224", new, f"a ring without {name}")


def flow(program: Program) -> Iterator[Fault]:
    """Per group: slots are given back, unread ones not too early; running dots are waited for."""
    depths = {new.result: attr(new, "depth") for new, _ in program.rings()}
    for block in group_blocks(program):
        yield from walk_group(block, depths)


def group_blocks(program: Program) -> list[Block]:
    """The block of each group, or the kernel's where there are none."""
    groups = [op for op in program.kernel.body.ops if op.name == "warp_groups"]
    return [b for op in groups for b in op.blocks] or [program.kernel.body]


def turns(program: Program) -> Iterator[Fault]:
    """Per group: the turns of a chain are taken in order, whole rounds in a loop, none left open."""
    for block in group_blocks(program):
        yield from walk_turns(block)


RULES = (one_warp_groups, effects_in_groups, depths, producers, flow, chains, turns)
