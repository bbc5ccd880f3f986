"""The texts of a kernel line by line, each line with the place in the source that it comes from.

A place is "file.py:line:column". Lines of code that a warp group runs have the group's number.
"""

from __future__ import annotations

import ast
import linecache
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from tilec.ir.core import Block, Kernel, Op, walk
from tilec.ir.loc import UNKNOWN, Loc
from tilec.ir.text import kernel_lines

Line = tuple[str, int, int]  # text, place or -1, group or -1
_FILE = re.compile(r'\s*\.file (\d+) "(.*)"')
_LOC = re.compile(r"\s*\.loc (\d+) (\d+) (\d+)")
_GROUP = re.compile(r"\s*// group (\w+):")


@dataclass
class Places:
    """Numbers of places, in order of first use."""

    table: dict[str, int] = field(default_factory=dict)

    def of(self, file: str, line: int, col: int) -> int:
        return self.table.setdefault(f"{PurePath(file).name}:{line}:{col}", len(self.table))

    def of_loc(self, loc: Loc) -> int:
        return self.of(loc.file, loc.line, loc.col + 1) if loc.line else -1

    def of_ops(self, ops: Iterable[Op]) -> list[int]:
        """Each place of some ops once."""
        return sorted({p for op in ops if (p := self.of_loc(op.loc)) >= 0})


def text(name: str, lines: Iterable[Line], ops: Mapping[int, str] | None = None) -> dict[str, Any]:
    """A text as the document has it; ``ops`` are line numbers with the op id of the loop."""
    rows = list(lines)
    return {
        "name": name, "lines": [r[0] for r in rows], "places": [r[1] for r in rows],
        "groups": [r[2] for r in rows], "ops": {str(n): op for n, op in (ops or {}).items()},
    }  # fmt: skip


def of_kernel(kernel: Kernel, places: Places) -> Iterator[Line]:
    """The lines of a kernel in some form."""
    owner = _owners(kernel.body)
    for op, line in kernel_lines(kernel):
        place = places.of_loc(op.loc) if op is not None else -1
        yield line, place, owner.get(op, -1) if op is not None else -1


def _owners(body: Block) -> dict[Op, int]:
    """The number of the warp group that runs an op."""
    found: dict[Op, int] = {}
    for split in (op for op in walk(body) if op.name == "warp_groups"):
        for number, block in enumerate(split.blocks):
            found.update(dict.fromkeys(walk(block), number))
    return found


def of_ptx(ptx: str, names: tuple[str, ...], places: Places) -> Iterator[Line]:
    """The lines of a PTX module, by its `.loc` lines and the comments that begin a group."""
    files: dict[str, str] = {}
    place, group = -1, -1
    for line in ptx.splitlines():
        if found := _FILE.match(line):
            files[found[1]] = found[2]
        elif found := _LOC.match(line):
            place = places.of(files.get(found[1], ""), int(found[2]), int(found[3]))
        elif found := _GROUP.match(line):
            group = names.index(found[1]) if found[1] in names else -1
        yield line, place, group


def lines_of_ops(kernel: Kernel, nodes: Mapping[str, tuple[Op, ...]]) -> dict[int, str]:
    """Which line of a kernel's text belongs to which op of its loop."""
    owner = {op: name for name, members in nodes.items() for op in members}
    return {n: owner[op] for n, (op, _) in enumerate(kernel_lines(kernel)) if op in owner}


def files(kernel: Kernel) -> list[dict[str, Any]]:
    """The functions that a kernel was traced from: file, number of the first line, lines."""
    seen: dict[str, set[int]] = {}
    for op in walk(kernel.body):
        loc: Loc | None = op.loc
        while loc is not None and loc is not UNKNOWN:
            seen.setdefault(loc.file, set()).add(loc.line)
            loc = loc.caller
    return [part for file in sorted(seen) for part in _functions(file, seen[file])]


def _functions(file: str, used: set[int]) -> Iterator[dict[str, Any]]:
    """The outermost functions of a file that hold one of some lines, decorators included."""
    source = linecache.getlines(file)
    for first, last in _spans(source):
        if any(first <= n <= last for n in used):
            lines = [line.rstrip("\n") for line in source[first - 1 : last]]
            yield {"name": PurePath(file).name, "first": first, "lines": lines}


def _spans(source: list[str]) -> Iterator[tuple[int, int]]:
    try:
        tree = ast.parse("".join(source))
    except SyntaxError:
        return
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            yield first, node.end_lineno or node.lineno
