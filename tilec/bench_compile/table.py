"""Cold compilations, each in a process of its own, ours and Triton's in turn; medians and ratios."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from math import exp, log
from statistics import median
from typing import Any

from tilec.ir.errors import TilecValueError
from tilec.runtime import toolchain

KERNELS = ("gemm fp16", "gemm fp8", "attention", "attention causal", "softmax", "layer norm")
OUTPUTS = ("ptx", "cubin")


@dataclass(frozen=True)
class Row:
    """Median seconds to compile a kernel to an output; ``theirs`` and ``ratio`` are None without Triton."""

    kernel: str
    output: str
    ours: float
    theirs: float | None

    @property
    def ratio(self) -> float | None:
        """How many times faster ours is."""
        return None if self.theirs is None else self.theirs / self.ours


def run(repeat: int = 5, progress: Callable[[str], None] = lambda text: None) -> tuple[Row, ...]:
    """All rows. Machine code is left out where there is no ptxas, Triton where it is not installed."""
    outputs = OUTPUTS if toolchain.find("ptxas") is not None else OUTPUTS[:1]
    return tuple(_row(kernel, output, repeat, progress) for kernel in KERNELS for output in outputs)


def _row(kernel: str, output: str, repeat: int, progress: Callable[[str], None]) -> Row:
    makers = ["tilec", *(["triton"] if importlib.util.find_spec("triton") else [])]
    seconds: dict[str, list[float]] = {maker: [] for maker in makers}
    for _ in range(repeat):
        for maker in makers:
            progress(f"{maker}: {kernel} to {output}")
            seconds[maker].append(_once(maker, kernel, output))
    theirs = median(seconds["triton"]) if "triton" in seconds else None
    return Row(kernel, output, median(seconds["tilec"]), theirs)


def _once(maker: str, kernel: str, output: str) -> float:
    command = [sys.executable, "-m", "tilec.bench_compile.once", maker, kernel, output]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no output"]
        raise TilecValueError("V605", f"{maker} did not compile {kernel} to {output}: {last[0]}",
                          help=f"run {' '.join(command[1:])} to see it all")  # fmt: skip
    return float(done.stdout.split()[-1])


def summary(rows: tuple[Row, ...]) -> Mapping[str, Any]:
    """The rows and the geometric means of their ratios, as JSON data."""
    return {
        "rows": [{**asdict(r), "ratio": r.ratio} for r in rows],
        **{f"geomean_speedup_vs_triton_{output}": _mean(rows, output) for output in OUTPUTS},
    }


def _mean(rows: tuple[Row, ...], output: str) -> float | None:
    ratios = [r.ratio for r in rows if r.output == output and r.ratio is not None]
    return exp(sum(map(log, ratios)) / len(ratios)) if ratios else None


def lines(rows: tuple[Row, ...]) -> Iterator[str]:
    """The table as text."""
    yield f"{'kernel':18}{'output':8}{'tilec s':>9}{'Triton s':>10}{'ratio':>7}"
    for r in rows:
        theirs, ratio = (f"{x:.2f}" if x is not None else "-" for x in (r.theirs, r.ratio))
        yield f"{r.kernel:18}{r.output:8}{r.ours:9.2f}{theirs:>10}{ratio:>7}"
    for output in OUTPUTS:
        mean = _mean(rows, output)
        if mean is not None:
            yield f"geometric mean to {output}: {mean:.2f} times Triton's speed"
