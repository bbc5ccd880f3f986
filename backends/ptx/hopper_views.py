"""Views of shared-memory tiles: which dimension of the tile each axis of a view is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tilec.ir.core import Block, Op, Value, walk
from tilec.ir.types import TileType

Dims = tuple[int | None, ...]


def identity(shape: tuple[int, ...]) -> Dims:
    """The view of a tile as it lies; axes of extent 1 have no dimension (None)."""
    return tuple(d if n > 1 else None for d, n in enumerate(shape))


def permuted(dims: Dims, perm: tuple[int, ...]) -> Dims:
    return tuple(dims[p] for p in perm)


def reshaped(dims: Dims, old: tuple[int, ...], new: tuple[int, ...]) -> Dims | None:
    """The view after a reshape that only adds or drops axes of extent 1, else None."""
    wide = [d for d, n in zip(dims, old, strict=True) if n > 1]
    if [n for n in old if n > 1] != [n for n in new if n > 1]:
        return None
    rest = iter(wide)
    return tuple(next(rest) if n > 1 else None for n in new)


def view_step(op: Op, dims: Dims) -> Dims | None:
    """The view that a reshape or permute of a view gives, or None if data would have to move."""
    source = op.args[0].type
    assert isinstance(source, TileType)
    if op.name == "permute":
        return permuted(dims, op.attrs["perm"])
    if op.name == "reshape":
        return reshaped(dims, source.shape, op.attrs["shape"])
    return None


@dataclass(frozen=True)
class Use:
    """A use of a shared-memory tile through views: operand ``index`` of ``op``."""

    op: Op
    index: int
    dims: Dims


def uses_of(value: Value, block: Block) -> Iterator[Use]:
    """The uses of a tile in a block, behind reshapes and permutes that stay views."""
    assert isinstance(value.type, TileType)
    views: dict[Value, Dims] = {value: identity(value.type.shape)}
    for op in walk(block):
        for index, arg in enumerate(op.args):
            if arg not in views:
                continue
            step = view_step(op, views[arg])
            if step is not None:
                views[op.result] = step
            else:
                yield Use(op, index, views[arg])


def dot_axes(use: Use) -> tuple[int | None, int | None] | None:
    """(mn, k) dimensions of the tile if the use is operand a or b of a dot, else None."""
    if use.op.name != "dot" or use.index > 1:
        return None
    mn, k = use.dims if use.index == 0 else reversed(use.dims)
    return mn, k
