"""Tensor memory of a CTA (128 lanes of 512 words), and who has allocated which columns.

Source of the rules: NVIDIA's PTX ISA manual, sections "Tensor Memory" and "tcgen05.alloc,
tcgen05.dealloc, tcgen05.relinquish_alloc_permit".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tilec.ir.ptx.module import Instruction
from tilec.runtime.emulator import access
from tilec.runtime.emulator.alu import mods
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.operands import address, getter, per_thread
from tilec.runtime.emulator.program import Program, Run
from tilec.runtime.emulator.report import fault
from tilec.runtime.emulator.strand import Wait

if TYPE_CHECKING:
    from tilec.runtime.emulator.cta import Cta
    from tilec.runtime.emulator.strand import Strand

LANES, COLUMNS, LEAST = 128, 512, 32
FREE = -1
_GARBAGE = 0xA5A5A5A5


class Meeting:
    """A call that one warp of each CTA of a pair makes together: ``acts`` run once, by rank, when
    both are there and a place has been found."""

    def __init__(self) -> None:
        self.acts: dict[int, Callable[[int], None]] = {}
        self.over = False

    def ready(self, find: Callable[[], int | None]) -> bool:
        if not self.over and len(self.acts) == 2:
            place = find()
            if place is not None:
                self.over = True
                for rank in sorted(self.acts):
                    self.acts[rank](place)
        return self.over


class TensorMemory:
    """``cells`` are the words, ``owner`` the number of the allocation that has a column or FREE,
    ``pipe`` the queue of products, ``pending`` the loads and stores of each warp that no wait has
    covered."""

    def __init__(self) -> None:
        self.cells = np.full((LANES, COLUMNS), _GARBAGE, np.uint32)
        self.owner = np.full(COLUMNS, FREE, np.int32)
        self.sizes: dict[int, int] = {}
        self.last: Instruction | None = None
        self.given = 0
        self.permit = True
        self.meetings: dict[str, Meeting] = {}
        self.pipe: Any = None
        self.pending: dict[int, list[Any]] = {}

    def loading(self) -> bool:
        """Whether a tcgen05.ld awaits its wait."""
        return any(p.rows for held in self.pending.values() for p in held)

    def places(self, count: int) -> list[int]:
        """The first columns at which ``count`` columns are free."""
        free = self.owner.reshape(-1, count).max(axis=1) == FREE
        return [int(i) * count for i in np.flatnonzero(free)]

    def take(self, start: int, count: int, inst: Instruction) -> None:
        self.owner[start : start + count] = self.given
        self.sizes[start] = count
        self.given += 1
        self.last = inst

    def drop(self, start: int, count: int, inst: Instruction) -> None:
        """E19 unless these columns are one allocation."""
        if self.sizes.get(start) != count:
            have = ", ".join(f"{n} at {at}" for at, n in sorted(self.sizes.items())) or "none"
            text = f"{count} columns at {start} are no allocation of tensor memory (there are: {have})"
            raise fault("E19", text, inst)
        del self.sizes[start]
        self.owner[start : start + count] = FREE
        self.cells[:, start : start + count] = _GARBAGE

    def require(self, column: Array, inst: Instruction) -> None:
        """E19 unless all columns are allocated."""
        low, high = int(column.min()), int(column.max())
        if high >= COLUMNS or (self.owner[low : high + 1] == FREE).any():
            text = f"columns {low} to {high} of tensor memory are not allocated"
            raise fault("E19", text, inst)


def split(place: int) -> tuple[int, int]:
    """Lane and column of an address."""
    return place >> 16 & 0xFFFF, place & 0xFFFF


def pair(cta: Cta, inst: Instruction) -> list[Cta]:
    """The two CTAs of a cta_group::2, even one first."""
    found = [c for c in cta.cluster if c.rank >> 1 == cta.rank >> 1]
    if len(found) != 2:
        raise fault("D415", "cta_group::2 needs a cluster of CTA pairs", inst)
    return found


def group_of(s_cta: Cta, inst: Instruction) -> list[Cta]:
    """The CTAs that an instruction acts on, by its .cta_group."""
    return pair(s_cta, inst) if ".cta_group::2" in inst.opcode else [s_cta]


def _columns(s: Strand, value: Array, inst: Instruction) -> int:
    count = int(value[0])
    if (value != count).any():
        raise fault("E15", "the number of columns differs within the warp", inst)
    if not LEAST <= count <= COLUMNS or count & (count - 1):
        raise fault("E19", f"{count} columns of tensor memory: only powers of two from 32 to 512", inst)
    return count


def _one_warp(s: Strand, inst: Instruction) -> None:
    if len(s.warps) != 1:
        raise fault("E19", f"{len(s.warps)} warps execute this at once, where one may", inst)


def _choose(s: Strand, ctas: list[Cta], count: int) -> int | None:
    """A place that is free in all CTAs: the first, or in RANDOM any."""
    free = set(ctas[0].tensor.places(count)).intersection(*(c.tensor.places(count) for c in ctas[1:]))
    if not free:
        return None
    machine = s.cta.machine
    return sorted(free)[int(machine.rng.integers(len(free))) if machine.mode == "random" else 0]


def alloc(inst: Instruction, program: Program) -> Run:
    """tcgen05.alloc: takes columns, waiting until they are free, and stores their address."""
    where, amount = address(program, inst.operands[0], inst), getter(program, inst.operands[1], "u32", inst)
    space = "shared" if "shared::cta" in mods(inst) else "generic"

    def run(s: Strand) -> Wait | None:
        _one_warp(s, inst)
        count, ctas = _columns(s, per_thread(s, amount(s)), inst), group_of(s.cta, inst)
        if not s.cta.tensor.permit:
            raise fault("E19", "tcgen05.alloc after relinquish_alloc_permit", inst)
        first = s.narrow(np.arange(s.n) == 0)
        target = where(s)[:1]

        def write(start: int) -> None:
            s.cta.tensor.take(start, count, inst)
            s.cta.machine.tensor.take(s, start, count, inst)
            access.store(first, space, target, np.array([start], np.uint32), 4, 1, inst)

        if len(ctas) == 2:
            return _together(s, ctas, "alloc", lambda: _choose(s, ctas, count), write)
        place = _choose(s, ctas, count)
        if place is None:
            return Wait(
                lambda: bool(s.cta.tensor.places(count)),
                lambda: f"waits for {count} columns of tensor memory, of which {_free(s.cta)} are free",
            )
        write(place)
        return None

    return run


def _free(cta: Cta) -> int:
    return int((cta.tensor.owner == FREE).sum())


def _together(s: Strand, ctas: list[Cta], name: str, find: Callable[[], int | None],
              act: Callable[[int], None]) -> Wait | None:  # fmt: skip
    """Do ``act`` in both CTAs with what ``find`` gives, when a warp of each is there."""
    meetings = ctas[0].tensor.meetings
    call = meetings.setdefault(name, Meeting())
    call.acts[s.cta.rank] = act
    if len(call.acts) == 2:
        del meetings[name]
    if call.ready(find):
        return None
    return Wait(
        lambda: call.ready(find), lambda: f"waits for the other CTA of its pair at {name}", retry=False
    )


def dealloc(inst: Instruction, program: Program) -> Run:
    """tcgen05.dealloc. In a pair it may wait for the other CTA: it does in LAZY, and in RANDOM with
    odd seeds."""
    where, amount = (getter(program, o, "u32", inst) for o in inst.operands[:2])

    def run(s: Strand) -> Wait | None:
        _one_warp(s, inst)
        count, ctas = _columns(s, per_thread(s, amount(s)), inst), group_of(s.cta, inst)
        machine = s.cta.machine
        lane, start = split(int(per_thread(s, where(s))[0]))
        if lane:
            raise fault("E19", f"lane {lane} in the address of a deallocation", inst)
        machine.tensor.drop(s, start, count, inst)
        waits = machine.mode == "lazy" or (machine.mode == "random" and machine.seed % 2 == 1)
        if len(ctas) == 2 and waits:
            return _together(s, ctas, "dealloc", lambda: start, lambda at: s.cta.tensor.drop(at, count, inst))
        s.cta.tensor.drop(start, count, inst)
        return None

    return run


def relinquish(inst: Instruction, program: Program) -> Run:
    """tcgen05.relinquish_alloc_permit: this CTA allocates no more."""

    def run(s: Strand) -> None:
        s.cta.tensor.permit = False

    return run


def check_end(cta: Cta) -> None:
    """E19 for what is allocated when all threads have ended."""
    memory = cta.tensor
    if memory.sizes and memory.last is not None:
        held = ", ".join(f"{n} columns at {at}" for at, n in sorted(memory.sizes.items()))
        cta.report("E19", f"the kernel ends without the deallocation of tensor memory: {held}", memory.last)
