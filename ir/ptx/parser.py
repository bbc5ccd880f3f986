"""PTX text -> data. Accepts what nvcc, Triton and this package print."""

from __future__ import annotations

import re
from bisect import bisect_right

from tilec.ir.errors import TilecError, TilecSyntaxError
from tilec.ir.loc import UNKNOWN, Loc
from tilec.ir.ptx.isa import check
from tilec.ir.ptx.module import (
    TYPE_BYTES,
    BranchTargets,
    Directive,
    Entry,
    EntryParam,
    FileDirective,
    Float,
    Function,
    Instruction,
    Item,
    Label,
    LocDirective,
    Module,
    Pred,
    Prototype,
    Reg,
    RegDecl,
    Scope,
    Section,
    Statement,
    Var,
)
from tilec.ir.ptx.operands import parse_operands

_COMMENT = re.compile(r'"[^"\n]*"|//[^\n]*|/\*.*?\*/', re.S)
_LABEL = re.compile(r"([\w$%]+)\s*:(?!:)")
_INSTRUCTION = re.compile(r"(?:@(!?)([\w$%]+)\s+)?([a-z][\w.:]*(?:\s+\.[\w.:]+)*)\s*(.*)", re.S)
_LOC = re.compile(r"\.loc\s+(\d+)\s+(\d+)\s+(\d+)\s*(?:,\s*([^\n]*))?")
_FILE = re.compile(r'\.file\s+(\d+)\s+"([^"]*)"[^\n]*')
_SECTION = re.compile(r"\.section\s+(\S+)\s*\{(.*?)\}", re.S)
_REG = re.compile(r"\.reg\s+\.(\w+)\s+(.*)", re.S)
_VAR = re.compile(
    r"((?:\.(?:visible|extern|weak|common)\s+)*)\.(shared|global|const|local|param)\s+"
    r"(?:\.attribute\s*\([^)]*\)\s*)?(?:\.align\s+(\d+)\s+)?\.(\w+)\s+(.*)",
    re.S,
)
_NAMED = re.compile(r"([\w$%]+)\s*((?:\[\s*\d*\s*\]\s*)*)(?:=\s*(.*))?", re.S)
_PARAM = re.compile(
    r"\.(param|reg)\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+(\.ptr\s+)?(?:\.(shared|global|const|local)\s+)?"
    r"(?:\.align\s+(\d+)\s+)?([\w$%]+)\s*(?:\[\s*(\d*)\s*\])?$"
)
_ENTRY = re.compile(r"(?:\.visible\s+|\.weak\s+)?\.entry\s+([\w$]+)\s*(?:\(([^)]*)\))?([^{;]*)\{")
_FUNC = re.compile(
    r"((?:\.(?:visible|extern|weak)\s+)*)\.func\s*(?:\(([^)]*)\)\s*)?([\w$]+)\s*(?:\(([^)]*)\))?([^{;]*)([{;])"
)
# More than any program has: beyond them the text is taken for damaged.
_MOST_REGISTERS, _MOST_BYTES, _DEEPEST = 1 << 17, 1 << 31, 100
_SPACE = re.compile(r"\s*")


def parse(text: str, *, checked: bool = True) -> Module:
    """The module a PTX file describes. Raises TilecSyntaxError with the PTX line in its
    message; with ``checked`` also for an instruction that the instruction table lacks."""
    return _Parser(text, checked).module()


