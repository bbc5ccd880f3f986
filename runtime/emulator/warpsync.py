"""bar.warp.sync: lanes of a warp wait for one another, also at different instructions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tilec.ir.ptx.module import Instruction
from tilec.runtime.emulator.operands import getter, per_thread
from tilec.runtime.emulator.program import Program, Run
from tilec.runtime.emulator.strand import Wait

if TYPE_CHECKING:
    from tilec.runtime.emulator.cta import Cta
    from tilec.runtime.emulator.strand import Strand


@dataclass
class WarpBarrier:
    """Lanes of one warp with one member mask: those that have come, and how often all have."""

    cta: Cta
    members: slice
    mask: int
    arrived: int = 0
    generation: int = 0

    def settle(self) -> None:
        """All members that have not ended are there: the barrier is over."""
        lanes = np.flatnonzero(self.cta.live[self.members]).tolist()
        if self.arrived and not any(self.mask >> lane & ~self.arrived >> lane & 1 for lane in lanes):
            self.arrived = 0
            self.generation += 1


def barrier(inst: Instruction, program: Program) -> Run:
    member = getter(program, inst.operands[0], "b32", inst)

    def run(s: Strand) -> Wait | None:
        if s.whole() and not s.cta.warp_barriers:
            s.cta.machine.observer.warp_sync(s, inst)
            return None
        joined = [_join(s, warp, member) for warp in s.warps.tolist()]
        held = [(b, g) for b, g in joined if b.generation == g]
        if not held:
            s.cta.machine.observer.warp_sync(s, inst)
            return None
        return _until(s, held, inst)

    return run


def _join(s: Strand, warp: int, member: Run) -> tuple[WarpBarrier, int]:
    """The lanes of one warp arrive: the barrier, and the generation that they wait for."""
    here = s.threads >> 5 == warp
    mask = int(per_thread(s, member(s))[here][0])
    key = (warp, mask)
    found = s.cta.warp_barriers.get(key)
    if found is None:
        members = slice(32 * warp, min(32 * warp + 32, s.cta.size))
        found = s.cta.warp_barriers[key] = WarpBarrier(s.cta, members, mask)
    generation = found.generation
    found.arrived |= int((1 << (s.threads[here] & 31)).sum())
    found.settle()
    return found, generation


def _until(s: Strand, held: list[tuple[WarpBarrier, int]], inst: Instruction) -> Wait:
    def ready() -> bool:
        for b, _ in held:
            b.settle()
        if all(b.generation > g for b, g in held):
            s.cta.machine.observer.warp_sync(s, inst)
            return True
        return False

    return Wait(ready, lambda: "waits for the other threads of its member mask", retry=False)
