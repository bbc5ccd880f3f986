"""What tensor-memory instructions tell their observer. This one notes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tilec.ir.ptx.module import Instruction
from tilec.runtime.emulator.numbers import Array

if TYPE_CHECKING:
    from tilec.runtime.emulator.cta import Cta
    from tilec.runtime.emulator.strand import Strand

Landing = Callable[[], None]
# Lanes and columns of tensor memory of a CTA, which broadcast against each other.
Cells = tuple["Cta", Array, Array]


def nothing() -> None:
    return None


class TensorWatch:
    """Told of all accesses to tensor memory, and of what orders them. Results are called when the
    operation acts."""

    def load(self, s: Strand, cells: Cells, inst: Instruction) -> Landing:
        """tcgen05.ld is issued."""
        return nothing

    def store(self, s: Strand, cells: Cells, inst: Instruction) -> Landing:
        """tcgen05.st is issued."""
        return nothing

    def wait(self, s: Strand, loads: bool, inst: Instruction) -> None:
        """tcgen05.wait::ld or ::st."""

    def used(self, s: Strand, load: Instruction, inst: Instruction) -> None:
        """An instruction uses a register of a load before the wait for it."""

    def issue(self, s: Strand, thread: int, shared: Sequence[tuple[Cta, Array, int]], reads: Sequence[Cells],
              writes: Sequence[Cells], inst: Instruction) -> Landing:  # fmt: skip
        """A thread issues mma, cp or shift, which reads 16-byte units of shared memory (CTA, units,
        swizzle) and cells, and writes cells."""
        return nothing

    def commit(self, s: Strand, thread: int, inst: Instruction) -> Callable[[], Any]:
        """tcgen05.commit. The result is called at the arrival, and gives what it releases."""
        return nothing

    def fence(self, s: Strand, after: bool, inst: Instruction) -> None:
        """tcgen05.fence::before_thread_sync or ::after_thread_sync."""

    def end(self, cta: Cta) -> None:
        """All threads of a CTA have ended."""
