"""Compares the model with published figures: one clock per source is fitted, nothing else.

    python -m tilec.passes.schedule.calibrate tests/passes/data/published.csv

prints the table of docs/machine-model.md. A source is judged inside itself: the mean relative
error (MAPE) at its clock, and Kendall's tau, which asks only whether the order is right. Rows in
cycles or ratios need no clock. Rows that the model has nothing to say of are counted as such.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tilec.ir.types import DType, float8_e4m3, float16
from tilec.passes.schedule import calibrate_probes as probes
from tilec.passes.schedule.calibrate_loops import Tile, Timing, attention, gemm
from tilec.passes.schedule.machines import A100, B200, H100, Machine

CLOCKS = [0.5 + 0.005 * i for i in range(301)]  # GHz
SCALE = {"TFLOP/s": 1e12, "GB/s": 1e9}

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


@dataclass(frozen=True)
class Verdict:
    """A source judged: its figures in a ``unit`` at a fitted ``clock`` (None: not needed).

    ``roofline`` is the MAPE of a model that knows the peak rates only, at a clock fitted to it.
    """

    name: str
    unit: str
    pairs: tuple[tuple[float, float], ...]  # (published, modelled)
    clock: float | None = None
    roofline: float | None = None

    @property
    def mape(self) -> float:
        """Mean absolute error in percent of the published figure."""
        return 100 * sum(abs(m - p) / p for p, m in self.pairs) / len(self.pairs)

    @property
    def worst(self) -> float:
        """The largest error in percent."""
        return 100 * max(abs(m - p) / p for p, m in self.pairs)

    @property
    def tau(self) -> float:
        """Kendall's tau-b."""
        return kendall(self.pairs)


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


# -- judging


def judged(rows: Iterable[Row]) -> list[Verdict]:
    """A verdict for each source, GPU and kind of figure that the model covers, in order of appearance."""
    groups: dict[tuple[str, str, str], list[tuple[Row, Timing | float]]] = {}
    for row in rows:
        model = predicted(row)
        if model is not None:
            groups.setdefault((_kind(row), row.source, row.unit), []).append((row, model))
    return [_verdict(f"{kind}: {source}", unit, found) for (kind, source, unit), found in groups.items()]


def _kind(row: Row) -> str:
    return f"{row.kernel.split(' (')[0].removeprefix('ubench ')}, {row.gpu}"


def _verdict(name: str, unit: str, found: Sequence[tuple[Row, Timing | float]]) -> Verdict:
    timed = [(r.value, m) for r, m in found if isinstance(m, Timing)]
    if not timed:
        return Verdict(name, unit, tuple((r.value, m) for r, m in found if not isinstance(m, Timing)))
    best = _fitted(name, unit, timed)
    if not timed[0][1].ideal:
        return best
    simple = [(p, replace(m, cycles=m.ideal, launch=0)) for p, m in timed]
    return replace(best, roofline=_fitted(name, unit, simple).mape)


def _fitted(name: str, unit: str, timed: Sequence[tuple[float, Timing]]) -> Verdict:
    tries = [Verdict(name, unit, tuple((p, _rate(m, unit, c)) for p, m in timed), c) for c in CLOCKS]
    return min(tries, key=lambda v: v.mape)


def _rate(model: Timing, unit: str, clock: float) -> float:
    return model.work / model.seconds(clock) / SCALE[unit]


def kendall(pairs: Sequence[tuple[float, float]]) -> float:
    """Tau-b: concordant less discordant pairs, ties left out; nan if all are tied."""
    concordance = first = second = 0
    for i, (p, m) in enumerate(pairs):
        for q, n in pairs[:i]:
            a, b = (p > q) - (p < q), (m > n) - (m < n)
            concordance, first, second = concordance + a * b, first + a * a, second + b * b
    return concordance / (first * second) ** 0.5 if first and second else float("nan")


HEAD = ("figures", "rows", "in", "clock, GHz", "MAPE, %", "worst, %", "tau", "roofline, %")


def report(rows: Sequence[Row]) -> str:
    """The verdicts as a Markdown table, with all rows pooled in the last line."""
    verdicts = judged(rows)
    lines = [HEAD, ("---",) * len(HEAD), *(_line(v) for v in verdicts)]
    count = sum(len(v.pairs) for v in verdicts)
    mape = sum(v.mape * len(v.pairs) for v in verdicts) / count
    ranked = [v for v in verdicts if v.tau == v.tau]
    tau = sum(v.tau * len(v.pairs) for v in ranked) / sum(len(v.pairs) for v in ranked)
    lines.append(("all, by rows", f"{count} of {len(rows)}", "", "", f"{mape:.1f}", "", f"{tau:.2f}", ""))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _line(v: Verdict) -> tuple[str, ...]:
    clock, roofline = (f"{x:.{n}f}" if x is not None else "" for x, n in ((v.clock, 3), (v.roofline, 1)))
    tau = f"{v.tau:.2f}" if v.tau == v.tau else ""
    return (v.name, str(len(v.pairs)), v.unit, clock, f"{v.mape:.1f}", f"{v.worst:.1f}", tau, roofline)


if __name__ == "__main__":
    print(report(read(Path(sys.argv[1]))))
