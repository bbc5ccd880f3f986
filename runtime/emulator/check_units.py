"""The checker's cp.async and products, with their groups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tilec.ir.ptx.module import Instruction
from tilec.runtime.emulator import race
from tilec.runtime.emulator.check_copy import CopyChecker, Groups
from tilec.runtime.emulator.check_mbarrier import Release
from tilec.runtime.emulator.check_operand import reversed_rows
from tilec.runtime.emulator.check_race import Actor, Memory, forget
from tilec.runtime.emulator.clocks import CAUSE, FIRST, GLOBAL, ORDER, SHARED
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.observe import SharedOperand
from tilec.runtime.emulator.report import where

if TYPE_CHECKING:
    from tilec.runtime.emulator.cta import Cta
    from tilec.runtime.emulator.strand import Strand

_REPEAT = {4: 0, 3: 1, 2: 2, 1: 3, 0: 4}
_NAMES = ("no", "32-byte", "64-byte", "128-byte", "32-byte-atom", "64-byte-atom")


class UnitChecker(CopyChecker):
    """Adds the units that act for a warp (cp.async) and for a warpgroup (wgmma)."""

    def begin(self, ctas: Sequence[Cta]) -> None:
        super().begin(ctas)
        self.products: dict[tuple[int, int], Groups] = {}
        self.copies: dict[int, list[tuple[int, int]]] = defaultdict(list)
        self.copy_columns = np.zeros(0, np.int32)

    def release_copies(self, s: Strand, inst: Instruction) -> dict[int, Release]:
        time = self.timeline.tick(inst)
        out = {}
        for warp, row in zip(s.warps.tolist(), self.rows(s).tolist(), strict=True):
            vector = np.zeros_like(self.clocks.known[row])
            vector[:, self._copy_columns()[row]] = time
            vector[SHARED : GLOBAL + 1, self._copy_columns()[row]] = 0
            vector[CAUSE] = self.clocks.publish(np.array([row]), time)[CAUSE]
            out[warp] = Release(row, time, vector, program=False)
        return out

    def _copy_columns(self) -> Array:
        """The columns of the cp.async of each warp."""
        if not len(self.copy_columns):
            names = [f"cp.async of {self.clocks.name(FIRST + r)}" for r in range(self.clocks.warps)]
            self.copy_columns = np.array([self.clocks.add(n, race.COPY) for n in names], np.int32)
        return self.copy_columns

    def cp_async(self, s: Strand, place: Array, source: Array, size: int, used: Array,
                 inst: Instruction) -> None:  # fmt: skip
        time, columns = self.timeline.tick(inst), self._copy_columns()
        whole = used == size
        if whole.any():
            some = s if whole.all() else s.narrow(whole)
            for memory, actor, at in self.pieces(
                some, "global", source[whole], size, inst, None, writes=False
            ):
                late = Actor(actor.who, self._late(actor.column, columns), race.COPY)
                if isinstance(memory, Memory):
                    self.check_read(memory, at, late, inst)
                    self.note_read(memory.shadow, at, late, time)
                else:
                    memory.read(self.clocks, at, late.column, time)
        for memory, actor, at in self.pieces(s, "shared", place, size, inst, None, writes=True):
            if isinstance(memory, Memory):
                late = Actor(actor.who, self._late(actor.column, columns), race.COPY)
                self.check_unread(memory, at)
                self.check_write(memory, at, late, inst)
                self.note_write(memory.shadow, at, late, time)
                if isinstance(at, np.ndarray):
                    memory.shadow.note_source(at, _sources(source, whole, len(at)), time)
                forget(memory, at)
        for warp, row in zip(s.warps.tolist(), self.rows(s).tolist(), strict=True):
            group = int(s.cta.commits[s.threads[s.threads >> 5 == warp]].min())
            self.copies[row].append((group, time))

    def _late(self, column: int | Array, columns: Array) -> int | Array:
        return int(columns[column - FIRST]) if isinstance(column, int) else columns[column - FIRST]

    def cp_wait(self, s: Strand, limit: Array) -> None:
        for warp, row in zip(s.warps.tolist(), self.rows(s).tolist(), strict=True):
            below = int(limit[s.threads >> 5 == warp].min())
            time = max((t for group, t in self.copies[row] if group < below), default=0)
            self.copies[row] = [c for c in self.copies[row] if c[0] >= below]
            column = int(self._copy_columns()[row])
            for part in (ORDER, CAUSE):
                known = self.clocks.known[row, part]
                known[column] = max(known[column], time)

    def product(self, cta: Cta, group: int, reads: Sequence[SharedOperand], inst: Instruction) -> None:
        time, memory = self.timeline.tick(inst), self.shared[cta.slot]
        rows = np.arange(4) + cta.slot * self.per_cta + 4 * group
        known = self.clocks.known[rows[0] : rows[-1] + 1]
        who, groups = known.min(axis=0), self._products(cta, group)
        for operand in reads:
            self.read_operand(memory, operand, who, groups.column, time, inst)
        groups.add(time, self.clocks.publish(rows, time))
        self.activate(rows)

    def read_operand(self, memory: Memory, operand: SharedOperand, who: Array, column: int, time: int,
                     inst: Instruction) -> None:  # fmt: skip
        """A product reads 16-byte units of shared memory."""
        repeat, units = _REPEAT[memory.shadow.shift], operand.units
        place = (units[:, None] << repeat | np.arange(1 << repeat)).ravel() if repeat else units
        self._check_swizzle(memory, int(place[0]), operand.swizzle, inst)
        self._check_rows(memory, operand.pairs << repeat, operand.swizzle, inst)
        kind = self.timeline.actors[self.clocks.ids[column]].kind
        self.check_read(memory, place, Actor(who, column, kind, SHARED), inst)
        memory.shadow.note_read(place, column, time)

    def _check_swizzle(self, memory: Memory, granule: int, swizzle: int, inst: Instruction) -> None:
        """E17: a copy wrote the operand with another swizzle than the descriptor has."""
        shadow = memory.shadow
        wrote = int(shadow.swizzle[granule])
        writer = self.timeline.actors[int(shadow.writer[granule])]
        if writer.kind == race.MBARRIER and wrote != swizzle:
            before = self.timeline.site(int(shadow.wrote[granule]))
            text = (
                f"a descriptor with {_NAMES[swizzle]} swizzle reads what was copied with {_NAMES[wrote]} "
                f"swizzle at {where(before)}"
            )
            self.report("E17", text, inst, before)

    def _check_rows(self, memory: Memory, pairs: Array, swizzle: int, inst: Instruction) -> None:
        """E17: cp.async has put the units of some rows the other way round than the descriptor takes them."""
        found = reversed_rows(memory.shadow, pairs)
        if found.any():
            row = int(np.flatnonzero(found)[0])
            before = self.timeline.site(int(memory.shadow.wrote[pairs[row, 0]]))
            text = (
                f"a descriptor with {_NAMES[swizzle]} swizzle takes 16-byte units of row {row} in reverse "
                f"order, those of other rows in the order of memory; they were copied at {where(before)}"
            )
            self.report("E17", text, inst, before)

    def _products(self, cta: Cta, group: int) -> Groups:
        key = (cta.slot, group)
        if key not in self.products:
            first = self.clocks.name(FIRST + cta.slot * self.per_cta + 4 * group)
            name = f"a wgmma of {first} and the next three"
            self.products[key] = Groups(self.clocks.add(name, race.WGMMA))
        return self.products[key]

    def product_commit(self, cta: Cta, group: int) -> None:
        self._products(cta, group).commit()

    def product_wait(self, cta: Cta, group: int, pending: int, inst: Instruction) -> None:
        groups = self._products(cta, group)
        time, vector = groups.wait(pending)
        rows = np.arange(4) + cta.slot * self.per_cta + 4 * group
        self.clocks.learn(rows, groups.column, time)
        if vector is not None:
            self.clocks.acquire(rows, vector)


def _sources(source: Array, whole: Array, granules: int) -> Array:
    """Where each granule of a cp.async comes from; -1 if it is filled with zeros, even in part."""
    each = granules // len(source)
    first = np.where(whole, source.astype(np.int64), -1)
    return first if each == 1 else np.repeat(first, each)
