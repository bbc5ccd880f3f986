"""The project keeps its own rules: packages, layers, documentation that follows the code."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tilec.runtime.config import VARIABLES

ROOT = Path(__file__).parents[1]
FOLDERS = {"tilec": "tilec", "ir": "tilec.ir", "passes": "tilec.passes", "backends": "tilec.backends",
           "runtime": "tilec.runtime"}  # fmt: skip
# What each layer may import of ours.
MAY = {
    "tilec.ir": {"tilec.ir"},
    "tilec.passes": {"tilec.ir", "tilec.passes"},
    "tilec.backends": {"tilec.ir", "tilec.passes", "tilec.backends"},
    "tilec.runtime": {"tilec.ir", "tilec.runtime", "tilec.backends.artifact"},
}


def sources() -> Iterator[tuple[Path, str]]:
    """Every module of the package with its dotted name."""
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            yield path, ".".join((package, *(p for p in parts if p != "__init__")))


def imports(path: Path) -> Iterator[str]:
    """The dotted names that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize("layer", MAY)
def test_imports_go_one_way(layer: str) -> None:
    found = [(path, name) for path, module in sources() if within(module, layer) for name in imports(path)]
    assert found
    wrong = [f"{path.relative_to(ROOT)} imports {name}" for path, name in found
             if within(name, "tilec") and not any(within(name, p) for p in MAY[layer])]  # fmt: skip
    assert wrong == []


def test_the_solver_is_imported_in_one_place() -> None:
    users = {m for path, m in sources() if any(within(n, "z3") for n in imports(path))}
    assert users == {"tilec.passes.schedule.smt", "tilec.doctor"}


def test_every_folder_of_modules_is_a_listed_package() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {m for path, m in sources() if path.name == "__init__.py"}
    assert found == set(listed)
    lonely = [p for p, _ in sources() if not (p.parent / "__init__.py").exists()]
    assert lonely == []


def test_the_readme_has_the_commands_that_ci_runs() -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.M | re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    assert sum("examples/attention.py" in line for line in lines) == 1
    assert sum("python -m pytest" in line for line in lines) == 1


def test_every_environment_variable_is_documented() -> None:
    text = (ROOT / "docs" / "environment.md").read_text()
    assert [name for name in VARIABLES if name not in text] == []
