"""The CPU backend: TILE kernels to LLVM IR."""

from __future__ import annotations

from tilec.backends.artifact import CpuArg, CpuProgram
from tilec.backends.cpu.compile import compile_kernel
from tilec.backends.cpu.target import CpuTarget, host

__all__ = ["CpuArg", "CpuProgram", "CpuTarget", "compile_kernel", "host"]
