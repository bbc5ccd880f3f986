"""cp.async: copies of 4 to 16 bytes a thread, their groups and arrivals."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tilec.ir.ptx.module import Instruction, Int, Operand
from tilec.runtime.emulator.alu import groups_left, mods
from tilec.runtime.emulator.asyncops import AsyncOp
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.operands import address, getter, per_thread, shared_address
from tilec.runtime.emulator.program import Program, Run
from tilec.runtime.emulator.report import fault

if TYPE_CHECKING:
    from tilec.runtime.emulator.cta import Cta
    from tilec.runtime.emulator.strand import Strand


def cp_async(inst: Instruction, program: Program) -> Run:
    """cp.async, its groups, and its arrival on an mbarrier."""
    parts = mods(inst)
    if "mbarrier" in parts:
        return _copies_arrive(inst, program)
    if "commit_group" in parts:
        return _commit
    if "wait_group" in parts or "wait_all" in parts:
        pending, everything = groups_left(inst), "wait_all" in parts
        return lambda s: _wait_copies(s, pending, everything)
    return _copy(inst, program)


class Copy:
    """cp.async of the threads of a strand: done per thread, at the thread's own wait."""

    def __init__(
        self, s: Strand, to: Array, source: Array, size: int, used: Array, inst: Instruction
    ) -> None:
        self.cta, self.inst, self.size = s.cta, inst, size
        self.threads, self.group = s.threads, s.cta.commits[s.threads]
        self.to, self.source, self.used = to, source, used
        self.left = np.ones(s.n, bool)

    def act(self, mask: Array) -> None:
        """Copy for the threads of a mask that are still to be done."""
        mask = mask & self.left
        self.left &= ~mask
        memory = self.cta.machine.memory
        for i in np.flatnonzero(mask):
            used, at = int(self.used[i]), int(self.to[i])
            data = np.zeros(self.size, np.uint8)
            if used:
                memory.offsets(self.source[i : i + 1], used, self.inst)
                data[:used] = memory.touch(int(self.source[i]), used, writes=False)
            self.cta.shared.data[at : at + self.size] = data


def _copy(inst: Instruction, program: Program) -> Run:
    to, source = (address(program, o, inst) for o in inst.operands[:2])
    size = inst.operands[2].value if isinstance(inst.operands[2], Int) else 0
    cached = "L2::cache_hint" in mods(inst)
    rest = inst.operands[3 : -1 if cached else None]
    used = _used(rest[0], size, inst, program) if rest else lambda s: np.uint32(size)

    def run(s: Strand) -> None:
        places = to(s)
        offsets = s.cta.own(places, inst)
        s.cta.shared.require(offsets, size, inst)
        if (places % np.uint64(size)).any() or (source(s) % np.uint64(size)).any():
            raise fault("D411", f"cp.async needs addresses that are multiples of {size}", inst)
        copy = Copy(s, offsets, source(s), size, np.minimum(per_thread(s, used(s)), size), inst)
        s.cta.machine.observer.cp_async(s, places, copy.source, size, copy.used, inst)
        if s.cta.machine.mode == "eager":
            copy.act(np.ones(s.n, bool))
            return
        s.cta.copies.append(copy)

    return run


def _used(operand: Operand, size: int, inst: Instruction, program: Program) -> Callable[[Strand], Any]:
    """The bytes that are read: an amount, or all unless a predicate says to ignore the source."""
    if isinstance(operand, Int) or program.classes[program.register(operand, inst)] != "pred":
        return getter(program, operand, "u32", inst)
    ignored = getter(program, operand, "pred", inst)
    return lambda s: np.where(ignored(s), np.uint32(0), np.uint32(size))


def _commit(s: Strand) -> None:
    s.cta.commits[s.threads] += 1


def _wait_copies(s: Strand, pending: int, everything: bool) -> None:
    """Complete the copies of these threads in all but the newest ``pending`` groups."""
    limit = s.cta.commits[s.threads] - pending + (1 if everything else 0)
    s.cta.machine.observer.cp_wait(s, limit)
    finish_copies(s.cta, s.threads, limit)


def finish_copies(cta: Cta, threads: Array, limit: Array) -> None:
    """Act for the copies of ``threads`` whose group is below each thread's ``limit``."""
    by_thread = np.full(cta.size, -1, np.int64)
    by_thread[threads] = limit
    for copy in cta.copies:
        copy.act(copy.group < by_thread[copy.threads])
    cta.copies = [c for c in cta.copies if c.left.any()]


def _copies_arrive(inst: Instruction, program: Program) -> Run:
    from tilec.runtime.emulator.mbarrier import arrive, barrier_at

    where, counted = shared_address(program, inst.operands[0], inst), "noinc" not in mods(inst)

    def run(s: Strand) -> None:
        places = where(s)
        for place in places if counted else ():
            barrier_at(s.cta, int(place), inst).pending += 1
        threads, limit = s.threads, s.cta.commits[s.threads] + 1
        releases, cta = s.cta.machine.observer.release_copies(s, inst), s.cta

        def act() -> None:
            finish_copies(cta, threads, limit)
            for thread, place in zip(threads.tolist(), places.tolist(), strict=True):
                arrive(cta, place, 1, inst, releases.get(thread >> 5))

        s.cta.issue(AsyncOp("cp.async.mbarrier.arrive", [act]))

    return run
