"""Software pipelining of one warp group's loop: prologue, kernel, epilogue.

`pipeline_loop` follows a `LoopPlan`. The ops that it leaves to the pipeliner go with their
readers: scalars, constants and changes of shape are computed again in each stage that wants
them, slots are got before the first op that reads them, products waited for before the first
op that reads their result, and slots given back as soon as all that reads them is waited
for. With fewer trips than stages the loop runs in its own order instead.
"""

from __future__ import annotations

from tilec.ir.core import Block, Op, Value
from tilec.ir.ops import make
from tilec.passes.rewrite import where
from tilec.passes.schedule.modulo_body import Body, body_of, leaves, why_not_a_body
from tilec.passes.schedule.modulo_emit import Kernel, epilogue_of, prologue_of
from tilec.passes.schedule.modulo_line import line_of, why_not_in_order
from tilec.passes.schedule.modulo_operands import register_operands, writes_beside_products
from tilec.passes.schedule.modulo_plan import LoopPlan, Segment, Turns, rotations
from tilec.passes.schedule.modulo_step import Item, Kind, Step, step_of

LITTLE = 1.25  # times the least: steps of attention backward that carried more spilled (ptxas 13.5)

__all__ = ["LoopPlan", "Segment", "Turns", "pipeline_loop"]


def pipeline_loop(loop: Op, plan: LoopPlan) -> list[Op] | str:
    """The ops that replace a loop of one group's block, or why the plan cannot be followed.

    ``loop`` is a `for` after distribution: products are asynchronous, gets and releases are
    there; waits are ignored and made anew. The answer defines the loop's results.
    Any number of trips, start and step is right; where several groups share rings, depths
    must allow the order of their puts and gets (the plan's maker knows).
    """
    found = _prepare(loop, plan)
    if isinstance(found, str):
        return found
    body, step = found
    if step.stages == 1:
        return _single(body, step)
    # With two stages there are too few trips only if there is none.
    otherwise = _in_order(loop, plan) if step.stages > 2 else Block((), (make("yield", loop.args[3:]),))
    return otherwise if isinstance(otherwise, str) else _guarded(body, step, otherwise)


def _prepare(loop: Op, plan: LoopPlan, rotate: bool = True) -> tuple[Body, Step] | str:
    """The body and its step: of all places to begin a step at, and with or without products that run on
    into the next one, the best; where several products have register operands, also of steps that round
    them first of all."""
    if set(plan.order) != set(plan.stage) or len(plan.order) != len(plan.stage):
        return f"{where(loop)}: the plan's order and its stages are of different ops"
    reason = why_not_a_body(loop, plan.stage)
    if reason is not None:
        return reason
    body = body_of(loop, plan.order)
    plans = rotations(plan) if rotate else (plan,)
    several = register_operands(loop) > 1
    firsts = (False, True) if several else (False,)
    found = [_step(body, p, first, across) for p in plans for first in firsts for across in (True, False)]
    steps = [s for s in found if isinstance(s, Step)]
    if not steps:
        return str(found[0])
    return body, max(_clean(body, steps) if several else steps, key=lambda s: s.merit)


def _clean(body: Body, steps: list[Step]) -> list[Step]:
    """The steps that write fewest operands beside products, and of these those that carry little."""
    written = [writes_beside_products(body, s) for s in steps]
    clean = [s for s, n in zip(steps, written, strict=True) if n == min(written)]
    most = LITTLE * min(s.carried for s in clean)
    return [s for s in clean if s.carried <= most]


def _step(body: Body, plan: LoopPlan, first: bool, across: bool) -> Step | str:
    line = line_of(body, plan, first)
    return why_not_in_order(body, line) or step_of(body, line, plan, across)


def _single(body: Body, step: Step) -> list[Op]:
    """One stage: the loop with its ops in another order, and what is left when it ends."""
    kernel, prologue = Kernel(body, step), prologue_of(body, step)
    kernel.part.run(0)
    results = [kernel.carry((p, 0))[1] for p in body.params]
    loop = kernel.loop(body.loop.args[0], prologue)
    drain, values = _drain(body, step, results)
    named = dict(zip(values, body.loop.results, strict=True))
    return [_renamed(op, named) for op in (*prologue.ops, loop, *drain)]