class _Parser:
    def __init__(self, text: str, checked: bool) -> None:
        self.text = _COMMENT.sub(_blank, text)
        self.checked = checked
        self.at = self.depth = 0
        self.newlines = [i for i, c in enumerate(self.text) if c == "\n"]
        self.files = {int(m[1]): m[2] for m in _FILE.finditer(self.text)}
        self.target = ""
        self.loc = UNKNOWN

    def line(self) -> int:
        return bisect_right(self.newlines, self.at) + 1

    def fail(self, message: str) -> TilecSyntaxError:
        return TilecSyntaxError("S402", f"PTX line {self.line()}: {message}", loc=self.loc)

    def skip(self) -> None:
        self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self.text, self.at)
        if found:
            self.at = found.end()
        return found

    def need(self, name: str, value: str) -> str:
        """The value of a directive that must stand here."""
        self.skip()
        found = self.match(re.compile(rf"\.{name}\s+({value})"))
        if found is None:
            raise self.fail(f"a .{name} directive was expected; is this PTX?")
        return found[1]

    def module(self) -> Module:
        major, minor = self.need("version", r"\d+\.\d+").split(".")
        self.target = self.need("target", r"[^\n]+").strip()
        self.skip()
        found = self.match(re.compile(r"\.address_size\s+(\d+)"))
        size = int(found[1]) if found else 64
        items: list[Item] = []
        self.skip()
        while self.at < len(self.text):
            items.append(self.item())
            self.skip()
        return Module((int(major), int(minor)), self.target, tuple(items), size)

    def item(self) -> Item:
        if found := self.match(_FILE):
            return FileDirective(int(found[1]), found[2])
        if found := self.match(_SECTION):
            lines = (line.strip() for line in found[2].split("\n"))
            return Section(found[1], "\n".join(line for line in lines if line))
        if found := self.match(_ENTRY):
            return self.entry(found)
        if found := self.match(_FUNC):
            return self.function(found)
        text = self.until_semicolon()
        if text.startswith((".alias", ".pragma")):
            return Directive(text)
        return self.one_variable(text)

    def entry(self, found: re.Match[str]) -> Entry:
        params, directives = self.params(found[2]), self.directives(found[3])
        self.loc = UNKNOWN
        return Entry(found[1], params, directives, self.body())

    def function(self, found: re.Match[str]) -> Function:
        linkage = tuple(found[1].replace(".", " ").split())
        results, params = self.params(found[2]), self.params(found[4])
        self.loc = UNKNOWN
        body = self.body() if found[6] == "{" else None
        return Function(found[3], results, params, body, linkage, " ".join(found[5].split()))

    def params(self, text: str | None) -> tuple[EntryParam, ...]:
        return tuple(self.param(p.strip()) for p in (text or "").split(",") if p.strip())

    def param(self, text: str) -> EntryParam:
        found = _PARAM.match(text)
        if found is None or found[3] not in TYPE_BYTES:
            raise self.fail(f"cannot read parameter {text!r}")
        ptr = (found[5] or "generic") if found[4] else ""
        align = self.alignment(found[2] or found[6])
        count = None if found[8] is None else self.size(found[8] or "1")
        return EntryParam(found[3], found[7], count, align, ptr, found[1])

    def directives(self, text: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Performance directives: words after dots, each with integers."""
        left = re.sub(r"\.\w+(?:\s+\d+(?:\s*,\s*\d+)*)?", "", text).strip()
        if left:
            raise self.fail(f"cannot read {left!r} among the directives of the entry")
        return _directives(text)

    def alignment(self, text: str | None) -> int:
        align = int(text or 0)
        if align & (align - 1) or align > 1 << 20:
            raise self.fail(f"{align} is no alignment")
        return align

    def size(self, text: str) -> int:
        if len(text) > 10 or int(text) > _MOST_BYTES:
            raise self.fail(f"an array of {text[:20]} elements is too large")
        return int(text)

    def body(self) -> tuple[Statement, ...]:
        """The statements up to the closing brace, which is consumed."""
        self.depth += 1
        if self.depth > _DEEPEST:
            raise self.fail(f"blocks nest deeper than {_DEEPEST}")
        out: list[Statement] = []
        self.skip()
        while self.text[self.at : self.at + 1] != "}":
            if self.at >= len(self.text):
                raise self.fail("the text ends inside a body")
            out.extend(self.statement())
            self.skip()
        self.at += 1
        self.depth -= 1
        return tuple(out)

    def statement(self) -> list[Statement]:
        if self.text[self.at] == "{":
            self.at += 1
            return [Scope(self.body())]
        if found := self.match(_LOC):
            return [self.location(found)]
        if found := self.match(_LABEL):
            return [self.label(found[1])]
        line, text = self.line(), self.until_semicolon()
        if not text:
            return []
        if text.startswith(".reg"):
            return list(self.registers(text))
        if text[0] == ".":
            return list(self.variables(text)) if _VAR.match(text) else [self.other(text)]
        return [self.instruction(text, line)]

    def location(self, found: re.Match[str]) -> LocDirective:
        file, line, col = int(found[1]), int(found[2]), int(found[3])
        self.loc = Loc(self.files.get(file, "<unknown>"), line, col)
        return LocDirective(file, line, col, (found[4] or "").strip())

    def other(self, text: str) -> Directive:
        if not text.startswith((".pragma", ".loc")):
            raise self.fail(f"cannot read {' '.join(text.split())[:80]!r}")
        return Directive(text)

    def label(self, name: str) -> Label | BranchTargets | Prototype:
        self.skip()
        if self.text.startswith((".callprototype", ".calltargets"), self.at):
            return Prototype(name, " ".join(self.until_semicolon().split()))
        if self.text.startswith(".branchtargets", self.at):
            targets = self.until_semicolon()[len(".branchtargets") :]
            return BranchTargets(name, tuple(t.strip() for t in targets.split(",")))
        return Label(name)

    def until_semicolon(self) -> str:
        end = self.text.find(";", self.at)
        if end < 0:
            raise self.fail(f"no ';' after {self.text[self.at : self.at + 40]!r}")
        text, self.at = self.text[self.at : end], end + 1
        return text.strip()

    def registers(self, text: str) -> list[RegDecl]:
        found = _REG.match(text)
        if found is None or found[1] not in TYPE_BYTES:
            raise self.fail(f"cannot read {text!r}")
        out = []
        for part in found[2].split(","):
            named = re.fullmatch(r"([\w$%]+)\s*(?:<\s*(\d{1,7})\s*>)?", part.strip())
            count = int(named[2] or 0) if named else _MOST_REGISTERS
            if named is None or count >= _MOST_REGISTERS:
                raise self.fail(f"cannot read the registers {part.strip()!r}")
            out.append(RegDecl(found[1], named[1], count))
        return out

    def one_variable(self, text: str) -> Var:
        found = self.variables(text)
        if len(found) != 1:
            raise self.fail(f"one variable a statement, please: {text!r}")
        return found[0]

    def variables(self, text: str) -> list[Var]:
        found = _VAR.match(text)
        if found is None or found[4] not in TYPE_BYTES:
            raise self.fail(f"cannot read {' '.join(text.split())[:80]!r}")
        parts = [found[5]] if "=" in found[5] else found[5].split(",")
        return [self.variable(found, part.strip()) for part in parts]

    def variable(self, head: re.Match[str], text: str) -> Var:
        named = _NAMED.fullmatch(text)
        if named is None:
            raise self.fail(f"cannot read variable {text[:80]!r}")
        sizes = re.findall(r"\[\s*(\d*)\s*\]", named[2])
        count = None if not sizes else -1 if "" in sizes else 1
        for size in sizes if count == 1 else ():
            count = self.size(str((count or 1) * self.size(size)))
        init = tuple(map(self.initial, re.findall(r"[^\s,{}]+", named[3] or "")))
        if count == -1 and init:
            count = len(init)
        return Var(head[2], head[4], named[1], count, self.alignment(head[3]), ".extern" in head[1], init)

    def initial(self, text: str) -> int | Float | str:
        """An initial value: a number, or a name that is kept as text."""
        if re.fullmatch(r"[\w$+.()-]+", text) is None:
            raise self.fail(f"cannot read initial value {text!r}")
        return _initial(text)

    def instruction(self, text: str, line: int) -> Instruction:
        found = _INSTRUCTION.match(text)
        if found is None:
            raise self.fail(f"cannot read {text!r}")
        pred = Pred(Reg(found[2]), found[1] == "!") if found[2] else None
        try:
            opcode = "".join(found[3].split())
            made = Instruction(opcode, parse_operands(found[4]), pred, loc=self.loc, line=line)
            if self.checked:
                check(made, self.target)
        except TilecError as error:
            self.at -= 1
            raise self.fail(f"{error.message} in {' '.join(text.split())[:80]!r}") from None
        return made


def _blank(found: re.Match[str]) -> str:
    """A comment's newlines; a string stays."""
    text = found[0]
    return text if text[0] == '"' else "\n" * text.count("\n") or " "


def _initial(text: str) -> int | Float | str:
    if re.fullmatch(r"-?(0[xX][0-9a-fA-F]+|[1-9]\d*|0)U?", text):
        return int(text.rstrip("U"), 0)
    if re.fullmatch(r"0[fFdD][0-9a-fA-F]+", text):
        return Float(int(text[2:], 16), 32 if text[1] in "fF" else 64)
    return text


def _directives(text: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple(
        (name, tuple(int(v) for v in re.findall(r"\d+", values)))
        for name, values in re.findall(r"\.(\w+)([^.]*)", text)
    )
