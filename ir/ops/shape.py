"""Ops that make, reshape, reduce and multiply tiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tilec.ir.core import Block, Op
from tilec.ir.errors import TilecTypeError, TilecValueError
from tilec.ir.ops.arith import Array
from tilec.ir.ops.table import Args, check_axis, op, tile
from tilec.ir.types import TileType, Type, bool_, broadcast_shapes, int32

Blocks = tuple[Block, ...]
REDUCTIONS = ("sum", "prod", "max", "min", "any", "all", "xor_sum", "argmax", "argmin")


def _infer_const(args: Args, attrs: Mapping[str, Any], blocks: Blocks) -> tuple[Type, ...]:
    if any(n < 1 for n in attrs["shape"]):
        raise TilecValueError("V102", f"a tile needs positive extents, not {attrs['shape']}")
    return (TileType(attrs["dtype"], tuple(attrs["shape"])),)


@op("const", _infer_const, attrs=("dtype", "shape", "value"), family="create")
def _const(rt: Any, node: Op) -> Array:
    """A tile filled with one number."""
    dtype = node.attrs["dtype"].np
    return np.full(node.attrs["shape"], node.attrs["value"]).astype(dtype)


def _infer_arange(args: Args, attrs: Mapping[str, Any], blocks: Blocks) -> tuple[Type, ...]:
    if attrs["stop"] <= attrs["start"]:
        raise TilecValueError("V103", f"arange({attrs['start']}, {attrs['stop']}) is empty")
    return (TileType(int32, (attrs["stop"] - attrs["start"],)),)


@op("arange", _infer_arange, attrs=("start", "stop"), family="create")
def _arange(rt: Any, node: Op) -> Array:
    """start, start + 1, ..., stop - 1 as int32."""
    return np.arange(node.attrs["start"], node.attrs["stop"], dtype=np.int32)


def _infer_broadcast(args: Args, attrs: Mapping[str, Any], blocks: Blocks) -> tuple[Type, ...]:
    source, shape = tile(args[0], "operand of broadcast"), tuple(attrs["shape"])
    if source.shape and len(source.shape) != len(shape):
        raise TilecTypeError("T110", f"broadcast from {source.shape} to {shape}: ranks differ")
    if broadcast_shapes(source.shape, shape) != shape:
        raise TilecTypeError("T101", f"shape {source.shape} does not broadcast to {shape}")
    return (source.with_(shape=shape, space="reg"),)


@op("broadcast", _infer_broadcast, ("x",), attrs=("shape",), family="shape")
def _broadcast(rt: Any, node: Op, x: Array) -> Array:
    """Repeat extents of 1 (or a scalar) to the given shape of the same rank."""
    return np.broadcast_to(x, node.attrs["shape"]).copy()


def _infer_reshape(args: Args, attrs: Mapping[str, Any], blocks: Blocks) -> tuple[Type, ...]:
    source, shape = tile(args[0], "operand of reshape"), tuple(attrs["shape"])
    if source.size != int(np.prod(shape, dtype=np.int64)):
        raise TilecTypeError("T111", f"reshape from {source.shape} to {shape}: sizes differ")
    return (source.with_(shape=shape),)


@op("reshape", _infer_reshape, ("x",), attrs=("shape",), family="shape")
def _reshape(rt: Any, node: Op, x: Array) -> Array:
    """The same elements in row-major order under another shape."""
    return x.reshape(node.attrs["shape"])


def _infer_permute(args: Args, attrs: Mapping[str, Any], blocks: Blocks) -> tuple[Type, ...]:
    source, perm = tile(args[0], "operand of permute"), tuple(attrs["perm"])
    if sorted(perm) != list(range(len(source.shape))):
        raise TilecTypeError("T112", f"{perm} is no permutation of the axes of {source.shape}")
    return (source.with_(shape=tuple(source.shape[p] for p in perm)),)


@op("permute", _infer_permute, ("x",), attrs=("perm",), family="shape")
def _permute(rt: Any, node: Op, x: Array) -> Array:
    """Axis i of the result is axis perm[i] of the operand."""
    return x.transpose(node.attrs["perm"])


def _infer_reduce(args: Args, attrs: Mapping[str, Any], blocks: Blocks) -> tuple[Type, ...]:
    source, kind = tile(args[0], "operand of a reduction"), attrs["kind"]
    if kind not in REDUCTIONS:
        raise TilecValueError("V104", f"no reduction named {kind!r}", help=f"one of {REDUCTIONS}")
    check_axis(attrs["axis"], len(source.shape), kind)
    if (kind in ("any", "all")) != (source.dtype == bool_):
        raise TilecTypeError("T108", f"{kind} is not defined for {source.dtype}")
    if kind == "xor_sum" and source.dtype.is_float:
        raise TilecTypeError("T108", f"xor_sum is not defined for {source.dtype}")
    shape = source.shape[: attrs["axis"]] + source.shape[attrs["axis"] + 1 :]
    dtype = int32 if kind.startswith("arg") else source.dtype
    return (TileType(dtype, shape),)


@op(
    "reduce",
    _infer_reduce,
    ("x",),
    attrs=("kind", "axis"),
    optional={"within": False},
    family="reduce",
)
def _reduce(rt: Any, node: Op, x: Array) -> Array:
    """Combine along one axis and remove it.

    Floats below 32 bits are accumulated in float32. max, min, argmax and argmin
    treat NaN as numpy does; argmax and argmin give the first index as int32. ``within``: one
    thread holds all that becomes one element, so that the cost has no exchange.
    """
    kind, axis = node.attrs["kind"], node.attrs["axis"]
    wide = x.astype(np.float32) if x.dtype.kind in "fV" and x.dtype.itemsize < 4 else x
    if kind in ("sum", "prod"):
        out = getattr(np, kind)(wide, axis=axis, dtype=wide.dtype)
    elif kind == "xor_sum":
        out = np.bitwise_xor.reduce(wide, axis=axis)
    else:
        out = getattr(np, kind)(wide, axis=axis)
    return np.asarray(out).astype(node.result.type.dtype.np)  # type: ignore[union-attr]


def _infer_dot(args: Args, attrs: Mapping[str, Any], blocks: Blocks) -> tuple[Type, ...]:
    a, b, acc = (tile(t, f"{w} of dot") for t, w in zip(args, ("a", "b", "acc"), strict=True))
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[1] != b.shape[0]:
        raise TilecTypeError(
            "T113", f"dot of {a.shape} by {b.shape}: the inner extents must be equal",
            help="dot takes (M, K) and (K, N); transpose with tl.trans",
        )  # fmt: skip
    if a.dtype != b.dtype:
        raise TilecTypeError("T114", f"dot of {a.dtype} by {b.dtype}", help="convert with x.to")
    if acc.shape != (a.shape[0], b.shape[1]):
        raise TilecTypeError("T115", f"dot: acc is {acc.shape}, the product {(a.shape[0], b.shape[1])}")
    if acc.dtype.is_float != a.dtype.is_float or a.dtype == bool_:
        raise TilecTypeError("T116", f"dot of {a.dtype} cannot accumulate in {acc.dtype}")
    return (acc.with_(space="reg"),)


@op(
    "dot",
    _infer_dot,
    ("a", "b", "acc"),
    optional={"precision": "ieee", "asynchronous": False, "part": None, "warps": None},
    family="dot",
)
def _dot(rt: Any, node: Op, a: Array, b: Array, acc: Array) -> Any:
    """acc + a @ b, accumulated in acc's dtype in any order.

    precision "tf32" truncates float32 operands to 10 mantissa bits. With
    ``asynchronous`` (SCHEDULED form) the operands are read at some time before
    the `dot.wait` that covers it, and only then is the result usable. ``part`` numbers
    the sub-tile that the product belongs to, if the kernel's rows are split. ``warps``:
    how many warps share the rows and the columns, each with products of its own (mma.sync),
    or () for multiply-add; without it the group's products are those of whole warp groups.
    """
    if node.attrs.get("asynchronous"):
        return rt.defer(node, a, b, acc)
    return product(node, a, b, acc)


def product(node: Op, a: Array, b: Array, acc: Array) -> Array:
    """The value of a dot."""
    if node.attrs.get("precision") == "tf32" and a.dtype == np.float32:
        a, b = truncate_tf32(a), truncate_tf32(b)
    return np.asarray(a.astype(acc.dtype) @ b.astype(acc.dtype) + acc)


def truncate_tf32(x: Array) -> Array:
    """Drop the low 13 mantissa bits, as the tensor core does."""
    bits = np.ascontiguousarray(x).view(np.uint32) & np.uint32(0xFFFFE000)
    return bits.view(np.float32)
