"""State that a loop or branch changes behind the names: list elements, attributes, dict entries.

Tracing runs a loop's body once, so such a change would happen once and not per
iteration. A snapshot before and a comparison after turn it into an error.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

import numpy as np

from tilec.source import is_library, is_ours

_MAX = 5_000
_SMALL_ARRAY = 1 << 16


class Snapshot:
    """The contents of every mutable object that the names of a frame lead to."""

    def __init__(self, env: Mapping[str, Any], frame: FrameType) -> None:
        self.seen: dict[int, tuple[Any, str, tuple[Any, ...]]] = {}
        todo = [(name, v) for name, v in env.items() if not name.startswith("_tilec")]
        used = frame.f_code.co_names
        todo += [(name, frame.f_globals[name]) for name in used if name in frame.f_globals]
        while todo and len(self.seen) < _MAX:
            name, value = todo.pop()
            if id(value) in self.seen:
                continue
            content = _content(value)
            if content is not None:
                self.seen[id(value)] = (value, name, content)
                todo += list(_children(name, value))

    def changed(self) -> str | None:
        """The path of an object whose content differs from the snapshot."""
        for value, name, before in self.seen.values():
            after = _content(value)
            if after is None or len(after) != len(before):
                return name
            if any(a is not b and not _equal(a, b) for a, b in zip(after, before, strict=True)):
                return name
        return None


def _equal(a: Any, b: Any) -> bool:
    return type(a) is type(b) and isinstance(a, int | float | str | bytes) and a == b


def _content(value: Any) -> tuple[Any, ...] | None:
    """What a mutable object holds, flat; None for other objects."""
    if isinstance(value, list | set):
        return tuple(value)
    if isinstance(value, dict):
        return (*value.keys(), *value.values())
    if isinstance(value, np.ndarray):
        return (value.tobytes(),) if value.nbytes <= _SMALL_ARRAY else None
    if _is_user_object(value):
        return (*vars(value).keys(), *vars(value).values())
    return None


def _children(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list):
        yield from ((f"{name}[{i}]", v) for i, v in enumerate(value))
    elif isinstance(value, dict):
        yield from ((f"{name}[{k!r}]", v) for k, v in value.items())
    elif _is_user_object(value):
        yield from ((f"{name}.{k}", v) for k, v in vars(value).items())


def _is_user_object(value: Any) -> bool:
    if isinstance(value, type) or callable(value) or not hasattr(value, "__dict__"):
        return False
    module = sys.modules.get(type(value).__module__)
    file = getattr(module, "__file__", None) or ""
    return bool(file) and not is_ours(file) and not is_library(file)
