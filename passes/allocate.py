"""The static plan of shared memory: rings, their barriers, scratch and staging.

Offsets count from a start that is aligned to `TILE_ALIGN` bytes. Nothing overlaps:
a kernel that does not fit is refused with the list of what takes the space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tilec.ir.core import Block, Kernel, Op, Value
from tilec.ir.errors import InternalError, ResourceError
from tilec.ir.layout import Layout, pad, pad_shape, register_map
from tilec.ir.loc import UNKNOWN, Loc
from tilec.ir.types import ArefType, TileType
from tilec.passes.layout_rules import product_layout

TILE_ALIGN = 1024
BARRIER_BYTES = 8
HOPPER_LIMIT = 232448
WORD = 16


@dataclass(frozen=True)
class Request:
    """Something that wants shared memory. ``user`` names it in error messages."""

    key: str
    bytes: int
    user: str
    align: int = TILE_ALIGN
    loc: Loc = field(default=UNKNOWN, compare=False)


@dataclass(frozen=True)
class Buffer:
    """A range of shared memory, in bytes from the start."""

    offset: int
    bytes: int
    user: str = ""


@dataclass(frozen=True)
class RingBuffers:
    """A ring's memory: tile i of slot s is at ``tiles[i] + s * strides[i]``; the barriers
    of slot s at ``full + 8 * s`` and ``empty + 8 * s``."""

    depth: int
    tiles: tuple[int, ...]
    strides: tuple[int, ...]
    full: int
    empty: int


@dataclass(frozen=True)
class SmemPlan:
    """Who lies where. ``scratch`` is by group name, ``extra`` by the key of a `Request`."""

    total: int
    rings: Mapping[Value, RingBuffers]
    scratch: Mapping[str, Buffer]
    extra: Mapping[str, Buffer]
    buffers: tuple[Buffer, ...]


def padded_bytes(t: TileType) -> int:
    """Bytes of a tile whose extents are padded to powers of two."""
    size = 1
    for n in t.shape:
        size *= pad(n)
    return size * t.dtype.bytes


class _Space:
    """A bump allocator that remembers who took what."""

    def __init__(self) -> None:
        self.end = 0
        self.buffers: list[Buffer] = []

    def take(self, size: int, align: int, user: str) -> int:
        offset = -(-self.end // align) * align
        self.end = offset + size
        self.buffers.append(Buffer(offset, size, user))
        return offset


def allocate(
    kernel: Kernel,
    requests: Sequence[Request] = (),
    *,
    tile_bytes: Callable[[TileType], int] = padded_bytes,
    limit: int = HOPPER_LIMIT,
) -> SmemPlan:
    """Plan the shared memory of a SCHEDULED kernel with layouts.

    ``tile_bytes`` gives the size of a ring's tile in its shared memory layout. Raises
    ResourceError R101 if the sum is over ``limit``.
    """
    space = _Space()
    news = [op for op, _ in _grouped(kernel.body, "main", 0) if op.name == "aref.new"]
    tiles = {op: _ring_tiles(space, op, tile_bytes) for op in news}
    extra = {r.key: Buffer(space.take(r.bytes, r.align, r.user), r.bytes, r.user) for r in requests}
    scratch = {
        name: Buffer(space.take(size, WORD, f"scratch of group {name}"), size)
        for name, size in scratch_sizes(kernel).items()
    }
    rings = {op.result: _barriers(space, op, *tiles[op]) for op in news}
    plan = SmemPlan(space.end, rings, scratch, extra, tuple(space.buffers))
    check_fits(plan, kernel, limit)
    return plan


def _ring_tiles(
    space: _Space, op: Op, tile_bytes: Callable[[TileType], int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    ring, name = _ring_type(op), op.result.hint or "aref"
    strides = tuple(-(-tile_bytes(t) // TILE_ALIGN) * TILE_ALIGN for t in ring.payload)
    depth = ring.depth or 1
    offsets = tuple(
        space.take(depth * stride, TILE_ALIGN, f"ring {name}: {depth} x {t}")
        for t, stride in zip(ring.payload, strides, strict=True)
    )
    return offsets, strides


def _barriers(space: _Space, op: Op, tiles: tuple[int, ...], strides: tuple[int, ...]) -> RingBuffers:
    depth = _ring_type(op).depth or 1
    user = f"barriers of ring {op.result.hint or 'aref'}"
    full, empty = (space.take(depth * BARRIER_BYTES, BARRIER_BYTES, user) for _ in range(2))
    return RingBuffers(depth, tiles, strides, full, empty)


def _ring_type(op: Op) -> ArefType:
    ring = op.result.type
    if not isinstance(ring, ArefType):
        raise InternalError("X125", f"aref.new gives {ring}")
    return ring


def check_fits(plan: SmemPlan, kernel: Kernel, limit: int) -> None:
    """Raise ResourceError R101 with the users, largest first, if the plan is too large."""
    if plan.total <= limit:
        return
    users = sorted(plan.buffers, key=lambda b: (-b.bytes, b.offset))
    listed = "; ".join(f"{b.user}: {b.bytes}" for b in users if b.bytes)
    raise ResourceError(
        "R101",
        f"{kernel.name} needs {plan.total} bytes of shared memory, the limit is {limit} ({listed})",
        help="use smaller tiles or fewer stages",
    )


def _grouped(block: Block, group: str, warps: int) -> Iterator[tuple[Op, tuple[str, int]]]:
    """All ops with the name and size of the group that runs them."""
    for op in block.ops:
        yield op, (group, warps)
        names = [(group, warps)] * len(op.blocks)
        if op.name == "warp_groups":
            names = list(zip(op.attrs["names"], op.attrs["warps"], strict=True))
        for inner, (name, n) in zip(op.blocks, names, strict=True):
            yield from _grouped(inner, name, n)


def scratch_sizes(kernel: Kernel) -> dict[str, int]:
    """For each group of a kernel with layouts that needs scratch the largest need of one op."""
    sizes: dict[str, int] = {}
    for op, (group, warps) in _grouped(kernel.body, "main", kernel.attrs.get("num_warps", 4)):
        need = scratch_bytes(op, warps)
        if need:
            sizes[group] = max(sizes.get(group, 0), need)
    return sizes


def scratch_bytes(op: Op, warps: int) -> int:
    """Shared memory that the code of an op needs to move data between the threads of its group."""
    if op.name == "convert_layout" and _moves(op.args[0].type, op.result.type):
        return padded_bytes(_tile(op.args[0]))
    if op.name == "reshape" and not is_relabelling(_tile(op.args[0]).shape, _tile(op.result).shape):
        return _tile(op.args[0]).bytes
    if op.name == "dot" and product_layout(op, warps) is None:
        return padded_bytes(_tile(op.args[0])) + padded_bytes(_tile(op.args[1]))
    if op.name == "atomic":
        return padded_bytes(_tile(op.result))
    if op.name == "reduce":
        return _reduce_bytes(op)
    return 0


def _tile(value: Value) -> TileType:
    assert isinstance(value.type, TileType)
    return value.type


def _moves(src: object, dst: object) -> bool:
    a, b = getattr(src, "layout", None), getattr(dst, "layout", None)
    return isinstance(a, Layout) and isinstance(b, Layout) and register_map(a, b) is None


def is_relabelling(src: Sequence[int], dst: Sequence[int]) -> bool:
    """Whether a reshape only renames coordinate bits, also with both sides padded."""
    long_src, long_dst = [n for n in src if n != 1], [n for n in dst if n != 1]
    powers = pad_shape(src) == tuple(src) and pad_shape(dst) == tuple(dst)
    return long_src == long_dst or powers


def _reduce_bytes(op: Op) -> int:
    source = _tile(op.args[0])
    layout, axis = source.layout, op.attrs["axis"]
    if not isinstance(layout, Layout):
        return 0
    parts = 1 << sum(1 for b in layout.warp if b[axis])
    if parts == 1:
        return 0
    with_index = op.attrs["kind"].startswith("arg")
    result = pad_shape((*source.shape[:axis], *source.shape[axis + 1 :]))
    size = parts
    for n in result:
        size *= n
    wide = max(source.dtype.bytes, 4)
    return size * (wide + (4 if with_index else 0))
