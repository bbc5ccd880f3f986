"""Sphinx configuration: MyST Markdown, the furo theme, warnings are errors in .ci/run.

A page for each error code is written to docs/codes from the tables of errors.md. They are linked from
one list only, since a side bar of all of them makes each page slow to build.
"""

from pathlib import Path

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


def page(code: Code) -> str:
    """The page of a code."""
    lines = [
        "---",
        "orphan: true",
        "---",
        f"# {code.code}: {code.meaning}",
        "",
        f"`{code.kind}`: {code.family}. Raised in {code.raised}.",
    ]
    return "\n".join([*lines, "", code.example, ""])


def write_pages(folder: Path) -> None:
    """A page for each code, and their list."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.md"):
        old.unlink()
    for code in codes().values():
        (folder / f"{code.code}.md").write_text(page(code), encoding="utf-8")
    rows = "\n".join(f"- [{c.code}]({c.code}.md): {c.meaning}" for c in codes().values())
    (folder / "index.md").write_text(f"# Each code\n\n{rows}\n", encoding="utf-8")


write_pages(Path(__file__).parent / "codes")
