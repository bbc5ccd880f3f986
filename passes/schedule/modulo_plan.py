"""What the software pipeliner is told about one loop of one warp group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from tilec.ir.core import Op

NONE: Mapping[Op, int] = MappingProxyType({})


@dataclass(frozen=True)
class Segment:
    """The ops from ``first`` to ``last`` of a step are turn ``index`` of the chain."""

    index: int
    first: Op
    last: Op


@dataclass(frozen=True)
class Turns:
    """This group's turns in each step, in the step's order; a round of the chain has ``of`` turns."""

    chain: str
    of: int
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class LoopPlan:
    """Stage and order of the ops of a loop body that cost something.

    In step T the group runs each op of ``order``, in this order, for iteration T - stage.
    ``stage`` has the same ops; only differences count. ``in_flight``: for a product that
    adds to its own last result, how many of its instances may run at once (default 1).
    The wait for instance i then stands at the end of the step of instance i + in_flight - 1,
    and the slots that it reads are held until then.
    """

    stage: Mapping[Op, int]
    order: tuple[Op, ...]
    in_flight: Mapping[Op, int] = field(default_factory=lambda: NONE)
    turns: Turns | None = None

    @property
    def stages(self) -> int:
        """How many iterations a step works on."""
        return max(self.stage.values(), default=0) - min(self.stage.values(), default=0) + 1


def rotations(plan: LoopPlan) -> Iterator[LoopPlan]:
    """The plan, then the same plan with steps that begin at another op, and no more stages.

    What a step begins with is a matter of counting: an op that moves from its front to the end
    of the step before is one stage earlier. No turn is cut, and their order stays.
    """
    yield plan
    cuts = range(1, len(plan.order)) if plan.stage else range(0)
    for cut in (c for c in cuts if _may_cut(plan, c)):
        moved = {op: plan.stage[op] - 1 for op in plan.order[:cut]}
        turned = replace(plan, stage={**plan.stage, **moved}, order=plan.order[cut:] + plan.order[:cut])
        if turned.stages <= plan.stages:
            yield turned


def _may_cut(plan: LoopPlan, cut: int) -> bool:
    """No turn spans the cut, and all or none come before it."""
    before = set(plan.order[:cut])
    segments = plan.turns.segments if plan.turns is not None else ()
    return len({op in before for s in segments for op in (s.first, s.last)}) < 2
