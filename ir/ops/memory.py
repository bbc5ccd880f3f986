"""Ops on tensors in global memory, and on the launch grid.

Offsets are in elements and may be negative or reach past the end: reads outside
give ``pad`` (or ``other``), writes outside are dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tilec.ir.core import Block, Op
from tilec.ir.errors import TilecTypeError, TilecValueError
from tilec.ir.ops.arith import Array
from tilec.ir.ops.table import Args, check_axis, op, scalar_int, tensor, tile
from tilec.ir.types import TensorType, TileType, Type, bool_, int32, int64, scalar

Blocks = tuple[Block, ...]
ATOMICS = ("add", "max", "min", "and", "or", "xor", "xchg")


def _infer_grid(args: Args, attrs: Mapping[str, Any], blocks: Blocks) -> tuple[Type, ...]:
    if attrs["axis"] not in (0, 1, 2):
        raise TilecValueError("V105", f"grid axis {attrs['axis']} is not 0, 1 or 2")
    return (scalar(int32),)


@op("program_id", _infer_grid, attrs=("axis",), family="grid")
def _program_id(rt: Any, node: Op) -> Array:
    """This instance's index along a grid axis, int32."""
    return np.asarray(rt.program_id[node.attrs["axis"]], np.int32)


@op("num_programs", _infer_grid, attrs=("axis",), family="grid")
def _num_programs(rt: Any, node: Op) -> Array:
    """The grid's extent along an axis, int32."""
    return np.asarray(rt.grid[node.attrs["axis"]], np.int32)


def _infer_dim(args: Args, attrs: Mapping[str, Any], blocks: Blocks) -> tuple[Type, ...]:
    check_axis(attrs["axis"], tensor(args[0], "operand of dim").rank, "T.shape")
    return (scalar(int32),)


@op("dim", _infer_dim, ("T",), attrs=("axis",), family="grid")
def _dim(rt: Any, node: Op, t: Array) -> Array:
    """The extent of a tensor along an axis, int32."""
    return np.asarray(t.shape[node.attrs["axis"]], np.int32)


def _infer_stride(args: Args, attrs: Mapping[str, Any], blocks: Blocks) -> tuple[Type, ...]:
    check_axis(attrs["axis"], tensor(args[0], "operand of stride").rank, "T.stride")
    return (scalar(int64),)


