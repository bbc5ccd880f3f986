"""Maps: a loop generator's parameters as rows and columns, one query for each cell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tilec.passes.schedule.loops import fa3_backward, fa4_forward
from tilec.passes.schedule.loops.forward import Layout
from tilec.passes.schedule.model import Answer, Problem
from tilec.passes.schedule.search import RLIMIT, solve


@dataclass(frozen=True)
class Cell:
    """The answer for one choice of parameters, each with its name."""

    parameters: tuple[tuple[str, str], ...]
    work: int
    status: str
    ii: int | None
    bound: int

    @property
    def text(self) -> str:
        """The interval; "-" where there is no plan, a "?" where that or the interval is not proven."""
        known = self.status in ("optimal", "infeasible")
        return f"{'-' if self.ii is None else self.ii}{'' if known else '?'}"


@dataclass(frozen=True)
class Map:
    """``work`` of the cells is in units of ``per``: what an iteration does, so that cells can be compared."""

    name: str
    per: str
    cells: tuple[Cell, ...]

    def to_text(self) -> str:
        """A line for each cell."""
        lines = [f"{self.name} (interval, and cycles per {self.per})"]
        for c in self.cells:
            names = ", ".join(f"{k} {v}" for k, v in c.parameters)
            rate = "" if c.ii is None else f"  {c.ii / c.work:.2f}"
            lines.append(f"  {names}: {c.text}{rate}")
        return "\n".join(lines)

    def largest(self) -> Cell | None:
        """The last cell that has a plan."""
        return next((c for c in reversed(self.cells) if c.ii is not None), None)


def _cell(parameters: tuple[tuple[str, str], ...], work: int, problem: Problem, rlimit: int) -> Cell:
    answer: Answer = solve(problem, rlimit=rlimit, polish=False)
    ii = answer.schedule.ii if answer.schedule else None
    return Cell(parameters, work, answer.status, ii, answer.bound.value)


def tile_rows(rlimit: int = RLIMIT) -> Map:
    """Attention backward on Hopper by query rows of a step.

    dV and dK contract over the rows, and a 16-bit wgmma contracts over 16 (PTX ISA), so
    only multiples of 16 are legal tiles.
    """
    cells = [
        _cell((("rows", str(rows)),), rows, fa3_backward(rows=rows), rlimit) for rows in range(16, 129, 16)
    ]
    return Map("FA3 backward, query rows of a step", "row", tuple(cells))


def exp2_and_split(layout: Layout = "alias", rlimit: int = RLIMIT) -> Map:
    """FA4 forward by the share of exp2 on the FMA pipe and by how much of P the product waits for."""
    cells = [
        _cell(
            (
                ("exp2 on FMA", f"{share:.0%}"),
                ("PV waits for", "all of P" if split == 1 else f"{split - 1}/{split} of P"),
            ),
            256,
            fa4_forward(layout=layout, share=share, split=split),
            rlimit,
        )
        for split in (1, 4, 2)
        for share in (0.0, 0.1, 0.25, 0.5)
    ]
    return Map(f"FA4 forward, {layout}: exp2 share and split of P", "query row", tuple(cells))


MAPS: dict[str, Callable[[], Map]] = {
    "fa3-backward-rows": tile_rows,
    "fa4-exp2-split": exp2_and_split,
    "fa4-free-exp2-split": lambda: exp2_and_split("free"),
}
