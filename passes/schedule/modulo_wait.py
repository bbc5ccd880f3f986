"""When a product is waited for: as late as its readers, and its registers, allow."""

from __future__ import annotations

from dataclasses import dataclass

from tilec.ir.core import Op, Value
from tilec.ir.types import TileType
from tilec.passes.schedule.modulo_body import Body, Leaf, is_product, reads
from tilec.passes.schedule.modulo_line import Line

Access = tuple[Value, int]


@dataclass(frozen=True)
class Spot:
    """A moment: in step ``stage``, before or after ``op``; None is the end of the step."""

    stage: int
    op: Op | None
    after: bool = False

    def key(self, line: Line) -> tuple[int, float, bool]:
        place = float("inf") if self.op is None else line.place[self.op]
        return self.stage, place, self.after


def wait_of(body: Body, line: Line, product: Op, in_flight: int, across: bool) -> tuple[Spot, Access | None]:
    """When to wait for a product, and which value the wait passes on.

    Before the first reader of its result, if that is in the same step, or (if ``across``) in
    the next one and the next product's registers are not needed before. Else at the end of
    its step.
    A product that only feeds another's accumulator is not waited for on that account:
    what counts is that its operands are free, ``in_flight`` instances later.
    """
    stage, own = line.stage[product], (product.result, 0)
    users = [(op, i, leaf) for op in line.order for i, leaf in reads(body, op) if leaf.op is product]
    times = [(line.stage[op] + leaf.distance, line.place[op]) for op, _, leaf in users]
    again = stage + 1, line.place[product]
    last = _next_operand(body, line, product)
    if len(users) == 1 and _feeds_accumulator(*users[0]) and times[0] <= again:
        return Spot(stage + (in_flight - 1 if _in_memory(product) else 0), last), None
    end = Spot(stage, last), own
    if not users:
        return end
    first = min(times)
    spot = Spot(first[0], line.order[first[1]])
    if first[0] == stage:
        return spot, own
    names = {leaf.param for _, _, leaf in users}
    if not across or max(times) > again or not _in_memory(product):
        return end
    if first[0] < line.stages:
        return spot, own
    (param, *others) = names
    return end if others or param is None else (spot, (param, 1))


def _next_operand(body: Body, line: Line, product: Op) -> Op | None:
    """The cast at the end of the step that makes the product's next register operand, if there is one."""
    tail = len(line.order)
    while tail and line.order[tail - 1].name == "cast":
        tail -= 1
    made = {leaf.op for i, leaf in reads(body, product) if i == 0}
    after = line.order[max(tail, line.place[product] + 1) :]
    return next((op for op in after if op in made), None)


def _feeds_accumulator(op: Op, operand: int, leaf: Leaf) -> bool:
    return leaf.direct and operand == 2 and is_product(op)


def _in_memory(product: Op) -> bool:
    """The first operand lies in shared memory, not in registers that the next instance writes."""
    t = product.args[0].type
    return isinstance(t, TileType) and t.space == "smem"
