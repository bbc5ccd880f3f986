"""docs/ptx-instructions.md is what the table says, and says what the emulator refuses."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tilec.ir.errors import TilecError
from tilec.ir.ptx import parse
from tilec.ir.ptx.isa import FORMS
from tilec.ir.ptx.meaning import MEANINGS, heads, meaning
from tilec.runtime.emulator.decode import decode
from tilec.runtime.emulator.layout import place
from tilec.runtime.emulator.reference import REFUSED, reference, refused
from tilec.runtime.emulator.spaces import GlobalMemory

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "ptx-instructions.md"
sys.path.append(str(ROOT / "tests" / "ir"))

from ptx_lines import HEAD, LINES  # noqa: E402

ALL = [
    (target, version, line) for (target, version), text in LINES.items() for line in text.split("\n") if line
]


def test_the_page_is_up_to_date():
    command = "python -m tilec.runtime.emulator.reference > docs/ptx-instructions.md"
    assert PAGE.read_text(encoding="utf-8") == reference(), f"run: {command}"


def test_every_row_has_a_meaning_and_every_meaning_a_row():
    known = {h for form in FORMS for h in heads(form)}
    assert all(meaning(h) for h in known), [h for h in known if not meaning(h)]
    opcodes = [line.split(" ")[0].lstrip("@!p%0123456789 ").rstrip(";") for _, _, line in ALL] + sorted(known)
    for name in MEANINGS:
        assert any(o == name or o.startswith(f"{name}.") for o in opcodes), name


@pytest.mark.parametrize("target, version, line", ALL)
def test_the_emulator_knows_what_the_page_does_not_refuse(target, version, line):
    module = parse(HEAD.format(target=target, version=version, lines=line))
    entry = module.entry("k")
    assert entry is not None
    addresses, _ = place(module, entry, GlobalMemory(), 0)
    try:
        decode(module, entry, addresses)
        known = True
    except TilecError as error:
        assert error.code in ("D404", "U420"), error
        known = False
    assert known != refused(line.split(" ")[0].rstrip(";"))


def test_what_is_refused_is_in_the_table():
    for pattern, _ in REFUSED:
        opcodes = [line.split(" ")[0].rstrip(";") for _, _, line in ALL]
        assert any(refused(o) for o in opcodes), pattern
