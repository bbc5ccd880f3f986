"""PTX text -> data. Accepts what nvcc, Triton and this package print."""

from __future__ import annotations

import re
from bisect import bisect_right

from tilec.ir.errors import TilecError, TilecSyntaxError
from tilec.ir.loc import UNKNOWN, Loc
from tilec.ir.ptx.isa import check
from tilec.ir.ptx.module import (
    BranchTargets,
    Directive,
    Entry,
    EntryParam,
    FileDirective,
    Float,
    Instruction,
    Item,
    Label,
    LocDirective,
    Module,
    Pred,
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
    r"((?:\.(?:visible|extern|weak)\s+)*)\.(shared|global|const|local)\s+(?:\.align\s+(\d+)\s+)?"
    r"\.(\w+)\s+([\w$]+)\s*(\[\s*(\d*)\s*\])?\s*(?:=\s*(.*))?",
    re.S,
)
_PARAM = re.compile(
    r"\.param\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+(\.ptr\s+)?(?:\.(shared|global|const|local)\s+)?"
    r"(?:\.align\s+(\d+)\s+)?([\w$]+)\s*(?:\[\s*(\d+)\s*\])?$"
)
_ENTRY = re.compile(r"(?:\.visible\s+|\.weak\s+)?\.entry\s+([\w$]+)\s*(?:\(([^)]*)\))?([^{]*)\{")
_SPACE = re.compile(r"\s*")


def parse(text: str, *, checked: bool = True) -> Module:
    """The module a PTX file describes. Raises TilecSyntaxError with the PTX line in its
    message; with ``checked`` also for an instruction that the instruction table lacks."""
    return _Parser(text, checked).module()


class _Parser:
    def __init__(self, text: str, checked: bool) -> None:
        self.text = _COMMENT.sub(_blank, text)
        self.checked = checked
        self.at = 0
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

    def need(self, pattern: str) -> str:
        self.skip()
        found = self.match(re.compile(pattern))
        if found is None:
            raise self.fail(f"expected {pattern!r}")
        return found[1]

    def module(self) -> Module:
        major, minor = self.need(r"\.version\s+(\d+\.\d+)").split(".")
        self.target = self.need(r"\.target\s+([^\n]+)").strip()
        size = int(self.need(r"\.address_size\s+(\d+)"))
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
        text = self.until_semicolon()
        return self.variable(text)

    def entry(self, found: re.Match[str]) -> Entry:
        params = tuple(self.param(p.strip()) for p in (found[2] or "").split(",") if p.strip())
        directives = _directives(found[3])
        self.loc = UNKNOWN
        return Entry(found[1], params, directives, self.body())

    def param(self, text: str) -> EntryParam:
        found = _PARAM.match(text)
        if found is None:
            raise self.fail(f"cannot read parameter {text!r}")
        ptr = (found[4] or "generic") if found[3] else ""
        align = int(found[1] or found[5] or 0)
        return EntryParam(found[2], found[6], int(found[7]) if found[7] else None, align, ptr)

    def body(self) -> tuple[Statement, ...]:
        """The statements up to the closing brace, which is consumed."""
        out: list[Statement] = []
        self.skip()
        while self.text[self.at : self.at + 1] != "}":
            if self.at >= len(self.text):
                raise self.fail("the text ends inside a body")
            out.extend(self.statement())
            self.skip()
        self.at += 1
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
            return [self.variable(text) if _VAR.match(text) else Directive(text)]
        return [self.instruction(text, line)]

    def location(self, found: re.Match[str]) -> LocDirective:
        file, line, col = int(found[1]), int(found[2]), int(found[3])
        self.loc = Loc(self.files.get(file, "<unknown>"), line, col)
        return LocDirective(file, line, col, (found[4] or "").strip())

    def label(self, name: str) -> Label | BranchTargets:
        self.skip()
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
        if found is None:
            raise self.fail(f"cannot read {text!r}")
        out = []
        for name in found[2].split(","):
            stem, _, count = name.strip().partition("<")
            out.append(RegDecl(found[1], stem, int(count.rstrip("> ")) if count else 0))
        return out

    def variable(self, text: str) -> Var:
        found = _VAR.match(text)
        if found is None:
            raise self.fail(f"cannot read {text!r}")
        count = None if found[6] is None else int(found[7]) if found[7] else -1
        extern = ".extern" in found[1]
        init = tuple(map(_initial, re.findall(r"[^\s,{}]+", found[8] or "")))
        return Var(found[2], found[4], found[5], count, int(found[3] or 0), extern, init)

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
    if re.fullmatch(r"-?(0[xX][0-9a-fA-F]+|\d+)U?", text):
        return int(text.rstrip("U"), 0)
    if re.fullmatch(r"0[fFdD][0-9a-fA-F]+", text):
        return Float(int(text[2:], 16), 32 if text[1] in "fF" else 64)
    return text


def _directives(text: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple(
        (name, tuple(int(v) for v in re.findall(r"\d+", values)))
        for name, values in re.findall(r"\.(\w+)([^.]*)", text)
    )
