"""A strand: threads of one CTA that stand at the same instruction and run together.

Reconvergence is by lowest program counter: of the strands of a warp the one that is
furthest behind runs first, and strands that meet at one instruction merge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tilec.runtime.emulator.numbers import Array

if TYPE_CHECKING:
    from tilec.runtime.emulator.cta import Cta


@dataclass
class Wait:
    """Why a strand stands still. ``ready`` ends the wait; the instruction then runs again
    (``retry``) or is over. ``passed`` marks threads that need not wait. ``spin``: the
    instruction is over, but let others run first. ``on`` is the barrier that it waits for. ``timed``: it
    ends after a time, too, with what the instruction gives then."""

    ready: Callable[[], bool]
    text: Callable[[], str]
    retry: bool = True
    passed: Array | None = None
    spin: bool = False
    on: Any = None
    timed: bool = False


SPIN = Wait(lambda: True, lambda: "polls", retry=False, spin=True)


class Strand:
    """``threads`` are sorted indices in the CTA, ``sel`` selects them in a register row."""

    __slots__ = (
        "_groups",
        "cta",
        "n",
        "passed_over",
        "pc",
        "regs",
        "sel",
        "spun",
        "threads",
        "wait",
        "warps",
    )

    def __init__(self, cta: Cta, threads: Array, pc: int) -> None:
        self.cta = cta
        self.regs = cta.regs
        self.pc = pc
        self.wait: Wait | None = None
        self.spun = False
        self.passed_over = 0
        self.become(threads)

    def become(self, threads: Array) -> None:
        """Change the set of threads."""
        self._groups: Array | None = None
        self.threads = threads
        self.n = len(threads)
        first, last = int(threads[0]), int(threads[-1])
        dense = last - first + 1 == self.n
        self.sel: slice | Array = slice(first, last + 1) if dense else threads
        if dense:
            self.warps = np.arange(first >> 5, (last >> 5) + 1)
        else:
            self.warps = np.unique(threads >> 5)

    def narrow(self, mask: Array) -> Strand:
        """A strand of the threads that a mask selects, at the same instruction."""
        return Strand(self.cta, self.threads[mask], self.pc)

    def groups(self) -> Array:
        """The warpgroups it has threads of."""
        if self._groups is None:
            self._groups = np.unique(self.warps >> 2)
        return self._groups

    def whole(self, group: bool = False) -> bool:
        """Whether no live thread of its warps (warpgroups) is elsewhere."""
        cta = self.cta
        if self.n == cta.alive:
            return True
        warps = self.warps
        if group:
            warps = (np.unique(warps >> 2)[:, None] * 4 + np.arange(4)).ravel()
            warps = warps[warps < len(cta.warp_alive)]
        return int(cta.warp_alive[warps].sum()) == self.n

    def shares_warp(self, other: Strand) -> bool:
        return bool(np.isin(self.warps, other.warps).any())

    def name(self) -> str:
        """Who this is, for messages: "warps 0-3" or "thread 17"."""
        cta = f"CTA {cta_name(self.cta.ctaid)} "
        if self.n == 1:
            return f"{cta}thread {int(self.threads[0])}"
        first, last = int(self.warps[0]), int(self.warps[-1])
        part = "" if self.whole() else f" ({self.n} threads)"
        return f"{cta}warp {first}{part}" if first == last else f"{cta}warps {first}-{last}{part}"


def cta_name(ctaid: tuple[int, int, int]) -> str:
    return "(" + ", ".join(map(str, ctaid)) + ")"
