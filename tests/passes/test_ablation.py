"""The page on what each part is worth is what the programs give today, and says what it should."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / ".ci" / "ablation.py"))


@pytest.mark.slow
def test_the_page(script: dict[str, Any], tmp_path: Path) -> None:
    """Otherwise run .ci/ablation.py."""
    script["main"](tmp_path)
    for name in ("ablation.md", "ablation.svg"):
        assert (tmp_path / name).read_text() == (ROOT / "docs" / name).read_text()


def test_three_slots_and_two_products_are_enough(script: dict[str, Any]) -> None:
    """Published: the best of D = 2 to 3 and P = 1 to 2. A slot fewer, or a product more, is slower."""
    tile = (128, 256)
    kernels = {d: script["scheduled"](tile, {"num_warps": 8, "stages": d}) for d in (2, 3)}

    def cycles(depth: int, lag: int) -> float:
        return float(script["run"](script["with_lag"](kernels[depth], lag), tile).interval("a_b"))

    best = cycles(3, 2)
    assert best == 1032 < cycles(3, 1) < cycles(2, 1) < cycles(2, 2)
