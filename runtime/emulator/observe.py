"""What an executing program tells its observer. The observers here note nothing: an unchecked run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tilec.ir.ptx.module import Instruction
from tilec.runtime.emulator.numbers import Array

if TYPE_CHECKING:
    from tilec.runtime.emulator.cta import Cta, MBarrier, NamedBarrier
    from tilec.runtime.emulator.strand import Strand
    from tilec.runtime.emulator.tensormap import TensorMap
    from tilec.runtime.emulator.traffic import Traffic

Release = Any
Landing = Callable[[int], None]
Unchanged = Callable[[], Array] | None


@dataclass(frozen=True)
class Range:
    """Bytes of global memory, or of shared memory of a CTA."""

    cta: Cta | None
    start: int
    size: int


@dataclass(frozen=True)
class Box:
    """A box of a tensor map."""

    map: TensorMap
    at: Sequence[int]


Source = Range | Box


@dataclass(frozen=True)
class SharedOperand:
    """What a product reads of shared memory: 16-byte units, each once, with the swizzle of its descriptor.
    ``pairs`` has two units that follow one another in each row of the operand, or of its transpose."""

    units: Array
    swizzle: int
    pairs: Array


def _no_landing(target: int) -> None:
    return None


class Watch:
    """Told of one mbarrier. ``release`` is what ``Observer.release`` gave for the arriving warp."""

    def arrive(self, release: Release, count: int, inst: Instruction) -> None:
        """Arrivals of one warp, before they count."""

    def expect(self, release: Release, size: int, inst: Instruction) -> None:
        """A warp has raised the number of bytes."""

    def completed(self) -> None:
        """A phase is over; the barrier is in the next one."""

    def settled(self) -> None:
        """The counts have changed."""

    def waited(self, s: Strand, inst: Instruction, phase: int) -> None:
        """Threads have seen that a phase is over: the one before the current one, or an earlier one
        that they stood waiting for."""

    def waits(self, s: Strand, wanted: int, parity: bool, inst: Instruction) -> bool:
        """Threads find that the phase of this parity is not over. True: they are too late for the
        one that they want, which a timing of the device would not have let happen."""
        return False

    def invalidate(self, s: Strand, inst: Instruction) -> None:
        """The mbarrier is no more."""


UNWATCHED = Watch()


class Observer:
    """Told of everything that a checker needs. Methods that take ``threads`` may be given others
    than the strand's: one for each address."""

    checks = False

    def begin(self, ctas: Sequence[Cta]) -> None:
        """A cluster starts."""

    def end(self) -> None:
        """All its threads have ended."""

    def read(self, s: Strand, space: str, address: Array, size: int, inst: Instruction,
             threads: Array | None = None) -> None:  # fmt: skip
        """An ordinary read of ``size`` bytes at each address."""

    def write(self, s: Strand, space: str, address: Array, size: int, inst: Instruction,
              threads: Array | None = None, unchanged: Unchanged = None) -> None:  # fmt: skip
        """An ordinary write, before it happens. ``unchanged``: where memory has the value already."""

    def atomic(self, s: Strand, space: str, address: Array, size: int, inst: Instruction) -> None:
        """Each thread reads and writes in one step."""

    def read_map(self, s: Strand, address: int, inst: Instruction) -> None:
        """A copy reads the tensor map at a generic address."""

    def release(self, s: Strand, inst: Instruction, relaxed: bool = False) -> dict[int, Release]:
        """What each warp of the strand hands on as it arrives somewhere."""
        return {}

    def release_copies(self, s: Strand, inst: Instruction) -> dict[int, Release]:
        """The same for an arrival that follows the cp.async of the threads only."""
        return {}

    def watch(self, s: Strand, thread: int, barrier: MBarrier, address: int, inst: Instruction) -> Watch:
        """A new mbarrier."""
        return UNWATCHED

    def join(self, s: Strand, warp: int, named: NamedBarrier, inst: Instruction) -> None:
        """A warp arrives at a barrier of the CTA or cluster, before it counts."""

    def passed(self, s: Strand, named: Sequence[NamedBarrier], inst: Instruction) -> None:
        """Warps pass barriers."""

    def warp_sync(self, s: Strand, inst: Instruction) -> None:
        """Lanes pass bar.warp.sync."""

    def fence(self, s: Strand, inst: Instruction, address: Array | None = None) -> None:
        """Any fence; tensor-map fences have an address."""

    def copy_in(self, s: Strand, thread: int, targets: Sequence[tuple[Cta, int, MBarrier]], size: int,
                source: Source, swizzle: int, inst: Instruction) -> Landing:  # fmt: skip
        """A copy into shared memory is issued. The result is called with the index of a target
        as the data lands there."""
        return _no_landing

    def copy_out(self, s: Strand, thread: int, place: int, size: int, target: Source,
                 inst: Instruction) -> None:  # fmt: skip
        """A bulk copy out of shared memory is issued."""

    def bulk_commit(self, s: Strand) -> None:
        """cp.async.bulk.commit_group."""

    def bulk_wait(self, s: Strand, pending: int, reading: bool, inst: Instruction) -> None:
        """cp.async.bulk.wait_group, ``reading``: of the reads only."""

    def cp_async(self, s: Strand, place: Array, source: Array, size: int, used: Array,
                 inst: Instruction) -> None:  # fmt: skip
        """cp.async of ``used`` bytes, zero-filled to ``size``."""

    def cp_wait(self, s: Strand, limit: Array) -> None:
        """The cp.async of groups below each thread's limit are done."""

    def store_async(self, s: Strand, address: Array, size: int, barrier: MBarrier,
                    inst: Instruction) -> Callable[[], None]:  # fmt: skip
        """st.async is issued, to complete on one mbarrier; the result is called as it lands."""
        return lambda: None

    def product(self, cta: Cta, group: int, reads: Sequence[SharedOperand], inst: Instruction) -> None:
        """A wgmma is issued."""

    def product_commit(self, cta: Cta, group: int) -> None:
        """wgmma.commit_group."""

    def product_wait(self, cta: Cta, group: int, pending: int, inst: Instruction) -> None:
        """wgmma.wait_group."""

    def counts(self) -> tuple[Traffic, ...]:
        """How each instruction used its memory."""
        return ()

    def add_counts(self, counts: Sequence[Traffic]) -> None:
        """Add those of clusters that ran elsewhere."""

    def forget_counts(self) -> None:
        """Begin to count afresh."""

    def exit(self, s: Strand) -> None:
        """Threads have ended."""

    def stuck(self, strands: Sequence[Strand]) -> list[str]:
        """Nothing can go on: what is known about why."""
        return []
