"""What the loops of a kernel become on another machine: compiled for it, and solved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tilec.ir.errors import TilecError
from tilec.passes.schedule.model import Answer
from tilec.passes.schedule.whatif import WhatIf
from tilec.passes.targets import TARGETS

if TYPE_CHECKING:
    from tilec.compiled import Compiled


def elsewhere(compiled: Compiled) -> list[list[WhatIf]]:
    """For each loop its interval on each other machine that has a table; [] where loops differ in number."""
    answers = compiled.stages.answers
    rows: list[list[WhatIf]] = [[] for _ in answers]
    for target in _others(compiled.target):
        found = _answers(compiled, target)
        if len(found) == len(answers):
            device = TARGETS[target].machine.device
            for row, here, there in zip(rows, answers, found, strict=True):
                row.append(_row(f"compiled for {target}, cycles of the {device}", here, there))
    return rows


def _others(target: str) -> list[str]:
    """A target for each machine but the kernel's own."""
    own = TARGETS[target].machine.device if target in TARGETS else None
    first: dict[str, str] = {}
    for name, row in TARGETS.items():
        first.setdefault(row.machine.device, name)
    return [name for device, name in first.items() if device != own]


def _answers(compiled: Compiled, target: str) -> tuple[Answer, ...]:
    from tilec.driver import lowered

    try:
        return lowered(compiled.kernel, target, compiled.options).answers
    except TilecError:
        return ()


def _row(what: str, here: Answer, there: Answer) -> WhatIf:
    before = here.schedule.ii if here.schedule else None
    after = there.schedule.ii if there.schedule else None
    return WhatIf(what, 0, before, after, there.bound.value, there.status)
