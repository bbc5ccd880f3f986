"""The checker's memories, and ordinary accesses to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tilec.ir.ptx.module import Instruction, Int
from tilec.runtime.emulator import access, check_lanes, race
from tilec.runtime.emulator.check_lanes import LaneRecord, bits_of
from tilec.runtime.emulator.check_race import Actor, Memory, RaceChecker, strong
from tilec.runtime.emulator.clocks import FIRST
from tilec.runtime.emulator.global_shadow import Allocation, GlobalShadow
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.observe import Unchanged
from tilec.runtime.emulator.operands import DTYPE
from tilec.runtime.emulator.program import Program
from tilec.runtime.emulator.shadow import Place, Shadow
from tilec.runtime.emulator.spaces import GLOBAL_BASE
from tilec.runtime.emulator.traffic import Counter, Traffic

if TYPE_CHECKING:
    from tilec.runtime.emulator.cta import Cta
    from tilec.runtime.emulator.machine import Machine
    from tilec.runtime.emulator.strand import Strand

_ACCESSES = ("ld", "st", "atom", "red", "cp", "tensormap")


class AccessChecker(RaceChecker):
    """Keeps the shadows of shared and global memory."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.granule = granules(machine.program)
        self.globals = GlobalShadow(machine.memory, self.granule["global"])
        self.traffic = Counter()

    def begin(self, ctas: Sequence[Cta]) -> None:
        super().begin(ctas)
        self.elsewhere: dict[tuple[int, int], tuple[int, Instruction]] = {}
        self.shared = [self._shared(c) for c in ctas]

    def _shared(self, cta: Cta) -> Memory:
        shadow = Shadow(len(cta.shared.data), self.granule["shared"], fresh=True)
        return Memory(shadow, "shared", 0, cta.slot, LaneRecord(shadow.count))

    def end(self) -> None:
        self.globals.retire(self.clocks)

    def read(self, s: Strand, space: str, address: Array, size: int, inst: Instruction,
             threads: Array | None = None) -> None:  # fmt: skip
        time = self.timeline.tick(inst) | strong(inst.opcode)
        self._count(s, space, address, size, threads, inst)
        for memory, actor, place in self.pieces(s, space, address, size, inst, threads, writes=False):
            if isinstance(memory, Allocation):
                memory.read(self.clocks, place, actor.column, time)
                continue
            self.check_read(memory, place, actor, inst)
            self._lanes(memory, place, actor, time, inst, writes=False)
            self.note_read(memory.shadow, place, actor, time)
            self._note_elsewhere(s, memory, actor, time, inst)

    def write(self, s: Strand, space: str, address: Array, size: int, inst: Instruction,
              threads: Array | None = None, unchanged: Unchanged = None) -> None:  # fmt: skip
        time = self.timeline.tick(inst) | strong(inst.opcode)
        self._count(s, space, address, size, threads, inst)
        pieces = list(self.pieces(s, space, address, size, inst, threads, writes=True))
        self.unchanged, self.whole = unchanged, len(pieces) == 1
        for memory, actor, place in pieces:
            if isinstance(memory, Memory):
                self.check_write(memory, place, actor, inst)
                self._lanes(memory, place, actor, time, inst, writes=True)
                self.note_write(memory.shadow, place, actor, time)
                self._note_elsewhere(s, memory, actor, time, inst)
        self.unchanged = None

    def _lanes(self, memory: Memory, place: Place, actor: Actor, time: int, inst: Instruction,
               writes: bool) -> None:  # fmt: skip
        """Check and note the lanes of an access to shared memory."""
        if memory.lanes is None or actor.lanes is None or not isinstance(place, np.ndarray):
            return
        rows, record = np.broadcast_to(np.asarray(actor.column) - FIRST, place.shape), memory.lanes
        same = self.same(len(place)) if writes else np.zeros(len(place), bool)
        found = record.find(place, rows, actor.lanes, self.clocks, writes, bool(time & 1), same)
        if found is not None:
            size = 1 << memory.shadow.shift
            warp = self.clocks.name(FIRST + int(rows[np.flatnonzero(place == found.granule)[0]]))
            text = check_lanes.text_of(found, warp, found.granule * size, size)
            self.report(found.rule.code, text, inst, found.before)
        if writes:
            record.note_write(place, rows, actor.lanes, time)
        else:
            record.note_read(place, rows, actor.lanes, time, self.clocks)

    def warp_sync(self, s: Strand, inst: Instruction) -> None:
        self.clocks.within[self.rows(s)] = self.timeline.tick(inst)

    def counts(self) -> tuple[Traffic, ...]:
        return self.traffic.result()

    def add_counts(self, counts: Sequence[Traffic]) -> None:
        for c in counts:
            self.traffic.add(c.memory, c.line, c.loc, c.requests, c.transactions, c.ideal)

    def forget_counts(self) -> None:
        self.traffic.found.clear()

    def atomic(self, s: Strand, space: str, address: Array, size: int, inst: Instruction) -> None:
        self.write(s, space, address, size, inst)

    def _note_elsewhere(self, s: Strand, memory: Memory, actor: Actor, time: int, inst: Instruction) -> None:
        """Remember an access to shared memory of another CTA, for the check at the end."""
        if memory.kind == "shared" and memory.rank != s.cta.slot:
            for column in np.unique(actor.column).tolist():
                self.elsewhere[memory.rank, column] = (time, inst)

    def _count(self, s: Strand, space: str, address: Array, size: int, threads: Array | None,
               inst: Instruction) -> None:  # fmt: skip
        """Bank conflicts and sectors."""
        who = s.threads if threads is None else threads
        if space == "generic":
            for part, there, offset in access.spaces(address):
                self._count(s, part, offset, size, who[there], inst)
        elif space != "param":
            self.traffic.count(space, address, size, who, inst)

    def pieces(
        self,
        s: Strand,
        space: str,
        address: Array,
        size: int,
        inst: Instruction,
        threads: Array | None,
        writes: bool,
    ) -> Iterator[tuple[Memory | Allocation, Actor, Place]]:
        """Each memory that is touched, by whom, and where."""
        if space == "generic":
            for part, there, offset in access.spaces(address):
                chosen = (s.threads if threads is None else threads)[there]
                yield from self.pieces(s, part, offset, size, inst, chosen, writes)
            return
        if space in ("param", "local"):
            return
        parts: Iterable[tuple[Cta | Allocation, Array | None, Array]]
        parts = access.ranks(s, address, inst) if space == "shared" else self.globals.split(address)
        for owner, mask, offset in parts:
            memory: Memory | Allocation
            if isinstance(owner, Allocation):
                memory = owner
                if owner.dirty or writes:
                    memory = self.global_memory(owner)
                shift = owner.granule.bit_length() - 1
            else:
                memory = self.shared[owner.slot]
                shift = memory.shadow.shift
            each = max(size >> shift, 1)
            by_lane = space == "shared" and not inst.opcode.startswith("tcgen05")
            some = s.threads if threads is None else threads
            some = some if mask is None else some[mask]
            lanes = bits_of(some, each, inst.opcode.startswith("ldmatrix")) if by_lane else None
            yield memory, self._warps(s, some, each, lanes), places(offset, shift, each)

    def global_memory(self, allocation: Allocation) -> Memory:
        return Memory(allocation.written(self.clocks), "global", GLOBAL_BASE + allocation.start)

    def _warps(self, s: Strand, threads: Array, each: int, lanes: Array | None) -> Actor:
        """The warps of threads, as actors of ``each`` granules a thread."""
        if len(s.warps) == 1:
            only = int(s.warps[0]) + s.cta.slot * self.per_cta
            return Actor(self.clocks.known[only], FIRST + only, race.WARP, lanes=lanes)
        rows: Array = (threads >> 5) + s.cta.slot * self.per_cta
        rows = rows if each == 1 else np.repeat(rows, each)
        return Actor(rows, FIRST + rows, race.WARP, lanes=lanes)


