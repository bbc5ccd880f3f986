"""The fixed ops of a step in order, each with its stage, and whether that order is sound."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from tilec.ir.core import Op
from tilec.ir.ops import opdef
from tilec.ir.types import TileType
from tilec.passes.rewrite import where
from tilec.passes.schedule.modulo_body import Body, is_product, reads
from tilec.passes.schedule.modulo_plan import LoopPlan

Time = tuple[int, int]


@dataclass(frozen=True)
class Line:
    """What one step runs: scheduled ops and puts."""

    order: tuple[Op, ...]
    stage: dict[Op, int]

    @cached_property
    def place(self) -> dict[Op, int]:
        return {op: i for i, op in enumerate(self.order)}

    def time(self, op: Op) -> Time:
        """When the op of iteration 0 runs."""
        return self.stage[op], self.place[op]

    @property
    def stages(self) -> int:
        return max(self.stage.values(), default=0) + 1


def line_of(body: Body, plan: LoopPlan, first: bool = False) -> Line:
    """The plan's order with puts behind the last op that they need; ``first``: see `_roundings_first`."""
    least = min(plan.stage.values(), default=0)
    order = _roundings_first(body, plan) if first else _roundings_last(body, plan)
    line = Line(order, {op: plan.stage[op] - least for op in plan.order})
    after: dict[Op | None, list[Op]] = {}
    stage = dict(line.stage)
    for put in (op for op in body.ops if op.name == "aref.put" and op not in stage):
        stage[put], last = _earliest(body, line, put)
        after.setdefault(last, []).append(put)
    ops = [*after.get(None, [])]
    for op in line.order:
        ops += [op, *after.get(op, [])]
    return Line(tuple(ops), stage)


def _roundings_last(body: Body, plan: LoopPlan) -> tuple[Op, ...]:
    """The plan's order, but casts that make a product's register operand for a later step end the step.

    The product that reads the last tile is waited for before them, so that it needs no copy.
    """
    late = [op for op in plan.order if op.name == "cast" and _may_end_the_step(body, plan, op)]
    return (*(op for op in plan.order if op not in late), *late)


def _roundings_first(body: Body, plan: LoopPlan) -> tuple[Op, ...]:
    """`_roundings_last`, but casts of what an earlier step made, for a product's register operand, begin
    the step: no product runs yet then, if all of the step before are waited for."""
    order = _roundings_last(body, plan)
    early = [op for op in order if op.name == "cast" and _may_begin_the_step(body, plan, op)]
    return (*early, *(op for op in order if op not in early))


def _may_begin_the_step(body: Body, plan: LoopPlan, cast: Op) -> bool:
    carried = all(
        plan.stage.get(leaf.op, 0) < plan.stage[cast] + leaf.distance for _, leaf in reads(body, cast)
    )
    users = [op for op in plan.order for i, leaf in reads(body, op) if leaf.op is cast and i == 0]
    segments = plan.turns.segments if plan.turns is not None else ()
    return carried and any(map(is_product, users)) and not any(cast in (s.first, s.last) for s in segments)


def _may_end_the_step(body: Body, plan: LoopPlan, cast: Op) -> bool:
    place = {op: i for i, op in enumerate(plan.order)}
    users = [(op, i, leaf) for op in plan.order for i, leaf in reads(body, op) if leaf.op is cast]
    feeds = any(is_product(op) and i == 0 and place[op] < place[cast] for op, i, _ in users)
    same = any(plan.stage[op] + leaf.distance == plan.stage[cast] for op, _, leaf in users)
    segments = plan.turns.segments if plan.turns is not None else ()
    return feeds and not same and not any(cast in (s.first, s.last) for s in segments)


def carried_bytes(body: Body, line: Line) -> int:
    """Bytes of tiles that live from one step into the next, each as often as there are copies."""
    lives: dict[Op, int] = {}
    for op in line.order:
        for leaf in (leaf for _, leaf in reads(body, op) if leaf.op in line.stage):
            steps = line.stage[op] + leaf.distance - line.stage[leaf.op]
            lives[leaf.op] = max(lives.get(leaf.op, 0), steps)
    return sum(steps * _bytes(op) for op, steps in lives.items())


def _bytes(op: Op) -> int:
    return sum(r.type.bytes for r in op.results if isinstance(r.type, TileType))


def _earliest(body: Body, line: Line, op: Op) -> tuple[int, Op | None]:
    """The stage in which an op's operands are there, and after which op; None: at the step's start."""
    found: list[tuple[int, int, Op]] = []
    for leaf in (leaf for _, leaf in reads(body, op) if leaf.op in line.stage):
        stage, place = line.time(leaf.op)
        found.append((stage - leaf.distance, place, leaf.op))
    stage, _, last = max(found, key=lambda f: f[:2], default=(-1, 0, op))
    return (0, None) if stage < 0 else (stage, last)


def why_not_in_order(body: Body, line: Line) -> str | None:
    """The first dependence that the order breaks, as a sentence."""
    return next(_broken(body, line), None)


def _broken(body: Body, line: Line) -> Iterator[str]:
    for op in line.order:
        step, place = line.time(op)
        for _, leaf in reads(body, op):
            source = leaf.op
            if source.name != "aref.get" and (step + leaf.distance, place) <= line.time(source):
                yield f"{where(op)}: the plan runs this {op.name} before the {source.name} of {where(source)}"
    yield from _memory_order(body, line)


def _memory_order(body: Body, line: Line) -> Iterator[str]:
    """Accesses to one tensor, of which one writes, stay in program order, in all iterations."""
    found = [op for op in body.ops if op in line.stage and opdef(op.name).effect in ("read", "write")]
    for i, first in enumerate(found):
        for second in found[i + 1 :]:
            if first.args[0] is second.args[0] and "write" in (effect(first), effect(second)):
                step, place = line.time(first)
                if not (step, place) < line.time(second) < (step + 1, place):
                    yield f"{where(second)}: the plan moves this {second.name} across that of {where(first)}"


def effect(op: Op) -> str:
    return opdef(op.name).effect
