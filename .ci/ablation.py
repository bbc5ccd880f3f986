"""What each part of the design is worth for GEMM, in cycles of the machine model: writes docs/ablation.md.

python .ci/ablation.py: run it when costs or the passes change; a slow test compares the page.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tilec.bench.kernels import gemm
from tilec.ir.core import Block, Kernel, frozen
from tilec.load import load_kernel
from tilec.passes import Options, lower
from tilec.passes.schedule.machines import H100
from tilec.passes.schedule.replay import Replay, replay

ROOT = Path(__file__).parents[1]
STEPS = 64  # tiles of K
DEPTHS, LAGS = range(1, 5), range(1, 5)

# What, tile (M, N), options; and TFLOP/s of the published ablation (Tawa, arXiv 2510.14719).
ROWS: tuple[tuple[str, tuple[int, int], dict[str, Any], int], ...] = (
    ("one group, no specialization", (128, 128), {"specialize": False}, 104),
    ("load group and 4 compute warps, 2 slots", (128, 128), {"num_warps": 4, "stages": 2}, 393),
    ("8 compute warps share the tile", (128, 128), {"num_warps": 8, "stages": 2}, 395),
    ("larger tile", (128, 256), {"num_warps": 8, "stages": 2}, 572),
    ("3 slots, 2 products in flight", (128, 256), {"num_warps": 8, "stages": 3}, 718),
)


def scheduled(tile: tuple[int, int], options: dict[str, Any]) -> Kernel:
    kernel = gemm.trace(("f16[2]",) * 3, BM=tile[0], BN=tile[1], BK=64)
    return lower(kernel, "sm_90a", Options(**options)).scheduled


def run(kernel: Kernel, tile: tuple[int, int]) -> Replay:
    (m, n), k = tile, 64 * STEPS
    return replay(kernel, H100, (1, 1, 1), [np.zeros(s, np.float16) for s in ((m, k), (k, n), (m, n))])


def rate(tile: tuple[int, int], cycles: float) -> float:
    """TFLOP/s of all SMs at the model's clock."""
    return 2 * tile[0] * tile[1] * 64 * STEPS / cycles * H100.host.sms * H100.host.clock / 1000


def with_lag(kernel: Kernel, lag: int) -> Kernel:
    """The kernel with ``lag`` products in flight: waits and releases inside loops come so much later."""

    def block(old: Block, inside: bool) -> Block:
        ops = []
        for op in old.ops:
            op = op.with_(blocks=tuple(block(b, inside or op.name == "for") for b in op.blocks))
            name = {"dot.wait": "pending", "aref.release": "keep"}.get(op.name) if inside else None
            ops.append(op.with_(attrs=frozen(**{**op.attrs, name: lag - 1})) if name else op)
        return Block(old.params, tuple(ops))

    return kernel.with_(body=block(kernel.body, False))


def heat() -> dict[tuple[int, int], float]:
    """Cycles a step by (slots, products in flight)."""
    tile, found = (128, 256), {}
    for depth in DEPTHS:
        kernel = scheduled(tile, {"num_warps": 8, "stages": depth})
        for lag in (p for p in LAGS if p <= depth):
            found[depth, lag] = run(with_lag(kernel, lag), tile).interval("a_b")
    return found


def persistent() -> tuple[float, float]:
    """Cycles a tile of a program that runs four tiles, and of four programs of one."""
    load = load_kernel(f"{ROOT}/examples/persistent_gemm.py:persistent_gemm", "f16[2],f16[2],f16[2]", ())
    kernel = lower(load, "sm_90a").scheduled
    found = []
    for tiles in (4, 1):
        shapes = ((128 * tiles, 1024), (1024, 256), (128 * tiles, 256))
        arrays = [np.zeros(s, np.float16) for s in shapes]
        found.append(replay(kernel, H100, (1, 1, 1), arrays).cycles / tiles)
    return found[0], found[1]


TOP = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 400 268" font-family="sans-serif" font-size="13">
<title>Cycles for a step of K = 64, by slots of the ring and products in flight</title>
<text x="220" y="262" text-anchor="middle">D: slots of the ring</text>
<text x="14" y="120" transform="rotate(-90 14 120)" text-anchor="middle">P: products in flight</text>
"""


def picture(cells: dict[tuple[int, int], float]) -> str:
    """The heat map as SVG: darker is slower, the number is cycles a step."""
    low, high, parts = min(cells.values()), max(cells.values()), []
    for (d, p), cycles in cells.items():
        shade = 95 - 50 * (cycles - low) / (high - low or 1)
        x, y = 80 * d - 20, 230 - 50 * p
        parts.append(f'<rect x="{x}" y="{y}" width="76" height="46" fill="hsl(210 70% {shade:.0f}%)"/>')
        parts.append(f'<text x="{x + 38}" y="{y + 28}" text-anchor="middle">{cycles:.0f}</text>')
    parts += [f'<text x="{80 * d + 18}" y="240" text-anchor="middle">{d}</text>' for d in DEPTHS]
    parts += [f'<text x="44" y="{258 - 50 * p}" text-anchor="middle">{p}</text>' for p in LAGS]
    return TOP + "\n".join(parts) + "\n</svg>\n"


PAGE = """\
# What each part is worth

GEMM of 16-bit floats, 64 steps of K = 64, one tile on one SM of an H100. What is emitted for each
row is replayed in cycles of [the machine model](machine-model.md) (`passes/schedule/replay.py`);
the rate is that of 132 such SMs at 1.83 GHz. **Nothing here was measured on a GPU.** Beside it
stand the figures that Tawa's authors measured (arXiv 2510.14719, H100 SXM, K = 16384); both
are also given as parts of the last row.

| | tile | cycles a step | TFLOP/s in the model | part | published | part |
|---|---|---|---|---|---|---|
{rows}

The model has the order of the rows. It is too fast at both ends: it charges no issue slots beside a
full tensor core, and lets the loads of a kernel without groups run beside its products.

**Persistent programs.** With K = 1024 a tile takes {one:.0f} cycles in a program of its own, and {many:.0f}
in a program that runs four: the load group fills the ring for the next tile while one is stored.

**Slots and products in flight.** Cycles a step of the 128 x 256 tile, by slots D of the ring and
products in flight P. A slot is held until its product is over, so P cannot exceed D.

![Cycles a step by slots and products in flight](ablation.svg)

`python .ci/ablation.py` makes this page.
"""


def rows() -> Iterator[str]:
    runs = [(what, tile, run(scheduled(tile, how), tile).cycles, theirs) for what, tile, how, theirs in ROWS]
    best = rate(runs[-1][1], runs[-1][2])
    for what, tile, cycles, theirs in runs:
        ours, size = rate(tile, cycles), "x".join(map(str, tile))
        parts = f"{ours / best:.2f} | {theirs} | {theirs / ROWS[-1][3]:.2f}"
        yield f"| {what} | {size} | {cycles / STEPS:.0f} | {ours:.0f} | {parts} |"


def main(folder: Path = ROOT / "docs") -> None:
    cells = heat()
    (folder / "ablation.svg").write_text(picture(cells), encoding="utf-8")
    many, one = persistent()
    text = PAGE.format(rows="\n".join(rows()), many=many, one=one)
    (folder / "ablation.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
