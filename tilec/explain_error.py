"""The verb `explain-error`: what a code means, from the table of docs/errors.md."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources

import click

from tilec.cli_parts import NO_PROOF, WRONG, format_option

_ROW = re.compile(r"^\| ([A-Z]\d+) \| (.*?) \| (.+) \| (.*?) \|$")
_FAMILY = re.compile(r"^## ([A-Z][^:]*): (.*)$")
_EXAMPLE = re.compile(r"^## ([A-Z]\d+)\n\n(.*?)(?=^## |\Z)", re.M | re.S)
EXITS = {"I": NO_PROOF, "N": NO_PROOF}


@dataclass(frozen=True)
class Code:
    """A code of an error or of a report of the emulator. ``example`` is Markdown, often empty."""

    code: str
    kind: str
    meaning: str
    family: str
    raised: str
    example: str = ""

    def to_text(self) -> str:
        """For people."""
        exits = EXITS.get(self.code[0], WRONG)
        lines = [f"{self.code}: {self.meaning}", f"  kind: {self.kind} ({self.family})"]
        if "Report" not in self.kind and "Emulator" not in self.kind:
            lines.append(f"  exit code of the command line: {exits}")
        lines.append(f"  raised in: {self.raised}")
        return "\n".join([*lines, *([""] if self.example else []), *self.example.splitlines()])


@cache
def codes() -> dict[str, Code]:
    """Every code, in the order of the table."""
    examples = dict(_EXAMPLE.findall(_text("error-examples.md")))
    return {c.code: c for c in _rows(_text("errors.md"), examples)}


def _rows(text: str, examples: dict[str, str]) -> Iterator[Code]:
    family = ""
    for line in text.splitlines():
        if found := _FAMILY.match(line):
            family = found[2]
        elif found := _ROW.match(line):
            code, kind, meaning, raised = (cell.replace("`", "") for cell in found.groups())
            yield Code(code, kind, meaning, family, raised, examples.get(code, "").strip())


def _text(name: str) -> str:
    return resources.files("tilec").joinpath("pages", name).read_text(encoding="utf-8")


@click.command("explain-error", epilog="Example: tilec explain-error T101")
@click.argument("code", required=False)
@format_option
def explain_error(code: str | None, format_: str) -> None:
    """Say what an error code means, with a program that raises it and the mend; without CODE list all."""
    known = codes()
    if code is None:
        rows = [f"{c.code:<6} {c.meaning}" for c in known.values()]
        click.echo(json.dumps([asdict(c) for c in known.values()]) if format_ == "json" else "\n".join(rows))
        return
    found = known.get(code.upper())
    if found is None:
        near = [c for c in known if c[0] == code[:1].upper()]
        hint = (
            f"codes with {code[:1].upper()}: {', '.join(near)}" if near else "tilec explain-error lists all"
        )
        raise click.UsageError(f"there is no code {code}; {hint}")
    click.echo(json.dumps(asdict(found)) if format_ == "json" else found.to_text())
