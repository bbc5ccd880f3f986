"""Reports that several tests look at, each made once."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from tilec.driver import compile
from tilec.load import load_kernel
from tilec.passes.schedule.loops import gallery
from tilec.passes.schedule.search import solve
from tilec.report import Ask, of_compiled, of_problem

EXAMPLES = Path(__file__).parents[2] / "examples"
SPECS = {
    "gemm": (f"{EXAMPLES}/gemm.py:gemm", ",".join(["f16[2]"] * 3), ()),
    "attention": (f"{EXAMPLES}/attention.py:attention", ",".join(["f16[4]"] * 4), ("D=128", "causal=True")),
    "softmax": (f"{EXAMPLES}/softmax.py:softmax", "f32[2],f32[2]", ()),
}


def compiled(name: str, target: str = "sm_90a") -> Any:
    return compile(load_kernel(*SPECS[name]), target)


@cache
def kernel_report(name: str) -> dict[str, Any]:
    return of_compiled(compiled(name), Ask(trips=16, programs=264))


@cache
def loop_report(name: str) -> dict[str, Any]:
    problem = gallery[name]()
    return of_problem(problem, solve(problem))