def _renamed(op: Op, names: dict[Value, Value]) -> Op:
    return op.with_(results=tuple(names.get(r, r) for r in op.results))


def _guarded(body: Body, step: Step, otherwise: Block) -> list[Op]:
    """The pipelined loop if there are trips enough to fill it, else the other block."""
    loop, test = body.loop, prologue_of(body, step)
    _, stop, by = loop.args[:3]
    last = test.index(test, 1)
    up, down = test.scalar("lt", last, stop), test.scalar("gt", last, stop)
    enough = test.scalar("where", test.scalar("gt", by, test.number(0)), up, down)
    blocks = _pipelined(body, step), otherwise
    return [*test.ops, Op("if", (enough,), results=loop.results, blocks=blocks, loc=loop.loc)]


def _pipelined(body: Body, step: Step) -> Block:
    kernel, prologue = Kernel(body, step), prologue_of(body, step)
    epilogue = epilogue_of(body, step, kernel)
    for offset in range(step.stages - 1, 0, -1):
        prologue.run(offset)
    kernel.part.run(0)
    for offset in range(step.stages - 1):
        epilogue.run(-offset)
    results = [epilogue.value(p, 0) for p in body.params]
    drain, values = _drain(body, step, results)
    start = prologue.index(prologue, 0)
    loop = kernel.loop(start, prologue)
    return Block((), (*prologue.ops, loop, *epilogue.ops, *drain, make("yield", values)))


def _drain(body: Body, step: Step, results: list[Value]) -> tuple[list[Op], list[Value]]:
    """Wait for products, and give back slots, that no step of the loop does; the results then."""
    running = {i.op for i in step.of("wait") if i.stage >= step.stages}
    late = [i.op for i in step.of("release") if i.stage >= step.stages]
    ops = [make("aref.release", op.args, loc=op.loc, **{**op.attrs, "keep": 0}) for op in late]
    if not running:
        return ops, results
    mine = [
        n for n, p in enumerate(body.params) if any(f.direct and f.op in running for f in leaves(body, p))
    ]
    hints = [body.params[n].hint for n in mine]
    wait = make("dot.wait", [results[n] for n in mine], loc=body.loop.loc, hints=hints, pending=0)
    waited = dict(zip(mine, wait.results, strict=True))
    return [wait, *ops], [waited.get(n, r) for n, r in enumerate(results)]


def _in_order(loop: Op, plan: LoopPlan) -> Block | str:
    """The loop unpipelined, with waits and with empty turns. Where several products have operands in
    registers each is waited for at once: ptxas (13.5) serializes those of the pipelined loop else (C7513)."""
    if register_operands(loop) > 1:
        return _waiting(loop, plan)
    mine = set(plan.order)
    order = tuple(op for op in loop.blocks[0].ops if op in mine)
    fresh = loop.with_(results=tuple(Value(r.type, r.hint) for r in loop.results))
    found = _prepare(fresh, LoopPlan(dict.fromkeys(order, 0), order), rotate=False)
    if isinstance(found, str):
        return found
    body, step = found
    ops = _single(body, Step((*step.items, *_empty_turns(plan)), 1, plan.turns))
    return Block((), (*ops, make("yield", fresh.results)))


def _waiting(loop: Op, plan: LoopPlan) -> Block:
    """The loop as it was distributed, with empty turns."""
    (body,) = loop.blocks
    turns = [
        make(f"turn.{i.kind}", loc=i.op.loc, chain=plan.turns.chain, index=i.turn, of=plan.turns.of)
        for i in _empty_turns(plan) if plan.turns is not None
    ]  # fmt: skip
    results = tuple(Value(r.type, r.hint) for r in loop.results)
    block = Block(body.params, (*body.ops[:-1], *turns, body.ops[-1]))
    return Block((), (loop.with_(results=results, blocks=(block,)), make("yield", results)))


def _empty_turns(plan: LoopPlan) -> list[Item]:
    segments = plan.turns.segments if plan.turns is not None else ()
    kinds: tuple[Kind, ...] = ("enter", "exit")
    return [Item(kind, 0, s.first, turn=s.index) for s in segments for kind in kinds]
