"""What a trace read outside of its arguments: globals and closure cells of user functions.

A traced kernel is kept and used again. If a global constant or a helper function
has changed since, it would be stale: so every use compares these values first.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from types import CodeType, FunctionType
from typing import Any

from tilec.ir.types import DType
from tilec.values import same_object

Values = tuple[tuple[str, Any], ...]


def outside_values(fn: FunctionType) -> Values:
    """The constants and functions that the code of ``fn`` may read from globals and cells."""
    names = [(n, fn.__globals__[n]) for n in names_of(fn.__code__) if n in fn.__globals__]
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
        try:
            names.append((name, cell.cell_contents))
        except ValueError:
            continue
    return tuple((n, v) for n, v in names if _is_compared(v))


@functools.lru_cache(maxsize=1024)
def names_of(code: CodeType) -> tuple[str, ...]:
    """Names of globals and attributes in the code and in the functions inside of it."""
    inner = [n for c in code.co_consts if isinstance(c, CodeType) for n in names_of(c)]
    return tuple(dict.fromkeys((*code.co_names, *inner)))


def _is_compared(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(_is_compared(v) for v in value)
    return value is None or isinstance(value, int | float | str | bytes | DType | FunctionType)


def unchanged(before: Iterable[tuple[FunctionType, Values]]) -> bool:
    """Do the functions still see the values that they saw?"""
    return all(_same(values, outside_values(fn)) for fn, values in before)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return same_object(a, b)
