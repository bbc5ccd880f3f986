"""mma.sync: the fragments of a warp's registers, and their product."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tilec.ir.ptx.module import Instruction, Operand, Vec
from tilec.runtime.emulator import double, fragments, tensorcore
from tilec.runtime.emulator.alu import mods
from tilec.runtime.emulator.numbers import Array, decode
from tilec.runtime.emulator.operands import getter, per_thread, setter
from tilec.runtime.emulator.program import Program, Run
from tilec.runtime.emulator.report import fault

if TYPE_CHECKING:
    from tilec.runtime.emulator.strand import Strand


def mma(inst: Instruction, program: Program) -> Run:
    """mma.sync of all types but sparse and block-scaled ones."""
    m, n, k = tensorcore.shape_of(inst)
    types = [p for p in mods(inst) if p in tensorcore.BITS]
    if (m, types[1]) == (8, "f16"):
        raise fault("D404", "mma.sync.m8n8k4 of f16 is not emulated", inst)
    maps = fragments.warp(m, n, k, max(tensorcore.BITS[t] for t in types[1:3]))
    gets = [Fragment(o, t, program, inst) for o, t in zip(inst.operands[1:], types[1:], strict=True)]
    out = Target(inst.operands[0], types[0], program, inst)
    _require_registers([len(out.puts), *(len(g.gets) for g in gets)], maps, types, inst)
    multiply = tensorcore.multiplier(program, "mma", (types[0], types[1], types[2]), k, inst)
    if types[0] == "f64":
        multiply = chain(inst)

    def run(s: Strand) -> None:
        held = [g.read(s) for g in gets]
        result = [_one(w, held, maps, types, multiply) for w in range(s.n // 32)]
        out.write(s, np.concatenate(result, axis=1))

    return run


def _require_registers(given: list[int], maps: tuple[fragments.Map, ...], types: list[str],
                       inst: Instruction) -> None:  # fmt: skip
    values = [len(where[0]) for where in (maps[2], *maps)]
    wanted = [-(-v * min(tensorcore.BITS[t], 32) // 32) for v, t in zip(values, types, strict=True)]
    if given != wanted:
        raise fault("D405", f"{given} registers of D, A, B and C, where {wanted} were expected", inst)


class Fragment:
    """The registers of a matrix, read as (registers, threads)."""

    def __init__(self, operand: Operand, type: str, program: Program, inst: Instruction) -> None:
        items = operand.items if isinstance(operand, Vec) else (operand,)
        cls = "b64" if type == "f64" else "b32"
        self.gets = [getter(program, o, cls, inst) for o in items]

    def read(self, s: Strand) -> Array:
        return np.stack([per_thread(s, g(s)) for g in self.gets])


class Target:
    """The registers of D."""

    def __init__(self, operand: Operand, type: str, program: Program, inst: Instruction) -> None:
        items = operand.items if isinstance(operand, Vec) else (operand,)
        cls = "b64" if type == "f64" else "b32"
        self.puts = [setter(program, o, cls, inst) for o in items]

    def write(self, s: Strand, words: Array) -> None:
        for put, row in zip(self.puts, words, strict=True):
            put(s, row)


def _one(w: int, held: list[Array], maps: tuple[fragments.Map, ...], types: list[str],
         multiply: tensorcore.Multiply) -> Array:  # fmt: skip
    """The product of warp ``w`` of a strand, as (registers, 32)."""
    a, b, c = (np.ascontiguousarray(h[:, 32 * w : 32 * w + 32]) for h in held)
    left, right = (tile(numbers(x, t), at) for x, t, at in zip((a, b), types[1:], maps, strict=False))
    start = tile(tensorcore.read_accumulator(c, types[3]), maps[2])
    return tensorcore.write_accumulator(multiply(left, right, start)[maps[2]], types[0])


def numbers(words: Array, type: str) -> Array:
    """Elements of A or B. A 4-bit one stands in bits 2 to 5 of its byte, as in tensor memory."""
    if type == "f64":
        return words.view(np.float64)
    if type == "e2m1":
        return decode(tensorcore.unpack(words, type) >> np.uint8(2), type)
    return tensorcore.values(tensorcore.unpack(words, type), type)


def chain(inst: Instruction) -> tensorcore.Multiply:
    """Products of f64 are added one after another by fused multiply-adds, in the order of k.
    Source: PTX ISA manual, "mma": the precision of fma; MMA-Sim (see ``exact``): the order."""
    fma = double.fused(next((p for p in mods(inst) if p in ("rz", "rm", "rp")), "rn"))

    def multiply(a: Array, b: Array, c: Array) -> Array:
        total = c.ravel()
        for i in range(a.shape[1]):
            left, right = np.broadcast_arrays(a[:, i, None], b[i])
            total = fma(left.ravel(), right.ravel(), total)
        return total.reshape(c.shape)

    return multiply


def tile(held: Array, where: fragments.Map) -> Array:
    """Values of threads as a matrix."""
    out = np.empty((int(where[0].max()) + 1, int(where[1].max()) + 1), held.dtype)
    out[where] = held
    return out
