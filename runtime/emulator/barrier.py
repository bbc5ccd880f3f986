"""Named barriers, the cluster barrier, fences, register pools, cluster addresses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tilec.ir.ptx.module import Addr, Instruction, Int
from tilec.runtime.emulator import warpsync
from tilec.runtime.emulator.alu import Builder, mods
from tilec.runtime.emulator.cta import NamedBarrier
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.operands import address, getter, per_thread, setter
from tilec.runtime.emulator.program import Program, Run
from tilec.runtime.emulator.report import fault
from tilec.runtime.emulator.spaces import (
    GLOBAL_BASE,
    LOCAL_WINDOW,
    PARAM_WINDOW,
    RANK_SHIFT,
    SHARED_WINDOW,
    WINDOW,
    WINDOW_SIZE,
)
from tilec.runtime.emulator.strand import Wait

if TYPE_CHECKING:
    from tilec.runtime.emulator.cta import Cta
    from tilec.runtime.emulator.strand import Strand

_CLUSTER = -1


def barrier(inst: Instruction, program: Program) -> Run:
    """bar and barrier, by what follows."""
    parts = mods(inst)
    if parts[0] == "warp":
        return warpsync.barrier(inst, program)
    if parts[0] == "cluster":
        act = _cluster_arrive if parts[1] == "arrive" else _cluster_wait
        return lambda s: act(s, inst)
    kind = next(p for p in parts if p in ("sync", "arrive", "red"))
    return _reduction(inst, program) if kind == "red" else _named(inst, program, kind == "sync")


def _named(inst: Instruction, program: Program, waits: bool) -> Run:
    name = getter(program, inst.operands[0], "u32", inst)
    count = getter(program, inst.operands[1], "u32", inst) if len(inst.operands) > 1 else None

    def run(s: Strand) -> Wait | None:
        names = per_thread(s, name(s))
        counts = per_thread(s, count(s)) if count is not None else None
        joined = [_join(s, w, names, counts, inst) for w in range(len(s.warps))]
        if not waits:
            return _rest(s, joined)
        return _until(s, joined, inst)

    return run


def _join(
    s: Strand, w: int, names: Array, counts: Array | None, inst: Instruction
) -> tuple[NamedBarrier, int, int]:
    """One warp arrives: (barrier, generation it waits for, its number)."""
    cta = s.cta
    first = int(np.searchsorted(s.threads, s.warps[w] * 32))
    number = int(names[first])
    if not 0 <= number < 16:
        raise fault("E21", f"there is no barrier {number}", inst)
    wanted = _expected(cta) if counts is None else int(counts[first])
    if wanted % 32 or wanted > 32 * len(cta.warp_alive):  # who has arrived may end before the others come
        raise fault("E21", f"barrier {number} with {wanted} threads", inst)
    named = cta.named[number]
    generation = named.generation
    if named.arrived and named.wanted != wanted:
        text = f"barrier {number} is used for {wanted} threads here, and for {named.wanted} by others"
        raise fault("E21", text, inst)
    named.wanted = wanted
    warp = int(s.warps[w])

    def arrive() -> None:
        cta.machine.observer.join(s, warp, named, inst)
        named.arrived += 32
        if named.arrived > wanted:
            raise fault("E21", f"{named.arrived} threads arrive at barrier {number} for {wanted}", inst)
        if named.arrived == wanted:
            named.complete()
            _combine(named)

    named.come(warp, int((s.threads >> 5 == warp).sum()), int(cta.warp_alive[warp]), arrive)
    return named, generation, number


def _rest(s: Strand, joined: list[tuple[NamedBarrier, int, int]]) -> Wait | None:
    """An arrival waits for the other threads of its warp, though not for other warps."""
    held = [
        (b, w, b.whole[w]) for (b, _, _), w in zip(joined, s.warps.tolist(), strict=True) if w in b.partly
    ]
    if not held:
        return None
    text = "waits for the other threads of its warp to arrive at the barrier"
    return Wait(lambda: all(b.whole[w] > n for b, w, n in held), lambda: text, retry=False, on=held[0][0])


def _expected(cta: Cta) -> int:
    """Threads of all warps that have not ended, in whole warps."""
    return int((cta.warp_alive > 0).sum()) * 32


def _combine(named: NamedBarrier) -> None:
    if named.votes:
        named.result = np.concatenate(named.votes)
        named.votes = []


def _until(s: Strand, joined: list[tuple[NamedBarrier, int, int]], inst: Instruction) -> Wait | None:
    """A wait until the barriers that the warps joined complete."""
    warp, observer = np.searchsorted(s.warps, s.threads >> 5), s.cta.machine.observer
    passed = np.array([b.generation > g for b, g, _ in joined])[warp]
    if passed.any():
        gone = s if passed.all() else s.narrow(passed)
        observer.passed(gone, [b for b, g, _ in joined if b.generation > g], inst)
    if passed.all():
        return None
    waiting = [j for j in joined if j[0].generation <= j[1]]

    def ready() -> bool:
        if all(b.generation > g for b, g, _ in waiting):
            observer.passed(s, [b for b, _, _ in waiting], inst)
            return True
        return False

    def text() -> str:
        b, _, number = waiting[0]
        return f"waits at barrier {number}, where {b.arrived} threads have arrived"

    return Wait(ready, text, retry=False, passed=passed, on=waiting[0][0])


_REDUCE: dict[str, Callable[[Any], Any]] = {
    "popc": lambda v: np.uint32(v.sum()),
    "and": lambda v: v.all(),
    "or": lambda v: v.any(),
}


def _reduction(inst: Instruction, program: Program) -> Run:
    """bar.red: a barrier whose threads get the count, and or or of a predicate. It runs twice:
    to arrive, and, when the barrier is complete, to read the result."""
    parts = mods(inst)
    operation = next(p for p in parts if p in _REDUCE)
    put = setter(program, inst.operands[0], "u32" if operation == "popc" else "pred", inst)
    name = getter(program, inst.operands[1], "u32", inst)
    count = getter(program, inst.operands[2], "u32", inst) if len(inst.operands) > 3 else None
    value = getter(program, inst.operands[-1], "pred", inst)

    def run(s: Strand) -> Wait | None:
        named = s.cta.named[int(per_thread(s, name(s))[0])]
        named.votes.append(per_thread(s, value(s)).copy())
        counts = per_thread(s, count(s)) if count is not None else None
        joined = [_join(s, w, per_thread(s, name(s)), counts, inst) for w in range(len(s.warps))]
        wait = _until(s, joined, inst)
        if wait is None:
            put(s, _REDUCE[operation](named.result))
            return None
        inner = wait.ready

        def ready() -> bool:
            if inner():
                put(s, _REDUCE[operation](named.result))
                return True
            return False

        return Wait(ready, wait.text, retry=False, on=wait.on)

    return run


def _cluster_arrive(s: Strand, inst: Instruction) -> None:
    cluster = s.cta.cluster
    named = cluster[0].named[_CLUSTER]
    for warp in s.warps.tolist():
        s.cta.machine.observer.join(s, warp, named, inst)
    named.arrived += s.n
    if named.arrived == sum(c.alive for c in cluster):
        named.complete()


def _cluster_wait(s: Strand, inst: Instruction) -> Wait | None:
    """Waits for the phase in which this warp arrived, which ``quota`` of waits passed counts."""
    named = s.cta.cluster[0].named[_CLUSTER]
    passed = s.cta.cluster_waits
    goal = int(passed[s.warps].max()) + 1
    if named.generation >= goal:
        passed[s.warps] = goal
        s.cta.machine.observer.passed(s, [named], inst)
        return None
    return Wait(
        lambda: named.generation >= goal, lambda: f"waits at the cluster barrier ({named.arrived} arrived)"
    )


def fence(inst: Instruction, program: Program) -> Run:
    """Memory is coherent here: only a checker takes notice of fences."""
    addressed = bool(inst.operands) and isinstance(inst.operands[0], Addr)
    where = address(program, inst.operands[0], inst) if addressed else None
    return lambda s: s.cta.machine.observer.fence(s, inst, where(s) if where else None)


def setmaxnreg(inst: Instruction, program: Program) -> Run:
    """Moves registers between warps and the CTA's pool; inc waits until the pool has them."""
    amount = inst.operands[0].value if isinstance(inst.operands[0], Int) else 0
    grows = mods(inst)[0] == "inc"
    if not 24 <= amount <= 256 or amount % 8:
        raise fault("E22", f"setmaxnreg of {amount}: only multiples of 8 from 24 to 256", inst)

    def run(s: Strand) -> Wait | None:
        cta = s.cta
        if not cta.machine.registers:
            return None
        need = int((amount - cta.quota[s.warps]).sum()) * 32
        if (need > 0) != grows and need != 0:
            raise fault("E22", f"setmaxnreg to {amount} from {int(cta.quota[s.warps][0])}", inst)
        if need > cta.pool:
            return Wait(
                lambda: need <= cta.pool,
                lambda: f"waits for {need} registers; the pool of the CTA has {cta.pool}",
            )
        cta.pool -= need
        cta.quota[s.warps] = amount
        return None

    return run


