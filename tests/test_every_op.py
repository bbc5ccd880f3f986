"""Every op of the TILE form has a way in from the language and an emit rule in each backend."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import tilec.language as language
from tilec.backends import cpu, ptx
from tilec.ir.ops import OPS

ROOT = Path(__file__).parents[1]
TILE_OPS = sorted(name for name, row in OPS.items() if "tile" in row.forms)

BLOCKS = ("yield",)  # part of the ops around it


def words_of_the_language() -> set[str]:
    """All string literals of the front end: ops are emitted by their name."""
    found = set()
    for path in (ROOT / "tilec").rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        found |= {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return found


@pytest.mark.parametrize("name", TILE_OPS)
def test_the_language_emits_it(name: str) -> None:
    assert name in words_of_the_language(), (
        f"no function of tilec/language/ emits {name!r}: docs/add-an-op.md"
    )


def test_functions_of_the_language_are_public() -> None:
    defined = {
        node.name
        for path in (ROOT / "tilec" / "language").glob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }
    missing = defined - set(language.__all__) - {"subscript"}  # Tile.__getitem__
    assert not missing, f"tilec/language/__init__.py does not export {sorted(missing)}: docs/add-an-op.md"


RULES = {
    "backends/cpu": {*cpu.tiles.POINTWISE, *cpu.rules.RULES},
    "backends/ptx": set(ptx.compile.RULES),
}


@pytest.mark.parametrize("backend", RULES)
@pytest.mark.parametrize("name", TILE_OPS)
def test_each_backend_has_a_rule(name: str, backend: str) -> None:
    assert name in RULES[backend] or name in BLOCKS, (
        f"{backend} has no emit rule for {name!r}: docs/add-an-op.md"
    )
