"""The pages that teach are followed from top to bottom, as a reader would."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tilec.cli import main

ROOT = Path(__file__).parents[1]
PAGES = (
    "tutorial.md",
    "explorer.md",
    "arefs.md",
    *(f"how-to/{p.name}" for p in sorted((ROOT / "docs/how-to").glob("*.md"))),
)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_that_is_followed_from_top_to_bottom(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are written and run, commands print what is shown; "..." stands for any lines."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    for language, block in re.findall(
        r"^```(python|text|console)\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.M | re.S
    ):
        if language == "console":
            follow(block)
        elif name := re.match(r"(?:#|//) (\w+\.\w+)\n", block):
            Path(name[1]).write_text(block, encoding="utf-8")
            if language == "python":
                runpy.run_path(name[1], run_name="__main__")
    for picture in (ROOT / "docs" / "pictures").glob("*.svg"):
        if Path(picture.name).exists():
            assert Path(picture.name).read_text() == picture.read_text(), "the page's command makes another"
    for made in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[made], "__file__", "")):
            del sys.modules[made]


def follow(block: str) -> None:
    """Run each command of a console block and compare what it prints."""
    for part in block.removeprefix("$ ").split("\n$ "):
        command, _, shown = part.partition("\n")
        done = CliRunner().invoke(main, shlex.split(command)[1:])
        assert done.exit_code in (0, 4 if "emulate" in command else 0), f"{command}\n{done.output}"
        wanted = ".*".join(re.escape(text) for text in f"\n{shown}".split("\n...\n"))
        assert re.match(wanted, f"\n{done.output}", re.S), f"{command}\n{done.output}"
