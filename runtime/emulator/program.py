"""An entry made ready to run: scopes flattened, registers numbered, branch targets resolved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tilec.ir.ptx.module import (
    Addr,
    Entry,
    Instruction,
    Module,
    Not,
    Operand,
    Pair,
    Reg,
    Sym,
    Vec,
)
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.report import fault

if TYPE_CHECKING:
    from tilec.runtime.emulator.strand import Strand, Wait

Run = Callable[["Strand"], "Wait | None"]

WIDE = np.dtype([("low", "<u8"), ("high", "<u8")])
CLASS_DTYPE: dict[str, Any] = {
    "pred": "bool", "b16": "uint16", "b32": "uint32", "b64": "uint64", "b128": WIDE,
}  # fmt: skip

SPECIAL = (
    "%tid.x", "%tid.y", "%tid.z", "%ntid.x", "%ntid.y", "%ntid.z", "%ctaid.x", "%ctaid.y", "%ctaid.z",
    "%nctaid.x", "%nctaid.y", "%nctaid.z", "%laneid", "%warpid", "%nwarpid", "%smid", "%nsmid", "%gridid",
    "%clusterid.x", "%clusterid.y", "%clusterid.z", "%nclusterid.x", "%nclusterid.y", "%nclusterid.z",
    "%cluster_ctaid.x", "%cluster_ctaid.y", "%cluster_ctaid.z", "%cluster_nctaid.x", "%cluster_nctaid.y",
    "%cluster_nctaid.z", "%cluster_ctarank", "%cluster_nctarank", "%clock", "%clock_hi", "%globaltimer_hi",
    "%aggr_smem_size", "%globaltimer_lo", "%lanemask_eq", "%lanemask_le", "%lanemask_lt", "%lanemask_ge",
    "%lanemask_gt", "%dynamic_smem_size", "%total_smem_size",
)  # fmt: skip
# Registers that count: here instructions of the run, as cycles and as nanoseconds. By how many bits the
# count is shifted to the right.
CLOCKS = {
    "%clock": 0, "%clock_hi": 32, "%clock64": 0,
    "%globaltimer": 0, "%globaltimer_lo": 0, "%globaltimer_hi": 32,
}  # fmt: skip
ENVIRONMENT = tuple(f"%envreg{i}" for i in range(32))
SPECIAL_CLASS = {
    **dict.fromkeys((*SPECIAL, *ENVIRONMENT), "b32"), "%clock64": "b64", "%globaltimer": "b64",
    "%is_explicit_cluster": "pred",
}  # fmt: skip


@dataclass
class Op:
    """One instruction ready to run. ``join``: strands of a warp may meet here. ``whole``: it
    needs all live threads of its warps (``group``: of its warpgroups) at once. ``full``: warps must
    be complete, not only those of their threads that are left. ``watched``: the rows that it uses and
    some wgmma too, as bits. ``touches`` are those and others that hold results under way, ``sources``
    those of them that it reads. ``moves``: it only copies registers. ``effect``: others can notice that
    it ran. ``targets``: where it branches to (empty: it ends the thread), chosen by ``index`` for
    brx.idx."""

    inst: Instruction
    run: Run
    pred: int = -1
    negated: bool = False
    join: bool = False
    whole: bool = False
    group: bool = False
    full: bool = False
    touches: frozenset[int] = frozenset()
    sources: frozenset[int] = frozenset()
    watched: int = 0
    moves: bool = False
    effect: bool = False
    targets: tuple[int, ...] | None = None
    index: Callable[[Strand], Array] | None = None


@dataclass
class Program:
    """``classes`` lists the class of every register row; ``names`` its number by unique name.
    ``frame`` is the size of a thread's local variables. ``exact``: sums of tensor cores are cut as
    the hardware cuts them. ``watched`` are the rows that some wgmma
    uses, ``copied`` those that moves copy from them, ``loaded`` those that some tcgen05.ld writes."""

    entry: Entry
    module: Module
    code: list[Op] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    tables: dict[str, tuple[str, ...]] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)
    declared: dict[str, str] = field(default_factory=dict)
    frame: int = 0
    exact: bool = False
    addresses: dict[str, tuple[str, int]] = field(default_factory=dict)
    watched: set[int] = field(default_factory=set)
    copied: set[int] = field(default_factory=set)
    loaded: set[int] = field(default_factory=set)

    def register(self, operand: Operand, inst: Instruction) -> int:
        """The row of a register operand, made at its first use."""
        name = operand.name if isinstance(operand, (Reg, Sym)) else ""
        if name in self.names:
            return self.names[name]
        cls = SPECIAL_CLASS.get(name) or self.declared.get(name)
        if cls is None:
            raise fault("D401", f"{name or operand} is no declared register", inst)
        self.names[name] = len(self.classes)
        self.classes.append(cls)
        return self.names[name]

    def is_register(self, operand: Operand) -> bool:
        return isinstance(operand, (Reg, Sym)) and (
            operand.name in self.declared or operand.name in SPECIAL_CLASS
        )


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
