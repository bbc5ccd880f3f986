"""ld and st, and st.async."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tilec.ir.ptx.module import Addr, Instruction, Int, Operand, Sym, Vec
from tilec.runtime.emulator import access, bits
from tilec.runtime.emulator.alu import Builder, mods
from tilec.runtime.emulator.asyncops import AsyncOp
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.operands import DTYPE, address, getter, per_thread, setter, shared_address
from tilec.runtime.emulator.program import Program, Run
from tilec.runtime.emulator.report import fault

if TYPE_CHECKING:
    from tilec.runtime.emulator.strand import Strand

_SPACES = {
    "global": "global", "const": "global", "shared": "shared", "shared::cta": "shared",
    "shared::cluster": "shared", "param": "param", "param::entry": "param", "param::func": "local",
    "local": "local",
}  # fmt: skip


def space_of(inst: Instruction, program: Program) -> str:
    """The state space an opcode names; "generic" if none. Parameters of calls are local."""
    named = next((_SPACES[p] for p in mods(inst) if p in _SPACES), "generic")
    if named != "param":
        return named
    place = next((o.base for o in inst.operands if isinstance(o, Addr)), None)
    if isinstance(place, Sym) and place.name in program.addresses:
        return program.addresses[place.name][0]
    return "local" if inst.opcode.startswith("st") else "param"


def vector(operand: Operand) -> tuple[Operand, ...]:
    return operand.items if isinstance(operand, Vec) else (operand,)


def ld(inst: Instruction, program: Program) -> Run:
    type, space = mods(inst)[-1], space_of(inst, program)
    if type == "b128":
        return _ld128(space, inst, program)
    size, items = DTYPE[type].itemsize, vector(inst.operands[0])
    puts = [setter(program, o, type, inst) for o in items]
    where, dtype, count = address(program, inst.operands[1], inst), DTYPE[type], len(items)

    def run(s: Strand) -> None:
        raw = access.load(s, space, where(s), size, count, inst).view(dtype)
        if count == 1:
            puts[0](s, raw)
        else:
            for i, put in enumerate(puts):
                put(s, np.ascontiguousarray(raw[:, i]))

    return run


def _ld128(space: str, inst: Instruction, program: Program) -> Run:
    put, where = setter(program, inst.operands[0], "b128", inst), address(program, inst.operands[1], inst)

    def run(s: Strand) -> None:
        raw = access.load(s, space, where(s), 8, 2, inst)
        put(s, bits.wide(raw[:, 0], raw[:, 1]))

    return run


def _st128(space: str, inst: Instruction, program: Program) -> Run:
    get, where = getter(program, inst.operands[1], "b128", inst), address(program, inst.operands[0], inst)

    def run(s: Strand) -> None:
        value = per_thread(s, get(s))
        access.store(s, space, where(s), np.stack([value["low"], value["high"]], axis=1), 8, 2, inst)

    return run


def st(inst: Instruction, program: Program) -> Run:
    if "async" in mods(inst) and len(inst.operands) > 2:
        return _st_async(inst, program)
    type, space = mods(inst)[-1], space_of(inst, program)
    if mods(inst)[0] == "bulk":
        return _fill(inst, program)
    if type == "b128":
        return _st128(space, inst, program)
    size, items = DTYPE[type].itemsize, vector(inst.operands[1])
    gets = [getter(program, o, type, inst) for o in items]
    where, raw = address(program, inst.operands[0], inst), np.dtype(f"u{size}")

    def run(s: Strand) -> None:
        access.store(s, space, where(s), _gathered(s, gets, raw), size, len(gets), inst)

    return run


def _gathered(s: Strand, gets: list[Callable[[Strand], Any]], raw: np.dtype[Any]) -> Array:
    columns = [np.ascontiguousarray(per_thread(s, g(s))).view(raw) for g in gets]
    return columns[0] if len(columns) == 1 else np.stack(columns, axis=1)


def _fill(inst: Instruction, program: Program) -> Run:
    """st.bulk: each thread sets a range of shared memory to zero."""
    where, amount = (
        shared_address(program, inst.operands[0], inst),
        getter(program, inst.operands[1], "u64", inst),
    )
    if not isinstance(inst.operands[2], Int) or inst.operands[2].value:
        raise fault("D405", "st.bulk can only store zeros", inst)

    def run(s: Strand) -> None:
        for i, (place, size) in enumerate(zip(where(s), per_thread(s, amount(s)).tolist(), strict=True)):
            if size % 8:
                raise fault("D411", f"st.bulk of {size} bytes, which is no multiple of 8", inst)
            one = s.narrow(np.arange(s.n) == i)
            places = place + np.arange(0, size, 8, dtype=np.uint64)
            threads = np.full(len(places), s.threads[i])
            s.cta.machine.observer.write(one, "shared", places, 8, inst, threads)
            access.put(one, "shared", places, np.zeros(len(places), np.uint64), 8, 1, inst)

    return run


def _st_async(inst: Instruction, program: Program) -> Run:
    """st.async: a store into a CTA of the cluster that completes on an mbarrier there."""
    from tilec.runtime.emulator.mbarrier import barrier_at, complete_tx

    type = mods(inst)[-1]
    size, items = DTYPE[type].itemsize, vector(inst.operands[1])
    gets = [getter(program, o, type, inst) for o in items]
    where, barrier = address(program, inst.operands[0], inst), address(program, inst.operands[2], inst)

    def run(s: Strand) -> None:
        value = _gathered(s, gets, np.dtype(f"u{size}"))
        places, barriers = where(s), barrier(s)
        issuer = s.narrow(np.ones(s.n, bool))

        watched = [barrier_at(s.cta, int(b), inst) for b in np.unique(barriers)]
        landed = s.cta.machine.observer.store_async(issuer, places, size * len(gets), watched[0], inst)

        def act() -> None:
            access.put(issuer, "shared", places, value, size, len(gets), inst)
            landed()
            for b in barriers:
                complete_tx(issuer.cta, int(b), size * len(gets), inst)

        s.cta.issue(AsyncOp("st.async", [act]))

    return run


def nothing(inst: Instruction, program: Program) -> Run:
    """Hints: no effect on results."""
    return lambda s: None


TABLE: dict[str, Builder] = {
    "ld": ld, "ldu": ld, "st": st,
    **dict.fromkeys(
        ("prefetch", "prefetchu", "discard", "applypriority", "createpolicy"), nothing
    ),
}  # fmt: skip
