"""One or two documents as a page: a single file that opens without a network."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

SCRIPTS = ("state", "text", "gantt", "wheel", "memory", "front", "roof", "main")


def page(
    items: Sequence[Mapping[str, Any]], names: Sequence[str] = (), rows: Sequence[Sequence[str]] = ()
) -> str:
    """The HTML of one report, or of two with the ``rows`` in which they differ.

    The page's own policy forbids everything but its one style and its one script, by their hashes.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    css, script = _static("page.css"), _script()
    data = {
        "items": list(items),
        "names": list(names) or [_title(i) for i in items],
        "rows": [list(r) for r in rows],
    }
    closed = "default-src 'none'; base-uri 'none'; form-action 'none'"
    policy = f"{closed}; script-src {_hash(script)}; style-src {_hash(css)}"
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(_static("page.html.j2"))
    made: str = template.render(
        title=" and ".join(_title(i) for i in items), policy=policy, css=Markup(css), script=Markup(script),
        data=Markup(embedded(data)),
    )  # fmt: skip
    return made + "\n"


def embedded(data: Any) -> str:
    """JSON that no HTML parser can leave: there is no "<" in it."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _title(item: Mapping[str, Any]) -> str:
    on = f" for {item['target']}" if item["target"] else ""
    return f"{item['name']}{on} on {item['machine']}" if item["machine"] else f"{item['name']}{on}"


def _script() -> str:
    """d3, then the page's own files as one function, so that nothing of theirs is global."""
    own = "\n".join(_static(f"{name}.js") for name in SCRIPTS)
    return f'{_static("d3.min.js")}\n(() => {{\n"use strict";\n{own}\n}})();\n'


def _static(name: str) -> str:
    return resources.files("tilec.report").joinpath("static", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
