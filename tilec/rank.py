"""What the model says of one configuration, computed from text so that any process can do it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from tilec.driver import compile
from tilec.ir.errors import TilecError
from tilec.ir.text import parse_kernel
from tilec.passes import Options, Stages
from tilec.passes.schedule.machines import MACHINES, Machine
from tilec.report.roof import roof


@dataclass(frozen=True)
class Score:
    """``rate``: operations per cycle and SM in the steady state, less what an incomplete last wave loses.

    ``intervals`` are those of the loops, and ``proven`` whether all are least. 0 and an ``error`` where
    the configuration does not compile; 0 without one where no loop has products.
    """

    rate: float
    intervals: tuple[int, ...] = ()
    proven: bool = False
    error: str = ""


def score_text(text: str, target: str, options: Mapping[str, Any], grid: tuple[int, ...] | None) -> Score:
    """The score of a TILE kernel given as text."""
    try:
        compiled = compile(parse_kernel(text), target, Options(**options))
    except TilecError as error:
        return Score(0.0, error=f"{error.code}: {error.message}")
    machine = MACHINES.get(target)
    return score(compiled.stages, machine, grid) if machine else Score(0.0)


def score(stages: Stages, machine: Machine, grid: tuple[int, ...] | None) -> Score:
    """Work over cycles, summed over the loops that have both."""
    work = cycles = 0
    loops = list(zip(stages.problems, stages.answers, stages.nodes, strict=True))
    for problem, answer, nodes in loops:
        found = roof(problem, nodes, machine)
        if found is not None and answer.schedule is not None:
            work, cycles = work + found["flops"], cycles + answer.schedule.ii
    full = 1.0 if grid is None else _full(prod(grid), machine.host.sms)
    intervals = tuple(a.schedule.ii for _, a, _ in loops if a.schedule is not None)
    proven = all(a.status == "optimal" for _, a, _ in loops)
    return Score(work / cycles * full if cycles else 0.0, intervals, proven and bool(loops))


def _full(programs: int, sms: int) -> float:
    """The share of SMs that have a program, over all waves."""
    return programs / (-(-programs // sms) * sms)
