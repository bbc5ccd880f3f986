"""The checker's barriers and fences, and order through atomic and other strong accesses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tilec.ir.ptx.module import Instruction
from tilec.runtime.emulator.check_race import Memory, strong
from tilec.runtime.emulator.check_units import UnitChecker
from tilec.runtime.emulator.clocks import FIRST, GLOBAL, ORDER, SHARED, Clocks, join
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.observe import Unchanged

if TYPE_CHECKING:
    from tilec.runtime.emulator.cta import Cta, NamedBarrier
    from tilec.runtime.emulator.machine import Machine
    from tilec.runtime.emulator.program import Program
    from tilec.runtime.emulator.strand import Strand

_FENCED = {"": (SHARED, GLOBAL), "global": (GLOBAL,), "shared": (SHARED,)}
_RELEASE, _ACQUIRE = ("release", "acq_rel", "sc"), ("acquire", "acq_rel", "sc")


@dataclass
class Cell:
    """What was released to a place in memory, in the columns of the cluster that last used it."""

    clocks: Clocks
    vector: Array


class OrderChecker(UnitChecker):
    """Adds what orders accesses, other than mbarriers and groups."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.orders = _has_fences(machine.program)
        self.cells: dict[tuple[str, int, int], Cell] = {}

    def begin(self, ctas: Sequence[Cta]) -> None:
        super().begin(ctas)
        self.cells = {key: c for key, c in self.cells.items() if key[0] == "global"}

    def join(self, s: Strand, warp: int, named: NamedBarrier, inst: Instruction) -> None:
        row = np.array([warp + s.cta.slot * self.per_cta])
        named.warps.add(int(row[0]))
        time, relaxed = self.timeline.tick(inst), ".relaxed" in inst.opcode
        vector = self.clocks.publish(row, time)
        if not relaxed:
            self.performed[int(row[0])].append(time)
        named.clock = join(named.clock, self.relaxed(int(row[0]), vector) if relaxed else vector)

    def passed(self, s: Strand, named: Sequence[NamedBarrier], inst: Instruction) -> None:
        rows = self.rows(s)
        self.last_acquire[rows] = self.timeline.tick(inst)
        if all(n is named[0] for n in named):
            if named[0].done is not None:
                self.clocks.acquire(rows, named[0].done)
            return
        for row, barrier in zip(rows, named, strict=True):
            if barrier.done is not None:
                self.clocks.acquire(np.array([row]), barrier.done)

    def fence(self, s: Strand, inst: Instruction, address: Array | None = None) -> None:
        time, rows, opcode = self.timeline.tick(inst), self.rows(s), inst.opcode
        for row in rows.tolist():
            self.performed[row].append(time)
        if opcode.startswith("fence.proxy.async"):
            for row in rows.tolist():
                self.proxied[row].append(time)
            space = opcode.removeprefix("fence.proxy.async").lstrip(".").split("::")[0]
            self.clocks.fence(rows, _FENCED[space], time)
        elif opcode.startswith("fence.mbarrier_init"):
            self._fence_barriers(rows)
        elif opcode.startswith("fence.proxy.tensormap"):
            self.fence_maps(s, inst, address)
        elif not opcode.startswith("fence.proxy"):
            self._fence_memory(rows, time, opcode)
            if ".cluster" in opcode or ".gpu" in opcode or ".sys" in opcode or "membar.gl" in opcode:
                self._fence_barriers(rows)

    def fence_maps(self, s: Strand, inst: Instruction, address: Array | None) -> None:
        """Fences of tensor maps."""

    def _fence_barriers(self, rows: Array) -> None:
        for watch in self.watches:
            watch.fenced |= watch.row in rows

    def _fence_memory(self, rows: Array, time: int, opcode: str) -> None:
        for row in rows.tolist():
            if not opcode.startswith("fence.acquire"):
                self.fenced[row] = self.clocks.publish(np.array([row]), time)
            if row in self.pending and not opcode.startswith("fence.release"):
                self.clocks.acquire(np.array([row]), self.pending.pop(row))

    def read(self, s: Strand, space: str, address: Array, size: int, inst: Instruction,
             threads: Array | None = None) -> None:  # fmt: skip
        if self.orders and strong(inst.opcode):
            self._strong(s, space, address, size, inst, reads=True, writes=False)
        super().read(s, space, address, size, inst, threads)

    def write(self, s: Strand, space: str, address: Array, size: int, inst: Instruction,
              threads: Array | None = None, unchanged: Unchanged = None) -> None:  # fmt: skip
        if self.orders and strong(inst.opcode):
            atomic = inst.opcode.startswith(("atom", "red"))
            self._strong(s, space, address, size, inst, reads=atomic, writes=True)
        super().write(s, space, address, size, inst, threads, unchanged)

    def _strong(self, s: Strand, space: str, address: Array, size: int, inst: Instruction, *, reads: bool,
                writes: bool) -> None:  # fmt: skip
        """Acquire from, and release to, the places of a strong access."""
        parts = inst.opcode.split(".")
        acquires = any(p in _ACQUIRE for p in parts)
        vectors = self.fenced
        if writes and any(p in _RELEASE for p in parts):
            time = self.timeline.tick(inst)
            vectors = {r: self.clocks.publish(np.array([r]), time) for r in self.rows(s).tolist()}
        for memory, actor, place in self.pieces(s, space, address, size, inst, None, writes=True):
            if isinstance(memory, Memory) and isinstance(place, np.ndarray):
                rows = np.broadcast_to(np.asarray(actor.column) - FIRST, place.shape)
                for row, granule in sorted({*zip(rows.tolist(), place.tolist(), strict=True)}):
                    key = (memory.kind, memory.start + memory.rank, granule)
                    if reads:
                        self._acquire(row, key, acquires)
                    if writes:
                        self._release(row, key, vectors.get(row), keep=reads)

    def _acquire(self, row: int, key: tuple[str, int, int], now: bool) -> None:
        cell = self._cell(key)
        if cell is None:
            return
        if now:
            self.clocks.acquire(np.array([row]), cell.vector)
        else:
            self.pending[row] = join(self.pending.get(row), cell.vector)

    def _release(self, row: int, key: tuple[str, int, int], vector: Array | None, keep: bool) -> None:
        """A plain store breaks the chain of releases before it, an atomic goes on with it."""
        cell = self._cell(key) if keep else None
        if vector is not None:
            self.cells[key] = Cell(self.clocks, join(cell.vector if cell else None, vector))
        elif not keep:
            self.cells.pop(key, None)

    def _cell(self, key: tuple[str, int, int]) -> Cell | None:
        """What was released here; an earlier cluster's actors get columns in this one."""
        cell = self.cells.get(key)
        if cell is None or cell.clocks is self.clocks:
            return cell
        known = np.flatnonzero(cell.vector[ORDER]).tolist()
        old, made = cell.clocks, {c: c for c in known if c < FIRST}
        for c in (c for c in known if c >= FIRST):
            made[c] = self.clocks.adopt(old.ids[c])
        vector = np.zeros_like(self.clocks.known[0])
        vector[:, list(made.values())] = cell.vector[:, list(made)]
        self.cells[key] = Cell(self.clocks, vector)
        return self.cells[key]


def _has_fences(program: Program) -> bool:
    """Whether anything can order accesses through memory."""
    words = {"acquire", "release", "acq_rel", "sc", "membar"}
    ops = (op.inst.opcode.split(".") for op in program.code)
    return any(p[0] in ("fence", "membar", "ld", "st", "atom", "red") and words & set(p) for p in ops)
