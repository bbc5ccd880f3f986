"""No bare `import ir`: it would load a second copy. Who may import whom: test_project.py."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
BARE = {"ir", "passes", "backends", "runtime"}
PLACES = ("tilec", "ir", "passes", "backends", "runtime", "tests", "examples")


def wrong_imports(source: str) -> list[str]:
    """Relative imports, and imports of our folders under their bare names."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            name = "." * node.level + (node.module or "")
            found += [name] if node.level or name.split(".")[0] in BARE else []
        elif isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] in BARE]
    return found


def test_no_bare_and_no_relative_imports() -> None:
    files = [p for place in PLACES for p in (ROOT / place).rglob("*.py")]
    assert len(files) > 50
    wrong = {
        str(p.relative_to(ROOT)): w for p in files if (w := wrong_imports(p.read_text(encoding="utf-8")))
    }
    assert wrong == {}


def test_the_check_can_fail() -> None:
    bad = "import ir.core\nfrom passes import x\nfrom . import y\nfrom .z import w\n"
    text = bad + "import tilec.ir, irregular\nfrom tilec.passes import z\n"
    assert wrong_imports(text) == ["ir.core", "passes", ".", ".z"]
