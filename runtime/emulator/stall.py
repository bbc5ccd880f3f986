"""Finds threads that spin for ever: they come back to a state while nothing else changes.

As long as no instruction has an effect on others, a thread's next state follows from its registers and its
place alone. Who comes back to an earlier one repeats itself until somebody else changes memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tilec.runtime.emulator.numbers import Array

if TYPE_CHECKING:
    from tilec.runtime.emulator.machine import Machine
    from tilec.runtime.emulator.strand import Strand

# Instructions without effect before states are noted, and between two of them. Loops whose lengths
# have no factor in common with the latter come back soonest.
_CALM, STEP = 2_000, 97


class Stall:
    """Notes states since the last effect. ``calm``: there was none for so long that they are noted."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.since = -1
        self.seen: set[bytes] = set()
        self.repeating: set[bytes] = set()

    @property
    def calm(self) -> bool:
        return self.machine.now - self.machine.last_effect > _CALM

    def note(self, s: Strand) -> None:
        """A strand has run to where it is now."""
        if self.since != self.machine.last_effect:
            self.since = self.machine.last_effect
            self.seen, self.repeating = set(), set()
        state = _digest(s)
        if state in self.seen:
            self.repeating.add(_who(s))
        self.seen.add(state)

    def found(self, ready: Sequence[Strand]) -> bool:
        """Whether all strands that can run only repeat themselves."""
        return all(self.repeats(s) for s in ready)

    def repeats(self, s: Strand) -> bool:
        """Whether a strand only repeats itself."""
        return self.since == self.machine.last_effect and _who(s) in self.repeating


def _who(s: Strand) -> bytes:
    return bytes([s.cta.slot & 255, s.cta.slot >> 8]) + s.threads.tobytes()


def _digest(s: Strand) -> bytes:
    """Place, registers and local variables of a strand."""
    held = hashlib.blake2b(_who(s) + s.pc.to_bytes(4, "little"), digest_size=16)
    for file in s.cta.files.values():
        held.update(_bytes(file[:, s.sel]))
    if s.cta.stack:
        held.update(_bytes(s.cta.local.reshape(s.cta.size, -1)[s.sel]))
    return held.digest()


def _bytes(array: Array) -> bytes:
    return bytes(array.tobytes())
