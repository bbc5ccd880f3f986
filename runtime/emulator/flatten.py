"""An entry as one list of instructions: scopes opened, calls replaced by the function's body.

Every name becomes unique. Variables of a frame (``.local``, and the ``.param`` of calls) get
addresses in the local memory of a thread; a formal parameter is the variable that is passed.
"""

from __future__ import annotations

from tilec.ir.errors import UnsupportedError
from tilec.ir.ptx.module import (
    TYPE_BYTES,
    Addr,
    Args,
    BranchTargets,
    Entry,
    EntryParam,
    Function,
    Instruction,
    Label,
    Module,
    Not,
    Operand,
    Pair,
    Pred,
    Reg,
    RegDecl,
    Scope,
    Statement,
    Sym,
    Var,
    Vec,
)
from tilec.runtime.emulator.program import Program
from tilec.runtime.emulator.report import fault

BUILTIN = ("vprintf", "__assertfail")
_LONGEST = 1 << 18
_LARGEST_FRAME = 1 << 19

Names = dict[str, str]


def flatten(module: Module, entry: Entry) -> tuple[Program, list[Instruction]]:
    """The program with its labels and declarations, and its instructions in order."""
    program = Program(entry, module)
    flat = _Flattener(program)
    for var in (i for i in module.items if isinstance(i, Var) and i.space == "local"):
        flat.variable(var, {}, "")
    flat.body(entry.body, {})
    return program, flat.code


def register_class(type: str) -> str:
    """The class of registers of a type: 8-bit values are in 16-bit registers."""
    return "pred" if type == "pred" else f"b{max(8 * TYPE_BYTES[type], 16)}"


