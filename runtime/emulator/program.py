"""An entry made ready to run: scopes flattened, registers numbered, branch targets resolved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tilec.ir.ptx.module import (
    Addr,
    BranchTargets,
    Entry,
    Instruction,
    Label,
    Module,
    Not,
    Operand,
    Pair,
    Reg,
    RegDecl,
    Scope,
    Statement,
    Sym,
    Var,
    Vec,
)
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.report import fault

if TYPE_CHECKING:
    from tilec.runtime.emulator.strand import Strand, Wait

Run = Callable[["Strand"], "Wait | None"]

_CLASS = {"pred": "pred", "8": "b16", "16": "b16", "32": "b32", "64": "b64"}
CLASS_DTYPE = {"pred": "bool", "b16": "uint16", "b32": "uint32", "b64": "uint64"}

SPECIAL = (
    "%tid.x", "%tid.y", "%tid.z", "%ntid.x", "%ntid.y", "%ntid.z", "%ctaid.x", "%ctaid.y", "%ctaid.z",
    "%nctaid.x", "%nctaid.y", "%nctaid.z", "%laneid", "%warpid", "%nwarpid", "%smid", "%nsmid", "%gridid",
    "%clusterid.x", "%clusterid.y", "%clusterid.z", "%nclusterid.x", "%nclusterid.y", "%nclusterid.z",
    "%cluster_ctaid.x", "%cluster_ctaid.y", "%cluster_ctaid.z", "%cluster_nctaid.x", "%cluster_nctaid.y",
    "%cluster_nctaid.z", "%cluster_ctarank", "%cluster_nctarank", "%is_explicit_cluster", "%clock",
    "%clock_hi", "%globaltimer_lo", "%lanemask_eq", "%lanemask_le", "%lanemask_lt", "%lanemask_ge",
    "%lanemask_gt", "%dynamic_smem_size", "%total_smem_size",
)  # fmt: skip
SPECIAL_64 = ("%clock64", "%globaltimer")


@dataclass
class Op:
    """One instruction ready to run. ``join``: strands of a warp may meet here. ``whole``: it
    needs all live threads of its warps (``group``: of its warpgroups) at once. ``full``: warps must
    be complete, not only those of their threads that are left. ``watched``:
    the rows that it uses and some wgmma too, as bits. ``effect``: others can notice that it ran.
    ``targets``: where it branches to (empty: it ends
    the thread), chosen by ``index`` for brx.idx."""

    inst: Instruction
    run: Run
    pred: int = -1
    negated: bool = False
    join: bool = False
    whole: bool = False
    group: bool = False
    full: bool = False
    touches: frozenset[int] = frozenset()
    watched: int = 0
    effect: bool = False
    targets: tuple[int, ...] | None = None
    index: Callable[[Strand], Array] | None = None


@dataclass
class Program:
    """``classes`` lists the class of every register row; ``names`` its number by unique name.
    ``watched`` are the rows that some wgmma uses, ``loaded`` those that some tcgen05.ld writes."""

    entry: Entry
    module: Module
    code: list[Op] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    tables: dict[str, tuple[str, ...]] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)
    declared: dict[str, str] = field(default_factory=dict)
    variables: list[Var] = field(default_factory=list)
    addresses: dict[str, tuple[str, int]] = field(default_factory=dict)
    watched: set[int] = field(default_factory=set)
    loaded: set[int] = field(default_factory=set)

    def register(self, operand: Operand, inst: Instruction) -> int:
        """The row of a register operand, made at its first use."""
        name = operand.name if isinstance(operand, (Reg, Sym)) else ""
        if name in self.names:
            return self.names[name]
        cls = "b64" if name in SPECIAL_64 else "b32" if name in SPECIAL else self.declared.get(name)
        if cls is None:
            raise fault("D401", f"{name or operand} is no declared register", inst)
        self.names[name] = len(self.classes)
        self.classes.append(cls)
        return self.names[name]

    def is_register(self, operand: Operand) -> bool:
        return isinstance(operand, (Reg, Sym)) and (
            operand.name in self.declared or operand.name in SPECIAL or operand.name in SPECIAL_64
        )


def flatten(module: Module, entry: Entry) -> tuple[Program, list[Instruction]]:
    """The program with its labels and declarations, and its instructions in order."""
    program = Program(entry, module)
    flat = _Flattener(program)
    flat.body(entry.body, {})
    return program, flat.code


class _Flattener:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.code: list[Instruction] = []
        self.scopes = 0

    def body(self, statements: tuple[Statement, ...], outer: dict[str, str]) -> None:
        names = dict(outer)
        suffix = f"@{self.scopes}" if self.scopes else ""
        self.scopes += 1
        for s in statements:
            self._declare(s, names, suffix)
        for s in statements:
            self._place(s, names)

    def _declare(self, s: Statement, names: dict[str, str], suffix: str) -> None:
        if isinstance(s, RegDecl):
            cls = _CLASS["pred" if s.type == "pred" else s.type.lstrip("busf")]
            for name in [f"{s.name}{i}" for i in range(s.count)] or [s.name]:
                names[name] = name + suffix
                self.program.declared[name + suffix] = cls
        elif isinstance(s, Label):
            names[s.name] = s.name + suffix
        elif isinstance(s, BranchTargets):
            names[s.label] = s.label + suffix
        elif isinstance(s, Var):
            self.program.variables.append(s)

    def _place(self, s: Statement, names: dict[str, str]) -> None:
        match s:
            case Instruction():
                self.code.append(_rename(s, names))
            case Label(name):
                self.program.labels[names[name]] = len(self.code)
            case BranchTargets(label, targets):
                self.program.tables[names[label]] = tuple(names[t] for t in targets)
            case Scope(body):
                self.body(body, names)


def _rename(inst: Instruction, names: dict[str, str]) -> Instruction:
    changed = tuple(_renamed(o, names) for o in inst.operands)
    pred = inst.pred
    if pred is not None and pred.reg.name in names:
        pred = type(pred)(Reg(names[pred.reg.name]), pred.negated)
    return Instruction(inst.opcode, changed, pred, inst.comment, inst.loc, inst.line)


def _renamed(o: Operand, names: dict[str, str]) -> Operand:
    match o:
        case Reg(name):
            return Reg(names.get(name, name))
        case Sym(name):
            return Sym(names.get(name, name))
        case Not(reg):
            return Not(Reg(names.get(reg.name, reg.name)))
        case Vec(items):
            return Vec(tuple(_renamed(i, names) for i in items))
        case Pair(first, second):
            return Pair(_renamed(first, names), _renamed(second, names))
        case Addr(base, offset, coords):
            moved = None if coords is None else tuple(_renamed(c, names) for c in coords)
            renamed = _renamed(base, names)
            return Addr(renamed if isinstance(renamed, (Reg, Sym)) else base, offset, moved)
    return o


def registers_of(program: Program, inst: Instruction) -> tuple[set[int], set[int]]:
    """(read, written) register rows of an instruction; the first operand is the destination
    unless it is an address or the instruction has none."""
    written: set[int] = set()
    read: set[int] = set()
    for position, operand in enumerate(inst.operands):
        is_target = position == 0 and _has_destination(inst) and not isinstance(operand, Addr)
        into = written if is_target else read
        into.update(_rows(program, operand, inst))
    if inst.pred is not None:
        read.add(program.register(inst.pred.reg, inst))
    return read, written


_NO_DESTINATION = ("st", "red", "bra", "brx", "bar", "barrier", "cp", "fence", "stmatrix", "prefetch")


def _has_destination(inst: Instruction) -> bool:
    base = inst.opcode.split(".")[0]
    if base in ("bar", "barrier"):
        return ".red." in inst.opcode
    return base not in _NO_DESTINATION


def _rows(program: Program, operand: Operand, inst: Instruction) -> set[int]:
    match operand:
        case Reg() | Sym():
            return {program.register(operand, inst)} if program.is_register(operand) else set()
        case Not(reg):
            return _rows(program, reg, inst)
        case Vec(items):
            return set().union(*(_rows(program, i, inst) for i in items))
        case Pair(first, second):
            return _rows(program, first, inst) | _rows(program, second, inst)
        case Addr(base, _, coords):
            return set().union(_rows(program, base, inst), *(_rows(program, c, inst) for c in coords or ()))
    return set()
