"""A loop body as the software pipeliner sees it: which op a value comes from, and how long ago.

Times. Iteration i of the loop starts in step i. An op of stage s at place p of a step's
order runs at time (i + s, p): times compare like pairs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from tilec.ir.core import Op, Value
from tilec.ir.ops import attr, opdef
from tilec.passes.rewrite import where

RING_OPS = ("aref.get", "aref.put", "aref.release", "dot.wait", "yield", "assume")


class Leaf(NamedTuple):
    """A value comes from ``op`` of ``distance`` iterations ago.

    ``direct``: nothing but carrying is between. ``param``: the carried value that it is
    read as, if any.
    """

    op: Op
    distance: int
    direct: bool
    param: Value | None


@dataclass(frozen=True)
class Body:
    """The ops of a `for` loop. ``fixed``: those that run once per iteration, at their time;
    all others are computed again wherever they are needed."""

    loop: Op
    fixed: frozenset[Op]
    read: dict[Op, tuple[tuple[int, Leaf], ...]] = field(default_factory=dict, repr=False)

    @property
    def ops(self) -> tuple[Op, ...]:
        return self.loop.blocks[0].ops

    @property
    def index(self) -> Value:
        return self.loop.blocks[0].params[0]

    @property
    def params(self) -> tuple[Value, ...]:
        """The carried values, as the body knows them."""
        return self.loop.blocks[0].params[1:]

    @cached_property
    def following(self) -> dict[Value, Value]:
        """For each carried value what the next iteration gets."""
        return dict(zip(self.params, self.loop.blocks[0].yielded, strict=True))

    @cached_property
    def defs(self) -> dict[Value, Op]:
        return {r: op for op in self.ops for r in op.results}


def body_of(loop: Op, scheduled: Collection[Op]) -> Body:
    """The body; besides the scheduled ops the gets are fixed."""
    gets = [op for op in loop.blocks[0].ops if op.name == "aref.get"]
    return Body(loop, frozenset((*scheduled, *gets)))


def leaves(body: Body, value: Value) -> set[Leaf]:
    """The fixed ops that a value comes from, through free ops and carried values.

    A recurrence of free ops comes from the same ops again and again, ever longer ago: of
    these, the nearest are enough.
    """
    defs, following, longest = body.defs, body.following, len(body.params)
    found: set[Leaf] = set()
    seen = set()
    todo: list[tuple[Value, int, bool, Value | None]] = [(value, 0, True, None)]
    while todo:
        state = value, distance, direct, param = todo.pop()
        if state in seen:
            continue
        seen.add(state)
        op = defs.get(value)
        if value in following and distance <= longest:
            todo.append((following[value], distance + 1, direct, param or value))
        elif op is not None and op in body.fixed:
            found.add(Leaf(op, distance, direct, param))
        elif op is not None:
            passes = direct and op.name == "dot.wait"
            todo += [(a, distance, passes, param) for a in _sources(op, value)]
    return found


def _sources(op: Op, value: Value) -> tuple[Value, ...]:
    """What a result depends on: `dot.wait` passes each of its values on."""
    return (op.args[op.results.index(value)],) if op.name == "dot.wait" else op.args


def reads(body: Body, op: Op) -> tuple[tuple[int, Leaf], ...]:
    """Operand number and source of everything that a fixed op reads."""
    if op not in body.read:
        body.read[op] = tuple((i, leaf) for i, arg in enumerate(op.args) for leaf in sorted_leaves(body, arg))
    return body.read[op]


def sorted_leaves(body: Body, value: Value) -> list[Leaf]:
    """`leaves` in program order, nearest first."""
    op, param = ({x: i for i, x in enumerate(xs)} for xs in (body.ops, (None, *body.params)))
    return sorted(leaves(body, value), key=lambda f: (op[f.op], f.distance, f.direct, param[f.param]))


def is_product(op: Op) -> bool:
    """A product that runs on after its issue."""
    return op.name == "dot" and bool(attr(op, "asynchronous"))


def why_not_a_body(loop: Op, scheduled: Mapping[Op, int]) -> str | None:
    """Why a loop cannot be pipelined whatever the plan, or None."""
    if loop.name != "for":
        return f"{where(loop)}: a {loop.name} loop has no index to run ahead of"
    ops = loop.blocks[0].ops
    for op in (o for o in scheduled if o not in ops):
        return f"{where(op)}: this {op.name} is not in the body of the loop"
    for op in ops:
        if op.blocks:
            return f"{where(op)}: the loop has control flow inside ({op.name})"
        if op not in scheduled and opdef(op.name).effect != "pure" and not _placed_by_itself(op, ops):
            return f"{where(op)}: the plan has no place for this {op.name}"
    rings = [(op.name, op.args[0]) for op in ops if op.name in ("aref.get", "aref.put")]
    if len(rings) != len(set(rings)):
        return f"{where(loop)}: an iteration takes several slots of one ring"
    return None


def _placed_by_itself(op: Op, ops: tuple[Op, ...]) -> bool:
    """Ring ops follow their readers; a read may be repeated if the loop does not write there."""
    if op.name in RING_OPS:
        return True
    if opdef(op.name).effect != "read":
        return False
    return not any(opdef(o.name).effect == "write" and o.args[0] is op.args[0] for o in ops)
