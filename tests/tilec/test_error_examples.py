"""docs/error-examples.md: the first block of each code raises it, the second raises nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from tilec.cli import main
from tilec.errors import TilecError
from tilec.explain_error import codes

PAGE = Path(__file__).parents[2] / "docs" / "error-examples.md"
HEAD = "import numpy as np\nimport tilec\nimport tilec.language as tl\n\n\n"
SECTIONS = re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.M | re.S)


def run(block: str, file: Path) -> None:
    file.write_text(HEAD + block, encoding="utf-8")
    exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), {"__name__": "example"})


@pytest.mark.parametrize(("code", "text"), SECTIONS, ids=[code for code, _ in SECTIONS])
def test_an_example_and_its_mend(code: str, text: str, tmp_path: Path) -> None:
    wrong, right = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    with pytest.raises(TilecError) as caught:
        run(wrong, tmp_path / "wrong.py")
    assert caught.value.code == code, str(caught.value)
    run(right, tmp_path / "right.py")


def test_each_example_has_a_row_and_one_section() -> None:
    names = [code for code, _ in SECTIONS]
    assert len(names) == len(set(names)) >= 40
    assert set(names) <= set(codes())


def test_explain_error_prints_the_example() -> None:
    done = CliRunner().invoke(main, ["explain-error", "t101"])
    assert done.exit_code == 0
    assert "T101: shapes do not broadcast" in done.output and "x[:, None] + y[None, :]" in done.output
    assert CliRunner().invoke(main, ["explain-error", "E3"]).output.count("exit code") == 0
    assert len(CliRunner().invoke(main, ["explain-error"]).output.splitlines()) == len(codes()) > 250


def test_an_unknown_code_is_a_wrong_use() -> None:
    done = CliRunner().invoke(main, ["explain-error", "T999"])
    assert done.exit_code == 2 and "there is no code T999" in done.output and "T101" in done.output
