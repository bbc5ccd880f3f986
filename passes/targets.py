"""What the compiler has to know of each GPU target before it chooses: a row per target.

Sources: CUDA programming guide, table of technical specifications per compute capability
(shared memory of one program: 163 KiB on 8.0, 99 KiB on 8.6, 8.9 and 12.0, 227 KiB on 9.0).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from tilec.passes.schedule.machines import MACHINES, Machine

KIB = 1024


@dataclass(frozen=True)
class Target:
    """``products``: the instruction of the tensor cores; with wgmma go TMA and warp groups, with mma.sync
    cp.async and one group.

    ``smem``: bytes of shared memory that one program can have. ``machine``: the costs that
    schedules are made with, where there are rings. ``small``: how kernels are made that have
    products too small for ``products``.
    """

    name: str
    products: Literal["wgmma", "mma.sync"]
    smem: int
    machine: Machine
    float8: bool = False
    small: Target | None = None


def _like_a100(name: str, smem: int, float8: bool) -> Target:
    """A target that runs the A100's instructions; its own costs are not tabulated, so the A100's serve."""
    machine = replace(MACHINES["sm_80"], smem=smem)
    return Target(name, "mma.sync", smem, machine, float8)


def _hopper() -> Target:
    """wgmma and TMA; where a product has fewer than 64 rows, mma.sync and cp.async."""
    ampere, hopper, smem = MACHINES["sm_80"], MACHINES["sm_90a"], 227 * KIB
    warps = replace(hopper, product=hopper.warp_product, copy=ampere.copy)
    small = Target("sm_90a", "mma.sync", smem, warps, True)
    return Target("sm_90a", "wgmma", smem, hopper, True, small)


TARGETS: dict[str, Target] = {
    t.name: t
    for t in (
        _like_a100("sm_80", 163 * KIB, False),
        _like_a100("sm_86", 99 * KIB, False),
        _like_a100("sm_89", 99 * KIB, True),
        _hopper(),
        _like_a100("sm_120a", 99 * KIB, True),
    )
}
