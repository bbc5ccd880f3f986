"""Compile small kernels to PTX, assemble them, run them on the emulator, compare with the interpreter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from cpu_kit import kernel, twin, values

from tilec.backends.artifact import Artifact
from tilec.backends.ptx import compile_kernel
from tilec.ir.core import Kernel, frozen
from tilec.ir.forms import verify
from tilec.ir.interp import interpret
from tilec.passes.layouts import assign_layouts
from tilec.runtime import toolchain
from tilec.runtime.emulator import launch

Array = np.ndarray[Any, Any]


def scheduled(made: Kernel, warps: int) -> Kernel:
    """A TILE kernel as a SCHEDULED one of one group."""
    return made.with_(form="scheduled", attrs=frozen(num_warps=warps))


def compiled(made: Kernel, warps: int = 4) -> Artifact:
    """The artifact; the form with layouts is verified on the way."""
    plain = scheduled(made, warps)
    verify(plain)
    verify(assign_layouts(plain))
    return compile_kernel(plain)


def assembled(artifact: Artifact) -> Any:
    """What ptxas says; the test is skipped, with the reason, where it is missing."""
    if toolchain.find("ptxas") is None:
        pytest.skip("ptxas not found: pip install 'tilec[test]'")
    done = toolchain.assemble(artifact.text, artifact.target)
    assert not [m for m in done.messages if m.serious]
    return done


def both(
    args: Sequence[Any], build: Callable[..., Any], grid: Sequence[int] = (1,), warps: int = 4
) -> tuple[list[Any], list[Any]]:
    """The arguments after the emulator and after the interpreter."""
    made = kernel(args, build)
    artifact = compiled(made, warps)
    found, expected = ([twin(a) if isinstance(a, np.ndarray) else a for a in args] for _ in range(2))
    launch(artifact, grid, values(found))
    interpret(made, grid, values(expected))
    return found, expected
