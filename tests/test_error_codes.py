"""docs/errors.md has every code of the package, its class, and where it is raised."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("ir", "passes", "backends", "runtime", "tilec")
CODE = re.compile(r"[DEINRSTUVWX]\d{1,3}")
# Functions and methods (with a dot) that make an error or a report, and of which class.
MAKERS = {
    "fault": "EmulatorError", ".fault": "InternalError", "Fault": "InternalError", ".report": "Report",
    "Race": "Report",
    ".error": "TilecSyntaxError", "syntax_error": "TilecSyntaxError",
    "LaterTargetError": "InternalError",
    "MissingAttributeError": "TilecValueError", "MissingStageError": "TilecValueError",
}  # fmt: skip
CLASSES = {
    "S": "TilecSyntaxError", "T": "TilecTypeError", "V": "TilecValueError", "U": "UnsupportedError",
    "R": "ResourceError", "I": "InfeasibleError", "N": "SolverUnknownError", "X": "InternalError",
}  # fmt: skip


def calls(tree: ast.AST, around: ast.Call | None = None) -> Iterator[tuple[str, ast.Call | None]]:
    """Every code in a module, with the innermost call that it stands in."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value):
            yield node.value, around
        yield from calls(node, node if isinstance(node, ast.Call) else around)


def maker(call: ast.Call | None) -> str:
    """The class of the error that a call makes."""
    function = call.func if call else None
    dot = isinstance(function, ast.Attribute)
    name = getattr(function, "attr" if dot else "id", "?")
    return MAKERS.get(f".{name}" if dot else name, name)


def in_source() -> dict[str, tuple[set[str], set[str]]]:
    """code -> (classes, modules)"""
    found: dict[str, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for path in sorted(p for layer in LAYERS for p in (ROOT / layer).rglob("*.py")):
        for code, call in calls(ast.parse(path.read_text(encoding="utf-8"))):
            found[code][0].add(maker(call))
            found[code][1].add(path.relative_to(ROOT).as_posix())
    return dict(found)


def on_page() -> dict[str, tuple[set[str], set[str]]]:
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) \| (.*?) \| (.+) \| (.*?) \|$", text, flags=re.M)
    return {code: (ticked(kinds), ticked(places)) for code, kinds, _, places in rows if CODE.fullmatch(code)}


def ticked(cell: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", cell))


def row(code: str, classes: set[str], modules: set[str]) -> str:
    kinds, places = (", ".join(f"`{x}`" for x in sorted(names)) for names in (classes, modules))
    return f"| {code} | {kinds} | ... | {places} |"


FOUND = in_source()


@pytest.mark.parametrize("code", sorted({*FOUND, *on_page()}))
def test_the_page_says_what_a_code_means_and_where_it_is_raised(code: str) -> None:
    """A code in a new module is a chance to notice that it means something else there."""
    assert code in FOUND, f"nothing raises {code}: remove its row from docs/errors.md"
    assert on_page().get(code) == FOUND[code], f"docs/errors.md needs the row {row(code, *FOUND[code])}"


@pytest.mark.parametrize("code", sorted(FOUND))
def test_a_code_belongs_to_one_class_and_one_layer(code: str) -> None:
    classes, modules = FOUND[code]
    if code[0] in CLASSES:
        assert classes == {CLASSES[code[0]]}
    layers = {module.partition("/")[0] for module in modules}
    assert len(layers) == 1 or layers == {"ir", "tilec"}, (
        f"{code} is raised in {sorted(layers)}: use two codes"
    )


def test_the_search_sees_codes() -> None:
    text = 'raise TilecTypeError("T101", f"no {x}")\ncta.report("E3", "x", inst)\nf(g("U2"), "x T5")'
    assert [(c, maker(n)) for c, n in calls(ast.parse(text))] == [
        ("T101", "TilecTypeError"), ("E3", "Report"), ("U2", "g")
    ]  # fmt: skip
    assert len(FOUND) > 200
