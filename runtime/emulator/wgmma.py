"""Warpgroup matrix products (sm_90a): descriptors, issue, groups, hazards."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tilec.ir.ptx.module import Instruction, Int, Operand, Vec
from tilec.runtime.emulator import fragments, tensorcore
from tilec.runtime.emulator.alu import Builder, groups_left, mods
from tilec.runtime.emulator.asyncops import AsyncOp
from tilec.runtime.emulator.cta import Cta, WarpGroup
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.observe import SharedOperand
from tilec.runtime.emulator.operands import getter, per_thread
from tilec.runtime.emulator.program import Program, Run
from tilec.runtime.emulator.report import fault

if TYPE_CHECKING:
    from tilec.runtime.emulator.strand import Strand

_SWIZZLE = (0, 3, 2, 1)  # descriptor field: none, 128 B, 64 B, 32 B


@dataclass(frozen=True)
class Descriptor:
    """A matrix descriptor; all fields in bytes, ``swizzle`` 0 none, 1 32 B, 2 64 B, 3 128 B."""

    start: int
    lbo: int
    sbo: int
    base: int
    swizzle: int


def decode_descriptor(bits: int) -> Descriptor:
    """The fields of the 64-bit descriptor of sm_90."""
    return Descriptor(
        (bits & 0x3FFF) << 4,
        (bits >> 16 & 0x3FFF) << 4,
        (bits >> 32 & 0x3FFF) << 4,
        bits >> 49 & 7,
        _SWIZZLE[bits >> 62 & 3],
    )


@dataclass(frozen=True)
class _Product:
    """What one wgmma.mma_async does, from its opcode and immediates."""

    n: int
    types: tuple[str, str, str]
    transposed: tuple[bool, bool]
    negated: tuple[int, int]
    multiply: tensorcore.Multiply
    accumulator: tuple[int, ...]
    a_rows: tuple[int, ...]

    @cached_property
    def bits(self) -> int:
        """Its registers, as bits of their rows."""
        return sum(1 << row for row in {*self.accumulator, *self.a_rows})


def wgmma(inst: Instruction, program: Program) -> Run:
    """fence, commit_group, wait_group, mma_async."""
    kind = mods(inst)[0]
    if kind == "fence":
        return _fence
    if kind == "commit_group":
        return _commit
    if kind == "wait_group":
        pending = groups_left(inst)
        return lambda s: _wait(s, pending, inst)
    return _mma(inst, program)


def _fence(s: Strand) -> None:
    for group in s.groups().tolist():
        s.cta.warpgroups[group].unfenced = 0
        s.cta.warpgroups[group].moved = 0


def _commit(s: Strand) -> None:
    for group in s.groups().tolist():
        s.cta.warpgroups[group].groups.commit()
        s.cta.machine.observer.product_commit(s.cta, group)


def _wait(s: Strand, pending: int, inst: Instruction) -> None:
    for group in s.groups().tolist():
        s.cta.machine.observer.product_wait(s.cta, group, pending, inst)
        found = s.cta.warpgroups[group]
        found.groups.wait(pending)
        found.skipped = set(found.flying) if found.groups.committed else set()
        kept = {row: held & found.flying.keys() for row, held in found.copies.items()}
        found.copies = {row: held for row, held in kept.items() if held}
    s.cta.flying = any(g.flying for g in s.cta.warpgroups.values())


def accumulator_rows(inst: Instruction, program: Program) -> set[int]:
    """Register rows that a wgmma uses: D, and A if it is in registers."""
    vectors = [o for o in inst.operands[:2] if isinstance(o, Vec)]
    return {program.register(r, inst) for v in vectors for r in v.items}


def _rows(operand: Operand, inst: Instruction, program: Program) -> tuple[int, ...]:
    items = operand.items if isinstance(operand, Vec) else ()
    return tuple(program.register(r, inst) for r in items)


def _mma(inst: Instruction, program: Program) -> Run:
    parts = mods(inst)
    n = int(parts[3].split("n")[1].split("k")[0])
    d_type, a_type, b_type = parts[-3:]
    ds, a_operand = inst.operands[0], inst.operands[1]
    immediates = [o.value for o in inst.operands[4:] if isinstance(o, Int)]
    negated = (immediates[0], immediates[1]) if len(immediates) >= 2 else (1, 1)
    turns = [bool(t) for t in immediates[2:]]
    in_registers = isinstance(a_operand, Vec)
    turned = (False, *turns[-1:]) if in_registers else tuple(turns)
    types = (d_type, a_type, b_type)
    k = 256 // tensorcore.BITS[a_type]
    multiply = tensorcore.multiplier(program, "wgmma", types, k, inst)
    what = _Product(
        n, types, (turned[0], turned[1]) if len(turned) == 2 else (False, False),
        negated, multiply, _rows(ds, inst, program), _rows(a_operand, inst, program),
    )  # fmt: skip
    a_desc = None if in_registers else getter(program, a_operand, "b64", inst)
    b_desc = getter(program, inst.operands[2], "b64", inst)
    scale = getter(program, inst.operands[3], "pred", inst)
    if len(what.accumulator) != n // (4 if d_type == "f16" else 2):
        raise fault("D405", f"{len(what.accumulator)} accumulator registers for n{n}", inst)

    def run(s: Strand) -> None:
        b, keep = per_thread(s, b_desc(s)), per_thread(s, scale(s))
        a = per_thread(s, a_desc(s)) if a_desc else None
        for g in s.groups().tolist():
            at = np.flatnonzero(s.threads >> 7 == g)
            for value in (b, keep, a):
                if value is not None and (value[at] != value[at[0]]).any():
                    s.cta.report("E15", "a descriptor or scale-d differs within the warpgroup", inst)
            first = at[0]
            _issue(
                s.cta, g, what, None if a is None else int(a[first]), int(b[first]), bool(keep[first]), inst
            )

    return run


def _issue(cta: Cta, g: int, what: _Product, a: int | None, b: int, keep: bool, inst: Instruction) -> None:
    group = cta.warpgroups[g]
    operands = [_operand(cta, b, what.n, what.types[2], not what.transposed[1], inst)]
    if a is not None:
        operands.insert(0, _operand(cta, a, 64, what.types[1], not what.transposed[0], inst))
    reads = [address for address, _ in operands]
    if cta.machine.observer.checks:
        _check_fence(cta, group, what, inst)
        cta.machine.observer.product(cta, g, [operand for _, operand in operands], inst)
        _claim(cta, group, what)

    def release() -> None:
        for row in (*what.accumulator, *what.a_rows):
            group.flying[row] -= 1
            if not group.flying[row]:
                del group.flying[row]

    before = group.groups.last
    op = AsyncOp(
        f"the wgmma of PTX line {inst.line}",
        [lambda: _act(cta, g, what, reads, keep)],
        before=before if before is not None and not before.finished else None,
        release=release if cta.machine.observer.checks else None,
    )
    group.groups.add(op)
    cta.issue(op)


def _claim(cta: Cta, group: WarpGroup, what: _Product) -> None:
    """The registers of the product are its own until a wait covers it."""
    for row in (*what.accumulator, *what.a_rows):
        group.flying[row] = group.flying.get(row, 0) + 1
    cta.flying = True


def _check_fence(cta: Cta, group: WarpGroup, what: _Product, inst: Instruction) -> None:
    """E6: between ordinary uses of the registers and the product there must be a fence."""
    if group.unfenced & what.bits:
        text = "no wgmma.fence stands between ordinary uses of registers of this wgmma and the wgmma"
        cta.report("E6", text, inst)
        group.unfenced &= ~what.bits
    elif group.moved & what.bits:
        cta.report("W28", "registers of this wgmma were moved after the last wgmma.fence", inst)
        group.moved &= ~what.bits


def _operand(
    cta: Cta, bits: int, rows: int, type: str, along_k: bool, inst: Instruction
) -> tuple[Array, SharedOperand]:
    """Shared byte addresses of the operand's elements (mn, k), and what a checker is told of it."""
    d = decode_descriptor(bits)
    size = tensorcore.BITS[type] // 8
    if not along_k and size != 2:
        raise fault("D405", f"{type} operands must be K-major", inst)
    if d.base:
        raise fault("D404", "a descriptor with base offset is not emulated", inst)
    layout = (rows, size, d.lbo, d.sbo, d.swizzle, along_k, d.start & 1023)
    address = tensorcore.operand_offsets(*layout) + (d.start & ~1023)
    units, pairs = (
        f(*layout) + (d.start >> 10 << 6) for f in (tensorcore.operand_units, tensorcore.operand_pairs)
    )
    span = 16 << d.swizzle
    if d.swizzle and d.start % (8 * span) >= span:
        text = f"a descriptor starts at {d.start:#x}, inside of a swizzle pattern of {8 * span} bytes"
        cta.report("W29", f"{text}, without a base offset", inst)
    if int(units[-1]) * 16 >= cta.shared.size:
        raise fault("D410", f"a wgmma operand reaches {int(address.max()):#x}, outside shared memory", inst)
    return address, SharedOperand(units, d.swizzle, pairs)