def places(offset: Array, shift: int, each: int) -> Array:
    """The granules of accesses to ``each`` granules."""
    first = (offset >> np.uint64(shift)).astype(np.intp)
    return first if each == 1 else (first[:, None] + np.arange(each)).ravel()


def granules(program: Program) -> dict[str, int]:
    """The smallest access to each memory, in bytes: 8 at most where mbarriers lie among data."""
    found = {"shared": 16, "global": 16}
    for op in program.code:
        opcode = op.inst.opcode
        base, parts = opcode.split(".")[0], opcode.split(".")
        if base == "mbarrier":
            found["shared"] = min(found["shared"], 8)
        if base not in _ACCESSES or not {"bulk", "param", "const", "local"}.isdisjoint(parts):
            continue
        size = _access_size(op.inst, parts)
        for memory in found:
            if memory in opcode or not ("shared" in opcode or "global" in opcode):
                found[memory] = min(found[memory], size)
    return found


def _access_size(inst: Instruction, parts: list[str]) -> int:
    """Bytes that one access of an instruction has at least."""
    if parts[0] == "tensormap":
        return 16
    if parts[:2] == ["cp", "async"]:
        size = inst.operands[2] if len(inst.operands) > 2 else None
        return size.value if isinstance(size, Int) else 16
    width = DTYPE[parts[-1]].itemsize if parts[-1] in DTYPE else 4
    vector = next((int(p[1:]) for p in parts if p in ("v2", "v4", "v8")), 1)
    return width if parts[0] in ("atom", "red") else min(width * vector, 16)
