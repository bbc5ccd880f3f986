"""Rings without mbarriers: slots of shared memory that one group fills by cp.async and reads.

Each side of a ring keeps the byte offset of its slot in registers for as long as the kernel
runs. Which copies a get waits for, and where barriers stand, is said by `ampere_sync`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tilec.backends.ptx.ampere_sync import Sync
from tilec.backends.ptx.context import Emitter
from tilec.backends.ptx.hopper_smem import SmemTile
from tilec.backends.ptx.hopper_views import identity
from tilec.backends.ptx.shared_views import SharedView
from tilec.ir.core import Op
from tilec.ir.ptx.module import Reg
from tilec.ir.types import TileType
from tilec.passes.allocate import RingBuffers


@dataclass(frozen=True)
class Slot:
    """Where a tile of the current slot lies: ``start`` bytes from `smem`, and a register to add."""

    start: int
    offset: Reg | None


@dataclass(frozen=True)
class SlotView(SharedView):
    """A tile of a ring's slot."""

    slot: Slot

    def base(self, e: Emitter) -> Reg:
        at = e.make("b32", "add.s32", e.smem(), self.slot.start)
        return at if self.slot.offset is None else e.make("b32", "add.s32", at, self.slot.offset)


@dataclass(frozen=True)
class Ring:
    """Layouts of the tiles of a slot, their memory, and for each side its offsets by stride."""

    tiles: tuple[SmemTile, ...]
    buffers: RingBuffers
    put: Mapping[int, Reg]
    get: Mapping[int, Reg]

    def slots(self, e: Emitter, side: Mapping[int, Reg]) -> tuple[Slot, ...]:
        """The places of the tiles of a side's slot; the side goes on to the next one."""
        buffers = self.buffers
        now = {stride: e.copy(reg, "b32") for stride, reg in side.items()}
        for stride, reg in side.items():
            e.emit("add.s32", reg, reg, stride)
            last = e.make("pred", "setp.eq.s32", reg, stride * buffers.depth)
            e.emit("selp.b32", reg, 0, reg, last)
        return tuple(
            Slot(start, now.get(stride)) for start, stride in zip(buffers.tiles, buffers.strides, strict=True)
        )


def open_ring(e: Emitter, tiles: tuple[SmemTile, ...], buffers: RingBuffers) -> Ring:
    """A ring whose sides begin at slot 0."""

    def side() -> dict[int, Reg]:
        strides = dict.fromkeys(buffers.strides) if buffers.depth > 1 else {}
        return {stride: e.make("b32", "mov.b32", 0) for stride in strides}

    return Ring(tiles, buffers, side(), side())


def get(e: Emitter, op: Op, ring: Ring, sync: Sync) -> None:
    """Wait for the slot's copies, of all threads; its tiles become views of shared memory."""
    e.emit("cp.async.wait_group", sync.pending[op])
    if op not in sync.unread:
        e.sync()
    for result, tile, slot in zip(op.results, ring.tiles, ring.slots(e, ring.get), strict=True):
        assert isinstance(result.type, TileType)
        shape = result.type.shape
        e.bind(result, SlotView(tile, identity(shape), shape, slot))
