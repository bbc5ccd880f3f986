"""mbarrier instructions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tilec.ir.ptx.module import Instruction
from tilec.runtime.emulator.alu import Builder, mods
from tilec.runtime.emulator.cta import MBarrier
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.operands import Put, address, getter, per_thread, setter
from tilec.runtime.emulator.program import Program, Run
from tilec.runtime.emulator.report import fault
from tilec.runtime.emulator.strand import SPIN, Wait

if TYPE_CHECKING:
    from tilec.runtime.emulator.cta import Cta
    from tilec.runtime.emulator.strand import Strand

_LIMIT = 2**20 - 1


def barrier_at(cta: Cta, place: int, inst: Instruction) -> MBarrier:
    """The mbarrier at a shared address of this CTA or, by its rank, of the cluster."""
    owner, offset = cta.peer(place)
    found = owner.mbarriers.get(offset)
    if found is None:
        raise fault("E12", f"no mbarrier has been initialised at shared address {offset:#x}", inst)
    return found


def arrive(cta: Cta, place: int, count: int, inst: Instruction, drop: bool = False) -> None:
    """``count`` arrivals. E9 if more arrive than are expected in this phase."""
    barrier = barrier_at(cta, place, inst)
    if count > barrier.pending:
        raise fault("E9", f"{count} arrivals at the mbarrier at {place:#x}, which has {barrier}", inst)
    barrier.pending -= count
    if drop:
        barrier.expected -= count
    barrier.settle()


def expect_tx(cta: Cta, place: int, size: int, inst: Instruction) -> None:
    """Raise the number of bytes that the phase waits for; does not complete a phase."""
    barrier = barrier_at(cta, place, inst)
    barrier.tx += size
    _check_range(barrier, place, inst)


def complete_tx(cta: Cta, place: int, size: int, inst: Instruction) -> None:
    """``size`` bytes have landed."""
    barrier = barrier_at(cta, place, inst)
    barrier.tx -= size
    _check_range(barrier, place, inst)
    barrier.settle()


def _check_range(barrier: MBarrier, place: int, inst: Instruction) -> None:
    if abs(barrier.tx) > _LIMIT:
        raise fault("E8", f"the transaction count of the mbarrier at {place:#x} overflows: {barrier}", inst)


def mbarrier(inst: Instruction, program: Program) -> Run:
    """All mbarrier instructions, by the word after "mbarrier"."""
    return _KINDS[mods(inst)[0]](inst, program)


def _init(inst: Instruction, program: Program) -> Run:
    where, count = address(program, inst.operands[0], inst), getter(program, inst.operands[1], "u32", inst)

    def run(s: Strand) -> None:
        for place, n in zip(where(s), per_thread(s, count(s)), strict=True):
            offset = int(place)
            if offset % 8:
                raise fault("D411", f"the mbarrier address {offset:#x} is not a multiple of 8", inst)
            if not 1 <= n <= _LIMIT:
                raise fault("D413", f"an mbarrier cannot expect {int(n)} arrivals", inst)
            s.cta.shared.require(np.array([offset], np.uint64), 8, inst)
            if offset in s.cta.mbarriers:
                s.cta.report("E12", f"the mbarrier at {offset:#x} is initialised twice without inval", inst)
            s.cta.shared.status[offset : offset + 8] = 0
            s.cta.mbarriers[offset] = MBarrier(int(n), int(n))

    return run


def _inval(inst: Instruction, program: Program) -> Run:
    where = address(program, inst.operands[0], inst)

    def run(s: Strand) -> None:
        for place in where(s):
            barrier_at(s.cta, int(place), inst)
            del s.cta.mbarriers[int(place)]

    return run


def _arrive(inst: Instruction, program: Program) -> Run:
    parts = mods(inst)
    put = setter(program, inst.operands[0], "b64", inst)
    where = address(program, inst.operands[1], inst)
    value = (
        getter(program, inst.operands[2], "u32", inst) if len(inst.operands) > 2 else lambda s: np.uint32(1)
    )
    expects, drop = "expect_tx" in parts, "arrive_drop" in parts

    def run(s: Strand) -> None:
        places, values = where(s), per_thread(s, value(s))
        phases = np.zeros(s.n, np.uint64)
        for i, (place, n) in enumerate(zip(places.tolist(), values.tolist(), strict=True)):
            phases[i] = barrier_at(s.cta, place, inst).phase
            if expects:
                expect_tx(s.cta, place, n, inst)
            arrive(s.cta, place, 1 if expects else n, inst, drop)
        put(s, phases)

    return run


def _transactions(inst: Instruction, program: Program) -> Run:
    where, size = address(program, inst.operands[0], inst), getter(program, inst.operands[1], "u32", inst)
    act = complete_tx if mods(inst)[0] == "complete_tx" else expect_tx

    def run(s: Strand) -> None:
        for place, n in zip(where(s).tolist(), per_thread(s, size(s)).tolist(), strict=True):
            act(s.cta, place, n, inst)

    return run


def _wait(inst: Instruction, program: Program) -> Run:
    """test_wait and try_wait. The token of arrive is the phase number; a parity names the
    phase by its lowest bit. try_wait stands still until the phase is over; in RANDOM it now
    and then returns false, as the device may after its time limit."""
    parts = mods(inst)
    blocks, parity = parts[0] == "try_wait", "parity" in parts
    put, where = setter(program, inst.operands[0], "pred", inst), address(program, inst.operands[1], inst)
    value = getter(program, inst.operands[2], "b32" if parity else "b64", inst)

    def over(barrier: MBarrier, wanted: int) -> bool:
        return (barrier.phase & 1) != (wanted & 1) if parity else barrier.phase > wanted

    def run(s: Strand) -> Wait | None:
        wants = [
            (barrier_at(s.cta, place, inst), wanted, place)
            for place, wanted in zip(where(s).tolist(), per_thread(s, value(s)).tolist(), strict=True)
        ]
        done = np.array([over(b, w) for b, w, _ in wants])
        put(s, done)
        if done.any():
            s.cta.mark_synced(s)
        if done.all():
            return None
        if not blocks or (s.cta.machine.mode == "random" and s.cta.machine.rng.random() < 0.1):
            return SPIN
        late = s if not done.any() else s.narrow(~done)
        return _suspended(late, [w for w in wants if not over(w[0], w[1])], put, parity, done)

    return run


def _suspended(
    s: Strand, wants: list[tuple[MBarrier, int, int]], put: Put, parity: bool, done: Array
) -> Wait:
    """A wait that ends when the phases that now run are over, as the device wakes a thread that
    stands in try_wait: it does not miss its phase, however late it goes on."""
    goals = [(barrier, barrier.phase + 1) for barrier, _, _ in wants]
    barrier, wanted, place = wants[0]
    name = f"parity {wanted}" if parity else f"phase {wanted}"

    def ready() -> bool:
        if any(b.phase < goal for b, goal in goals):
            return False
        put(s, np.True_)
        s.cta.mark_synced(s)
        return True

    def text() -> str:
        return f"waits for {name} of the mbarrier at {place:#x} ({barrier})"

    return Wait(ready, text, retry=False, passed=done)


def _pending_count(inst: Instruction, program: Program) -> Run:
    raise fault("D404", "mbarrier.pending_count is not emulated", inst)


_KINDS: dict[str, Builder] = {
    "init": _init, "inval": _inval, "arrive": _arrive, "arrive_drop": _arrive, "expect_tx": _transactions,
    "complete_tx": _transactions, "test_wait": _wait, "try_wait": _wait, "pending_count": _pending_count,
}  # fmt: skip
TABLE: dict[str, Builder] = {"mbarrier": mbarrier}