@op("stride", _infer_stride, ("T",), attrs=("axis",), family="grid")
def _stride(rt: Any, node: Op, t: Array) -> Array:
    """The stride of a tensor along an axis in elements, int64."""
    return np.asarray(t.strides[node.attrs["axis"]] // t.itemsize, np.int64)


def _infer_section(args: Args, attrs: Mapping[str, Any], blocks: Blocks) -> tuple[Type, ...]:
    t, axis = tensor(args[0], "first operand of section"), attrs["axis"]
    check_axis(axis, t.rank, "section")
    for bound, name in zip(args[1:], ("start", "stop"), strict=True):
        scalar_int(bound, f"{name} of section")
    whole = axis != t.contiguous
    return (TensorType(t.dtype, t.rank, t.contiguous, t.aligned and whole, t.divisible and whole),)


@op("section", _infer_section, ("T", "start", "stop"), attrs=("axis",), family="grid")
def _section(rt: Any, node: Op, t: Array, start: Array, stop: Array) -> Array:
    """The tensor of the elements [start, stop) of T along an axis: the same memory, cut to T's extent."""
    axis = node.attrs["axis"]
    low = min(max(int(start), 0), t.shape[axis])
    high = min(max(int(stop), low), t.shape[axis])
    return np.asarray(t[(*(slice(None),) * axis, slice(low, high))])


def _check_offsets(what: str, t: TensorType, shape: tuple[int, ...], offsets: Args) -> None:
    if len(offsets) != t.rank or len(shape) != t.rank:
        raise TilecTypeError(
            "T117", f"{what}: a tensor of rank {t.rank} with {len(offsets)} indices and tile {shape}",
            help="give one index and one extent for each dimension (extent 1 to pick one)",
        )  # fmt: skip
    for offset in offsets:
        scalar_int(offset, f"index of {what}")


def _infer_load(args: Args, attrs: Mapping[str, Any], blocks: Blocks) -> tuple[Type, ...]:
    t, shape = tensor(args[0], "first operand of load"), tuple(attrs["shape"])
    if any(n < 1 for n in shape):
        raise TilecValueError("V102", f"a tile needs positive extents, not {shape}")
    _check_offsets("load", t, shape, args[1:])
    return (TileType(t.dtype, shape),)


@op(
    "load",
    _infer_load,
    ("T", "offsets..."),
    effect="read",
    attrs=("shape",),
    optional={"pad": 0, "threads": False, "cluster": 1, "part": None},
    family="memory",
)
def _load(rt: Any, node: Op, t: Array, *offsets: Array) -> Array:
    """The tile that starts at the offsets; elements outside the tensor are ``pad``. ``threads``: if it
    fills a ring, then by loads and stores of threads; ``cluster``: by TMA, once for so many programs.
    ``part``: for the sub-tile of that number, if the kernel's rows are split."""
    shape = node.attrs["shape"]
    out = np.full(shape, node.attrs.get("pad", 0)).astype(t.dtype)
    source, target = _overlap(t.shape, offsets, shape)
    out[target] = t[source]
    return out


def _infer_store(args: Args, attrs: Mapping[str, Any], blocks: Blocks) -> tuple[Type, ...]:
    t, value = tensor(args[0], "first operand of store"), tile(args[1], "stored value")
    if value.dtype != t.dtype:
        raise TilecTypeError(
            "T118", f"store of {value.dtype} into a tensor of {t.dtype}",
            help="convert with value.to(T.dtype)",
        )  # fmt: skip
    _check_offsets("store", t, value.shape, args[2:])
    return ()


@op("store", _infer_store, ("T", "value", "offsets..."), effect="write", family="memory")
def _store(rt: Any, node: Op, t: Array, value: Array, *offsets: Array) -> None:
    """Write the tile at the offsets; elements outside the tensor are dropped."""
    target, source = _overlap(t.shape, offsets, value.shape)
    t[target] = value[source]


def _overlap(
    extents: tuple[int, ...], offsets: tuple[Array, ...], shape: tuple[int, ...]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The part of a tile that lies inside: slices of the tensor and of the tile."""
    inside, local = [], []
    for extent, offset, n in zip(extents, offsets, shape, strict=True):
        start = int(offset)
        low = min(max(start, 0), extent)
        high = max(min(start + n, extent), low)
        inside.append(slice(low, high))
        local.append(slice(low - start, high - start) if high > low else slice(0, 0))
    return tuple(inside), tuple(local)


def _check_indices(what: str, t: TensorType, indices: Args, mask: Type) -> tuple[int, ...]:
    tiles = [tile(i, f"index of {what}") for i in indices]
    if len(tiles) != t.rank:
        raise TilecTypeError("T117", f"{what}: {len(tiles)} indices into a tensor of rank {t.rank}")
    shape = tile(mask, f"mask of {what}").shape
    for index in tiles:
        if index.shape != shape or not index.dtype.is_int:
            raise TilecTypeError("T119", f"{what}: index {index} with a mask of shape {shape}")
    if tile(mask, "mask").dtype != bool_:
        raise TilecTypeError("T119", f"{what}: the mask must be bool, not {mask}")
    return shape


def _infer_gather(args: Args, attrs: Mapping[str, Any], blocks: Blocks) -> tuple[Type, ...]:
    t, other = tensor(args[0], "first operand of gather"), tile(args[-1], "other of gather")
    shape = _check_indices("gather", t, args[1:-2], args[-2])
    if (other.dtype, other.shape) != (t.dtype, shape):
        raise TilecTypeError("T119", f"gather: other is {other}, the result {t.dtype} {shape}")
    return (TileType(t.dtype, shape),)


@op(
    "gather",
    _infer_gather,
    ("T", "indices...", "mask", "other"),
    effect="read",
    optional={"threads": False, "along": None, "part": None},
    family="memory",
)
def _gather(rt: Any, node: Op, t: Array, *rest: Array) -> Array:
    """T at the indices, other where masked or outside. ``threads`` and ``part`` as for `load`; ``along``: the
    axis along which units of 16 bytes lie in memory as in the tile, under one mask, so that cp.async can copy
    them."""
    *indices, mask, other = rest
    ok = _inside(t, indices) & mask
    safe = tuple(np.where(ok, i, 0) for i in indices)
    if t.size == 0:
        return np.array(other)
    return np.asarray(np.where(ok, t[safe], other))


def _inside(t: Array, indices: list[Array]) -> Array:
    ok = np.ones(np.shape(indices[0]) if indices else (), bool)
    for extent, index in zip(t.shape, indices, strict=True):
        ok = ok & (index >= 0) & (index < extent)
    return ok


def _infer_scatter(args: Args, attrs: Mapping[str, Any], blocks: Blocks) -> tuple[Type, ...]:
    t, value = tensor(args[0], "first operand of scatter"), tile(args[-2], "scattered value")
    shape = _check_indices("scatter", t, args[1:-2], args[-1])
    if (value.dtype, value.shape) != (t.dtype, shape):
        raise TilecTypeError("T119", f"scatter: value is {value}, expected {t.dtype} {shape}")
    return ()


@op("scatter", _infer_scatter, ("T", "indices...", "value", "mask"), effect="write", family="memory")
def _scatter(rt: Any, node: Op, t: Array, *rest: Array) -> None:
    """Write; equal indices in one tile: any one wins."""
    *indices, value, mask = rest
    ok = _inside(t, indices) & mask
    t[tuple(i[ok] for i in indices)] = value[ok]


def _infer_atomic(args: Args, attrs: Mapping[str, Any], blocks: Blocks) -> tuple[Type, ...]:
    if attrs["kind"] not in ATOMICS:
        raise TilecValueError("V106", f"no atomic named {attrs['kind']!r}", help=f"one of {ATOMICS}")
    t = tensor(args[0], "first operand of an atomic")
    if attrs["kind"] in ("and", "or", "xor") and not t.dtype.is_int:
        raise TilecTypeError("T108", f"atomic_{attrs['kind']} is not defined for {t.dtype}")
    _infer_scatter(args, attrs, blocks)
    return (TileType(t.dtype, tile(args[-1], "mask").shape),)


@op(
    "atomic",
    _infer_atomic,
    ("T", "indices...", "value", "mask"),
    effect="write",
    attrs=("kind",),
    family="memory",
)
def _atomic(rt: Any, node: Op, t: Array, *rest: Array) -> Array:
    """Update one by one; gives the old values (0 if none)."""
    *indices, value, mask = rest
    ok = _inside(t, indices) & mask
    old = np.zeros(value.shape, t.dtype)
    for where in np.argwhere(ok):
        place = tuple(where)
        cell = tuple(int(i[place]) for i in indices)
        old[place] = t[cell]
        t[cell] = _COMBINE[node.attrs["kind"]](t[cell], value[place])
    return old


_COMBINE: dict[str, Any] = {
    "add": np.add, "max": np.maximum, "min": np.minimum, "and": np.bitwise_and,
    "or": np.bitwise_or, "xor": np.bitwise_xor, "xchg": lambda old, new: new,
}  # fmt: skip
