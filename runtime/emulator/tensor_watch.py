"""What tensor-memory instructions tell their observer. This one notes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tilec.ir.ptx.module import Instruction
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.observe import SharedOperand

if TYPE_CHECKING:
    from tilec.runtime.emulator.cta import Cta
    from tilec.runtime.emulator.strand import Strand

# Lanes and columns of tensor memory of a CTA, which broadcast against each other.
Cells = tuple["Cta", Array, Array]


class TensorWatch:
    """Told of all accesses to tensor memory at their issue, and of what orders them."""

    def begin(self, ctas: Sequence[Cta]) -> None:
        """A cluster starts."""

    def end(self) -> None:
        """All its threads have ended."""

    def take(self, s: Strand, start: int, count: int, inst: Instruction) -> None:
        """Columns are allocated."""

    def drop(self, s: Strand, start: int, count: int, inst: Instruction) -> None:
        """Columns are deallocated."""

    def load(self, s: Strand, cells: Cells, inst: Instruction) -> None:
        """tcgen05.ld is issued. Cells are arrays (registers, threads)."""

    def store(self, s: Strand, cells: Cells, inst: Instruction) -> None:
        """tcgen05.st is issued."""

    def wait(self, s: Strand, loads: bool, inst: Instruction) -> None:
        """tcgen05.wait::ld or ::st."""

    def issue(self, s: Strand, thread: int, shared: Sequence[tuple[Cta, SharedOperand]],
              reads: Sequence[Cells], writes: Sequence[Cells], inst: Instruction) -> None:  # fmt: skip
        """A thread issues mma, cp or shift, which reads operands in shared memory and cells, and writes
        cells. Cells are all lanes (n, 1) of all columns."""

    def commit(self, s: Strand, thread: int, inst: Instruction) -> Any:
        """tcgen05.commit. Gives what the arrival releases."""
        return None

    def fence(self, s: Strand, after: bool, inst: Instruction) -> None:
        """tcgen05.fence::before_thread_sync or ::after_thread_sync."""
