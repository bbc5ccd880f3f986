"""Properties of random kernels: they verify, survive text, and passes keep their meaning."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from strategies import GRID, STATEMENTS, arguments, kernels

from tilec.ir.core import Kernel, walk
from tilec.ir.forms import verify
from tilec.ir.interp import interpret
from tilec.ir.text import parse_kernel, print_kernel
from tilec.passes import Options, canonicalize, lower

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def results(kernel: Kernel, seed: int = 0) -> list[Any]:
    args = arguments(seed)
    interpret(kernel, GRID, args)
    return args[2:4]


def check_same(one: Kernel, other: Kernel) -> None:
    for seed in range(2):
        for a, b in zip(results(one, seed), results(other, seed), strict=True):
            np.testing.assert_array_equal(a, b)


@QUICK
@given(kernels())
def test_text_returns_the_same_kernel(kernel: Kernel) -> None:
    verify(kernel)
    text = print_kernel(kernel, locs=True)
    again = parse_kernel(text)
    verify(again)
    assert print_kernel(again, locs=True) == text
    check_same(kernel, again)


@QUICK
@given(kernels())
def test_canonicalize_keeps_the_meaning(kernel: Kernel) -> None:
    simple = canonicalize(kernel)
    verify(simple)
    check_same(kernel, simple)
    assert print_kernel(canonicalize(simple)) == print_kernel(simple), "a second time changes nothing"


@settings(QUICK, max_examples=25)
@given(kernels())
def test_lowering_keeps_the_meaning(kernel: Kernel) -> None:
    stages = lower(kernel, options=Options())
    check_same(kernel, stages.aref)
    check_same(kernel, stages.scheduled)


@settings(max_examples=200, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
          suppress_health_check=list(HealthCheck))  # fmt: skip
@given(kernels())
def _count(kernel: Kernel) -> None:
    SEEN.update({op.name for op in walk(kernel.body)})


SEEN: Counter[str] = Counter()


def test_the_strategy_reaches_every_kind_of_statement() -> None:
    SEEN.clear()
    _count()
    for name in (
        "for",
        "if",
        "reduce",
        "where",
        "load",
        "store",
        "permute",
        "cast",
        "broadcast",
        "floordiv",
        "shr",
    ):
        assert SEEN[name] >= 10, (name, SEEN)
    assert len(set(STATEMENTS)) == 13
