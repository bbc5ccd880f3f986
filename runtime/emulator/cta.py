"""The state of one CTA: registers, shared memory, barriers, groups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tilec.ir.ptx.module import Instruction
from tilec.runtime.emulator.asyncops import AsyncOp, Groups
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.observe import UNWATCHED, Watch
from tilec.runtime.emulator.program import CLASS_DTYPE, Program
from tilec.runtime.emulator.report import Report, fault
from tilec.runtime.emulator.spaces import RANK_SHIFT, WINDOW_SIZE, SharedMemory
from tilec.runtime.emulator.strand import Strand
from tilec.runtime.emulator.tmem import TensorMemory

if TYPE_CHECKING:
    from tilec.runtime.emulator.machine import Machine
    from tilec.runtime.emulator.warpsync import WarpBarrier

_GARBAGE = 0xA5


@dataclass
class MBarrier:
    """The state of an mbarrier (see the PTX manual's section on mbarrier phases)."""

    expected: int
    pending: int
    phase: int = 0
    tx: int = 0
    watch: Watch = UNWATCHED

    def settle(self) -> None:
        """Complete the phase if nothing is owed."""
        if self.pending == 0 and self.tx == 0:
            self.phase += 1
            self.pending = self.expected
            self.watch.completed()
        else:
            self.watch.settled()

    def __str__(self) -> str:
        return f"phase {self.phase}, {self.pending} of {self.expected} arrivals pending, tx {self.tx}"


@dataclass
class NamedBarrier:
    """Threads that arrived in this generation, and what they brought for bar.red. A warp arrives with
    the last of its threads: ``partly`` has how many of a warp have come, and what to do when the others
    have come or ended; ``whole`` counts each warp's arrivals. ``clock`` and ``warps`` are the
    checker's: what the generation has released, and who has arrived; ``done`` and ``last`` are those of
    the generation before."""

    arrived: int = 0
    wanted: int = 0
    partly: dict[int, tuple[int, Callable[[], None]]] = field(default_factory=dict)
    whole: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    clock: Array | None = None
    done: Array | None = None
    warps: set[int] = field(default_factory=set)
    last: set[int] = field(default_factory=set)
    generation: int = 0
    votes: list[Array] = field(default_factory=list)
    result: Array | None = None

    def come(self, warp: int, threads: int, alive: int, act: Callable[[], None]) -> None:
        """Some of a warp's threads arrive; ``act`` when they are all that are left."""
        count = threads + (self.partly[warp][0] if warp in self.partly else 0)
        self.partly[warp] = (count, act)
        self.ended(warp, alive)

    def ended(self, warp: int, alive: int) -> None:
        """Only so many threads of a warp are left."""
        if warp in self.partly and self.partly[warp][0] == alive:
            self.whole[warp] += 1
            self.partly.pop(warp)[1]()

    def complete(self) -> None:
        """The generation is over."""
        self.arrived = 0
        self.generation += 1
        self.done, self.clock = self.clock, None
        self.last, self.warps = self.warps, set()


@dataclass
class WarpGroup:
    """wgmma state of a warpgroup: its groups, registers (bits of their rows) that ordinary
    instructions used since the last fence and those that moves used, the registers of products in
    flight, those of them that a wait has left in flight, and copies of them with what they copy."""

    groups: Groups = field(default_factory=Groups)
    unfenced: int = -1
    moved: int = 0
    flying: dict[int, int] = field(default_factory=dict)
    skipped: set[int] = field(default_factory=set)
    copies: dict[int, frozenset[int]] = field(default_factory=dict)


class Cta:
    """One CTA. ``rank`` is its number in the cluster, ``ctaid`` in the grid, ``slot`` among the CTAs
    that run side by side. ``cluster`` holds all CTAs of its cluster."""

    def __init__(self, machine: Machine, ctaid: tuple[int, int, int], cluster: list[Cta], slot: int) -> None:
        self.machine = machine
        self.program = machine.program
        self.ctaid = ctaid
        self.cluster, self.rank, self.slot = cluster, len(cluster), slot
        self.window = self.rank << RANK_SHIFT
        self.size = int(np.prod(machine.block))
        self.regs, self.files, self.rows = _register_file(machine.program, self.size)
        self.shared = SharedMemory(machine.smem)
        self.stack = -(-machine.program.frame // 16) * 16
        self.local = np.full(self.size * self.stack, 0xCD, np.uint8)
        self.tensor = TensorMemory()
        self.mbarriers: dict[int, MBarrier] = {}
        self.named: dict[int, NamedBarrier] = defaultdict(NamedBarrier)
        self.warp_barriers: dict[tuple[int, int], WarpBarrier] = {}
        self.bulk: dict[int, Groups] = defaultdict(Groups)
        self.warpgroups: dict[int, WarpGroup] = defaultdict(WarpGroup)
        self.copies: list[Any] = []
        self.commits = np.zeros(self.size, np.int64)
        self.live = np.ones(self.size, bool)
        self.alive = self.size
        warps = -(-self.size // 32)
        self.warp_alive = np.minimum(32, self.size - 32 * np.arange(warps))
        self.pool = 0
        self.cluster_waits = np.zeros(warps, np.int64)
        self.quota = np.full(warps, -(-machine.registers // 8) * 8)
        self.flying = False
        self.strands = [Strand(self, np.arange(self.size), 0)]
        machine.fill_specials(self)

    def report(self, code: str, message: str, inst: Instruction) -> None:
        self.machine.report(Report(code, message, inst.line, inst.loc))

    def exit(self, strand: Strand) -> None:
        """The threads of a strand are done."""
        self.machine.observer.exit(strand)
        self.live[strand.threads] = False
        self.alive -= strand.n
        np.subtract.at(self.warp_alive, strand.threads >> 5, 1)
        for named in self.named.values():
            for warp in strand.warps.tolist() if named.partly else ():
                named.ended(warp, int(self.warp_alive[warp]))

    def issue(self, op: AsyncOp) -> None:
        self.machine.flight.issue(op)

    def peer(self, address: int, inst: Instruction) -> tuple[Cta, int]:
        """The CTA and offset of a shared address: its upper bits are the rank in the cluster."""
        rank = address >> RANK_SHIFT
        if rank >= len(self.cluster):
            raise fault("D410", f"shared address {address:#x} lies in no CTA of the cluster", inst)
        return self.cluster[rank], address & (WINDOW_SIZE - 1)

    def own(self, address: Array, inst: Instruction) -> Array:
        """Offsets of shared addresses that must be in this CTA."""
        offset = address - np.uint64(self.window)
        if (offset >= WINDOW_SIZE).any():
            bad = int(address[offset >= WINDOW_SIZE][0])
            raise fault("D410", f"shared address {bad:#x} is not in the CTA itself", inst)
        result: Array = offset
        return result


def _register_file(program: Program, threads: int) -> tuple[list[Array], dict[str, Array], list[int]]:
    """Register rows, the arrays per class that hold them, and each row's index in its array."""
    files: dict[str, Array] = {}
    rows: list[int] = []
    counts: dict[str, int] = defaultdict(int)
    for cls in program.classes:
        rows.append(counts[cls])
        counts[cls] += 1
    for cls, count in counts.items():
        raw = np.full((count, threads * np.dtype(CLASS_DTYPE[cls]).itemsize), _GARBAGE, np.uint8)
        files[cls] = np.zeros((count, threads), bool) if cls == "pred" else raw.view(CLASS_DTYPE[cls])
    return [files[cls][row] for cls, row in zip(program.classes, rows, strict=True)], files, rows
