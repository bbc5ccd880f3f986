"""tilec: kernels on tiles, in Python, for GPUs and the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tilec import errors
from tilec.errors import TilecError
from tilec.kernel import KernelFunction, kernel

if TYPE_CHECKING:
    from tilec.tune import Config, autotune

__all__ = ["Config", "KernelFunction", "TilecError", "__version__", "autotune", "errors", "kernel"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("tilec")
    if name in ("Config", "autotune"):  # numpy and the passes are loaded only where they are asked for
        from tilec import tune

        return getattr(tune, name)
    raise AttributeError(f"module 'tilec' has no attribute {name!r}")
