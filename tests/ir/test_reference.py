"""docs/ir.md is what the op table says."""

from __future__ import annotations

import re
from pathlib import Path

from tilec.ir.forms import FORMS, verify
from tilec.ir.ops import OPS
from tilec.ir.reference import FAMILIES, reference
from tilec.ir.text import parse_kernel, print_kernel

PAGE = Path(__file__).parents[2] / "docs" / "ir.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run: python -m tilec.ir.reference > docs/ir.md"


def test_every_op_and_rule_is_on_the_page() -> None:
    text = reference()
    assert {row.family for row in OPS.values()} == set(FAMILIES)
    for name in OPS:
        assert len(re.findall(rf"^\| `{re.escape(name)}[ `]", text, re.M)) == 1, name
    for rules in FORMS.values():
        for rule in rules:
            assert (rule.__doc__ or "?").splitlines()[0] in text


def test_the_example_of_the_page_is_a_kernel() -> None:
    (example,) = re.findall(r"```\n(tilec\.kernel.*?)```", reference(), re.S)
    kernel = parse_kernel(example)
    verify(kernel)
    assert print_kernel(kernel) == example
