"""Tensors, and tiles that stay where they are: read from the tensor by whoever consumes them.

A tile of a tensor that the kernel never writes needs no copy. Each consumer has
two versions of its loops: one where the whole tile lies in the tensor, and one
that masks every access.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from tilec.backends.cpu import loops
from tilec.backends.cpu.access import from_memory, load, masked_load
from tilec.backends.cpu.lanes import I32, I64, Lanes, element_constant, storage
from tilec.backends.cpu.loops import Index
from tilec.ir.types import TensorType, TileType


@dataclass(frozen=True)
class Coord:
    """A position along one axis: a scalar, or the first of consecutive lanes."""

    base: Index
    lane: bool = False


At = tuple[Coord, ...]


@dataclass(frozen=True)
class Tensor:
    """A tensor argument; strides in elements, 1 (known) along the contiguous axis.

    ``fixed``: the kernel never writes it.
    """

    pointer: Any
    extents: tuple[Any, ...]
    strides: tuple[Index, ...]
    type: TensorType
    fixed: bool = False


@dataclass(frozen=True, eq=False)
class Box:
    """The part of a tile inside a tensor: where it starts, and local bounds per axis.

    Bounds are from 0 to the tile's extent; ``inside`` says that all of it is in the tensor.
    """

    starts: tuple[Any, ...]
    bounds: tuple[tuple[Any, Any], ...]
    inside: Any


@dataclass(frozen=True, eq=False)
class View:
    """A loaded tile that lies in a tensor; elements outside of it are ``pad``."""

    tensor: Tensor
    part: Box
    type: TileType
    pad: Any


def box(b: Any, tensor: Tensor, starts: Sequence[Any], shape: tuple[int, ...]) -> Box:
    """Clamp a tile to a tensor."""
    bounds = []
    inside: Any = ir.Constant(ir.IntType(1), True)
    for extent, start, n in zip(tensor.extents, starts, shape, strict=True):
        # Where start + n or low - start wraps, high is low: nothing is inside.
        low = larger(b, start, I64(0))
        high = larger(b, smaller(b, b.add(start, I64(n)), extent), low)
        local = (smaller(b, b.sub(low, start), I64(n)), smaller(b, b.sub(high, start), I64(n)))
        inside = b.and_(inside, b.icmp_signed("==", b.sub(high, low), I64(n)))
        bounds.append(local)
    return Box(tuple(starts), tuple(bounds), inside)


def smaller(b: Any, x: Any, y: Any) -> Any:
    """The smaller of two signed numbers."""
    return b.select(b.icmp_signed("<", x, y), x, y)


def larger(b: Any, x: Any, y: Any) -> Any:
    """The larger of two signed numbers."""
    return b.select(b.icmp_signed(">", x, y), x, y)


def place(b: Any, tensor: Tensor, indices: Sequence[Any]) -> Any:
    """The address of an element."""
    offset: Any = 0
    for index, stride in zip(indices, tensor.strides, strict=True):
        offset = loops.add(b, offset, loops.mul(b, index, stride))
    return b.gep(tensor.pointer, [loops.i64(offset)], source_etype=storage(tensor.type.dtype))


def corner(b: Any, tensor: Tensor, part: Box, at: At) -> tuple[Any, Index]:
    """The address under a tile position, and the tensor's stride along the lanes."""
    indices = [loops.add(b, s, c.base) for s, c in zip(part.starts, at, strict=True)]
    steps = [s for s, c in zip(tensor.strides, at, strict=True) if c.lane]
    return place(b, tensor, indices), steps[0] if steps else 0


def covered(e: Lanes, part: Box, at: At) -> Any:
    """Which lanes at a tile position are inside the tensor: a mask, or an i1 for one lane."""
    everywhere: Any = None
    lanes: Any = None
    for coord, (low, high) in zip(at, part.bounds, strict=True):
        size, offset = e.b.sub(high, low), e.b.sub(loops.i64(coord.base), low)
        if coord.lane:
            lanes = _lane_mask(e, offset, size)
        else:
            one = e.b.icmp_unsigned("<", offset, size)
            everywhere = one if everywhere is None else e.b.and_(everywhere, one)
    if lanes is None:
        return everywhere
    return lanes if everywhere is None else e.b.and_(lanes, e.splat(everywhere))


def _lane_mask(e: Lanes, offset: Any, size: Any) -> Any:
    first, count = (e.splat(e.b.trunc(v, I32)) for v in (offset, size))
    return e.b.icmp_unsigned("<", e.b.add(first, e.iota(I32)), count)


def read(e: Lanes, view: View, at: At, inside: bool, dummy: Any) -> Any:
    """Elements of a view in register type. ``dummy`` can be read where nothing should be."""
    element = storage(view.type.dtype)
    pointer, step = corner(e.b, view.tensor, view.part, at)
    if inside:
        return from_memory(e, load(e, pointer, element, step), view.type)
    if e.lanes > 1 and not (isinstance(step, int) and step == 1):
        return _one_by_one(e, view, at, dummy)
    mask = covered(e, view.part, at)
    pad = e.splat_constant(element_constant(view.type.dtype, view.pad))
    if e.lanes > 1:
        rest = e.b.zext(pad, e.vec(element)) if pad.type != e.vec(element) else pad
        return from_memory(e, masked_load(e, pointer, mask, rest), view.type)
    found = load(e, e.b.select(mask, pointer, dummy), element, 1)
    return e.b.select(mask, from_memory(e, found, view.type), pad)


def _one_by_one(e: Lanes, view: View, at: At, dummy: Any) -> Any:
    """Lanes that are not side by side in memory."""
    one, out = Lanes(e.b, 1, e.target), None
    for i in range(e.lanes):
        spot = tuple(Coord(loops.add(e.b, c.base, i)) if c.lane else c for c in at)
        found = read(one, view, spot, False, dummy)
        start = ir.Constant(e.vec(found.type), ir.Undefined) if out is None else out
        out = e.b.insert_element(start, found, I32(i))
    return out
