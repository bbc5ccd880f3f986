"""The form of a machine table: what one SM has and how many cycles things take.

Cycles only: a clock is a fact of the host (`Host`), never of a cost. Every figure names its
source; "[C]" marks our arithmetic or a figure borrowed from a similar machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from tilec.passes.schedule.model import Limits


class Product(NamedTuple):
    """An instruction of the tensor cores: ``rows`` x N, 32 bytes of each operand's k.

    ``interval`` and ``chain`` are lines (fixed, slope): cycles until the next instruction, of
    any other accumulator or of the same one, are the largest fixed + slope * N. A result can
    be read ``drain`` cycles after that. An ``asynchronous`` one costs its group an issue slot.
    """

    rows: int
    interval: tuple[tuple[float, float], ...]
    chain: tuple[tuple[float, float], ...]
    drain: int
    asynchronous: bool


class Copy(NamedTuple):
    """Global memory to a ring: held unit, bytes per cycle, cycles until the first byte is there.

    ``latency`` is from DRAM, ``near`` from L2. ``issue``: cycles of the group per copy; 0: as
    long as the unit is held. ``turn``: least cycles between two slots that one producer fills,
    one after the other.
    """

    unit: str
    rate: int
    latency: int
    near: int
    issue: int
    turn: int


class Host(NamedTuple):
    """Facts to turn cycles into seconds: SMs, clock in GHz at full tensor load, DRAM in GB/s (measured)."""

    sms: int
    clock: float
    dram: float


@dataclass(frozen=True)
class Machine:
    """One SM of a device, under the name of its target.

    ``units``: instances by name. ``lanes`` and ``latency``: results per cycle of a pipe, and
    cycles from a result's issue to its use. ``product`` is what products of enough rows use,
    ``warp_product`` what all others use. ``smem_rate`` bytes per cycle and ``smem_latency``
    cycles hold for shared memory, ``global_*`` for loads and stores of registers, ``tmem_*``
    for tensor memory. ``exchange``: cycles to combine partial results of a reduction across
    lanes. ``barrier``: cycles of a barrier of one group. ``issue``: cycles that a group spends
    on an asynchronous product. ``l2_rate``: bytes per cycle that L2 gives each SM when all ask (0:
    not known; then no clusters are made). ``remote``: cycles until an arrival reaches another SM of a
    cluster. ``max_depth``: more slots than this do not help a ring. The
    other fields are those of `Limits`, with ``smem_kept`` bytes for barriers.
    """

    name: str
    device: str
    units: tuple[tuple[str, int], ...]
    lanes: tuple[tuple[str, int], ...]
    latency: tuple[tuple[str, int], ...]
    product: Product
    warp_product: Product
    copy: Copy
    host: Host
    issue: int
    smem: int
    global_latency: int
    global_rate: int = 64
    l2_rate: float = 0
    remote: int = 0
    smem_kept: int = 2048
    smem_rate: int = 128
    smem_latency: int = 29
    exchange: int = 40
    barrier: int = 31
    tmem: int = 0
    tmem_rate: int = 0
    tmem_latency: int = 0
    reg_file: int = 65536
    reg_limit: int = 240
    reg_fixed: int = 44
    reg_step: int = 8
    hop: float = 92
    hop_per_reg: float = 8.05
    sync: int = 30
    max_depth: int = 8
    sources: tuple[tuple[str, str], ...] = ()


def limits(machine: Machine, *, smem: int = 0, tmem: int = 0) -> Limits:
    """What the machine gives one program that keeps ``smem`` bytes and ``tmem`` columns for other ends."""
    return Limits(
        machine.units,
        max(0, machine.smem - machine.smem_kept - smem),
        max(0, machine.tmem - tmem),
        machine.reg_limit,
        machine.reg_fixed,
        machine.reg_file,
        machine.reg_step,
        machine.hop,
        machine.hop_per_reg,
        machine.sync,
        machine.device,
    )


# Sources of figures that the tables share, by field.
SHARED = (
    ("global_rate", "64 B per clock from L2 to an SM [C: what TMA reaches, see copy]"),
    ("smem_kept", "barriers and counters of a program: at most 2 KiB [C]"),
    ("smem_rate", "128 B per clock: FlashAttention-4, arXiv 2603.05451"),
    ("smem_latency", "ld.shared 29 cycles: Luo et al., arXiv 2402.13499"),
    ("exchange", "two shuffles of about 20 cycles [C: the latency of a shuffle is not published]"),
    ("barrier", "bar.sync of 128 threads: b300_clean micro-benchmarks, 2026-04 (sm_103a)"),
    ("reg_file", "65536 registers per SM: CUDA programming guide, compute capabilities"),
    ("reg_step", "PTX ISA, setmaxnreg: multiples of 8 in 24..256"),
    ("reg_fixed", "addresses, counters, what ops hold within: plans that leave less spill (ptxas 13.5) [C]"),
    ("hop", "registers to shared memory and back 61 + barrier 31: triton db4666f, paper_joint_solver (B200)"),
    ("hop_per_reg", "16.1 cycles per KB, 512 B per register of a warpgroup: as hop"),
    ("sync", "mbarrier wait when ready, 30 cycles: triton db4666f, NVLatencyModel.cpp (B200)"),
    (
        "max_depth",
        "deeper rings do not help: flash-vla hardware-unit-test/sm90, 4 suffice from DRAM; twice that",
    ),
)
