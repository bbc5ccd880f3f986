"""atom and red, and red.async."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tilec.ir.ptx.module import Instruction
from tilec.runtime.emulator import access, bits
from tilec.runtime.emulator.alu import Builder, mods
from tilec.runtime.emulator.asyncops import AsyncOp
from tilec.runtime.emulator.memory import space_of, vector
from tilec.runtime.emulator.numbers import Array, decode, encode, round_to
from tilec.runtime.emulator.operands import DTYPE, address, getter, per_thread, setter
from tilec.runtime.emulator.program import Program, Run

if TYPE_CHECKING:
    from tilec.runtime.emulator.strand import Strand

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


def _red_async(inst: Instruction, program: Program) -> Run:
    """red.async on a CTA of the cluster, which completes on an mbarrier there."""
    from tilec.runtime.emulator.mbarrier import barrier_at, complete_tx

    type = mods(inst)[-1]
    operation = next(p for p in mods(inst) if p in _ATOMIC)
    where, get = address(program, inst.operands[0], inst), getter(program, inst.operands[1], type, inst)
    barrier, size = address(program, inst.operands[2], inst), DTYPE[type].itemsize

    def run(s: Strand) -> None:
        places, values, barriers = where(s), per_thread(s, get(s)), barrier(s)
        for i in range(s.n):
            one = s.narrow(np.arange(s.n) == i)
            at, value, bar = places[i : i + 1], values[i], int(barriers[i])
            watched = barrier_at(s.cta, bar, inst)
            landed = s.cta.machine.observer.store_async(one, at, size, watched, inst)

            def act(one: Strand = one, at: Array = at, value: Any = value, bar: int = bar,
                    landed: Callable[[], None] = landed) -> None:  # fmt: skip
                _one_atomic(one, "shared", at, operation, [value], type, type, inst)
                landed()
                complete_tx(one.cta, bar, size, inst)

            s.cta.issue(AsyncOp("red.async", [act]))

    return run


def atomic(inst: Instruction, program: Program) -> Run:
    """atom and red: the threads act one after the other, in an order that the mode chooses."""
    parts = mods(inst)
    if "async" in parts and len(inst.operands) > 2:
        return _red_async(inst, program)
    if parts[-1] == "b128":
        return _atomic128(inst, program)
    returns, type, space = inst.opcode.startswith("atom"), parts[-1], space_of(inst, program)
    operation = next(p for p in parts if p in _ATOMIC or p == "cas")
    place = 1 if returns else 0
    target = address(program, inst.operands[place], inst)
    hinted = "L2::cache_hint" in parts
    values = [vector(o) for o in inst.operands[place + 1 : -1 if hinted else None]]
    count = len(values[0])
    raw = "b16" if type in ("f16", "bf16") else "b32" if type in ("f16x2", "bf16x2") else type
    gets = [[getter(program, o, raw, inst) for o in items] for items in values]
    puts = [setter(program, o, raw, inst) for o in vector(inst.operands[0])] if returns else []
    size = DTYPE[raw].itemsize

    def run(s: Strand) -> None:
        where = target(s)
        access.targets(s, space, where, size, count, inst)
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
        new = _half(operation, old, given[0], type)
    else:
        new = dtype.type(_ATOMIC[operation](old, given[0]))
    value = np.array([new], dtype).view(f"u{dtype.itemsize}")
    if value[0] != np.array([old], dtype).view(value.dtype)[0]:
        one.cta.machine.last_effect = one.cta.machine.now
    access.put(one, space, at, value, dtype.itemsize, 1, inst)
    return old


def _half(operation: str, old: Any, value: Any, type: str) -> Any:
    """add, min and max of one or two 16-bit floats."""
    fmt = type.removesuffix("x2")
    a, b = (decode(np.array([x]).view(np.uint16), fmt).astype(np.float64) for x in (old, value))
    function = {"add": np.add, "min": np.fmin, "max": np.fmax}[operation]
    codes = encode(round_to(function(a, b), fmt), fmt)
    return codes.view(np.uint32 if type.endswith("x2") else np.uint16)[0]


def _atomic128(inst: Instruction, program: Program) -> Run:
    """atom.exch and atom.cas of 128 bits."""
    space, swaps = space_of(inst, program), "cas" in mods(inst)
    target = address(program, inst.operands[1], inst)
    gets = [getter(program, o, "b128", inst) for o in inst.operands[2 : 4 if swaps else 3]]
    put = setter(program, inst.operands[0], "b128", inst)

    def run(s: Strand) -> None:
        where, values = target(s), [per_thread(s, g(s)) for g in gets]
        access.targets(s, space, where, 8, 2, inst)
        s.cta.machine.observer.atomic(s, space, where, 16, inst)
        old = np.zeros((s.n, 2), np.uint64)
        for i in _order(s):
            one, at = s.narrow(np.arange(s.n) == i), where[i : i + 1]
            old[i] = access.fetch(one, space, at, 8, 2, inst)[0]
            given = [[int(v["low"][i]), int(v["high"][i])] for v in values]
            if not swaps or given[0] == old[i].tolist():
                s.cta.machine.last_effect = s.cta.machine.now
                access.put(one, space, at, np.array([given[-1]], np.uint64), 8, 2, inst)
        put(s, bits.wide(old[:, 0], old[:, 1]))

    return run


TABLE: dict[str, Builder] = {"atom": atomic, "red": atomic}
