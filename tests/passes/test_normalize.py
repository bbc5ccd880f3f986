"""Normalised costs: the least error, exactly; and what they do to intervals."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path

import pytest
from machine_page import normal_line

from tilec.ir.errors import TilecValueError
from tilec.passes.schedule.loops import fa3_forward, gallery
from tilec.passes.schedule.model import Hint
from tilec.passes.schedule.normalize import least_error, normalize, normalized
from tilec.passes.schedule.search import solve

PAGE = (Path(__file__).parents[2] / "docs" / "machine-model.md").read_text(encoding="utf-8")


def brute(costs: list[int], weights: list[int], total: int) -> tuple[list[int], int]:
    """All values >= 1 tried; of equal errors the least."""
    best: tuple[int, list[int]] | None = None
    for x in product(*(range(1, total // w + 1) for w in weights)):
        if sum(w * v for w, v in zip(weights, x, strict=True)) <= total:
            pairs = list(zip(costs, x, strict=True))
            found = max(abs(a * y - b * v) for a, v in pairs for b, y in pairs), list(x)
            best = found if best is None or found < best else best
    assert best is not None
    return best[1], best[0]


def test_the_error_is_the_least_of_all_and_the_values_the_least_of_that_error() -> None:
    dice = random.Random(5)
    for _ in range(150):
        costs = sorted(dice.sample(range(1, 60), dice.randint(1, 4)))
        weights = [dice.randint(1, 2) for _ in costs]
        total = max(sum(weights), dice.randint(4, 13))
        assert least_error(costs, weights, total) == brute(costs, weights, total)


def test_exact_if_there_is_room() -> None:
    assert least_error([10, 20, 50], [1, 1, 1], 8) == ([1, 2, 5], 0)
    assert least_error([10, 20, 50], [1, 1, 1], 7)[1] > 0


@pytest.mark.parametrize("name", ["toy", "gemm", "fa3", "fa4-knobs", "graph-58"])
def test_costs_stay_positive_ordered_and_within_the_sum(name: str) -> None:
    """Nothing collapses: with C' >= 0 the least error zeroes most costs of the compiler's graph."""
    problem = gallery[name]()
    found = normalized(problem)
    ordered = [found.small[c] for c in sorted(found.small)]
    assert ordered == sorted(ordered) and min(ordered[1:]) == 1
    longest = [max((s.length for s in o.reserve), default=0) for o in found.problem.ops]
    assert sum(longest) <= 300 and found.scale <= 1
    for old, new in zip(problem.edges, found.problem.edges, strict=True):
        assert (new.src, new.dst, new.delta) == (old.src, old.dst, old.delta) and (new.d > 0) == (old.d > 0)


def test_equal_input_equal_output() -> None:
    assert normalize(fa3_forward()) == normalize(fa3_forward())


def test_costs_that_fit_lose_their_common_divisor_only() -> None:
    problem = fa3_forward()
    found = normalized(problem, total=10**6)
    assert found.error == 0 and found.scale == Fraction(1, 2)
    assert [2 * e.d for e in found.problem.edges] == [e.d for e in problem.edges]
    assert [2 * o.cyc for o in found.problem.ops] == [o.cyc for o in problem.ops]


def test_a_hint_about_the_interval_is_scaled() -> None:
    problem = replace(fa3_forward(), hints=(Hint("h", "ii", 2100), Hint("s", "stages", 2)))
    found = normalized(problem)
    assert [h.value for h in found.problem.hints] == [-(-2100 * found.scale // 1), 2]


def test_more_ops_than_cycles() -> None:
    with pytest.raises(TilecValueError, match="V132"):
        normalize(fa3_forward(), total=10)


CORPUS = (
    "gemm", "dual-gemm", "fa3", "fa3-d64", "fa3-d256", "fa3-causal", "fa3-1tile", "fa3-backward", "fa4-alias",
    "fa4-free", "fa4-knobs", "fa4-1tile", "graph-22",
)  # fmt: skip


@pytest.mark.parametrize("name", CORPUS)
def test_what_limits_a_loop_stays_what_limits_it(name: str) -> None:
    """The bound keeps its kind and unit; the interval is the same up to the error of the costs."""
    problem = gallery[name]()
    found = normalized(problem)
    raw, small = (solve(p, polish=False) for p in (problem, found.problem))
    assert raw.schedule is not None and small.schedule is not None
    assert (small.status, small.bound.kind) == (raw.status, raw.bound.kind) and raw.status == "optimal"
    assert small.bound.names[:1] == raw.bound.names[:1]
    assert small.schedule.ii / found.scale == pytest.approx(raw.schedule.ii, rel=0.05)


@pytest.mark.slow
def test_the_page_has_the_intervals() -> None:
    for name in CORPUS:
        assert normal_line(name) in PAGE
