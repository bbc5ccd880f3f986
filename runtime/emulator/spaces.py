"""The memories of the emulated device, with the checks that ordinary accesses get."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tilec.ir.ptx.module import Instruction
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.report import fault

GLOBAL_BASE = 0x7F0000000000
SHARED_WINDOW = 0x10000000000
PARAM_WINDOW = 0x20000000000
LOCAL_WINDOW = 0x30000000000
# Shared memory of the CTAs of a cluster: each has a window of this size, by its rank, so that
# clearing the lowest bit of the rank leads to the even CTA of a pair, as on the device.
RANK_SHIFT = 24
WINDOW_SIZE = 1 << RANK_SHIFT
WINDOW = {
    "global": 0,
    "const": 0,
    "shared": SHARED_WINDOW,
    "shared::cta": SHARED_WINDOW,
    "shared::cluster": SHARED_WINDOW,
    "param": PARAM_WINDOW,
    "local": LOCAL_WINDOW,
}


def typed_index(offset: Array, size: int, count: int) -> Array:
    """Indices in units of ``size`` bytes: shape (n,), or (n, count) for vectors."""
    first = (offset // np.uint64(size)).astype(np.intp)
    return first if count == 1 else first[:, None] + np.arange(count)


def require_aligned(address: Array, size: int, inst: Instruction) -> None:
    if (address % np.uint64(size)).any():
        bad = int(address[address % np.uint64(size) != 0][0])
        raise fault("D411", f"address {bad:#x} is not a multiple of {size}", inst)


@dataclass(frozen=True)
class Footprint:
    """Which bytes of global memory were read and written: not 0."""

    read: Array
    wrote: Array

    def note(self, index: Any, size: int, writes: bool) -> None:
        """An access to elements of ``size`` bytes, by their indices."""
        kind = np.dtype(f"u{size}")
        (self.wrote if writes else self.read).view(kind)[index] = np.iinfo(kind).max


@dataclass
class GlobalMemory:
    """Allocations laid out in one array, with unmapped gaps between them. ``footprint``, if there is one,
    is told of every access."""

    data: Array = field(default_factory=lambda: np.zeros(0, np.uint8))
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    footprint: Footprint | None = None

    def add(self, content: bytes | int, align: int = 256, name: str = "") -> int:
        """Allocate bytes (an int: that many zeros) and return their address."""
        raw = np.zeros(content, np.uint8) if isinstance(content, int) else np.frombuffer(content, np.uint8)
        align = max(align, 256)
        start = -(-(len(self.data) + 256) // align) * align
        total = -(-(start + len(raw)) // 256) * 256
        grown = np.full(total, 0xCD, np.uint8)
        grown[: len(self.data)] = self.data
        grown[start : start + len(raw)] = raw
        self.data = grown
        self.starts.append(start)
        self.ends.append(start + len(raw))
        self.names.append(name)
        return GLOBAL_BASE + start

    def note(self, index: Any, size: int, writes: bool) -> None:
        """An access to ``data`` as elements of ``size`` bytes."""
        if self.footprint is not None:
            self.footprint.note(index, size, writes)

    def bytes_at(self, address: int, size: int) -> Array:
        """A view of memory; the caller has checked the range."""
        start = address - GLOBAL_BASE
        return self.data[start : start + size]

    def touch(self, address: int, size: int, writes: bool) -> Array:
        """``bytes_at`` for an access by the kernel."""
        start = address - GLOBAL_BASE
        self.note(slice(start, start + size), 1, writes)
        return self.data[start : start + size]

    def offsets(self, address: Array, size: int, inst: Instruction) -> Array:
        """Offsets into ``data``, after checking that every access lies in one allocation."""
        offset = address - np.uint64(GLOBAL_BASE)
        which = np.searchsorted(np.array(self.starts, np.uint64), offset, side="right") - 1
        ends = np.array(self.ends, np.uint64)
        bad = (which < 0) | (address < GLOBAL_BASE)
        bad |= offset + np.uint64(size) > (ends[which] if len(ends) else np.uint64(0))
        if bad.any():
            first = int(address[bad][0])
            raise fault("D410", f"{size}-byte access to {first:#x}, {self._near(first)}", inst)
        return offset

    def _near(self, address: int) -> str:
        if not self.starts or address < GLOBAL_BASE + self.starts[0]:
            return "which is in no allocation"
        which = int(np.searchsorted(self.starts, address - GLOBAL_BASE, side="right")) - 1
        past = address - GLOBAL_BASE - self.ends[which]
        return f"{past} bytes after the end of {self.names[which] or 'an allocation'}"

    def load(self, address: Array, size: int, count: int, inst: Instruction) -> Array:
        index = self.index(address, size, count, inst)
        self.note(index, size, writes=False)
        result: Array = self.data.view(f"u{size}")[index]
        return result

    def index(self, address: Array, size: int, count: int, inst: Instruction) -> Array:
        """Indices of legal accesses into ``data`` as elements of ``size`` bytes."""
        require_aligned(address, size * count, inst)
        return typed_index(self.offsets(address, size * count, inst), size, count)


class SharedMemory:
    """Shared memory of a CTA."""

    def __init__(self, size: int) -> None:
        self.size = size
        rounded = -(-max(size, 16) // 16) * 16
        self.data = np.full(rounded, 0xCD, np.uint8)

    def require(self, address: Array, size: int, inst: Instruction) -> None:
        """A fault unless all accesses of ``size`` bytes are inside."""
        bad = address + np.uint64(size) > self.size
        if bad.any():
            first = int(address[bad][0])
            raise fault("D410", f"{size}-byte access to shared address {first:#x} of {self.size} bytes", inst)

    def view(self, size: int) -> Any:
        return self.data.view(f"u{size}")
