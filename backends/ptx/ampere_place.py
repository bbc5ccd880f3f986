"""Addresses in a slot of a ring: a register that no loop changes, the slot's offset, a number.

The assembler folds the sum of a thread's and a uniform register into the access, so that a
loop over slots computes no address at all.
"""

from __future__ import annotations

from tilec.backends.ptx.ampere_ring import Slot
from tilec.backends.ptx.context import Emitter
from tilec.backends.ptx.hopper_smem import SmemTile, swizzled
from tilec.backends.ptx.hopper_stage import LOW, Addresses, Place, weight
from tilec.backends.ptx.hopper_views import Dims
from tilec.ir.layout import Basis, Layout
from tilec.ir.ptx.module import Addr, Reg


class Places:
    """Addresses of a layout's registers in tiles of one shared-memory layout."""

    def __init__(self, e: Emitter, tile: SmemTile, dims: Dims, layout: Layout) -> None:
        self.e, self.tile = e, tile
        self.place = Place(tile, e.smem(), dims)
        self.addresses = Addresses(e, self.place, layout)

    def register(self, coords: Basis) -> tuple[Reg, int]:
        """The thread's part of an address, in all slots, and a number to add."""
        linear, thread = weight(self.place, coords), self.addresses.thread
        if not self.addresses.split:
            return self.e.cached(("whole", thread, linear), lambda: self._whole(linear)), 0
        low = swizzled(linear & LOW, self.tile.swizzle)
        return self.e.cached(("low", thread, low), lambda: self._low(low)), linear & ~LOW

    def _low(self, low: int) -> Reg:
        e, thread = self.e, self.addresses.thread
        moved = e.make("b32", "xor.b32", thread, low) if low else thread
        return e.make("b32", "add.s32", moved, e.smem())

    def _whole(self, linear: int) -> Reg:
        e = self.e
        full = e.make("b32", "add.s32", self.addresses.thread, linear)
        return e.make("b32", "add.s32", self.addresses.swizzle(full), e.smem())

    def address(self, coords: Basis, slot: Slot) -> Addr:
        """The address of the element with these register coordinates in a slot."""
        reg, number = self.register(coords)
        if slot.offset is not None:
            offset, thread = slot.offset, reg
            reg = self.e.cached(
                ("slot", thread, offset), lambda: self.e.make("b32", "add.s32", thread, offset)
            )
        return Addr(reg, number + slot.start)
