"""tilec: kernels on tiles, in Python, for GPUs and the CPU."""

from __future__ import annotations

from typing import Any, NoReturn

from tilec import errors
from tilec.errors import TilecError
from tilec.kernel import KernelFunction, kernel

__all__ = ["Config", "KernelFunction", "TilecError", "__version__", "autotune", "errors", "kernel"]

_TUNING = "choose constants yourself: compile with several and time the launches"


class Config:
    """A set of constants for `autotune`. Not supported yet."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise errors.UnsupportedError("U310", "tilec.Config is not supported yet", help=_TUNING)


def autotune(*args: Any, **kwargs: Any) -> NoReturn:
    """Try several sets of constants and keep the fastest. Not supported yet."""
    raise errors.UnsupportedError("U310", "tilec.autotune is not supported yet", help=_TUNING)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("tilec")
    raise AttributeError(f"module 'tilec' has no attribute {name!r}")
