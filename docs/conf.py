"""Sphinx configuration: MyST Markdown, the furo theme, warnings are errors in .ci/run."""

project = "tilec"
author = "the tilec authors"
extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "tilec"
exclude_patterns = ["_build"]
suppress_warnings = ["myst.xref_missing"]  # links out of docs/ are checked by .ci/links.py
