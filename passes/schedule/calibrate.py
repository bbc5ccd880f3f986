"""Compares the model with published figures: one clock per source is fitted, nothing else.

    python -m tilec.passes.schedule.calibrate tests/passes/data/published.csv [KERNEL]

prints the table of docs/machine-model.md, or the rows of a kernel one by one. A source is judged
inside itself: the mean relative error (MAPE) at its clock, and Kendall's tau, which asks only
whether the order is right. Rows in cycles or ratios need no clock. Rows that the model has
nothing to say of are counted as such.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tilec.passes.schedule.calibrate_loops import Timing
from tilec.passes.schedule.calibrate_rows import Row, predicted, read

CLOCKS = [0.5 + 0.005 * i for i in range(301)]  # GHz
SCALE = {"TFLOP/s": 1e12, "GB/s": 1e9}
Pairs = tuple[tuple[float, float], ...]  # (published, modelled)


@dataclass(frozen=True)
class Verdict:
    """A source judged: its figures in a ``unit`` at a fitted ``clock`` (None: not needed).

    ``shapes`` are those of the rows. ``roofline`` is the MAPE of a model that knows the peak rates
    only, at a clock fitted to it.
    """

    name: str
    unit: str
    shapes: tuple[str, ...]
    pairs: Pairs
    clock: float | None = None
    roofline: float | None = None

    @property
    def mape(self) -> float:
        """Mean absolute error in percent of the published figure."""
        return _error(self.pairs)

    @property
    def worst(self) -> float:
        """The largest error in percent."""
        return 100 * max(abs(m - p) / p for p, m in self.pairs)

    @property
    def tau(self) -> float:
        """Kendall's tau-b."""
        return kendall(self.pairs)


def judged(rows: Iterable[Row]) -> list[Verdict]:
    """A verdict for each source, GPU and kind of figure that the model covers, in order of appearance."""
    groups: dict[tuple[str, str, str], list[tuple[Row, Timing | float]]] = {}
    for row in rows:
        model = predicted(row)
        if model is not None:
            groups.setdefault((_kind(row), row.source, row.unit), []).append((row, model))
    return [_verdict(f"{kind}: {_short(source)}", unit, f) for (kind, source, unit), f in groups.items()]


def _kind(row: Row) -> str:
    name = row.kernel.split(" (")[0].removeprefix("ubench ")
    return f"{name} {row.dtype}, {row.gpu}" if name == "gemm" else f"{name}, {row.gpu}"


def _short(source: str) -> str:
    return re.split(r" \(|,| @|;", source.replace('"', ""))[0]


def _verdict(name: str, unit: str, found: Sequence[tuple[Row, Timing | float]]) -> Verdict:
    shapes = tuple(r.shape for r, _ in found)
    timed = [(r.value, m) for r, m in found if isinstance(m, Timing)]
    if not timed:
        plain = tuple((r.value, m) for r, m in found if not isinstance(m, Timing))
        return Verdict(name, unit, shapes, plain)
    clock, pairs = _fitted(unit, timed)
    best = Verdict(name, unit, shapes, pairs, clock)
    if not timed[0][1].ideal:
        return best
    simple = [(p, replace(m, cycles=m.ideal, launch=0)) for p, m in timed]
    return replace(best, roofline=_error(_fitted(unit, simple)[1]))


def _fitted(unit: str, timed: Sequence[tuple[float, Timing]]) -> tuple[float, Pairs]:
    """The clock with the least MAPE, and the figures at it."""
    tries = [(c, tuple((p, _rate(m, unit, c)) for p, m in timed)) for c in CLOCKS]
    return min(tries, key=lambda t: _error(t[1]))


def _error(pairs: Pairs) -> float:
    return 100 * sum(abs(m - p) / p for p, m in pairs) / len(pairs)


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


def listing(rows: Sequence[Row], kernel: str) -> str:
    """Published and modelled figures of a kernel, row by row, sources one after the other."""
    lines = ["| | published | model |", "| --- | --- | --- |"]
    for v in judged([r for r in rows if r.kernel.startswith(kernel)]):
        pairs = zip(v.shapes, v.pairs, strict=True)
        lines += [f"| {shape} | {published:.4g} | {model:.4g} |" for shape, (published, model) in pairs]
    return "\n".join(lines)


if __name__ == "__main__":
    table = read(Path(sys.argv[1]))
    print(report(table) if len(sys.argv) == 2 else listing(table, sys.argv[2]))
