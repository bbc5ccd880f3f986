"""The errors a user can meet. Each has a stable code, a location and a mend.

Code letters: S syntax, T type, V value, U unsupported, R resource, I infeasible,
N solver gave no answer, D race or deadlock, X internal.
"""

from __future__ import annotations

import linecache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tilec.ir.loc import Loc


class TilecError(Exception):
    """Base of all errors of this package.

    ``code`` is stable across releases, ``help`` says what to do instead,
    ``loc`` is where in the user's source it happened (None if nowhere).
    """

    def __init__(self, code: str, message: str, *, help: str = "", loc: Loc | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.help = help
        self.loc = loc

    def __str__(self) -> str:
        return render(self)


class TilecSyntaxError(TilecError):
    """The source uses a statement or expression that cannot be captured."""


class TilecTypeError(TilecError):
    """Shapes or dtypes do not fit."""


class TilecValueError(TilecError):
    """A value is out of its legal range, or a name has no value."""


class UnsupportedError(TilecError):
    """Legal in the language, but not on this backend or not yet."""


class ResourceError(TilecError):
    """Shared memory, registers, threads or barriers are exceeded."""


class InfeasibleError(TilecError):
    """The constraints of the schedule contradict each other."""


class SolverUnknownError(TilecError):
    """The solver stopped without an answer; the message holds the best bound."""


class RaceError(TilecError):
    """Two unordered accesses of which one writes."""


class DeadlockError(TilecError):
    """Every agent waits; the message says who waits for what."""


class InternalError(TilecError):
    """A broken invariant of the compiler itself: please report it."""


def render(error: TilecError) -> str:
    """The message with its code, source line, carets, call chain and mend."""
    lines = [f"{error.code}: {error.message}"]
    loc = error.loc
    if loc is not None:
        lines += _excerpt(loc)
        while loc.caller is not None:
            lines.append(f"  called from {loc.caller} in {loc.caller.function or '<module>'}")
            loc = loc.caller
    if error.help:
        lines.append(f"  help: {error.help}")
    return "\n".join(lines)


def _excerpt(loc: Loc) -> list[str]:
    head = f"  --> {loc}" + (f" in {loc.function}" if loc.function else "")
    text = linecache.getline(loc.file, loc.line).rstrip("\n")
    if not text:
        return [head]
    stripped = text.lstrip()
    start = max(loc.col - (len(text) - len(stripped)), 0)
    width = max(min(loc.end_col, len(text)) - loc.col, 1)
    return [head, f"   | {stripped}", f"   | {' ' * start}{'^' * width}"]
