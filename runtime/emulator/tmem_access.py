"""tcgen05.ld, st and wait: between registers and tensor memory.

A load takes its cells at some time until the wait; it writes its registers before an
instruction uses them, since the hardware keeps that order (PTX ISA manual, "Register
dependencies, same thread"). A store has read its registers when it is issued.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from tilec.ir.ptx.module import Addr, Instruction, Int, Operand, Vec
from tilec.runtime.emulator.alu import mods
from tilec.runtime.emulator.asyncops import AsyncOp
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.operands import address, getter, per_thread, setter
from tilec.runtime.emulator.program import Op, Program, Run
from tilec.runtime.emulator.report import fault
from tilec.runtime.emulator.strand import Wait
from tilec.runtime.emulator.tmem import split

if TYPE_CHECKING:
    from tilec.runtime.emulator.cta import Cta
    from tilec.runtime.emulator.strand import Strand

Cells = tuple[Array, Array]


@cache
def fragment(shape: str, registers: int, halves: int = 0, packed: bool = False) -> Cells:
    """(lane, column) relative to the address of each register of each thread: (registers, 32).
    ``halves`` is the offset between the two parts of 16x32bx2. A packed register holds the lower
    halves of its column and of the next."""
    r, t = np.meshgrid(np.arange(registers), np.arange(32), indexing="ij")
    lane, column = _SHAPES[shape](r, t)
    return lane, column * (2 if packed else 1) + (t // 16 * halves if shape == "16x32bx2" else 0)


_SHAPES: dict[str, Callable[[Array, Array], Cells]] = {
    "32x32b": lambda r, t: (t, r),
    "16x64b": lambda r, t: (t // 4 + 8 * (t % 2), 2 * r + t // 2 % 2),
    "16x128b": lambda r, t: (t // 4 + 8 * (r % 2), 4 * (r // 2) + t % 4),
    "16x256b": lambda r, t: (t // 4 + 8 * (r % 4 >> 1), 8 * (r // 4) + 2 * (t % 4) + (r & 1)),
    "16x32bx2": lambda r, t: (t % 16, r),
}


class Transfer:
    """A load or store of a strand: which cells its registers are, and those registers."""

    def __init__(self, inst: Instruction, program: Program) -> None:
        self.inst, parts = inst, mods(inst)
        self.shape = parts[3]
        self.packed = "pack::16b" in parts or "unpack::16b" in parts
        vector = next(o for o in inst.operands if isinstance(o, Vec))
        self.items: tuple[Operand, ...] = vector.items
        halves = next((o.value for o in inst.operands if isinstance(o, Int)), 0)
        wanted = int(parts[4][1:]) * {"16x128b": 2, "16x256b": 4}.get(self.shape, 1)
        if len(self.items) != wanted:
            raise fault("D405", f"{len(self.items)} registers where the shape has {wanted}", inst)
        self.lane, self.column = fragment(self.shape, wanted, halves, self.packed)
        self.where = address(program, next(o for o in inst.operands if isinstance(o, Addr)), inst)

    def cells(self, s: Strand) -> Cells:
        """(lanes, columns) of the strand's registers: (registers, threads). E19 for lanes of
        another warp. The lane bits that name the quarter may be zero."""
        place, inst = self.where(s), self.inst
        lanes, columns = np.empty((len(self.items), s.n), np.intp), np.empty((len(self.items), s.n), np.intp)
        for w, warp in enumerate(s.warps.tolist()):
            at = slice(32 * w, 32 * w + 32)
            if (place[at] != place[at][0]).any():
                raise fault("E15", "the address of tensor memory differs within the warp", inst)
            lane, column = split(int(place[at][0]))
            quarter, inside = warp % 4, lane % 32
            if lane // 32 not in (0, quarter) or inside not in ((0,) if self.shape == "32x32b" else (0, 16)):
                text = f"warp {warp} accesses lane {lane} of tensor memory with shape {self.shape}"
                raise fault("E19", f"{text}; its lanes begin at {32 * quarter}", inst)
            lanes[:, at] = self.lane + 32 * quarter + inside
            columns[:, at] = self.column + column
        s.cta.tensor.require(columns + (1 if self.packed else 0), inst)
        s.cta.tensor.require(columns, inst)
        return lanes, columns

    def touched(self, s: Strand, lanes: Array, columns: Array) -> tuple[Cta, Array, Array]:
        """The cells of ``load`` and ``store``, with the second column of packed values."""
        if not self.packed:
            return s.cta, lanes, columns
        return s.cta, np.concatenate([lanes, lanes]), np.concatenate([columns, columns + 1])


def _gather(s: Strand) -> Wait:
    return Wait(s.whole, lambda: "waits for the other threads of its warp to reach this instruction")


def load(inst: Instruction, program: Program) -> Run:
    what = Transfer(inst, program)
    puts = [setter(program, o, "b32", inst) for o in what.items]
    rows = frozenset(program.register(o, inst) for o in what.items)

    def run(s: Strand) -> Wait | None:
        if s.n != 32 * len(s.warps):
            return _gather(s)
        lanes, columns = what.cells(s)
        issuer, cells = s.narrow(np.ones(s.n, bool)), s.cta.tensor.cells
        s.cta.machine.tensor.load(s, what.touched(s, lanes, columns), inst)

        def act() -> None:
            data = cells[lanes, columns]
            if what.packed:
                data = data & np.uint32(0xFFFF) | cells[lanes, columns + 1] << np.uint32(16)
            for put, row in zip(puts, data, strict=True):
                put(issuer, row)

        _issue(s, Pending(AsyncOp("tcgen05.ld", [act]), rows))
        return None

    return run


def store(inst: Instruction, program: Program) -> Run:
    what = Transfer(inst, program)
    gets = [getter(program, o, "b32", inst) for o in what.items]

    def run(s: Strand) -> Wait | None:
        if s.n != 32 * len(s.warps):
            return _gather(s)
        lanes, columns = what.cells(s)
        values = np.stack([per_thread(s, g(s)) for g in gets])
        cells = s.cta.tensor.cells
        s.cta.machine.tensor.store(s, what.touched(s, lanes, columns), inst)

        def act() -> None:
            if what.packed:
                cells[lanes, columns] = values & np.uint32(0xFFFF)
                cells[lanes, columns + 1] = values >> np.uint32(16)
            else:
                cells[lanes, columns] = values

        _issue(s, Pending(AsyncOp("tcgen05.st", [act]), frozenset()))
        return None

    return run


class Pending:
    """A load or store that no wait has covered. ``rows`` are the registers that a load writes."""

    def __init__(self, op: AsyncOp, rows: frozenset[int]) -> None:
        self.op, self.rows = op, rows


def _issue(s: Strand, pending: Pending) -> None:
    for warp in s.warps.tolist():
        s.cta.tensor.pending.setdefault(warp, []).append(pending)
    if pending.rows:
        s.cta.flying = True
    s.cta.issue(pending.op)


def wait(inst: Instruction, program: Program) -> Run:
    """tcgen05.wait::ld and wait::st: what these warps issued is done."""
    loads = mods(inst)[0] == "wait::ld"

    def run(s: Strand) -> None:
        for warp in s.warps.tolist():
            held = s.cta.tensor.pending.get(warp, [])
            for p in [p for p in held if bool(p.rows) == loads]:
                p.op.finish()
            s.cta.tensor.pending[warp] = [p for p in held if bool(p.rows) != loads]
        s.cta.flying = s.cta.tensor.loading() or any(g.flying for g in s.cta.warpgroups.values())
        s.cta.machine.tensor.wait(s, loads, inst)

    return run


def settle(s: Strand, op: Op) -> None:
    """Loads of these warps whose registers an instruction uses write them first."""
    for warp in s.warps.tolist():
        for p in s.cta.tensor.pending.get(warp, ()):
            if not p.rows.isdisjoint(op.touches):
                p.op.finish()


def loaded_rows(inst: Instruction, program: Program) -> set[int]:
    """Registers that a tcgen05.ld writes."""
    vector = inst.operands[0]
    return {program.register(r, inst) for r in vector.items} if isinstance(vector, Vec) else set()
