"""What if a ring had one slot more, or one fewer: the loop solved again with that depth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tilec.passes.schedule.model import Answer, Hint, Problem
from tilec.passes.schedule.search import solve
from tilec.passes.schedule.whatif import WhatIf


def slots_moved(problem: Problem, answer: Answer, rlimit: int) -> Iterator[WhatIf]:
    """Two rows for each ring, fewer where a depth is not possible. Wishes about depths are dropped."""
    plan = answer.schedule
    if plan is None:
        return
    kept = tuple(h for h in problem.hints if h.kind != "stages")
    for buffer in (b for b in problem.buffers if not b.alloc):
        now = plan.depths[buffer.id]
        for depth, what in ((now + 1, "more"), (now - 1, "fewer")):
            if 1 <= depth <= buffer.max_depth:
                wish = Hint("what if", "stages", depth, (buffer.id,))
                found = solve(replace(problem, hints=(*kept, wish)), rlimit=rlimit, polish=False)
                ii = found.schedule.ii if found.schedule else None
                name = f"one slot {what} of {buffer.id}"
                yield WhatIf(name, depth, plan.ii, ii, found.bound.value, found.status)