def _act(cta: Cta, g: int, what: _Product, reads: list[Array], keep: bool) -> None:
    """Compute D = A B + D for a warpgroup, from memory and registers as they are now."""
    threads = slice(128 * g, 128 * g + 128)
    d_type, a_type, b_type = what.types
    b = _values(cta, reads[-1], b_type)
    if what.a_rows:
        words = _words(cta, what.a_rows, threads)
        raw = tensorcore.values(tensorcore.unpack(words, a_type), a_type)
        a = np.empty((64, 256 // tensorcore.BITS[a_type]), raw.dtype)
        a[fragments.left(tensorcore.BITS[a_type])] = raw
    else:
        a = _values(cta, reads[0], a_type)
    where = fragments.accumulator(what.n)
    sign = what.negated[0] * what.negated[1]
    start = np.zeros((64, what.n), np.int64 if d_type == "s32" else np.float32)
    if keep:
        held = tensorcore.read_accumulator(_words(cta, what.accumulator, threads), d_type)
        start = np.empty((64, what.n), held.dtype)
        start[where] = held
    total = what.multiply(a if sign > 0 else -a, b.T, start)
    out = tensorcore.write_accumulator(total[where], d_type)
    rows = [cta.rows[r] for r in what.accumulator]
    cta.files["b32"][rows, threads] = out


def _words(cta: Cta, rows: tuple[int, ...], threads: slice) -> Array:
    """(registers, 128) of raw 32-bit register contents."""
    result: Array = cta.files["b32"][[cta.rows[r] for r in rows], threads]
    return result


def _values(cta: Cta, address: Array, type: str) -> Array:
    size = tensorcore.BITS[type] // 8
    return tensorcore.values(cta.shared.view(size)[address // size], type)


TABLE: dict[str, Builder] = {"wgmma": wgmma}
