"""`python -m tilec.runtime.emulator.reference` prints docs/ptx-instructions.md from the table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

from tilec.ir.ptx.forms import MACROS, Form
from tilec.ir.ptx.isa import FORMS, TARGET_VERSION, target_has
from tilec.ir.ptx.meaning import heads, meaning

# Opcodes that the table has and the emulator refuses (with D404 or U420), and why.
REFUSED: tuple[tuple[str, str], ...] = (
    ("brkpt", "there is no debugger"),
    ("mbarrier.pending_count.b64", "the encoding of its operand is private"),
    ("cvt.rs.*x4.f32", "which random bits belong to which value is not published"),
    ("tcgen05.mma.*.ashift*", "the shift of A is not published"),
    ("*.im2col*", "the im2col modes of tensor maps"),
)

_TITLES = {
    "alu": "Integers, bits, moves and conversions", "fp": "Floating point", "sfu": "Special functions",
    "lsu": "Memory, mbarriers and lanes", "tma": "Bulk copies", "ctrl": "Control",
    "bar": "Barriers and fences", "tensor": "Matrix products and tensor memory",
}  # fmt: skip

INTRODUCTION = """\
# PTX instructions

<!-- Written by `python -m tilec.runtime.emulator.reference > docs/ptx-instructions.md`; change the
tables in ir/ptx/isa_*.py, ir/ptx/meaning.py or REFUSED there instead. -->

Every PTX instruction that tilec knows, one row a form. The PTX backend emits, the parser accepts and
the [emulator](emulator.md) runs these; what is missing here, such as textures, surfaces, video
instructions, sparse products and `multimem`, is an error that names the instruction and its line.

- A form is the opcode: `(a|b)` is one of them, `{.x}` may be left out, and words in `<>` are
%(macros)s.
- Operands: `r` register, `s` register or constant, `p` predicate (`!` allowed), `d` register or
  `d|p`, `v` register, constant or vector, `V` vector, `a` address, `t` tensor address, `i` constant,
  `l` label, `A` arguments; `?` after those that may be left out.
- Target and PTX version are the least that have the form. `sm_90a` and others with an "a" are exact;
  what an "f" target has, its family has too (sm_100f: sm_100 and sm_103; sm_110f: sm_101 and sm_110;
  sm_120f: sm_120 and sm_121; all with "a" or "f").
- Facts: the memory that is read and written, the async proxy, and *whole warp* for instructions that
  all lanes of a warp (or warpgroup) must execute together.

"""


def reference() -> str:
    """The page as Markdown."""
    parts = [INTRODUCTION % {"macros": _macros()}, "\n".join(_targets()), ""]
    for unit, title in _TITLES.items():
        rows = [f for f in FORMS if f.unit == unit]
        parts += ["\n".join(_family(title, rows)), ""]
    parts.append("\n".join(_refused()))
    return "\n".join(parts)


def _macros() -> str:
    return ",\n".join(f"  `<{name}>` = `{_form(text)}`" for name, text in MACROS.items())


def _targets() -> Iterator[str]:
    yield "## Targets\n"
    yield "| target | PTX from | forms |\n|---|---|---|"
    for target, (major, minor) in TARGET_VERSION.items():
        count = sum(target_has(target, f.target) for f in FORMS)
        yield f"| {target} | {major}.{minor} | {count} |"


def _family(title: str, rows: list[Form]) -> Iterator[str]:
    yield f"## {title}\n"
    yield "| form | operands | meaning | target, PTX | facts |\n|---|---|---|---|---|"
    for row in rows:
        target = " or ".join(row.target.split("|"))
        meant = "; ".join(dict.fromkeys(meaning(h) for h in heads(row)))
        major, minor = row.version
        yield (
            f"| `{_form(row.pattern)}` | `{_escape(row.operands)}` | {meant} | {target}, {major}.{minor}"
            f" | {'; '.join(_facts(row))} |"
        )


def _form(pattern: str) -> str:
    """A pattern as the manual writes opcodes."""
    text, before = pattern, ""
    while text != before:
        before, text = text, re.sub(r"\(((?:[^()]|\([^()]*\))*)\)\?", r"{\1}", text)
    return _escape(re.sub(r"<(\w+)>\?", r"{<\1>}", text))


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


def _facts(row: Form) -> Iterator[str]:
    if row.reads:
        yield f"reads {', '.join(row.reads)}"
    if row.writes:
        yield f"writes {', '.join(row.writes)}"
    if row.proxy == "async":
        yield "async proxy"
    if row.aligned:
        yield "whole warp"


def _refused() -> Iterator[str]:
    yield "## What the emulator refuses\n"
    yield "These parse, and are errors (U420 or D404) when the emulator meets them:\n"
    yield from (f"- `{pattern}`: {why}" for pattern, why in REFUSED)
    yield ""


def refused(opcode: str) -> bool:
    """Whether the emulator has no meaning for an opcode of the table."""
    return any(fnmatchcase(opcode, pattern) for pattern, _ in REFUSED)


def main() -> None:
    """Print the page."""
    print(reference(), end="")


if __name__ == "__main__":
    main()
