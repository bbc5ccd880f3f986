"""Our rows of the evidence page are what the compiler and ptxas give today."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from tilec.runtime import toolchain

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(toolchain.find("nvdisasm") is None, reason="pip install 'tilec[test]'")
def test_our_rows_of_the_page(tmp_path: Path, real_budget: None) -> None:
    """With the solver's own budget. Otherwise run .ci/evidence.py."""
    runpy.run_path(str(ROOT / ".ci" / "evidence.py"))["main"](tmp_path)
    shown = (ROOT / "docs" / "evidence.md").read_text().splitlines()
    rows = [x for x in (tmp_path / "evidence.md").read_text().splitlines() if x.startswith("| ")]
    ours = [x for x in rows if "| Triton |" not in x]
    assert len(ours) > 12 and not set(ours) - set(shown)
