"""clusterlaunchcontrol: a running cluster takes over one that has not been launched.

Source: NVIDIA's PTX ISA manual, "clusterlaunchcontrol". The answer's encoding is ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tilec.ir.ptx.module import Instruction, Operand, Reg, Vec
from tilec.runtime.emulator import access
from tilec.runtime.emulator.alu import Builder, mods
from tilec.runtime.emulator.asyncops import AsyncOp
from tilec.runtime.emulator.mbarrier import barrier_at, complete_tx
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.operands import getter, per_thread, setter, shared_address
from tilec.runtime.emulator.program import Program, Run

if TYPE_CHECKING:
    from tilec.runtime.emulator.cta import Cta
    from tilec.runtime.emulator.machine import Machine
    from tilec.runtime.emulator.strand import Strand

_BYTES = 16


def control(inst: Instruction, program: Program) -> Run:
    if mods(inst)[0] == "try_cancel":
        return _try_cancel(inst, program)
    return _query(inst, program)


def _try_cancel(inst: Instruction, program: Program) -> Run:
    """Each thread asks for a cluster; the answer lands in 16 bytes and completes on an mbarrier, in
    this CTA or in all of the cluster."""
    where, barrier = (shared_address(program, o, inst) for o in inst.operands[:2])
    everywhere = "multicast::cluster::all" in mods(inst)

    def run(s: Strand) -> None:
        for i, (place, bar) in enumerate(
            zip(s.cta.own(where(s), inst), s.cta.own(barrier(s), inst), strict=True)
        ):
            one = s.narrow(np.arange(s.n) == i)
            targets = s.cta.cluster if everywhere else [s.cta]
            for cta in targets:
                barrier_at(cta, cta.window + int(bar), inst)
            _issue(one, targets, int(place), int(bar), inst)

    return run


def _issue(one: Strand, targets: list[Cta], place: int, bar: int, inst: Instruction) -> None:
    machine = one.cta.machine
    landed = [
        machine.observer.store_async(
            one, np.array([c.window + place], np.uint64), _BYTES, barrier_at(c, c.window + bar, inst), inst
        )
        for c in targets
    ]  # fmt: skip

    def act() -> None:
        answer = np.array([_answer(machine)], np.uint64)
        for cta, done in zip(targets, landed, strict=True):
            at = np.array([cta.window + place], np.uint64)
            access.put(one, "shared", at, answer, 8, 2, inst)
            done()
            complete_tx(cta, cta.window + bar, _BYTES, inst)

    one.cta.issue(AsyncOp("clusterlaunchcontrol.try_cancel", [act]))


def _answer(machine: Machine) -> tuple[int, int]:
    """(x and y, z and whether it was cancelled). In RANDOM a request may fail."""
    refused = machine.mode == "random" and machine.rng.random() < 0.2
    if not machine.queue or refused:
        return 0, 0
    x, y, z = machine.queue.popleft()
    return x | y << 32, z | 1 << 32


def _query(inst: Instruction, program: Program) -> Run:
    """is_canceled, and the first CTA of the cluster that was."""
    get, parts = getter(program, inst.operands[1], "b128", inst), mods(inst)
    if parts[1] == "is_canceled":
        flag = setter(program, inst.operands[0], "pred", inst)
        return lambda s: flag(s, per_thread(s, get(s))["high"] >> np.uint64(32) != 0)
    axis = parts[1].partition("::")[2]
    puts = [setter(program, o, "b32", inst) for o in _targets(inst.operands[0], axis)]

    def run(s: Strand) -> None:
        for put, values in zip(puts, _axes(per_thread(s, get(s))), strict=False):
            put(s, values)

    return run


def _targets(operand: Operand, axis: str) -> list[Operand]:
    if isinstance(operand, Vec):
        return list(operand.items[:3])
    return [operand if axis == name else Reg("_") for name in "xyz"]


def _axes(answer: Array) -> list[Array]:
    low, high = answer["low"], answer["high"]
    return [low.astype(np.uint32), (low >> np.uint64(32)).astype(np.uint32), high.astype(np.uint32)]


TABLE: dict[str, Builder] = {"clusterlaunchcontrol": control}
