"""Where tiles live: buffers at fixed offsets of a thread's workspace, reused when dead."""

from __future__ import annotations

from dataclasses import dataclass

from tilec.ir.types import TileType

ALIGN = 64


@dataclass(eq=False)
class Buffer:
    """Row-major elements of a tile at an offset. ``live`` counts the values that need it.

    A pinned buffer belongs to a loop or branch, which gives it back itself.
    """

    offset: int
    bytes: int
    type: TileType
    live: int = 0
    pinned: bool = False


class Workspace:
    """A first-fit allocator; ``peak`` is the size that the workspace needs."""

    def __init__(self, reserved: int) -> None:
        self.peak = self.top = reserved
        self.holes: list[tuple[int, int]] = []

    def allocate(self, type_: TileType) -> Buffer:
        """A buffer for a tile."""
        size = -(-max(type_.bytes, 1) // ALIGN) * ALIGN
        for i, (start, length) in enumerate(self.holes):
            if length >= size:
                self.holes[i : i + 1] = [(start + size, length - size)] if length > size else []
                return Buffer(start, size, type_)
        start, self.top = self.top, self.top + size
        self.peak = max(self.peak, self.top)
        return Buffer(start, size, type_)

    def free(self, buffer: Buffer) -> None:
        """Give a buffer back; neighbouring holes merge."""
        merged: list[tuple[int, int]] = []
        for start, length in sorted([*self.holes, (buffer.offset, buffer.bytes)]):
            if merged and sum(merged[-1]) == start:
                merged[-1] = (merged[-1][0], merged[-1][1] + length)
            else:
                merged.append((start, length))
        self.holes = merged
