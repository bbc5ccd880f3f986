"""The errors a user can meet, re-exported from `tilec.ir.errors`."""

from __future__ import annotations

from tilec.ir.errors import (
    DeadlockError,
    InfeasibleError,
    InternalError,
    RaceError,
    ResourceError,
    SolverUnknownError,
    TilecError,
    TilecSyntaxError,
    TilecTypeError,
    TilecValueError,
    UnsupportedError,
    render,
)

__all__ = [
    "DeadlockError", "InfeasibleError", "InternalError", "RaceError", "ResourceError",
    "SolverUnknownError", "TilecError", "TilecSyntaxError", "TilecTypeError", "TilecValueError",
    "UnsupportedError", "render",
]  # fmt: skip
