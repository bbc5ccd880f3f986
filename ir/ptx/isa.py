"""The PTX instruction table, and the one check that emitter, parser and emulator use."""

from __future__ import annotations

import re
from functools import cache

from tilec.ir.errors import InternalError
from tilec.ir.ptx.forms import Form
from tilec.ir.ptx.isa_alu import ALU, CONVERT, FLOAT
from tilec.ir.ptx.isa_async import COPY, MBARRIER, TENSOR
from tilec.ir.ptx.isa_memory import BARRIER, CONTROL, MEMORY, WARP
from tilec.ir.ptx.isa_mma import MMA, WMMA
from tilec.ir.ptx.isa_tcgen05 import TCGEN05
from tilec.ir.ptx.module import Addr, Args, Float, Instruction, Int, Not, Operand, Pair, Reg, Sym, Vec
from tilec.ir.ptx.order import reordered

FORMS: tuple[Form, ...] = (
    *ALU, *FLOAT, *CONVERT, *MEMORY, *CONTROL, *WARP, *BARRIER, *MBARRIER, *COPY, *TENSOR, *MMA, *WMMA,
    *TCGEN05,
)  # fmt: skip

_KINDS: dict[str, tuple[type, ...]] = {
    "r": (Reg, Sym),
    "s": (Reg, Sym, Int, Float),
    "p": (Reg, Sym, Not, Int),
    "d": (Reg, Sym, Pair),
    "v": (Reg, Sym, Int, Float, Vec, Addr),
    "V": (Vec,),
    "a": (Addr,),
    "t": (Addr,),
    "i": (Int,),
    "l": (Sym,),
    "A": (Args,),
}

TARGET_VERSION = {
    "sm_80": (7, 0), "sm_86": (7, 1), "sm_89": (7, 8), "sm_90": (7, 8), "sm_90a": (8, 0), "sm_100": (8, 6),
    "sm_100a": (8, 6), "sm_100f": (8, 8), "sm_103a": (8, 8), "sm_110a": (9, 0), "sm_120a": (8, 7),
}  # fmt: skip
# The targets that share what an "f" target introduced; sm_101 is the old name of sm_110.
_FAMILIES = {100: (100, 103), 110: (101, 110), 120: (120, 121)}


class LaterTargetError(InternalError):
    """An instruction that the target does not have, but others do."""


@cache
def canonical(opcode: str) -> str:
    """The opcode with its modifiers in the order of the table; an unknown one as it is."""
    rows = _rows(opcode.split(".")[0])
    if any(f.matches(opcode) for f in rows):
        return opcode
    return next((found for f in rows if (found := reordered(f, opcode))), opcode)


@cache
def _rows(name: str) -> tuple[Form, ...]:
    """The rows of opcodes with this first part."""
    return tuple(f for f in FORMS if name in f.bases)


@cache
def forms_of(opcode: str) -> tuple[Form, ...]:
    """The rows that an opcode is of, with its modifiers in any order; empty for an unknown one."""
    ordered = canonical(opcode)
    return tuple(f for f in _rows(opcode.split(".")[0]) if f.matches(ordered))


def check(instruction: Instruction, target: str, version: tuple[int, int] | None = None) -> Form:
    """The row of an instruction. Raises InternalError when the table has no such form, the
    operands do not fit, or ``target`` or ``version`` (None: any) is too low for it."""
    form = _form(instruction.opcode, tuple(map(_sort, instruction.operands)))
    if not target_has(target, form.target):
        raise LaterTargetError("X403", f"{instruction.opcode!r} needs {form.target}, not {target}")
    if version is not None and version < form.version:
        raise InternalError("X404", f"{instruction.opcode!r} needs PTX {form.version}, not {version}")
    return form


@cache
def target_has(target: str, needed: str) -> bool:
    """Whether code for ``target`` may use what ``needed`` introduced. Alternatives are divided by
    bars. What an "a" target introduced is on no other; an "f" target shares it with its family."""
    return any(_has(*_split(target), *_split(n)) for n in needed.split("|"))


def _has(number: int, suffix: str, least: int, kind: str) -> bool:
    if kind == "a":
        return number == least and suffix == "a"
    if kind == "f":
        return number in _FAMILIES.get(least, (least,)) and suffix in ("a", "f")
    return number >= least


def _split(target: str) -> tuple[int, str]:
    found = re.match(r"sm_(\d+)([af]?)", target)
    if found is None:
        raise InternalError("X405", f"unknown PTX target {target!r}")
    return int(found[1]), found[2]


Sort = tuple[type[Operand], bool]  # of an operand: its class, and whether it is a tensor address


def _sort(operand: Operand) -> Sort:
    return type(operand), isinstance(operand, Addr) and operand.coords is not None


@cache
def _form(opcode: str, operands: tuple[Sort, ...]) -> Form:
    """The first row of an opcode that operands fit; optional ones may be left out anywhere in order."""
    forms = forms_of(opcode)
    if not forms:
        raise InternalError("X401", f"the PTX table has no instruction {opcode!r}")
    for form in forms:
        if _match(form.kinds, operands):
            return form
    wanted = " or ".join(repr(f.operands) for f in forms)
    raise InternalError("X402", f"the operands of {opcode!r} are not {wanted}")


def _match(kinds: tuple[str, ...], operands: tuple[Sort, ...]) -> bool:
    if not kinds:
        return not operands
    first, rest = kinds[0], kinds[1:]
    if operands and _is(operands[0], first[0]) and _match(rest, operands[1:]):
        return True
    return first.endswith("?") and _match(rest, operands)


def _is(operand: Sort, kind: str) -> bool:
    return operand[1] if kind == "t" else issubclass(operand[0], _KINDS[kind])
