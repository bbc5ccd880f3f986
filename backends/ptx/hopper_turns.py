"""Turns of warp groups, as named barriers.

Whoever ends a turn arrives at a barrier where the next turn's group waits; each pair of
groups (from, to) of a chain has one barrier. One is enough: turns of a chain follow each
other, so the pair's barrier is passed before the group that arrived gets another turn.

Turn 0 of the first round waits for an arrival that no turn makes: the group of the last
turn makes it when it starts. When all is done one arrival is left over, which nobody needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tilec.backends.ptx.context import Emitter
from tilec.backends.ptx.hopper_plan import sites
from tilec.ir.core import Kernel, Op
from tilec.ir.layout import LANE_BITS

BARRIERS = 16  # of a CTA (PTX ISA, bar)
TURNS = ("turn.enter", "turn.exit")


@dataclass(frozen=True)
class Handover:
    """A barrier between two groups: its number, and the threads of both."""

    barrier: int
    threads: int


@dataclass(frozen=True)
class Chain:
    """Who takes each turn, and the barrier to each turn's group from the group of the turn before.

    No barrier (None) where one group takes both, whose own order is enough, or where none was left.
    """

    owners: tuple[str, ...]
    before: tuple[Handover | None, ...]


def plan_turns(kernel: Kernel) -> dict[str, Chain]:
    """The chains of a SCHEDULED kernel, with barriers that nobody else uses.

    Barrier 0 is all threads', 1 and up are the groups' own. Where the rest is not enough, the
    last chains have none: turns make loops faster, no value depends on them.
    """
    owners: dict[str, dict[int, str]] = {}
    threads: dict[str, int] = {"main": 0}
    for site in sites(kernel):
        threads.setdefault(site.group, site.warps << LANE_BITS)
        if site.op.name in TURNS:
            chain = site.op.attrs["chain"]
            owners.setdefault(chain, {})[site.op.attrs["index"]] = site.group
    chains, free = {}, len(threads)
    for name, found in owners.items():
        chains[name], free = _chain(tuple(found[i] for i in sorted(found)), threads, free)
    return chains


def _chain(owners: tuple[str, ...], threads: Mapping[str, int], free: int) -> tuple[Chain, int]:
    """A chain whose barriers count from ``free``, and the next free number."""
    pairs = [(owners[i - 1], owners[i]) for i in range(len(owners))]
    between = dict.fromkeys(p for p in pairs if p[0] != p[1])
    fits = free + len(between) <= BARRIERS
    numbers = {p: free + n for n, p in enumerate(between)} if fits else {}
    before = tuple(
        Handover(numbers[p], threads[p[0]] + threads[p[1]]) if p in numbers else None for p in pairs
    )
    return Chain(owners, before), free + len(numbers)


def enter(e: Emitter, op: Op, chains: Mapping[str, Chain]) -> None:
    """Wait for the turn."""
    _wait(e, chains[op.attrs["chain"]].before[op.attrs["index"]])


def leave(e: Emitter, op: Op, chains: Mapping[str, Chain]) -> None:
    """Let the next turn begin."""
    _arrive(e, chains[op.attrs["chain"]].before[(op.attrs["index"] + 1) % op.attrs["of"]])


def begin(e: Emitter, group: str, chains: Mapping[str, Chain]) -> None:
    """At the start of a group: the arrivals that the first turns wait for."""
    for chain in chains.values():
        if chain.owners[-1] == group:
            _arrive(e, chain.before[0])


def _wait(e: Emitter, handover: Handover | None) -> None:
    if handover is not None:
        e.emit("bar.sync", handover.barrier, handover.threads)


def _arrive(e: Emitter, handover: Handover | None) -> None:
    if handover is not None:
        e.emit("bar.arrive", handover.barrier, handover.threads)
