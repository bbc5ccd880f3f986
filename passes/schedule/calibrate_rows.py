"""Published figures, and what the model says of each.

The tiles of kernels whose source names none are an assumption: 128 x 256 x 64 with four slots.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tilec.ir.types import DType, float8_e4m3, float16
from tilec.passes.schedule import calibrate_probes as probes
from tilec.passes.schedule.calibrate_loops import Tile, Timing, attention, gemm
from tilec.passes.schedule.machines import A100, B200, H100, Machine

_PCIE = replace(H100, host=H100.host._replace(sms=114, clock=1.755, dram=1790))
GPUS = {
    "H100-SXM5-80GB": H100, "H100-SXM5": H100, "H800-SXM": H100, "H800-PCIe": _PCIE, "A100-PCIe": A100,
    "B200": B200,
}  # fmt: skip

_HOPPER = Tile(2, 64, 256, 64, 48 * 1024, 4)
_PERSISTENT = replace(_HOPPER, persistent=True)
_PAIR = Tile(2, 128, 256, 64, 48 * 1024, 4)
_EDUCATIONAL = "ThunderKittens educational "  # tiles: its kernels/gemm/educational_b200/level_06.cu and on
TILES = {
    "fast.cu": _PERSISTENT, "cuBLAS": _PERSISTENT, "generated": _PERSISTENT, "CuTe-DSL": _HOPPER,
    "TileLang": _HOPPER,
    _EDUCATIONAL + "L6": Tile(1, 128, 128, 64, 32 * 1024, 1),
    _EDUCATIONAL + "L7": Tile(1, 128, 128, 64, 32 * 1024, 3),
    _EDUCATIONAL + "L8": Tile(1, 128, 256, 64, 48 * 1024, 3),
    _EDUCATIONAL + "L9": _PAIR,
    _EDUCATIONAL + "full": replace(_PAIR, persistent=True, hidden_store=True),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One published figure. ``value`` is in ``unit``."""

    kernel: str
    impl: str
    gpu: str
    dtype: str
    shape: str
    value: float
    unit: str
    source: str

    @property
    def sizes(self) -> dict[str, int]:
        """The numbers of the shape: "M=N=8192 K=256" has M, N and K."""
        found: dict[str, int] = {}
        for names, number in re.findall(r"((?:\w+=)+)(\d+)", self.shape):
            found |= dict.fromkeys(names.strip("=").split("="), int(number))
        return found

    @property
    def numbers(self) -> list[int]:
        """All numbers of the shape in order."""
        return [int(x) for x in re.findall(r"\d+", self.shape)]


def read(path: Path) -> list[Row]:
    """The rows of a table of published figures."""
    with path.open(encoding="utf-8", newline="") as file:
        return [Row(**{**r, "value": float(r["value"])}) for r in csv.DictReader(file)]  # type: ignore[arg-type]


# -- what the model says of a row


def predicted(row: Row) -> Timing | float | None:
    """A timing for rates, a number for cycles and ratios, None where the model has nothing to say."""
    model = next((m for start, m in MODELS.items() if row.kernel.startswith(start)), None)
    machine = GPUS.get(row.gpu)
    return None if model is None or machine is None else model(row, machine)


def _attention(row: Row, machine: Machine) -> Timing | None:
    if row.impl not in ("FA2", "FA3"):
        return None
    return attention(machine, row.sizes, specialised=row.impl == "FA3")


def _gemm(row: Row, machine: Machine) -> Timing | None:
    """Sizes up to 1024 are bound by the launch, as their source says."""
    tile = next((t for name, t in TILES.items() if row.impl.startswith(name)), None)
    m, n, k = (row.sizes[x] for x in "MNK")
    if tile is None or m <= 1024:
        return None
    dtype: DType = float8_e4m3 if row.dtype == "fp8" else float16
    return gemm(machine, replace(tile, k=tile.k // dtype.bytes * 2), dtype, m, n, k)


def _products_in_flight(row: Row, machine: Machine) -> float:
    """ "4 in flight wait3" is four groups of one; "2/group wait1" two groups of two."""
    first, wait = row.numbers[0], int(re.findall(r"wait(\d)", row.shape)[0])
    size = first if "/group" in row.shape else 1
    return probes.in_flight(machine, 64, size, wait + 1)


def _peak(row: Row, machine: Machine) -> Timing:
    """All SMs busy with one instruction; products of 8-bit numbers have twice the k."""
    wide = 1 if row.dtype == "fp16" else 2
    if "m64" in row.impl:
        rate = 2 * 64 * 256 * 16 / probes.product_interval(machine, 256)
    else:
        rate = 4 * 2 * 16 * 8 * 16 / probes.warp_product_interval(machine, 8)
    return probes.peak(machine, wide * rate)


def _latency(row: Row, machine: Machine) -> float | None:
    near = "L2" in row.shape
    if row.impl == "LDG":
        return None if near else machine.global_latency
    return machine.copy.near if near else machine.copy.latency


MODELS: dict[str, Callable[[Row, Machine], Timing | float | None]] = {
    "attention-fwd": _attention,
    "gemm": _gemm,
    "ubench wgmma m64nNk16": lambda r, m: probes.product_interval(m, r.sizes["N"]),
    "ubench wgmma m64n64k16": _products_in_flight,
    "ubench wgmma": _peak,
    "ubench mma.sync m16n8k16": lambda r, m: probes.warp_product_interval(m, r.numbers[0]),
    "ubench mma.sync": _peak,
    "ubench TMA->wgmma": lambda r, m: probes.stages(m, r.sizes["stages"], "L2" in r.shape),
    "ubench TMA load": lambda r, m: probes.box_stream(m, r.numbers[0] * 1024, 4),
    "ubench cp.async.bulk": lambda r, m: probes.bulk_stream(m, r.numbers[0] * 1024, r.numbers[1]),
    "ubench dependent": _latency,
}
