"""What a PTX backend hands to a runtime: text and how to launch it. Plain data."""

from __future__ import annotations

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

    ``arg`` is the index of the kernel argument it comes from. "pointer" is the
    base address (u64), "dim" the extent (s32) and "stride" the stride in elements
    (s64) along ``axis``, "scalar" the value itself in ``dtype``, "tensor_map" 128
    bytes encoded from ``map``.
    """

    kind: Literal["pointer", "dim", "stride", "scalar", "tensor_map"]
    arg: int
    axis: int = 0
    dtype: DType | None = None
    map: TensorMap | None = None


@dataclass(frozen=True)
class Artifact:
    """A compiled PTX kernel. The grid is the user's, one CTA per program instance."""

    target: str
    text: str
    entry: str
    params: tuple[Param, ...]
    threads: int
    smem_bytes: int
