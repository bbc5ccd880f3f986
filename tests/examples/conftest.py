"""Lets the tests import their helper module, and the examples as scripts see each other."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

EXAMPLES = str(Path(__file__).parents[2] / "examples")


@pytest.fixture(scope="session")
def examples() -> Iterator[Any]:
    """The module `_check`, with the examples importable."""
    sys.path.insert(0, EXAMPLES)
    yield importlib.import_module("_check")
    sys.path.remove(EXAMPLES)