def mapa(inst: Instruction, program: Program) -> Run:
    """The address of a shared variable in another CTA of the cluster."""
    type = mods(inst)[-1]
    generic = "shared::cluster" not in mods(inst)
    put = setter(program, inst.operands[0], type, inst)
    a, rank = getter(program, inst.operands[1], type, inst), getter(program, inst.operands[2], "u32", inst)
    base = np.uint64(SHARED_WINDOW if generic else 0)

    def run(s: Strand) -> None:
        offset = (per_thread(s, a(s)).astype(np.uint64) - base) & np.uint64(WINDOW_SIZE - 1)
        place = offset + (per_thread(s, rank(s)).astype(np.uint64) << np.uint64(RANK_SHIFT)) + base
        put(s, place.astype(np.dtype(f"u{4 if type == 'u32' else 8}")))

    return run


def getctarank(inst: Instruction, program: Program) -> Run:
    """The rank in the cluster that a shared address names."""
    type = mods(inst)[-1]
    base = np.uint64(0 if "shared::cluster" in mods(inst) else SHARED_WINDOW)
    put, a = setter(program, inst.operands[0], "u32", inst), getter(program, inst.operands[1], type, inst)
    shift = np.uint64(RANK_SHIFT)
    return lambda s: put(s, ((per_thread(s, a(s)).astype(np.uint64) - base) >> shift).astype(np.uint32))


def isspacep(inst: Instruction, program: Program) -> Run:
    space = mods(inst)[0]
    put, a = setter(program, inst.operands[0], "pred", inst), getter(program, inst.operands[1], "u64", inst)
    low = WINDOW[space]
    windows = (SHARED_WINDOW, PARAM_WINDOW, LOCAL_WINDOW, GLOBAL_BASE, 2**63)
    low = low or GLOBAL_BASE
    high = windows[windows.index(low) + 1]
    return lambda s: put(s, (per_thread(s, a(s)) >= low) & (per_thread(s, a(s)) < high))


TABLE: dict[str, Builder] = {
    "bar": barrier, "barrier": barrier, "fence": fence, "membar": fence, "setmaxnreg": setmaxnreg,
    "mapa": mapa, "getctarank": getctarank, "isspacep": isspacep,
}  # fmt: skip
