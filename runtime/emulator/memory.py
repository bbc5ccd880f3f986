"""ld, st, atom, red, and cp.async."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tilec.ir.ptx.module import Addr, Instruction, Int, Operand, Sym, Vec
from tilec.runtime.emulator import access
from tilec.runtime.emulator.alu import Builder, mods
from tilec.runtime.emulator.asyncops import AsyncOp
from tilec.runtime.emulator.numbers import Array, decode, encode, round_to
from tilec.runtime.emulator.operands import DTYPE, address, getter, per_thread, setter, shared_address
from tilec.runtime.emulator.program import Program, Run
from tilec.runtime.emulator.report import fault

if TYPE_CHECKING:
    from tilec.runtime.emulator.cta import Cta
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


def _vector(operand: Operand) -> tuple[Operand, ...]:
    return operand.items if isinstance(operand, Vec) else (operand,)


def ld(inst: Instruction, program: Program) -> Run:
    type, space = mods(inst)[-1], space_of(inst, program)
    size, items = DTYPE[type].itemsize, _vector(inst.operands[0])
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


def st(inst: Instruction, program: Program) -> Run:
    if "async" in mods(inst):
        return _st_async(inst, program)
    type, space = mods(inst)[-1], space_of(inst, program)
    size, items = DTYPE[type].itemsize, _vector(inst.operands[1])
    gets = [getter(program, o, type, inst) for o in items]
    where, raw = address(program, inst.operands[0], inst), np.dtype(f"u{size}")

    def run(s: Strand) -> None:
        access.store(s, space, where(s), _gathered(s, gets, raw), size, len(gets), inst)

    return run


def _gathered(s: Strand, gets: list[Callable[[Strand], Any]], raw: np.dtype[Any]) -> Array:
    columns = [np.ascontiguousarray(per_thread(s, g(s))).view(raw) for g in gets]
    return columns[0] if len(columns) == 1 else np.stack(columns, axis=1)


def _st_async(inst: Instruction, program: Program) -> Run:
    """st.async: a store into a CTA of the cluster that completes on an mbarrier there."""
    from tilec.runtime.emulator.mbarrier import barrier_at, complete_tx

    type = mods(inst)[-1]
    size, items = DTYPE[type].itemsize, _vector(inst.operands[1])
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


_ATOMIC: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda old, b: old + b,
    "and": lambda old, b: old & b,
    "or": lambda old, b: old | b,
    "xor": lambda old, b: old ^ b,
    "min": min,
    "max": max,
    "exch": lambda old, b: b,
    "inc": lambda old, b: old * 0 if old >= b else old + type(old)(1),
    "dec": lambda old, b: b if old == 0 or old > b else old - type(old)(1),
}


def atomic(inst: Instruction, program: Program) -> Run:
    """atom and red: the threads act one after the other, in an order that the mode chooses."""
    parts = mods(inst)
    returns, type, space = inst.opcode.startswith("atom"), parts[-1], space_of(inst, program)
    operation = next(p for p in parts if p in _ATOMIC or p == "cas")
    place = 1 if returns else 0
    target = address(program, inst.operands[place], inst)
    values = [_vector(o) for o in inst.operands[place + 1 :]]
    count = len(values[0])
    raw = "b16" if type in ("f16", "bf16") else "b32" if type in ("f16x2", "bf16x2") else type
    gets = [[getter(program, o, raw, inst) for o in items] for items in values]
    puts = [setter(program, o, raw, inst) for o in _vector(inst.operands[0])] if returns else []
    size = DTYPE[raw].itemsize

    def run(s: Strand) -> None:
        where = target(s)
        s.cta.machine.observer.atomic(s, space, where, size * count, inst)
        arguments = [[per_thread(s, g(s)) for g in items] for items in gets]
        old = np.zeros((count, s.n), DTYPE[raw])
        for i in _order(s):
            for c in range(count):
                given = [items[c][i] for items in arguments]
                at = where[i : i + 1] + np.uint64(c * size)
                old[c, i] = _one_atomic(
                    s.narrow(np.arange(s.n) == i), space, at, operation, given, type, raw, inst
                )
        for c, put in enumerate(puts):
            put(s, old[c])

    return run


def _order(s: Strand) -> Array:
    return s.cta.machine.rng.permutation(s.n) if s.cta.machine.mode == "random" else np.arange(s.n)


def _one_atomic(one: Strand, space: str, at: Array, operation: str, given: list[Any], type: str, raw: str,
                inst: Instruction) -> Any:  # fmt: skip
    dtype = DTYPE[raw]
    old = access.fetch(one, space, at, dtype.itemsize, 1, inst).view(dtype)[0]
    if operation == "cas":
        new = given[1] if old == given[0] else old
    elif raw in ("b16", "b32") and type not in ("b16", "b32"):
        new = _half_add(old, given[0], type)
    else:
        new = dtype.type(_ATOMIC[operation](old, given[0]))
    value = np.array([new], dtype).view(f"u{dtype.itemsize}")
    access.put(one, space, at, value, dtype.itemsize, 1, inst)
    return old


def _half_add(old: Any, value: Any, type: str) -> Any:
    fmt = type.removesuffix("x2")
    a, b = (decode(np.array([x]).view(np.uint16), fmt).astype(np.float64) for x in (old, value))
    bits = encode(round_to(a + b, fmt), fmt)
    return bits.view(np.uint32 if type.endswith("x2") else np.uint16)[0]


def cp_async(inst: Instruction, program: Program) -> Run:
    """cp.async, its groups, and its arrival on an mbarrier."""
    parts = mods(inst)
    if "mbarrier" in parts:
        return _copies_arrive(inst, program)
    if "commit_group" in parts:
        return _commit
    if "wait_group" in parts or "wait_all" in parts:
        first = inst.operands[0] if inst.operands else Int(0)
        pending = first.value if isinstance(first, Int) else 0
        everything = "wait_all" in parts
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
                start = int(memory.offsets(self.source[i : i + 1], used, self.inst)[0])
                data[:used] = memory.data[start : start + used]
            self.cta.shared.data[at : at + self.size] = data


def _copy(inst: Instruction, program: Program) -> Run:
    to, source = (address(program, o, inst) for o in inst.operands[:2])
    size = inst.operands[2].value if isinstance(inst.operands[2], Int) else 0
    cached = "L2::cache_hint" in mods(inst)
    rest = inst.operands[3 : -1 if cached else None]
    used = getter(program, rest[0], "u32", inst) if rest else lambda s: np.uint32(size)

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


def nothing(inst: Instruction, program: Program) -> Run:
    """Hints: no effect on results."""
    return lambda s: None


TABLE: dict[str, Builder] = {
    "ld": ld, "ldu": ld, "st": st, "atom": atomic, "red": atomic,
    **dict.fromkeys(
        ("prefetch", "prefetchu", "discard", "applypriority", "createpolicy"), nothing
    ),
}  # fmt: skip
