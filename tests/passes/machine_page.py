"""The figures of docs/machine-model.md that no command prints: made here, compared by a test."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from tilec.passes.schedule.calibrate import judged
from tilec.passes.schedule.calibrate_rows import Row, predicted
from tilec.passes.schedule.loops import gallery
from tilec.passes.schedule.normalize import normalized
from tilec.passes.schedule.search import solve
from tilec.passes.schedule.simulate import simulate
from tilec.passes.schedule.simulate_free import Arbiter

LOOPS = (
    "gemm",
    "fa3",
    "fa3-d64",
    "fa3-causal",
    "fa3-1tile",
    "fa3-backward",
    "fa4-alias",
    "fa4-free",
    "fa4-knobs",
)
ARBITERS: tuple[Arbiter, Arbiter] = ("schedule", "first")


def free_table(names: Sequence[str] = LOOPS) -> tuple[str, float]:
    """Intervals of free runs, and the most in percent that who-comes-first costs."""
    lines = [
        "| loop | scheduled | in order | first come | in order, late | first come, late |",
        "|---" * 6 + "|",
    ]
    worst = 0.0
    for name in names:
        problem = gallery[name]()
        schedule = solve(problem).schedule
        assert schedule is not None
        found = [
            float(simulate(problem, schedule, 96, arbiter=a, jitter=late, seed=1).ii or 0)
            for late in (0, 800)
            for a in ARBITERS
        ]
        lines.append(f"| {name} | {schedule.ii} | " + " | ".join(f"{x:.5g}" for x in found) + " |")
        worst = max(worst, 100 * found[1] / schedule.ii - 100)
    return "\n".join(lines), worst


def bias_table(rows: Sequence[Row]) -> str:
    """Mean signed error of attention by kernel, head size and mask."""
    mine = [r for r in rows if r.kernel == "attention-fwd" and predicted(r) is not None]
    [verdict] = judged(mine)
    errors = defaultdict(list)
    for row, (published, model) in zip(mine, verdict.pairs, strict=True):
        errors[row.impl, row.sizes["causal"], row.sizes["D"]].append(100 * (model / published - 1))
    lines = ["| | d = 64 | d = 128 | d = 256 |", "|---" * 4 + "|"]
    for impl in ("FA2", "FA3"):
        for causal, mask in ((0, ""), (1, ", causal")):
            means = (sum(e) / len(e) for e in (errors[impl, causal, d] for d in (64, 128, 256)))
            lines.append(f"| {impl}{mask} | " + " | ".join(f"{m:+.0f}" for m in means) + " |")
    return "\n".join(lines)


def normal_line(name: str) -> str:
    """Intervals with raw and normalised costs, and how the normalised plan runs at raw costs."""
    problem = gallery[name]()
    found = normalized(problem)
    raw, small = solve(problem, polish=False).schedule, solve(found.problem).schedule
    assert raw is not None and small is not None
    back = simulate(problem, small, 96).ii
    assert back is not None
    scaled = float(small.ii / found.scale)
    change = f"{100 * scaled / raw.ii - 100:+.1f}"
    return f"| {name} | {raw.ii} | {small.ii} | {scaled:.0f} | {change} | {float(back):.5g} |"
