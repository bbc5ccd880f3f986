"""The checker's mbarriers: who may use them, what a phase orders, and which arrivals are wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tilec.ir.ptx.module import Instruction
from tilec.runtime.emulator import race
from tilec.runtime.emulator.clocks import CAUSE, FIRST, ORDER, join
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.observe import Watch
from tilec.runtime.emulator.report import where

if TYPE_CHECKING:
    from tilec.runtime.emulator.check_copy import CopyChecker
    from tilec.runtime.emulator.cta import Cta, MBarrier
    from tilec.runtime.emulator.strand import Strand


@dataclass(frozen=True)
class Release:
    """A warp hands on what it knows. ``program`` False: the arrival of an asynchronous operation."""

    row: int
    time: int
    vector: Array
    program: bool = True


@dataclass
class Flight:
    """A copy under way that completes on an mbarrier, in the phase in which it was issued."""

    phase: int
    inst: Instruction


@dataclass
class Armed:
    """The last time a warp expected bytes: in which phase, and how many of its copies followed."""

    phase: int
    time: int
    inst: Instruction
    copies: int = 0


@dataclass
class History:
    """What has happened in one phase: who saw the phase before end, who has arrived, and whether
    another CTA has."""

    seen: dict[int, int] = field(default_factory=dict)
    arrived: dict[int, int] = field(default_factory=dict)
    remote: bool = False


def cause_of(vector: Array) -> Array:
    """Only what has happened, without the order of memory."""
    out = np.zeros_like(vector)
    out[CAUSE] = vector[CAUSE]
    return out


class BarrierWatch(Watch):
    """One mbarrier. It is an actor itself: the copies that complete on it."""

    def __init__(self, checker: CopyChecker, cta: Cta, barrier: MBarrier, address: int, row: int, time: int,
                 inst: Instruction) -> None:  # fmt: skip
        self.checker, self.cta, self.barrier, self.address, self.inst = checker, cta, barrier, address, inst
        self.row, self.time, self.fenced = row, time, False
        self.column = checker.clocks.add(f"a copy to {self.name}", race.MBARRIER)
        self.clock: Array | None = None
        self.done: Array | None = None
        self.older: Array | None = None
        self.flights: list[Flight] = []
        self.armed: dict[int, Armed] = {}
        self.last_seen: dict[int, int] = {}
        self.history = History()
        self.before = History()

    @property
    def name(self) -> str:
        return f"the mbarrier at {self.address:#x}"

    def use(self, row: int, inst: Instruction) -> None:
        """E12 and W14: a use must be ordered after the initialisation; after fence.mbarrier_init
        that is so even if the arrival at the barrier between was relaxed. Where other CTAs lack
        only this fence, W14 says so."""
        checker = self.checker
        part = CAUSE if self.fenced or row // checker.per_cta != self.cta.slot else ORDER
        if row != self.row and checker.clocks.known[row, part, FIRST + self.row] < self.time:
            text = (
                f"{checker.clocks.name(FIRST + row)} uses {self.name} and nothing orders this after "
                f"its initialisation by {checker.clocks.name(FIRST + self.row)} at {where(self.inst)}"
            )
            checker.report("E12", text, inst, self.inst)
        if row // checker.per_cta != self.cta.slot:
            self._remote(row, inst)

    def _remote(self, row: int, inst: Instruction) -> None:
        if not self.fenced:
            text = (
                f"{self.name} is used by another CTA, and no fence.mbarrier_init follows {where(self.inst)}"
            )
            self.checker.report("W14", text, inst, self.inst)
        if "arrive" in inst.opcode and ".cluster." not in inst.opcode:
            text = f"an arrival of another CTA at {self.name} has the scope .cta, which orders nothing there"
            self.checker.report("W13", text, inst)

    def arrive(self, release: Release | None, count: int, inst: Instruction) -> None:
        if release is None:
            return
        if release.program:
            self.use(release.row, inst)
            self._check_primary(release.row, inst)
        self.clock = join(self.clock, release.vector)
        self.history.remote |= release.row // self.checker.per_cta != self.cta.slot
        self.history.arrived[release.row] = self.history.arrived.get(release.row, 0) + count
        column = FIRST + release.row if release.program else self.column
        self.checker.remote(release.row, self.cta, column, release.time, inst)

    def _check_primary(self, row: int, inst: Instruction) -> None:
        """E10: the phase before must have been seen to end, by a wait that is ordered before."""
        known = self.checker.clocks.known[row, CAUSE]
        seen = self.history.seen
        if self.barrier.phase and not any(r == row or known[FIRST + r] >= t for r, t in seen.items()):
            text = (
                f"{self.checker.clocks.name(FIRST + row)} arrives in phase {self.barrier.phase} of "
                f"{self.name}, and no wait before it has seen phase {self.barrier.phase - 1} end"
            )
            self.checker.report("E10", text, inst)

    def expect(self, release: Release | None, size: int, inst: Instruction) -> None:
        if release is None:
            return
        self.use(release.row, inst)
        self.armed[release.row] = Armed(self.barrier.phase, release.time, inst)

    def issue(self, row: int, inst: Instruction) -> Flight:
        """A copy of this warp will complete here."""
        self.use(row, inst)
        armed, phase = self.armed.get(row), self.barrier.phase
        if armed is not None and armed.phase == phase:
            armed.copies += 1
        elif armed is not None and self._ended_early(armed, row):
            self._short(armed, inst)
        flight = Flight(phase, inst)
        self.flights.append(flight)
        return flight

    def _ended_early(self, armed: Armed, row: int) -> bool:
        """Whether a phase ended between two copies of a warp that has waited for nothing since."""
        early = bool(armed.copies) and self.barrier.phase == armed.phase + 1
        return early and bool(self.checker.last_acquire[row] < armed.time)

    def _short(self, armed: Armed, inst: Instruction) -> None:
        text = (
            f"the bytes expected of phase {armed.phase} of {self.name} are fewer than its copies bring: "
            f"the phase ends before the copy at {where(inst)}"
        )
        self.checker.report("E8", text, armed.inst, inst)
        del self.armed[self._row_of(armed)]

    def _row_of(self, armed: Armed) -> int:
        return next(row for row, a in self.armed.items() if a is armed)

    def land(self, flight: Flight, who: Array) -> None:
        """A copy has landed, which its issuer issued knowing ``who``."""
        self.flights.remove(flight)
        self.clock = join(self.clock, cause_of(who))

    def settled(self) -> None:
        """E8: all have arrived, and more bytes have landed than were expected."""
        barrier = self.barrier
        if barrier.pending == 0 and barrier.tx < 0 and self.armed:
            last = max(self.armed.values(), key=lambda a: a.time)
            text = f"{-barrier.tx} bytes more than expected have landed at {self.name} ({barrier})"
            self.checker.report("E8", text, last.inst)

    def completed(self) -> None:
        over = self.barrier.phase - 1
        for flight in [f for f in self.flights if f.phase <= over]:
            armed = max(self.armed.values(), key=lambda a: a.time, default=None)
            text = f"phase {over} of {self.name} ends while the copy at {where(flight.inst)} is under way"
            self.checker.report("E8", text, armed.inst if armed else flight.inst, flight.inst)
        self._check_alias()
        self.checker.phase_over(self)
        self.before, self.history = self.history, History()

    def _check_alias(self) -> None:
        """E11: who saw the phase before this one must have done so before this one ended. Warps
        that only wait, and do nothing for others, are let off."""
        for row, time in self.history.seen.items():
            if self.clock is None or self.clock[CAUSE, FIRST + row] < time:
                self._late(row, self.checker.timeline.site(time), self.barrier.phase - 2)

    def _late(self, row: int, inst: Instruction, phase: int) -> None:
        if ".parity" not in inst.opcode:
            return
        who = self.checker.clocks.name(FIRST + row)
        text = (
            f"phase {phase + 1} of {self.name} can end before {who} has seen phase {phase} end: "
            "its wait would then take the next phase of the same parity"
        )
        self.checker.suspect(row, text, inst)

    def waited(self, s: Strand, inst: Instruction, phase: int) -> None:
        rows, time = self.checker.rows(s), self.checker.timeline.tick(inst)
        latest = phase == self.barrier.phase - 1
        for row in rows.tolist():
            self.use(row, inst)
            self.last_seen[row] = phase
            if not latest:
                self._late(row, inst, phase)
            elif self.barrier.phase:
                self.history.seen[row] = time
            self.checker.last_acquire[row] = time
        if self.before.remote and ".cluster." not in inst.opcode:
            text = f"the wait for {self.name} has the scope .cta, and another CTA arrived there"
            self.checker.report("W13", text, inst)
        done = self.done if latest else self.older
        if done is not None:
            self._acquire(rows, done, relaxed=".relaxed" in inst.opcode)

    def _acquire(self, rows: Array, done: Array, relaxed: bool) -> None:
        """A relaxed wait leaves it to a fence to order memory."""
        self.checker.clocks.acquire(rows, cause_of(done) if relaxed else done)
        for row in rows.tolist() if relaxed else ():
            self.checker.pending[row] = join(self.checker.pending.get(row), done)

    def waits(self, s: Strand, wanted: int, parity: bool, inst: Instruction) -> bool:
        """E11: the phase that a warp would take next is two phases ago."""
        phase, late = self.barrier.phase, False
        for row in self.checker.rows(s).tolist():
            self.use(row, inst)
            if parity and phase >= 2 and self.last_seen.get(row, -1) == phase - 3:
                late = True
                text = (
                    f"{self.checker.clocks.name(FIRST + row)} waits for parity {wanted & 1} of {self.name}: "
                    f"phase {phase - 2} is over, but so is phase {phase - 1}, and the parity is that of "
                    f"phase {phase}"
                )
                self.checker.suspect(row, text, inst)
        if late:
            self.last_seen.update(dict.fromkeys(self.checker.rows(s).tolist(), phase - 2))
        return late

    def invalidate(self, s: Strand, inst: Instruction) -> None:
        self.checker.invalidated(self, s, inst)
