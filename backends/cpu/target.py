"""What the code generator needs to know of the host: vector width and fused multiply-add."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import llvmlite.binding as llvm


@dataclass(frozen=True)
class CpuTarget:
    """Bytes of a vector register and their number, caches, and instructions that it has.

    ``fma``: fused multiply-add. ``vnni``: sums of products of 16-bit pairs (vpdpwssd).
    ``scalef``: multiplication by powers of two, and what is behind the point (vscalefps, vreduceps).

    The generated code is right on every CPU; a wrong width only makes it slow.
    """

    vector_bytes: int = 16
    fma: bool = True
    registers: int = 16
    x86: bool = False
    vnni: bool = False
    scalef: bool = False
    l1_bytes: int = 32 * 1024
    l2_bytes: int = 512 * 1024
    last_bytes: int = 32 * 1024 * 1024

    def lanes(self, bytes_per_element: int) -> int:
        """How many elements of a size one vector register holds."""
        return max(self.vector_bytes // bytes_per_element, 1)


@cache
def host() -> CpuTarget:
    """The CPU that this process runs on."""
    features = llvm.get_host_cpu_features()
    if not llvm.get_process_triple().startswith(("x86_64", "i686", "amd64")):
        return _with_caches(CpuTarget(16, True, registers=32))
    wide, half = bool(features.get("avx512f")), bool(features.get("avx2"))
    return _with_caches(CpuTarget(
        64 if wide else 32 if half else 16,
        bool(features.get("fma")),
        registers=32 if wide else 16,
        x86=half,
        vnni=wide and bool(features.get("avx512vnni") and features.get("avx512vl")),
        scalef=wide and bool(features.get("avx512vl") and features.get("avx512dq")),
    ))  # fmt: skip


def _with_caches(target: CpuTarget) -> CpuTarget:
    """The target with the cache sizes that Linux tells, or usual ones."""
    return replace(
        target, l1_bytes=_cache(0, target.l1_bytes), l2_bytes=_cache(2, target.l2_bytes),
        last_bytes=_cache(3, target.last_bytes),
    )  # fmt: skip


def _cache(index: int, default: int) -> int:
    """Bytes of a cache of the first core as Linux tells it (0: data, 2 and 3: second and third level)."""
    try:
        text = Path(f"/sys/devices/system/cpu/cpu0/cache/index{index}/size").read_text(encoding="ascii")
        return int(text.strip().removesuffix("K")) * 1024
    except (OSError, ValueError):
        return default
