"""Stores of products' results: through idle rings, so that threads write 16 bytes in a row.

In the fragments of mma.sync a thread has two neighbours, so that a warp writes half sectors of
narrow elements. While no slot of any ring is filled or read, the memory of the rings takes
the tile on its way: written swizzled, read in rows.
"""

from __future__ import annotations

from collections.abc import Iterable

from tilec.backends.ptx.ampere_place import Places
from tilec.backends.ptx.ampere_ring import Slot
from tilec.backends.ptx.context import Emitter, Fragment, Rule, register_type
from tilec.backends.ptx.coords import inside, is_padding
from tilec.backends.ptx.hopper_smem import SmemTile, smem_tile
from tilec.backends.ptx.hopper_stage import Place, write
from tilec.backends.ptx.hopper_views import identity
from tilec.backends.ptx.tensors import vector_width
from tilec.backends.ptx.vectors import load_vector
from tilec.ir.core import Op
from tilec.ir.layout import Layout
from tilec.ir.ptx.module import Reg
from tilec.ir.types import TensorType, TileType
from tilec.passes.allocate import RingBuffers
from tilec.passes.layout_rules import memory_anchor

VECTOR = 16  # bytes
SECTOR = 32


def room(rings: Iterable[RingBuffers]) -> int:
    """Bytes that the tiles of all rings take, from the start of shared memory on."""
    ends = [t + r.depth * s for r in rings for t, s in zip(r.tiles, r.strides, strict=True)]
    return max(ends, default=0)


def staged(store: Op, bytes_: int) -> SmemTile | None:
    """How a stored tile lies in ``bytes_`` of shared memory on its way; None if it needs no detour,
    or cannot take it."""
    tensor, t = store.args[0].type, store.args[1].type
    assert isinstance(tensor, TensorType) and isinstance(t, TileType)
    axis, layout = tensor.contiguous, t.layout
    if axis is None or not tensor.aligned or not isinstance(layout, Layout):
        return None
    run = 1
    while any(b[axis] == run for b in (*layout.reg[:1], *layout.lane)):
        run *= 2
    if run * t.dtype.bytes >= SECTOR or run >= t.shape[axis] or t.shape[axis] * t.dtype.bytes % VECTOR:
        return None
    tile = smem_tile(t, axis)
    return tile if tile.bytes <= bytes_ else None


def store(e: Emitter, op: Op, tile: SmemTile, plain: Rule) -> None:
    """Move the tile through shared memory into a layout of whole vectors, then store it."""
    tensor, fragment, t = e.tensor(op.args[0]), e.fragment(op.args[1]), op.args[1].type
    assert isinstance(t, TileType)
    e.sync()
    write(e, fragment, Place(tile, e.smem(), identity(t.shape)))
    e.sync()
    layout = memory_anchor(tensor.type, t, e.group.warps)
    regs = tuple(e.reg(register_type(t.dtype)) for _ in range(layout.registers))
    moved = Fragment(t.dtype, t.shape, layout, regs)
    _read(e, moved, tile, vector_width(tensor, t.shape, layout)[1])
    e.env[op.args[1]] = moved
    plain(e, op)
    e.env[op.args[1]] = fragment


def _read(e: Emitter, moved: Fragment, tile: SmemTile, width: int) -> None:
    places = Places(e, tile, identity(moved.shape), moved.layout)
    coords = moved.layout.register_coords()
    for i in range(0, len(coords), width):
        if not is_padding(moved.shape, coords[i]):
            ok = inside(e, moved.layout, moved.shape, coords[i])
            where = places.address(coords[i], Slot(0, None))
            guard = ok if isinstance(ok, Reg) else None
            load_vector(e, moved.dtype, moved.regs[i : i + width], where, guard, "shared")
