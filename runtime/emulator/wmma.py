"""wmma: matrices in fragments whose layout only this emulator knows.

NVIDIA's manual leaves open which thread holds which element, so programs cannot depend on it.
Here the elements of A and C follow each other by rows and those of B by columns; thread t holds
the next ones after thread t - 1, from the start again where fragments have room for several copies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tilec.ir.ptx.module import Instruction, Operand, Vec
from tilec.runtime.emulator import access, tensorcore
from tilec.runtime.emulator.alu import Builder, mods
from tilec.runtime.emulator.memory import space_of
from tilec.runtime.emulator.mma import Fragment, Target, chain
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.operands import address, getter, per_thread
from tilec.runtime.emulator.program import Program, Run
from tilec.runtime.emulator.report import fault

if TYPE_CHECKING:
    from tilec.runtime.emulator.strand import Strand


def wmma(inst: Instruction, program: Program) -> Run:
    """load.a, load.b, load.c, store.d and mma."""
    kind = mods(inst)[0]
    return {"load": _load, "store": _store}.get(kind, _mma)(inst, program)


def _values(operand: Operand, type: str) -> int:
    """Elements that a thread holds."""
    registers = len(operand.items) if isinstance(operand, Vec) else 1
    return registers * (1 if type == "f64" else 32 // tensorcore.BITS[type])


def _elements(count: int, threads: int, total: int) -> Array:
    """The number of each (value, thread)'s element in its matrix."""
    lane = np.arange(threads) % 32
    numbers: Array = (lane * count + np.arange(count)[:, None]) % total
    return numbers


class _Place:
    """Where the elements of one matrix lie in memory, from its type, layout and stride."""

    def __init__(self, inst: Instruction, program: Program, at: int, held: Operand) -> None:
        parts, (m, n, k) = mods(inst), tensorcore.shape_of(inst)
        self.inst, self.space, self.type = inst, space_of(inst, program), parts[-1]
        rows, columns = {"a": (m, k), "b": (k, n)}.get(parts[1], (m, n))
        self.by_rows, self.ordered = "row" in parts, parts[1] != "b"
        self.extent = (rows, columns)
        self.where = address(program, inst.operands[at], inst)
        extra = inst.operands[2:]
        self.stride = getter(program, extra[0], "u32", inst) if extra else None
        self.bits = tensorcore.BITS[self.type]
        self.count = _values(held, self.type)
        self.step = 32 // self.bits if self.bits < 8 else 1
        if (rows * columns) % self.count:
            raise fault("D405", f"{self.count} values in a thread of a {rows} x {columns} matrix", inst)

    def offsets(self, s: Strand) -> list[Array]:
        """Addresses, for each load of a thread: of one element, or of 32 bits of narrow ones."""
        rows, columns = self.extent
        numbers = _elements(self.count, s.n, rows * columns)[:: self.step]
        row, column = divmod(numbers, columns) if self.ordered else (numbers % rows, numbers // rows)
        plain = columns if self.by_rows else rows
        stride = per_thread(s, self.stride(s)).astype(np.int64) if self.stride else plain
        index = row * stride + column if self.by_rows else column * stride + row
        base = self.where(s)
        return [base + (i * self.bits // 8).astype(np.uint64) for i in index]

    @property
    def size(self) -> int:
        """Bytes of one access."""
        return self.bits // 8 if self.bits >= 8 else 4


def _load(inst: Instruction, program: Program) -> Run:
    place = _Place(inst, program, 1, inst.operands[0])
    out = Target(inst.operands[0], place.type, program, inst)

    def run(s: Strand) -> None:
        raw = np.stack([access.load(s, place.space, a, place.size, 1, inst) for a in place.offsets(s)])
        out.write(s, raw if place.size >= 4 else _pack(raw, place.bits))

    return run


def _pack(raw: Array, bits: int) -> Array:
    """(values, threads) of elements to (registers, threads) of 32 bits."""
    per = 32 // bits
    parts = raw.astype(np.uint32).reshape(-1, per, raw.shape[1])
    words: Array = (parts << (np.arange(per, dtype=np.uint32) * np.uint32(bits))[:, None]).sum(
        axis=1, dtype=np.uint32
    )
    return words


def _store(inst: Instruction, program: Program) -> Run:
    place = _Place(inst, program, 0, inst.operands[1])
    held = Fragment(inst.operands[1], place.type, program, inst)

    def run(s: Strand) -> None:
        words = held.read(s)
        raw = tensorcore.unpack(words, place.type) if place.size < 4 else words
        for where, values in zip(place.offsets(s), raw, strict=True):
            access.store(s, place.space, where, values, place.size, 1, inst)

    return run


def _types(inst: Instruction) -> tuple[str, str, str, str]:
    """Types of D, A, B and C; those of A and B may be left out where they are f16."""
    found = [p for p in mods(inst) if p in tensorcore.BITS]
    d, a, b, c = found if len(found) == 4 else (found[0], "f16", "f16", found[1])
    return d, a, b, c


def _mma(inst: Instruction, program: Program) -> Run:
    types, (m, n, k) = _types(inst), tensorcore.shape_of(inst)
    shapes = ((m, k), (n, k), (m, n))
    gets = [Fragment(o, t, program, inst) for o, t in zip(inst.operands[1:], types[1:], strict=True)]
    counts = [_values(o, t) for o, t in zip(inst.operands[1:], types[1:], strict=True)]
    out, results = Target(inst.operands[0], types[0], program, inst), _values(inst.operands[0], types[0])
    multiply = tensorcore.multiplier(program, "mma", types[:3], k, inst)
    if types[0] == "f64":
        multiply = chain(inst)

    def run(s: Strand) -> None:
        words = [g.read(s) for g in gets]
        done = []
        for w in range(s.n // 32):
            a, b, c = (
                _matrix(h[:, 32 * w : 32 * w + 32], t, count, shape)
                for h, t, count, shape in zip(words, types[1:], counts, shapes, strict=True)
            )
            total = multiply(a, b.T, c).ravel()[_elements(results, 32, m * n)]
            done.append(tensorcore.write_accumulator(total, types[0]))
        out.write(s, np.concatenate(done, axis=1))

    return run


def _matrix(words: Array, type: str, count: int, shape: tuple[int, int]) -> Array:
    """The matrix of a warp's fragment, B as (n, k)."""
    held = np.ascontiguousarray(words)
    if type in ("f32", "s32"):
        values = tensorcore.read_accumulator(held, type)
    elif type == "f64":
        values = held.view(np.float64)
    else:
        values = tensorcore.values(tensorcore.unpack(held, type), type)
    out = np.empty(shape[0] * shape[1], values.dtype)
    out[_elements(count, 32, out.size)] = values
    return out.reshape(shape)


TABLE: dict[str, Builder] = {"wmma": wmma}
