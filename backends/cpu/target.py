"""What the code generator needs to know of the host: vector width and fused multiply-add."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import llvmlite.binding as llvm


@dataclass(frozen=True)
class CpuTarget:
    """Bytes of a vector register, and whether fma is one instruction.

    The generated code is right on every CPU; a wrong width only makes it slow.
    """

    vector_bytes: int = 16
    fma: bool = True

    def lanes(self, bytes_per_element: int) -> int:
        """How many elements of a size one vector register holds."""
        return max(self.vector_bytes // bytes_per_element, 1)


@cache
def host() -> CpuTarget:
    """The CPU that this process runs on."""
    features = llvm.get_host_cpu_features()
    if llvm.get_process_triple().startswith(("x86_64", "i686", "amd64")):
        width = 64 if features.get("avx512f") else 32 if features.get("avx2") else 16
        return CpuTarget(width, bool(features.get("fma")))
    return CpuTarget(16, True)
