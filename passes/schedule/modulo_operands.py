"""Whether a step writes register operands of products while products run.

Where several products of a loop have operands in registers, ptxas (13.5) serializes them all (C7513)
unless no product runs at some moment between the write of an operand and the product that reads it.
"""

from __future__ import annotations

from collections.abc import Iterator

from tilec.ir.core import Op
from tilec.ir.types import TileType
from tilec.passes.schedule.modulo_body import Body, is_product, reads
from tilec.passes.schedule.modulo_step import Item, Step


def register_operands(loop: Op) -> int:
    """How many products of a loop have their first operand in registers."""
    return sum(is_product(op) and _in_registers(op) for op in loop.blocks[0].ops)


def writes_beside_products(body: Body, step: Step) -> int:
    """How many register operands are written so, if more than one product has any."""
    if register_operands(body.loop) < 2:
        return 0
    running = _running(step)
    return sum(not _rests_between(step, running, *pair) for pair in _operands(body, step))


def _operands(body: Body, step: Step) -> Iterator[tuple[Item, Item]]:
    """The op that makes a register operand, and the product that reads it."""
    items = {i.op: i for i in step.of("op")}
    for product in step.products:
        made = [leaf.op for n, leaf in reads(body, product.op) if n == 0 and leaf.op in items]
        yield from ((items[op], product) for op in made if _in_registers(product.op))


def _in_registers(product: Op) -> bool:
    t = product.args[0].type
    return isinstance(t, TileType) and t.space == "reg"


def _running(step: Step) -> dict[Item, int]:
    """How many products run after each item, in the steady state."""
    found: dict[Item, int] = {}
    running = 0
    for item in (*step.items, *step.items):
        if item.kind == "op" and is_product(item.op):
            running += 1
        elif item.kind == "wait":
            running = min(running, step.pending(item))
        found[item] = running
    return found


def _rests_between(step: Step, running: dict[Item, int], made: Item, product: Item) -> bool:
    """Whether nothing runs after some item from the write on, before the product."""
    start = step.place[made]
    following = (*step.items[start:], *step.items[:start])
    upto = following[: following.index(product)]
    return any(running[item] == 0 for item in upto)
