"""mbarrier instructions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tilec.ir.ptx.module import Instruction
from tilec.runtime.emulator.alu import Builder, mods
from tilec.runtime.emulator.cta import MBarrier
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.observe import Release
from tilec.runtime.emulator.operands import Put, getter, per_thread, setter, shared_address
from tilec.runtime.emulator.program import Program, Run
from tilec.runtime.emulator.report import fault
from tilec.runtime.emulator.strand import SPIN, Wait

if TYPE_CHECKING:
    from tilec.runtime.emulator.cta import Cta
    from tilec.runtime.emulator.strand import Strand

_LIMIT = 2**20 - 1


def barrier_at(cta: Cta, place: int, inst: Instruction) -> MBarrier:
    """The mbarrier at a shared address of this CTA or, by its rank, of the cluster."""
    owner, offset = cta.peer(place, inst)
    found = owner.mbarriers.get(offset)
    if found is None:
        raise fault("E12", f"no mbarrier has been initialised at shared address {offset:#x}", inst)
    return found


def arrive(
    cta: Cta, place: int, count: int, inst: Instruction, release: Release = None, drop: bool = False
) -> None:
    """``count`` arrivals. E9 if more arrive than are expected in this phase. ``release`` is what
    the observer gave for the warp."""
    barrier = barrier_at(cta, place, inst)
    barrier.watch.arrive(release, count, inst)
    if count > barrier.pending:
        cta.report("E9", f"{count} arrivals at the mbarrier at {place:#x}, which has {barrier}", inst)
        count = barrier.pending
    barrier.pending -= count
    if drop:
        barrier.expected -= count
    barrier.settle()


def expect_tx(cta: Cta, place: int, size: int, inst: Instruction, release: Release = None) -> None:
    """Raise the number of bytes that the phase waits for; does not complete a phase."""
    barrier = barrier_at(cta, place, inst)
    barrier.watch.expect(release, size, inst)
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
    where, count = (
        shared_address(program, inst.operands[0], inst),
        getter(program, inst.operands[1], "u32", inst),
    )

    def run(s: Strand) -> None:
        for thread, place, n in zip(
            s.threads, s.cta.own(where(s), inst), per_thread(s, count(s)), strict=True
        ):
            offset = int(place)
            if offset % 8:
                raise fault("D411", f"the mbarrier address {offset:#x} is not a multiple of 8", inst)
            if not 1 <= n <= _LIMIT:
                raise fault("D413", f"an mbarrier cannot expect {int(n)} arrivals", inst)
            s.cta.shared.require(np.array([offset], np.uint64), 8, inst)
            if offset in s.cta.mbarriers:
                s.cta.report("E12", f"the mbarrier at {offset:#x} is initialised twice without inval", inst)
            made = s.cta.mbarriers[offset] = MBarrier(int(n), int(n))
            made.watch = s.cta.machine.observer.watch(s, int(thread), made, offset, inst)

    return run


def _inval(inst: Instruction, program: Program) -> Run:
    where = shared_address(program, inst.operands[0], inst)

    def run(s: Strand) -> None:
        for place, offset in zip(where(s), s.cta.own(where(s), inst), strict=True):
            barrier_at(s.cta, int(place), inst).watch.invalidate(s, inst)
            del s.cta.mbarriers[int(offset)]

    return run


def _runs(s: Strand, places: Array, values: Array) -> list[tuple[int, int, int, int, int]]:
    """(warp, place, value, first thread, count) of neighbours in a warp that do the same. They
    act as one, unless a phase ends among them."""
    out: list[tuple[int, int, int, int, int]] = []
    for i, (thread, place, n) in enumerate(
        zip(s.threads.tolist(), places.tolist(), values.tolist(), strict=True)
    ):
        if out and out[-1][:3] == (thread >> 5, place, n):
            out[-1] = (*out[-1][:4], out[-1][4] + 1)
        else:
            out.append((thread >> 5, place, n, i, 1))
    return out


def _arrive(inst: Instruction, program: Program) -> Run:
    parts = mods(inst)
    put = setter(program, inst.operands[0], "b64", inst)
    where = shared_address(program, inst.operands[1], inst)
    value = (
        getter(program, inst.operands[2], "u32", inst) if len(inst.operands) > 2 else lambda s: np.uint32(1)
    )
    expects, drop, relaxed = "expect_tx" in parts, "arrive_drop" in parts, "relaxed" in parts

    def run(s: Strand) -> None:
        places, values = where(s), per_thread(s, value(s))
        phases = np.zeros(s.n, np.uint64)
        releases = s.cta.machine.observer.release(s, inst, relaxed)
        for warp, place, n, first, count in _runs(s, places, values):
            for at in range(first, first + count):
                barrier, release = barrier_at(s.cta, place, inst), releases.get(warp)
                whole = at == first and count * (1 if expects else n) <= barrier.pending
                step = count if whole else 1
                phases[at : at + step] = barrier.phase
                if expects:
                    expect_tx(s.cta, place, n * step, inst, release)
                arrive(s.cta, place, step if expects else n * step, inst, release, drop)
                if whole:
                    break
        put(s, phases)

    return run


def _transactions(inst: Instruction, program: Program) -> Run:
    where, size = (
        shared_address(program, inst.operands[0], inst),
        getter(program, inst.operands[1], "u32", inst),
    )
    completes = mods(inst)[0] == "complete_tx"

    def run(s: Strand) -> None:
        releases = s.cta.machine.observer.release(s, inst, relaxed=True)
        for warp, place, n, _, count in _runs(s, where(s), per_thread(s, size(s))):
            if completes:
                complete_tx(s.cta, place, n * count, inst)
            else:
                expect_tx(s.cta, place, n * count, inst, releases.get(warp))

    return run


def _wait(inst: Instruction, program: Program) -> Run:
    """test_wait and try_wait. The token of arrive is the phase number; a parity names the
    phase by its lowest bit. try_wait stands still until the phase is over; it returns false, as the
    device does after its time limit, where nothing else can go on, and in RANDOM now and then."""
    parts = mods(inst)
    blocks, parity = parts[0] == "try_wait", "parity" in parts
    put, where = (
        setter(program, inst.operands[0], "pred", inst),
        shared_address(program, inst.operands[1], inst),
    )
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
            _passed(s if done.all() else s.narrow(done), [b for b, w, _ in wants if over(b, w)], inst, {})
        if done.all():
            return None
        open = {(id(b), w): (b, w) for b, w, _ in wants if not over(b, w)}.values()
        if [b for b, w in open if b.watch.waits(s.narrow(~done), w, parity, inst)]:
            put(s, np.True_)
            return None
        if not blocks or (s.cta.machine.mode == "random" and s.cta.machine.rng.random() < 0.1):
            return SPIN
        late = s if not done.any() else s.narrow(~done)
        return _suspended(late, [w for w in wants if not over(w[0], w[1])], put, parity, done, inst)

    return run


def _passed(s: Strand, barriers: list[MBarrier], inst: Instruction, goals: dict[int, int]) -> None:
    """Threads have seen their phases end; ``barriers`` has one for each thread. ``goals`` are the
    phases, by barrier, that follow those that they stood waiting for."""
    for one in {id(b): b for b in barriers}.values():
        here = np.array([b is one for b in barriers])
        phase = goals.get(id(one), one.phase) - 1
        one.watch.waited(s if here.all() else s.narrow(here), inst, phase)


def _suspended(
    s: Strand, wants: list[tuple[MBarrier, int, int]], put: Put, parity: bool, done: Array, inst: Instruction
) -> Wait:
    """A wait that ends when the phases that now run are over, as the device wakes a thread that
    stands in try_wait: it does not miss its phase, however late it goes on."""
    goals = {id(barrier): barrier.phase + 1 for barrier, _, _ in wants}
    barrier, wanted, place = wants[0]
    name = f"parity {wanted}" if parity else f"phase {wanted}"

    def ready() -> bool:
        if any(b.phase < goals[id(b)] for b, _, _ in wants):
            return False
        put(s, np.True_)
        _passed(s, [b for b, _, _ in wants], inst, goals)
        return True

    def text() -> str:
        return f"waits for {name} of the mbarrier at {place:#x} ({barrier})"

    return Wait(ready, text, retry=False, passed=done, on=barrier, timed=True)


def _pending_count(inst: Instruction, program: Program) -> Run:
    raise fault("D404", "mbarrier.pending_count is not emulated", inst)


_KINDS: dict[str, Builder] = {
    "init": _init, "inval": _inval, "arrive": _arrive, "arrive_drop": _arrive, "expect_tx": _transactions,
    "complete_tx": _transactions, "test_wait": _wait, "try_wait": _wait, "pending_count": _pending_count,
}  # fmt: skip
TABLE: dict[str, Builder] = {"mbarrier": mbarrier}
