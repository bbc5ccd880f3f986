"""Instruction -> Op: the dispatch table of the emulator."""

from __future__ import annotations

from dataclasses import replace

from tilec.ir.errors import UnsupportedError
from tilec.ir.ptx.isa import canonical, forms_of
from tilec.ir.ptx.module import Entry, Instruction, Module, Operand, Sym
from tilec.runtime.emulator import (
    alu,
    atomics,
    barrier,
    calls,
    compare,
    convert,
    floats,
    launchcontrol,
    matrices,
    mbarrier,
    memory,
    mma_scaled,
    tcgen05,
    tensormap,
    tma,
    tmem_access,
    warp,
    wgmma,
    wmma,
)
from tilec.runtime.emulator.alu import Builder
from tilec.runtime.emulator.flatten import flatten
from tilec.runtime.emulator.operands import getter
from tilec.runtime.emulator.program import Op, Program, Run, registers_of
from tilec.runtime.emulator.report import fault
from tilec.runtime.emulator.strand import Strand

_MODULES: tuple[dict[str, Builder], ...] = (
    alu.TABLE, compare.TABLE, floats.TABLE, convert.TABLE, memory.TABLE, atomics.TABLE, warp.TABLE,
    matrices.TABLE, mbarrier.TABLE, barrier.TABLE, tma.TABLE, tensormap.TABLE, mma_scaled.TABLE, wgmma.TABLE,
    tcgen05.TABLE, calls.TABLE, launchcontrol.TABLE, wmma.TABLE,
)  # fmt: skip
TABLE: dict[str, Builder] = {name: build for table in _MODULES for name, build in table.items()}
_FLOAT_TYPES = frozenset(("f16", "f16x2", "bf16", "bf16x2", "f32", "f32x2", "f64"))
_CONTROL = ("bra", "brx", "ret", "exit")
# Atomics note it themselves: those that spin on a lock change nothing.
_EFFECT = ("st", "cp", "mbarrier", "bar", "barrier", "wgmma", "setmaxnreg", "stmatrix",
           "tcgen05", "wmma")  # fmt: skip
_FULL = ("wgmma", "mma", "wmma", "ldmatrix", "stmatrix", "movmatrix", "setmaxnreg")
_COLLECTIVE = ("shfl", "vote", "redux", "elect", "match", "bar", "barrier")


def decode(
    module: Module, entry: Entry, addresses: dict[str, tuple[str, int]], exact: bool = False
) -> Program:
    """The program, ready to run. ``addresses`` gives (space, address) of variables and
    parameters; ``exact`` chooses the sums of tensor cores (see ``Program``).
    UnsupportedError for an instruction that is not emulated."""
    program, given = flatten(module, entry)
    code = [_ordered(inst) for inst in given]
    program.exact = exact
    program.addresses.update(addresses)
    _watch(program, code)
    joins = set(program.labels.values())
    program.code = [_op(program, inst, i in joins) for i, inst in enumerate(code)]
    last = code[-1] if code else Instruction("exit")
    ends = last.pred is None and len(code) not in program.labels.values()
    if not ends or not last.opcode.startswith(("ret", "exit", "bra", "trap")):
        program.code.append(_op(program, Instruction("ret", line=last.line, loc=last.loc), False))
    return program


def _ordered(inst: Instruction) -> Instruction:
    """The instruction with its modifiers in the order of the table."""
    opcode = canonical(inst.opcode)
    return inst if opcode == inst.opcode else replace(inst, opcode=opcode)


def _watch(program: Program, code: list[Instruction]) -> None:
    for inst in code:
        if inst.opcode.startswith("wgmma.mma_async"):
            program.watched |= wgmma.accumulator_rows(inst, program)
        elif inst.opcode.startswith("tcgen05.ld"):
            program.loaded |= tmem_access.loaded_rows(inst, program)
    moves = [registers_of(program, i) for i in code if i.opcode.startswith("mov.")] if program.watched else []
    while moves:
        held = program.watched | program.copied
        found = set().union(*(written for read, written in moves if read & held)) - held
        if not found:
            break
        program.copied |= found


def _op(program: Program, inst: Instruction, join: bool) -> Op:
    base = inst.opcode.split(".")[0]
    forms = forms_of(inst.opcode)
    if not forms:
        raise _unknown(inst)
    is_wgmma = inst.opcode.startswith("wgmma")
    aligned = any(f.aligned for f in forms) or ".aligned" in inst.opcode
    op = Op(
        inst,
        _nothing if base in _CONTROL else _builder(base, inst)(inst, program),
        pred=-1 if inst.pred is None else _guard(program, inst, inst.pred.reg),
        negated=inst.pred is not None and inst.pred.negated,
        join=join or aligned or base in _COLLECTIVE or (base == "mbarrier" and "wait" in inst.opcode),
        whole=aligned and inst.pred is None,
        group=is_wgmma,
        full=aligned and base in _FULL,
        moves=base == "mov",
        effect=base in _EFFECT and "_wait" not in inst.opcode,
    )
    read, written = registers_of(program, inst)
    relevant = frozenset(program.watched | program.loaded | program.copied)
    op.touches, op.sources = relevant & (read | written), relevant & read
    if not is_wgmma:
        op.watched = sum(1 << row for row in (read | written) & program.watched)
    if base in _CONTROL:
        _control(program, op, base)
    return op


def _guard(program: Program, inst: Instruction, reg: Operand) -> int:
    row = program.register(reg, inst)
    if program.classes[row] != "pred":
        raise fault("D401", "the register that guards an instruction is no predicate", inst)
    return row


def _nothing(s: Strand) -> None:
    return None


def _builder(base: str, inst: Instruction) -> Builder:
    type = inst.opcode.rsplit(".", 1)[-1]
    shared = floats.FLOAT if type in _FLOAT_TYPES else alu.INTEGER
    found = TABLE.get(base) or shared.get(base)
    if base == "trap":
        return _trap
    if found is None:
        raise _unknown(inst)
    return found


def _trap(inst: Instruction, program: Program) -> Run:
    def run(s: Strand) -> None:
        raise fault("D414", "the kernel executed trap", inst)

    return run


def _unknown(inst: Instruction) -> UnsupportedError:
    return UnsupportedError(
        "U420",
        f"the emulator does not know {inst.opcode} (PTX line {inst.line})",
        help="run this kernel on a GPU, or add the instruction to the emulator",
    )


def _control(program: Program, op: Op, base: str) -> None:
    if base in ("ret", "exit"):
        op.targets = ()
        return
    label = op.inst.operands[-1]
    name = label.name if isinstance(label, Sym) else ""
    names = program.tables.get(name, ()) if base == "brx" else (name,)
    missing = [n for n in names if n not in program.labels]
    if missing or not names:
        raise fault("D402", f"there is no label {missing or name}", op.inst)
    op.targets = tuple(program.labels[n] for n in names)
    if base == "brx":
        op.index = getter(program, op.inst.operands[0], "u32", op.inst)
