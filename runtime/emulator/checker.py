"""The checker: tensor maps, the end of CTAs, and what is known when nothing can go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tilec.ir.ptx.module import Instruction
from tilec.runtime.emulator.check_order import OrderChecker
from tilec.runtime.emulator.check_race import Memory
from tilec.runtime.emulator.clocks import CAUSE, FIRST, ORDER
from tilec.runtime.emulator.explain import explain
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.report import where
from tilec.runtime.emulator.strand import cta_name
from tilec.runtime.emulator.tensormap import SIZE

if TYPE_CHECKING:
    from tilec.runtime.emulator.cta import Cta
    from tilec.runtime.emulator.machine import Machine
    from tilec.runtime.emulator.strand import Strand


class Checker(OrderChecker):
    """All rules. See docs/emulator.md for the codes."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.map_fences: dict[tuple[int, int], int] = {}

    def begin(self, ctas: Sequence[Cta]) -> None:
        super().begin(ctas)
        self.map_fences = {}

    def fence_maps(self, s: Strand, inst: Instruction, address: Array | None) -> None:
        if ".acquire" in inst.opcode and address is not None:
            time = self.timeline.tick(inst)
            for place in np.unique(address).tolist():
                for row in self.rows(s).tolist():
                    self.map_fences[row, int(place)] = time

    def read_map(self, s: Strand, address: int, inst: Instruction) -> None:
        """E1: a map that the kernel wrote needs a tensor-map fence before its use."""
        time, place = self.timeline.tick(inst), np.array([address], np.uint64)
        row = int(self.rows(s)[0])
        for memory, actor, at in self.pieces(s, "generic", place, SIZE, inst, s.threads[:1], writes=False):
            if not isinstance(memory, Memory):
                memory.read(self.clocks, at, actor.column, time)
                continue
            self.check_read(memory, at, actor, inst)
            wrote = int(memory.shadow.wrote[at].max())
            if wrote >= self.clocks.start and self._stale(row, address, wrote):
                before = self.timeline.site(wrote)
                text = (
                    f"a copy uses the tensor map at {address:#x}, written at {where(before)}, without "
                    "fence.proxy.tensormap::generic.acquire between"
                )
                self.report("E1", text, inst, before)

    def _stale(self, row: int, address: int, wrote: int) -> bool:
        """No warp that this one is ordered after has fenced the map since it was written."""
        known = self.clocks.known[row, ORDER]
        fences = [(r, t) for (r, place), t in self.map_fences.items() if place == address and t > wrote]
        return not any(known[FIRST + r] >= t for r, t in fences)

    def stuck(self, strands: Sequence[Strand]) -> list[str]:
        return explain(self, strands)

    def end(self) -> None:
        for memory in self.shared:
            self.check_unread(memory, slice(0, memory.shadow.count))
        for watch in self.watches:
            barrier = watch.barrier
            for flight in watch.flights:
                self._ended(watch.cta.slot, watch.column, flight.inst)
            if barrier.tx and not watch.flights:
                last = max(watch.armed.values(), key=lambda a: a.time, default=None)
                text = f"{watch.name} of CTA {cta_name(watch.cta.ctaid)} ends with {barrier}"
                self.report("E8", text, last.inst if last else watch.inst)
        for stores in self.stores.values():
            if stores.reading.busy and stores.inst is not None:
                text = "the kernel ends while this store may still read shared memory"
                self.report("E18", text, stores.inst)
        self._check_exits()
        super().end()

    def _check_exits(self) -> None:
        """E23: what copies and other CTAs did to a CTA must be ordered before the end of one of its
        warps."""
        for (rank, column), (time, inst) in self.elsewhere.items():
            rows = slice(rank * self.per_cta, (rank + 1) * self.per_cta)
            if self.clocks.known[rows, CAUSE, column].max() < time:
                self._ended(rank, column, inst)

    def _ended(self, rank: int, column: int, inst: Instruction) -> None:
        name, who = cta_name(self.ctas[rank].ctaid), self.clocks.name(column)
        self.report("E23", f"CTA {name} may have ended when {who} touches its shared memory", inst)
