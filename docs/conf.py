"""Sphinx configuration: MyST Markdown, the furo theme, warnings are errors in .ci/run.

docs/generated is written here: the help of each verb, and a page for each error code. The latter are
linked from one list only, since a side bar of all of them makes each page slow to build.
"""

from pathlib import Path

import click

from tilec.cli import main
from tilec.explain_error import Code, codes

project = "tilec"
author = "the tilec authors"
extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "tilec"
exclude_patterns = ["_build"]
suppress_warnings = ["myst.xref_missing"]  # links out of docs/ are checked by .ci/links.py


def code_page(code: Code) -> str:
    """The page of a code."""
    lines = ["---", "orphan: true", "---", f"# {code.code}: {code.meaning}", ""]
    lines += [f"`{code.kind}`: {code.family}. Raised in {code.raised}.", "", code.example, ""]
    return "\n".join(lines)


def write_codes(folder: Path) -> None:
    """A page for each code, and their list."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.md"):
        old.unlink()
    for code in codes().values():
        (folder / f"{code.code}.md").write_text(code_page(code), encoding="utf-8")
    rows = "\n".join(f"- [{c.code}]({c.code}.md): {c.meaning}" for c in codes().values())
    (folder / "index.md").write_text(f"# Each code\n\n{rows}\n", encoding="utf-8")


def verbs(group: click.Group, path: str) -> list[str]:
    """The help of each command of a group, as sections."""
    found = []
    with click.Context(group, info_name=path) as context:
        for name, command in sorted(group.commands.items()):
            if isinstance(command, click.Group):
                found += verbs(command, f"{path} {name}")
                continue
            with click.Context(command, parent=context, info_name=name, max_content_width=100) as inner:
                found.append(f"## {path} {name}\n\n```text\n{command.get_help(inner)}\n```\n")
    return found


GENERATED = Path(__file__).parent / "generated"
write_codes(GENERATED / "codes")
help_pages = "\n".join(["# Each verb\n", *verbs(main, "tilec")])
(GENERATED / "verbs.md").write_text(help_pages, encoding="utf-8")
