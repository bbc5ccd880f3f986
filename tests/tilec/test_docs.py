"""docs/language.md: its code blocks run, its tables name what exists."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

import tilec.language as tl
from tilec.language.later import INSTEAD

PAGE = Path(__file__).parents[2] / "docs" / "language.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("backend", ["interpreter", "cpu"])
def test_code_blocks_run(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks in order, in one module (kernels need a source file), on each host backend."""
    launcher = importlib.import_module("tilec.kernel")  # the name tilec.kernel is the decorator
    monkeypatch.setattr(launcher, "default_backend", lambda values: backend)
    file = tmp_path / f"language_page_{backend}.py"
    file.write_text("\n\n".join(BLOCKS), encoding="utf-8")
    space: dict[str, Any] = {"__name__": file.stem}
    exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), space)
    assert len(BLOCKS) >= 7 and space["steps"].tolist() == [0, 8, 111, -1]


def test_every_name_is_documented() -> None:
    text = PAGE.read_text(encoding="utf-8")
    words = set(re.findall(r"\w+", text))
    types = {"DType", "Tile", "Tensor", "int16", "uint16", "int32", "uint32"}
    assert set(tl.__all__) - words - types == set()
    assert set(INSTEAD) - words == set()
