"""One body per warp group: which ops of an AREF program each group keeps."""

from __future__ import annotations

from tilec.ir.core import (
    Block,
    Kernel,
    Op,
    Value,
    clone_block,
    clone_op,
    definitions,
    free_values,
    frozen,
    walk,
)
from tilec.ir.ops import make, written_tensors
from tilec.passes.async_rules import source_of
from tilec.passes.rewrite import where
from tilec.passes.schedule.problem import accumulator_place, ring_loops
from tilec.passes.schedule.schedule import Schedule
from tilec.passes.sweep import has_effect, sweep

Env = dict[Value, Value]


def load_block(kernel: Kernel, rings: Env) -> Block:
    """The load group: puts, and all that they need."""
    block = clone_block(kernel.body, dict(rings), _keep_puts)
    return sweep(block, lambda op: op.name == "aref.put")


def _keep_puts(op: Op, env: Env) -> list[Op]:
    if has_effect(op) and op.name != "aref.put":
        return []
    return [clone_op(op, env, _keep_puts)]


def why_not_closed(kernel: Kernel, load: Block, rings: Env) -> str | None:
    """Why the load group cannot stand alone: it would need what only the compute group has."""
    written = written_tensors(kernel.body)
    for op in walk(load):
        if op.name == "dot":
            return f"{where(op)}: the load group would need this dot"
        if op.name in ("load", "gather") and op.args[0] in written:
            return f"{where(op)}: the load group would need this {op.name} of a tensor that the kernel writes"
    known = {*kernel.params, *rings.values()}
    defs = definitions(kernel.body)
    for value in (v for v in free_values(load) if v not in known):
        return f"{where(defs[value])}: the load group would need this {defs[value].name}"
    return None


def compute_block(kernel: Kernel, schedules: tuple[Schedule, ...], rings: Env) -> Block:
    """The compute group: everything but the puts; products are asynchronous."""
    return sweep(clone_block(kernel.body, dict(rings), _Compute(kernel, schedules)))


def asynchronous_dots(block: Block) -> list[Op]:
    """Products whose second operand lies in a ring."""
    defs = definitions(block)
    found = []
    for dot in (op for op in walk(block) if op.name == "dot"):
        source = source_of(dot.args[1], defs)
        if source is not None and source.name == "aref.get":
            found.append(dot)
    return found


class _Compute:
    """The rewriter of the compute group.

    By default a product is waited for at once. In a loop with P > 1 products in
    flight the wait and the releases lag P - 1 iterations behind, and what is left
    is drained after the loop.
    """

    def __init__(self, kernel: Kernel, schedules: tuple[Schedule, ...]) -> None:
        self.products = set(asynchronous_dots(kernel.body))
        self.lag: dict[Op, int] = {}
        self.loops: dict[Op, tuple[int, tuple[Value, ...]]] = {}
        for loop, schedule in zip(ring_loops(kernel), schedules, strict=True):
            self._plan(loop, dict(schedule.in_flight))

    def _plan(self, loop: Op, in_flight: dict[str, int]) -> None:
        """Mark the loop, its product and its releases if products overlap."""
        place = accumulator_place(loop)
        flying = max(in_flight.values(), default=1)
        if place is None or flying < 2:
            return
        ops = loop.blocks[-1].ops
        late = [op for op in ops if op.name == "aref.release" and in_flight.get(op.args[0].hint, 1) > 1]
        marked = [*late, *(op for op in ops if op in self.products)]
        self.lag.update(dict.fromkeys(marked, flying - 1))
        self.loops[loop] = place, tuple(op.args[0] for op in late)

    def __call__(self, op: Op, env: Env) -> list[Op]:
        if op.name in ("aref.new", "aref.put"):
            return []
        if op in self.products:
            return self._product(op, env)
        new = clone_op(op, env, self)
        if op in self.lag:
            return [new.with_(attrs=frozen(**{**op.attrs, "keep": self.lag[op]}))]
        return [new, *self._drain(op, env)]

    def _product(self, op: Op, env: Env) -> list[Op]:
        """The product and its wait; without lag the wait gives the result."""
        new = clone_op(op, env, self).with_(attrs=frozen(**{**op.attrs, "asynchronous": True}))
        if op in self.lag:
            return [new, make("dot.wait", loc=op.loc, pending=self.lag[op])]
        return [new, self._wait(op.result, op, env)]

    def _wait(self, value: Value, op: Op, env: Env) -> Op:
        wait = make("dot.wait", (env[value],), loc=op.loc, hints=(value.hint,), pending=0)
        env[value] = wait.result
        return wait

    def _drain(self, op: Op, env: Env) -> list[Op]:
        """After a loop with lag: wait for the last products, give back all slots."""
        if op not in self.loops:
            return []
        place, rings = self.loops[op]
        releases = [make("aref.release", (env[r],), loc=op.loc, group="compute", keep=0) for r in rings]
        return [self._wait(op.results[place], op, env), *releases]
