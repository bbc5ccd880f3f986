"""Source locations, and the context manager that stamps them on errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tilec.ir.errors import TilecError


@dataclass(frozen=True)
class Loc:
    """A span of source text, and the call that led to it.

    ``line`` counts from 1, ``col`` and ``end_col`` from 0 as in CPython's ast;
    ``caller`` is the call site in the kernel that inlined this function.
    """

    file: str
    line: int
    col: int = 0
    end_col: int = 0
    function: str = ""
    caller: Loc | None = None

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.col + 1}"


UNKNOWN = Loc("<unknown>", 0)


@contextmanager
def located(loc: Loc) -> Iterator[None]:
    """Give ``loc`` to a TilecError raised inside that has no location yet."""
    try:
        yield
    except TilecError as error:
        if error.loc is None and loc is not UNKNOWN:
            error.loc = loc
        raise
