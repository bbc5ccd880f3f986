"""The checker's tensor memory: what orders loads, stores, products and copies (E19, E20, W26).

A record covers one column of 16 lanes: no shape of an instruction has fewer, but for the copy of
single lanes. Order is by the clocks of ``clocks``. The queue of the tensor core is an actor for
each warp that issues; what one warp has issued is ordered before what another issues if the
first's issue is. Source: NVIDIA's PTX ISA manual, "Memory Consistency Model for 5th generation of
TensorCore operations".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tilec.ir.ptx.module import Instruction
from tilec.runtime.emulator import race
from tilec.runtime.emulator.check_mbarrier import Release
from tilec.runtime.emulator.check_race import Actor, Memory
from tilec.runtime.emulator.clocks import FIRST, FOREVER, NOBODY, ORDER
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.observe import SharedOperand
from tilec.runtime.emulator.report import where
from tilec.runtime.emulator.shadow import Shadow
from tilec.runtime.emulator.tensor_watch import Cells, TensorWatch
from tilec.runtime.emulator.tmem import COLUMNS, LANES, check_end

if TYPE_CHECKING:
    from tilec.runtime.emulator.checker import Checker
    from tilec.runtime.emulator.cta import Cta
    from tilec.runtime.emulator.strand import Strand

_HALF = 16


class TensorChecker(TensorWatch):
    """Works beside the checker of everything else, with its clocks."""

    def __init__(self, checker: Checker) -> None:
        self.checker = checker

    def begin(self, ctas: Sequence[Cta]) -> None:
        size = LANES // _HALF * COLUMNS
        self.memory = [Memory(Shadow(size, 1, fresh=True), "tensor", 0, c.slot) for c in ctas]
        self.ctas = ctas
        self.columns: dict[tuple[str, int], int] = {}
        self.latest: dict[int, int] = {}
        self.before: dict[int, int] = {}
        self.after: dict[int, int] = {}

    def end(self) -> None:
        for cta in self.ctas:
            check_end(cta)

    def _column(self, row: int, kind: str) -> int:
        """The column of what acts for a warp."""
        key = (kind, row)
        if key not in self.columns:
            name = f"{_NAMES[kind]} of {self.checker.clocks.name(FIRST + row)}"
            self.columns[key] = self.checker.clocks.add(name, kind)
        return self.columns[key]

    def _in_queue(self, row: int) -> Array:
        """What a warp knows as it issues to the tensor core: the queue keeps the order of issue."""
        who: Array = self.checker.clocks.known[row].copy()
        for (kind, other), column in self.columns.items():
            if kind == race.TENSOR:
                issued = FOREVER if other == row else who[ORDER, FIRST + other]
                who[ORDER, column] = max(who[ORDER, column], issued)
        return who

    def take(self, s: Strand, start: int, count: int, inst: Instruction) -> None:
        shadow = self.memory[s.cta.slot].shadow
        place = _granules(np.arange(LANES), np.arange(start, start + count))
        shadow.note_write(place, NOBODY, 1)

    def drop(self, s: Strand, start: int, count: int, inst: Instruction) -> None:
        """E19: all accesses must be ordered before the deallocation; E20: and have been waited for."""
        row, clocks = int(self.checker.rows(s)[0]), self.checker.clocks
        for (kind, other), column in self.columns.items():
            time = self.latest.get(column, 0)
            here = other // self.checker.per_cta == s.cta.slot
            if here and kind != race.TENSOR and clocks.known[other, ORDER, column] < time:
                text = f"no {_WAITS[kind]} follows before the deallocation at {where(inst)}"
                self.checker.report("E20", text, self.checker.timeline.site(time), inst)
        place = _granules(np.arange(LANES), np.arange(start, start + count))
        actor = Actor(clocks.known[row], FIRST + row, race.FREE)
        self.checker.check_write(self.memory[s.cta.slot], place, actor, inst)

    def load(self, s: Strand, cells: Cells, inst: Instruction) -> None:
        self._registers(s, cells, race.TENSOR_LOAD, inst)

    def store(self, s: Strand, cells: Cells, inst: Instruction) -> None:
        self._registers(s, cells, race.TENSOR_STORE, inst)

    def _registers(self, s: Strand, cells: Cells, kind: str, inst: Instruction) -> None:
        checker, (cta, lanes, columns) = self.checker, cells
        time, memory = checker.timeline.tick(inst), self.memory[cta.slot]
        for w, row in enumerate(checker.rows(s).tolist()):
            at = slice(32 * w, 32 * w + 32)
            place = _granules(lanes[:, at], columns[:, at])
            column = self._column(row, kind)
            actor = Actor(checker.clocks.known[row], column, kind)
            self._check_fences(memory, place, row, inst)
            if kind == race.TENSOR_LOAD:
                checker.check_read(memory, place, actor, inst)
                memory.shadow.note_read(place, column, time)
            else:
                checker.check_write(memory, place, actor, inst)
                memory.shadow.note_write(place, checker.clocks.ids[column], time)
            self.latest[column] = time

    def wait(self, s: Strand, loads: bool, inst: Instruction) -> None:
        for row in self.checker.rows(s).tolist():
            column = self._column(row, race.TENSOR_LOAD if loads else race.TENSOR_STORE)
            self.checker.clocks.learn(np.array([row]), column, self.latest.get(column, 0))

    def issue(self, s: Strand, thread: int, shared: Sequence[tuple[Cta, SharedOperand]],
              reads: Sequence[Cells], writes: Sequence[Cells], inst: Instruction) -> None:  # fmt: skip
        checker, row = self.checker, self.checker.row(s, thread)
        time, column = checker.timeline.tick(inst), self._column(row, race.TENSOR)
        actor = Actor(self._in_queue(row), column, race.TENSOR)
        for cta, operand in shared:
            checker.read_operand(checker.shared[cta.slot], operand, actor.who, column, time, inst)
        for cells, writing in [*((c, False) for c in reads), *((c, True) for c in writes)]:
            memory, place = self.memory[cells[0].slot], _granules(*cells[1:])
            self._check_fences(memory, place, row, inst)
            (checker.check_write if writing else checker.check_read)(memory, place, actor, inst)
            if writing:
                memory.shadow.note_write(place, checker.clocks.ids[column], time)
            else:
                memory.shadow.note_read(place, column, time)
        self.latest[column] = time
        checker.active[row] = True

    def commit(self, s: Strand, thread: int, inst: Instruction) -> Release:
        """What is known at the arrival: what the warp knows, and what it has issued."""
        row = self.checker.row(s, thread)
        time, column = self.checker.timeline.tick(inst), self._column(row, race.TENSOR)
        vector = self.checker.clocks.publish(np.array([row]), time)
        vector[:, column] = time
        return Release(row, time, vector, program=False)

    def fence(self, s: Strand, after: bool, inst: Instruction) -> None:
        time = self.checker.timeline.tick(inst)
        for row in self.checker.rows(s).tolist():
            (self.after if after else self.before)[row] = time

    def _check_fences(self, memory: Memory, place: Array, row: int, inst: Instruction) -> None:
        """W26: what another warp did to these cells, ordered by a synchronisation without fences."""
        clocks, shadow = self.checker.clocks, memory.shadow
        for id in np.unique(shadow.writer[place]).tolist():
            kind = self.checker.timeline.actors[id].kind
            if kind not in _NAMES or int(clocks.column[id]) == self.columns.get((kind, row)):
                continue
            other = next(r for (k, r), c in self.columns.items() if c == int(clocks.column[id]))
            time = int(shadow.wrote[place][shadow.writer[place] == id].max())
            before = self.checker.timeline.site(time)
            missing = ""
            if kind == race.TENSOR_STORE and other != row and self.before.get(other, 0) < time:
                missing = "before_thread_sync follows it"
            elif self.after.get(row, 0) < self.checker.last_acquire[row] and other != row:
                missing = "after_thread_sync follows the last wait here"
            elif kind == race.TENSOR and self.after.get(row, 0) < time and ".mma" not in inst.opcode:
                missing = "after_thread_sync stands between"
            if missing:
                text = f"these cells were written at {where(before)}, and no tcgen05.fence::{missing}"
                self.checker.report("W26", text, inst, before)


_NAMES = {
    race.TENSOR: "tcgen05.mma, cp or shift", race.TENSOR_LOAD: "a tcgen05.ld",
    race.TENSOR_STORE: "a tcgen05.st",
}  # fmt: skip
_WAITS = {race.TENSOR_LOAD: "tcgen05.wait::ld", race.TENSOR_STORE: "tcgen05.wait::st"}


def _granules(lanes: Array, columns: Array) -> Array:
    """The records of all lanes of all columns."""
    halves = np.unique(lanes >> 4)
    span = np.arange(int(columns.min()), int(columns.max()) + 1)
    found: Array = (halves[:, None] * COLUMNS + span).ravel()
    return found
