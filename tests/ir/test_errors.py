"""How errors look: code, source line, carets, call chain, help."""

from __future__ import annotations

from pathlib import Path

import pytest

from tilec.ir.core import Value
from tilec.ir.errors import TilecError, TilecTypeError
from tilec.ir.loc import UNKNOWN, Loc, located
from tilec.ir.ops import make
from tilec.ir.types import TileType, float32, int32


def test_a_type_error_points_into_the_source(tmp_path: Path) -> None:
    path = tmp_path / "kernel.py"
    path.write_text("def kernel(x, y):\n        z = x + y\n")
    caller = Loc(str(path), 1, 0, 3)
    loc = Loc(str(path), 2, 12, 17, "kernel", caller)
    with pytest.raises(TilecTypeError) as caught:
        make("add", [Value(TileType(int32)), Value(TileType(float32))], loc=loc)
    assert str(caught.value).splitlines() == [
        "T107: add: operands tile<int32> and tile<float32> differ",
        f"  --> {path}:2:13 in kernel",
        "   | z = x + y",
        "   |     ^^^^^",
        f"  called from {path}:1:1 in <module>",
    ]


def test_help_comes_last_and_a_missing_file_is_no_problem() -> None:
    error = TilecError("X1", "message", help="do that", loc=Loc("nowhere.py", 9))
    assert str(error).splitlines() == ["X1: message", "  --> nowhere.py:9:1", "  help: do that"]


def test_the_innermost_location_wins() -> None:
    inner, outer = Loc("a.py", 1), Loc("b.py", 2)
    with pytest.raises(TilecError) as caught, located(outer), located(inner), located(UNKNOWN):
        raise TilecError("X1", "message")
    assert caught.value.loc is inner
