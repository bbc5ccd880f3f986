"""Which strand runs next, branching, merging and waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.program import Op
from tilec.runtime.emulator.report import fault
from tilec.runtime.emulator.stall import STEP, Stall
from tilec.runtime.emulator.strand import Strand, Wait
from tilec.runtime.emulator.tmem_access import settle

if TYPE_CHECKING:
    from tilec.runtime.emulator.cta import Cta, WarpGroup
    from tilec.runtime.emulator.machine import Machine

_BUDGET = 20_000
# With clusters side by side, who spins must let the others go on.
_SHORT = 200
_QUIET = 1_000_000
_PART = 0.2
_PATIENCE = 20


class Scheduler:
    """Runs the strands of the CTAs that run side by side until all have ended."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.code = machine.program.code
        self.random = machine.mode == "random"
        machine.last_effect = machine.now
        self.stall = Stall(machine)
        self.expired = -1
        budget = _SHORT if machine.together else _BUDGET
        self.budget = min(budget, machine.limit + 1) if machine.limit else budget

    def run(self) -> None:
        """Until no strand is left. DeadlockError if none can go on."""
        while True:
            strands = [s for cta in self.machine.ctas for s in cta.strands]
            if not strands:
                return
            if self.machine.flight.maybe():
                self.machine.last_effect = self.machine.now
            chosen = self._choose(strands)
            if chosen is not None:
                self._advance(chosen)
                if self.stall.calm:
                    self.stall.note(chosen)

    def _choose(self, strands: list[Strand]) -> Strand | None:
        """The next strand; None after an asynchronous operation had to act instead."""
        if self.machine.now - self.machine.last_effect > _QUIET:
            raise self.machine.deadlock(strands, f"no progress in {_QUIET} instructions:", "D416")
        if 0 < self.machine.limit < self.machine.now:
            raise self.machine.deadlock(strands, f"the limit of {self.machine.limit} instructions:", "D418")
        ready = [s for s in strands if s.wait is None or s.wait.ready()]
        fresh = [s for s in ready if not (self.stall.repeats(s) if self.random else s.spun)]
        if fresh:
            return self._pick(fresh)
        if self.machine.flight.force():
            self.machine.last_effect = self.machine.now
            return None
        if not ready:
            if self._expire(strands):
                return None
            raise self.machine.deadlock(strands, "no thread can go on:")
        if self.stall.found(ready):
            raise self.machine.deadlock(strands, "all that can run repeat themselves:", "D416")
        for s in ready:
            s.spun = False
        return None

    def _expire(self, strands: list[Strand]) -> bool:
        """End the waits that have a time limit, unless they have been ended since the last effect."""
        timed = [s for s in strands if s.wait is not None and s.wait.timed]
        if not timed or self.expired == self.machine.last_effect:
            return False
        self.expired = self.machine.last_effect
        for s in timed:
            s.wait = None
            s.pc += 1
        return True

    def _pick(self, ready: list[Strand]) -> Strand:
        if not self.random:
            return min(ready, key=lambda s: s.pc)
        candidate = self._starving(ready) or ready[int(self.machine.rng.integers(len(ready)))]
        behind = [s for s in ready if s.cta is candidate.cta and s.shares_warp(candidate)]
        chosen = min(behind, key=lambda s: s.pc)
        if chosen.wait is None and self.machine.rng.random() < _PART:
            self._part(chosen)
        return chosen

    def _starving(self, ready: list[Strand]) -> Strand | None:
        """RANDOM is unfair, but not for ever: who was passed over too often runs next."""
        for s in ready:
            s.passed_over += 1
        oldest = max(ready, key=lambda s: s.passed_over)
        return oldest if oldest.passed_over > _PATIENCE else None

    def _part(self, s: Strand) -> None:
        """RANDOM: the warpgroups, or else the warps, of a strand go separate ways."""
        groups = s.groups()
        if len(groups) > 1:
            self._split_off(s, s.threads >> 7 != groups[0], s.pc)
        elif len(s.warps) > 1:
            self._split_off(s, s.threads >> 5 != s.warps[0], s.pc)

    def _advance(self, s: Strand) -> None:
        """Run a strand until it waits, ends, branches apart, or should let others run."""
        if s.wait is not None:
            if not s.wait.retry:
                s.pc += 1
            s.wait = None
        s.passed_over = 0
        machine, cta, code = self.machine, s.cta, self.code
        budget = min(self.budget, STEP) if self.stall.calm else self.budget
        budget = int(machine.rng.integers(1, 60)) if self.random else budget
        for _ in range(budget):
            op = code[s.pc]
            if op.join and len(cta.strands) > 1:
                self._merge(s)
                if self._is_ahead(s):
                    return
            if op.whole and not s.whole(op.group):
                s.wait = _for_the_rest(s, op)
                return
            machine.now += 1
            if cta.flying:
                _check_flying(s, op)
            if not self._execute(s, op):
                return
        s.spun = not self.random

    def _merge(self, s: Strand) -> None:
        """Take in the strands that stand at the same instruction."""
        cta = s.cta
        for other in [o for o in cta.strands if o is not s and o.pc == s.pc]:
            if other.wait is not None and not other.wait.retry:
                continue
            if self.random and not (s.shares_warp(other) or self.code[s.pc].group):
                continue
            cta.strands.remove(other)
            s.become(np.sort(np.concatenate([s.threads, other.threads])))

    def _is_ahead(self, s: Strand) -> bool:
        """Whether threads of the same warps stand further back and can run."""
        return any(
            o.pc < s.pc and not o.spun and (o.wait is None or o.wait.ready()) and o.shares_warp(s)
            for o in s.cta.strands
            if o is not s
        )

    def _execute(self, s: Strand, op: Op) -> bool:
        """Run one instruction; False if the strand must stop for now."""
        mask = None
        if op.pred >= 0:
            mask = s.regs[op.pred][s.sel]
            mask = ~mask if op.negated else mask
            if mask.all():
                mask = None
            elif not mask.any():
                s.pc += 1
                return True
        if op.targets is not None:
            return self._branch(s, op, mask)
        part = s if mask is None else s.narrow(mask)
        if op.full:
            _require_full(part, op)
        wait = op.run(part)
        if wait is None:
            s.pc += 1
            self._note(part, op)
            return True
        if mask is not None:
            self._split_off(s, ~mask, s.pc + 1)
        return self._wait(s, wait)

    def _note(self, part: Strand, op: Op) -> None:
        if op.effect:
            self.machine.last_effect = self.machine.now
        if op.watched and self.machine.observer.checks:
            for number in part.groups().tolist():
                group = part.cta.warpgroups[number]
                if op.moves:
                    group.moved |= op.watched
                else:
                    group.unfenced |= op.watched

    def _wait(self, s: Strand, wait: Wait) -> bool:
        if wait.spin:
            s.pc += 1
            s.spun = not self.random
            return False
        if wait.passed is not None and wait.passed.any():
            self._split_off(s, wait.passed, s.pc + 1)
        s.wait = wait
        return False

    def _split_off(self, s: Strand, mask: Array, pc: int) -> Strand:
        """Threads of ``mask`` leave the strand and go on at ``pc``."""
        gone = Strand(s.cta, s.threads[mask], pc)
        s.become(s.threads[~mask])
        s.cta.strands.append(gone)
        return gone

    def _branch(self, s: Strand, op: Op, mask: Array | None) -> bool:
        if op.inst.opcode.startswith(("ret", "exit")):
            return _end(s, mask, self)
        if op.index is not None:
            return self._branch_indexed(s, op, mask)
        target = (op.targets or (0,))[0]
        if mask is None:
            s.pc = target
            return True
        self._split_off(s, mask, target)
        s.pc += 1
        return False

    def _branch_indexed(self, s: Strand, op: Op, mask: Array | None) -> bool:
        if mask is not None:
            self._split_off(s, ~mask, s.pc + 1)
        targets = op.targets or ()
        index = np.broadcast_to(op.index(s) if op.index else 0, (s.n,))
        choices = [int(c) for c in np.unique(index)]
        if choices[-1] >= len(targets):
            raise fault("D402", f"there is no label {choices[-1]} in the table", op.inst)
        for choice in choices[1:]:
            here = np.broadcast_to(op.index(s) if op.index else 0, (s.n,)) == choice
            self._split_off(s, here, targets[choice])
        s.pc = targets[choices[0]]
        return len(choices) == 1 and mask is None