class _Flattener:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.code: list[Instruction] = []
        self.scopes = 0
        self.calls: list[str] = []
        self.end = ""

    def body(self, statements: tuple[Statement, ...], outer: Names) -> None:
        names, suffix = dict(outer), self._suffix()
        for s in statements:
            self._declare(s, names, suffix)
        for s in statements:
            self._place(s, names)

    def _suffix(self) -> str:
        self.scopes += 1
        return f"@{self.scopes - 1}" if self.scopes > 1 else ""

    def _declare(self, s: Statement, names: Names, suffix: str) -> None:
        if isinstance(s, RegDecl):
            for name in [f"{s.name}{i}" for i in range(s.count)] or [s.name]:
                self._register(name, s.type, names, suffix)
        elif isinstance(s, Label):
            names[s.name] = s.name + suffix
        elif isinstance(s, BranchTargets):
            names[s.label] = s.label + suffix
        elif isinstance(s, Var) and s.space in ("local", "param"):
            self.variable(s, names, suffix)

    def _register(self, name: str, type: str, names: Names, suffix: str) -> None:
        names[name] = name + suffix
        self.program.declared[name + suffix] = register_class(type)

    def variable(self, var: Var, names: Names, suffix: str) -> None:
        """A variable of the frame."""
        size = TYPE_BYTES[var.type] * (1 if var.count is None else max(var.count, 0))
        align = max(var.align, TYPE_BYTES[var.type])
        start = -(-self.program.frame // align) * align
        self.program.frame = start + size
        if self.program.frame > _LARGEST_FRAME:
            raise UnsupportedError("U422", f"the local variables exceed {_LARGEST_FRAME} bytes at {var.name}")
        names[var.name] = var.name + suffix
        self.program.addresses[names[var.name]] = ("local", start)

    def _place(self, s: Statement, names: Names) -> None:
        match s:
            case Instruction():
                self._instruction(_rename(s, names))
            case Label(name):
                self.program.labels[names[name]] = len(self.code)
            case BranchTargets(label, targets):
                self.program.tables[names[label]] = tuple(names.get(t, t) for t in targets)
            case Scope(body):
                self.body(body, names)

    def _instruction(self, inst: Instruction) -> None:
        if len(self.code) > _LONGEST:
            raise UnsupportedError("U422", f"calls make more than {_LONGEST} instructions of the entry")
        if inst.opcode.startswith("call"):
            self._call(inst)
        elif inst.opcode.startswith("ret") and self.end:
            self.code.append(_like(inst, "bra", Sym(self.end)))
        else:
            self.code.append(inst)

    def _call(self, inst: Instruction) -> None:
        """The body of the function instead of the call; its ``ret`` leads behind it."""
        target = next((o for o in inst.operands if isinstance(o, (Sym, Reg))), Sym("?"))
        function = self.program.module.function(target.name)
        if target.name in BUILTIN:
            self.code.append(inst)
            return
        problem = _problem(function, target.name, self.calls)
        if function is None or problem:
            raise UnsupportedError("U422", f"{problem} is not emulated (PTX line {inst.line})")
        skip = f"@after{self._suffix()}"
        if inst.pred is not None:
            self.code.append(Instruction("bra", (Sym(skip),), _opposite(inst.pred), "", inst.loc, inst.line))
        self._inline(inst, function)
        self.program.labels[skip] = len(self.code)

    def _inline(self, inst: Instruction, function: Function) -> None:
        results, arguments = _arguments(inst)
        if (len(results), len(arguments)) != (len(function.results), len(function.params)):
            raise fault("D417", f"{function.name} has other parameters than this call", inst)
        names: Names = {}
        suffix, before = self._suffix(), self.end
        for formal, given in zip(function.params, arguments, strict=True):
            self._bind(formal, given, names, suffix, inst, True)
        for formal, given in zip(function.results, results, strict=True):
            self._bind(formal, given, names, suffix, inst, False)
        self.end = f"@end{suffix}"
        self.calls.append(function.name)
        self.body(function.body or (), names)
        self.calls.pop()
        self.program.labels[self.end] = len(self.code)
        self.end = before
        for formal, given in zip(function.results, results, strict=True):
            if not self._shared(formal, given):
                self._move(formal, Sym(names[formal.name]), given, inst, False)

    def _shared(self, formal: EntryParam, given: Operand) -> bool:
        """Whether the formal is the very variable that is passed."""
        return formal.space == "param" and isinstance(given, Sym) and given.name in self.program.addresses

    def _bind(self, formal: EntryParam, given: Operand, names: Names, suffix: str, inst: Instruction,
              passed: bool) -> None:  # fmt: skip
        if self._shared(formal, given) and isinstance(given, Sym):
            names[formal.name] = given.name
            return
        if formal.space == "reg":
            self._register(formal.name, formal.type, names, suffix)
        else:
            var = Var("param", formal.type, formal.name, formal.count, formal.align)
            self.variable(var, names, suffix)
        if passed:
            self._move(formal, Sym(names[formal.name]), given, inst, True)

    def _move(self, formal: EntryParam, place: Sym, given: Operand, inst: Instruction, passed: bool) -> None:
        """Copy between a formal of a scalar type and a register or immediate."""
        type, bits = formal.type, register_class(formal.type)
        if formal.space == "reg":
            self.code.append(_like(inst, f"mov.{bits}", *((place, given) if passed else (given, place))))
        elif passed:
            self.code.append(_like(inst, f"st.param.{type}", Addr(place), given))
        else:
            self.code.append(_like(inst, f"ld.param.{type}", given, Addr(place)))


def _like(inst: Instruction, opcode: str, *operands: Operand) -> Instruction:
    """An instruction in the place of another, with its guard unless that was a call's."""
    pred = None if inst.opcode.startswith("call") else inst.pred
    return Instruction(opcode, operands, pred, "", inst.loc, inst.line)


def _problem(function: Function | None, name: str, calls: list[str]) -> str:
    """Why a function cannot be called, or nothing."""
    if function is None:
        return "a call through a pointer"
    if function.body is None:
        return f"a call of {name}, which has no body,"
    return f"recursion of {name}" if name in calls else ""


def _opposite(pred: Pred) -> Pred:
    return Pred(pred.reg, not pred.negated)


def _arguments(inst: Instruction) -> tuple[tuple[Operand, ...], tuple[Operand, ...]]:
    """(results, arguments) of a call."""
    lists = [o.items for o in inst.operands if isinstance(o, Args)]
    if isinstance(inst.operands[0], Args):
        return lists[0], lists[1] if len(lists) > 1 else ()
    return (), lists[0] if lists else ()


def _rename(inst: Instruction, names: Names) -> Instruction:
    changed = tuple(_renamed(o, names) for o in inst.operands)
    pred = inst.pred
    if pred is not None and pred.reg.name in names:
        pred = Pred(Reg(names[pred.reg.name]), pred.negated)
    return Instruction(inst.opcode, changed, pred, inst.comment, inst.loc, inst.line)


def _renamed(o: Operand, names: Names) -> Operand:
    match o:
        case Reg(name):
            return Reg(names.get(name, name))
        case Sym(name, offset):
            return Sym(names.get(name, name), offset)
        case Not(reg):
            return Not(Reg(names.get(reg.name, reg.name)))
        case Vec(items):
            return Vec(tuple(_renamed(i, names) for i in items))
        case Args(items):
            return Args(tuple(_renamed(i, names) for i in items))
        case Pair(first, second):
            return Pair(_renamed(first, names), _renamed(second, names))
        case Addr(base, offset, coords):
            moved = None if coords is None else tuple(_renamed(c, names) for c in coords)
            renamed = _renamed(base, names)
            return Addr(renamed if isinstance(renamed, (Reg, Sym)) else base, offset, moved)
    return o
