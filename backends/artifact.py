"""What a backend hands to a runtime: text and how to launch it. Plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tilec.ir.types import DType


@dataclass(frozen=True)
class TensorMap:
    """How to encode a tensor map (CUtensorMap) for a tensor argument at launch.

    ``dims`` lists the tensor's dimensions innermost first (the first has stride 1),
    ``box`` the box extents in elements in that order. Out of range reads give 0.
    """

    arg: int
    dtype: DType
    dims: tuple[int, ...]
    box: tuple[int, ...]
    swizzle: Literal["none", "32B", "64B", "128B"]


@dataclass(frozen=True)
class Param:
    """One parameter of the entry, in order.

    ``arg`` is the index of the kernel argument it comes from (-1: of none). "pointer" is the
    base address (u64), "dim" the extent (s32) and "stride" the stride in elements
    (s64) along ``axis``, "scalar" the value itself in ``dtype``, "tensor_map" 128
    bytes encoded from ``map``, "workspace" the address (u64) of the launch's workspace.
    """

    kind: Literal["pointer", "dim", "stride", "scalar", "tensor_map", "workspace"]
    arg: int
    axis: int = 0
    dtype: DType | None = None
    map: TensorMap | None = None


@dataclass(frozen=True)
class Artifact:
    """A compiled PTX kernel. The grid is the user's, one CTA per program instance.

    ``cluster``: CTAs of a cluster along each axis, which the grid's extents must be multiples of.
    ``pairs``: the cluster that a launch on a grid of whole ones had better take.
    ``workspace``: bytes of global memory for each program, aligned to 128, that the launch gives.
    """

    target: str
    text: str
    entry: str
    params: tuple[Param, ...]
    threads: int
    smem_bytes: int
    workspace: int = 0
    cluster: tuple[int, int, int] = (1, 1, 1)
    pairs: tuple[int, int, int] = (1, 1, 1)

    def fits(self, grid: Sequence[int]) -> bool:
        """Whether a grid is one of whole clusters."""
        return _whole(grid, self.cluster)

    def pays(self, grid: Sequence[int]) -> bool:
        """Whether the kernel compiled for clusters is the better one for a grid."""
        return self.pairs != self.cluster and _whole(grid, self.pairs)


def _whole(grid: Sequence[int], cluster: tuple[int, int, int]) -> bool:
    return all(n % c == 0 for n, c in zip((*grid, 1, 1), cluster, strict=False))


@dataclass(frozen=True)
class CpuArg:
    """One kernel argument: a tensor of ``rank``, or a scalar (``rank`` is None).

    ``contiguous`` is the dimension whose stride the code takes to be 1.
    """

    name: str
    dtype: DType
    rank: int | None = None
    contiguous: int | None = None
    written: bool = False


@dataclass(frozen=True)
class CpuProgram:
    """A kernel as LLVM IR text for one vector width.

    The entry takes (arguments, counter, end, chunk, workspace): it takes ``chunk``
    program instances at a time from the shared counter until ``end``. The arguments are 8-byte
    slots: the grid's three extents, then per tensor its address, extents and
    strides in elements, per scalar its value. The workspace is
    ``workspace_bytes`` long, 64-byte aligned, and private to one thread.
    """

    text: str
    entry: str
    args: tuple[CpuArg, ...]
    workspace_bytes: int
    vector_bytes: int
