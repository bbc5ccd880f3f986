"""How a backend writes a kernel: every instruction is checked against the table as it is emitted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePath

from tilec.ir.errors import InternalError
from tilec.ir.loc import UNKNOWN, Loc
from tilec.ir.ptx.code import Code
from tilec.ir.ptx.in_place import in_place
from tilec.ir.ptx.isa import TARGET_VERSION, check
from tilec.ir.ptx.module import (
    TYPE_BYTES,
    Addr,
    Args,
    BranchTargets,
    Comment,
    Entry,
    EntryParam,
    FileDirective,
    Float,
    Instruction,
    Int,
    Item,
    Label,
    LocDirective,
    Module,
    Not,
    Operand,
    Pair,
    Pred,
    Reg,
    RegDecl,
    Statement,
    Sym,
    Var,
    Vec,
    f32,
)
from tilec.ir.ptx.pairs import in_pairs
from tilec.ir.ptx.printer import print_module

_PREFIX = {"pred": "%p", "b16": "%rs", "b32": "%r", "b64": "%rd", "f32": "%f", "f64": "%fd"}
_CLASS = {1: "b16", 2: "b16", 4: "b32", 8: "b64"}

Value = Operand | int | float | Sequence["Value"]


def operand(value: Value) -> Operand:
    """The operand a Python value stands for: int, float (f32), sequence (vector)."""
    if isinstance(value, (bool, int)):
        return Int(int(value))
    if isinstance(value, float):
        return f32(value)
    if isinstance(value, (Reg, Sym, Int, Float, Addr, Vec, Pair, Not, Args)):
        return value
    return Vec(tuple(operand(v) for v in value))


def addr(base: Reg | Sym, offset: int = 0) -> Addr:
    """``[base + offset]``"""
    return Addr(base, offset)


def tensor_addr(base: Reg | Sym, coords: Sequence[Value]) -> Addr:
    """``[base, {coords}]``: a tensor map and coordinates, innermost first."""
    return Addr(base, 0, tuple(operand(c) for c in coords))


class Builder:
    """Collects one entry. Registers and labels are numbered in order of creation, so the
    same calls give the same text."""

    def __init__(self, name: str, target: str) -> None:
        self.name = name
        self.target = target
        self.version = TARGET_VERSION[target]
        self.loc = UNKNOWN
        self._params: list[EntryParam] = []
        self._directives: dict[str, tuple[int, ...]] = {}
        self._vars: list[Var] = []
        self._body: list[Statement] = []
        self._counts: dict[str, int] = {}
        self._labels: dict[str, int] = {}
        self._files: dict[str, int] = {}
        self._printed = UNKNOWN

    def param(self, type: str, *, count: int | None = None, align: int = 0) -> Sym:
        """The next parameter of the entry; a tensor map is ``param("b8", count=128, align=64)``."""
        name = f"{self.name}_param_{len(self._params)}"
        self._params.append(EntryParam(type, name, count, align))
        return Sym(name)

    def directive(self, name: str, *values: int) -> None:
        """A performance directive: ``directive("reqntid", 384, 1, 1)``."""
        self._directives[name] = values

    def shared(self, name: str, count: int, *, type: str = "b8", align: int = 16) -> Sym:
        """A shared array of fixed size, or with ``count`` -1 the dynamic one."""
        self._vars.append(Var("shared", type, name, count, align, extern=count < 0))
        return Sym(name)

    def reg(self, type: str) -> Reg:
        """A new register of the class of ``type`` (s32 and f16x2 are b32, and so on)."""
        cls = type if type in _PREFIX else _CLASS[TYPE_BYTES[type]]
        index = self._counts.get(cls, 0)
        self._counts[cls] = index + 1
        return Reg(f"{_PREFIX[cls]}{index}")

    def regs(self, type: str, count: int) -> tuple[Reg, ...]:
        return tuple(self.reg(type) for _ in range(count))

    def label(self, stem: str = "L") -> Sym:
        """A new label, not yet placed."""
        index = self._labels.get(stem, 0)
        self._labels[stem] = index + 1
        return Sym(f"${stem}_{index}")

    def place(self, label: Sym) -> None:
        """Put a label here."""
        self._body.append(Label(label.name))

    def targets(self, labels: Sequence[Sym]) -> Sym:
        """A branch table for brx.idx."""
        name = self.label("table")
        self._body.append(BranchTargets(name.name, tuple(t.name for t in labels)))
        return name

    def comment(self, text: str) -> None:
        self._body.append(Comment(text))

    @contextmanager
    def at(self, loc: Loc) -> Iterator[None]:
        """Instructions emitted inside come from ``loc``."""
        before, self.loc = self.loc, loc
        try:
            yield
        finally:
            self.loc = before

    def emit(
        self,
        opcode: str,
        *operands: Value,
        pred: Reg | Not | None = None,
        loc: Loc | None = None,
        comment: str = "",
    ) -> Instruction:
        """Append an instruction. InternalError if the table has no such form for the target."""
        made = Instruction(
            opcode, tuple(operand(o) for o in operands), _guard(pred), comment, loc or self.loc
        )
        form = check(made, self.target)
        self.version = max(self.version, form.version)
        self._locate(made.loc)
        self._body.append(made)
        return made

    def define(self, type: str, opcode: str, *operands: Value, pred: Reg | Not | None = None) -> Reg:
        """Emit with a new register of ``type`` as the destination, and return it."""
        to = self.reg(type)
        self.emit(opcode, to, *operands, pred=pred)
        return to

    def _locate(self, loc: Loc) -> None:
        if loc.line <= 0 or (loc.file, loc.line, loc.col) == (
            self._printed.file,
            self._printed.line,
            self._printed.col,
        ):
            return
        self._printed = loc
        index = self._files.setdefault(loc.file, len(self._files) + 1)
        note = f"{PurePath(loc.file).name}:{loc.line}"
        self._body.append(LocDirective(index, loc.line, loc.col + 1, comment=note))

    def module(self) -> Module:
        """The finished module: register declarations stand at the head of the entry."""
        placed = {s.name for s in self._body if isinstance(s, Label)}
        for s in self._body:
            if isinstance(s, Instruction) and s.opcode.startswith("bra"):
                _require_placed(s, placed)
        declared = tuple(RegDecl(cls, _PREFIX[cls], n) for cls, n in sorted(self._counts.items()))
        entry = Entry(
            self.name,
            tuple(self._params),
            tuple(self._directives.items()),
            (*declared, *self._polished()),
        )
        # Names without folders: the text must not depend on where a checkout lies.
        files = tuple(FileDirective(i, PurePath(name).name) for name, i in self._files.items())
        items: tuple[Item, ...] = (*files, *self._vars, entry)
        return Module(self.version, self.target, items)

    def _polished(self) -> list[Statement]:
        code = Code(list(self._body))
        in_place(code)
        in_pairs(code)
        return code.statements()

    def text(self) -> str:
        return print_module(self.module())


def _guard(pred: Reg | Not | None) -> Pred | None:
    if isinstance(pred, Not):
        return Pred(Reg(pred.reg.name), True)
    return None if pred is None else Pred(pred)


def _require_placed(branch: Instruction, placed: set[str]) -> None:
    for to in branch.operands:
        if isinstance(to, Sym) and to.name not in placed:
            raise InternalError("X406", f"label {to.name} is branched to but never placed")