def _end(s: Strand, mask: Array | None, scheduler: Scheduler) -> bool:
    """Threads leave the kernel; the rest goes on."""
    gone = s if mask is None else scheduler._split_off(s, mask, s.pc)
    gone.cta.exit(gone)
    gone.cta.strands.remove(gone)
    if mask is not None:
        s.pc += 1
    return mask is not None


def _require_full(s: Strand, op: Op) -> None:
    """E15 and E16: the instruction needs whole warps, or warpgroups."""
    if s.n != 32 * len(s.warps):
        raise fault("E15", f"{s.n} threads of {len(s.warps)} warps execute an aligned instruction", op.inst)
    if op.group and (len(s.warps) % 4 or (s.warps[::4] % 4).any() or len(s.groups()) * 4 != len(s.warps)):
        first, last = int(s.warps[0]), int(s.warps[-1])
        text = f"warps {first} to {last} execute what four aligned warps must execute together"
        raise fault("E16", text, op.inst)


def _for_the_rest(s: Strand, op: Op) -> Wait:
    scope = "warpgroup" if op.group else "warp"
    return Wait(
        lambda: s.whole(op.group),
        lambda: f"waits for the other threads of its {scope} to reach this instruction",
        on=op,
    )


def _check_flying(s: Strand, op: Op) -> None:
    """An ordinary instruction touches registers of a product in flight."""
    if s.cta.tensor.pending:
        settle(s, op)
    if not op.touches or op.group or op.inst.opcode.startswith("wgmma"):
        return
    for number in s.groups().tolist():
        group = s.cta.warpgroups[number]
        used = _in_flight(group, op)
        if op.moves and (used or not op.touches.isdisjoint(group.copies)):
            _copy_flying(s.cta, group, op, used)
        elif used:
            _report_flying(s.cta, used, group, op)
        if not op.moves and group.copies:
            for row in op.touches - op.sources:
                group.copies.pop(row, None)


def _in_flight(group: WarpGroup, op: Op) -> frozenset[int]:
    """The registers of products in flight that an instruction uses, itself or through copies."""
    if not group.flying:
        return frozenset()
    used = op.touches & group.flying.keys()
    for row in op.sources & group.copies.keys():
        used |= group.copies[row] & group.flying.keys()
    return used


def _copy_flying(cta: Cta, group: WarpGroup, op: Op, used: frozenset[int]) -> None:
    """A move waits for the product, or the assembler does without it; its result is not to be used
    before the wait."""
    if used:
        for product in group.groups.all_ops():
            product.finish()
        cta.report("W28", "a register of a wgmma in flight is moved before its wait_group", op.inst)
    for row in op.touches - op.sources:
        if used:
            group.copies[row] = used
        else:
            group.copies.pop(row, None)


def _report_flying(cta: Cta, used: frozenset[int], group: WarpGroup, op: Op) -> None:
    """E5 and E7."""
    if used.isdisjoint(group.skipped):
        cta.report("E5", "a register of a wgmma in flight is used before its wait_group", op.inst)
    else:
        text = "a register of a wgmma is used, which the last wgmma.wait_group has left in flight"
        cta.report("E7", text, op.inst)
