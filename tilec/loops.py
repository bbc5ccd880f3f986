"""`for` and `while` of captured code: Python's own, or recorded as an op."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from tilec.branches import Env, Statement, check_hidden, is_live
from tilec.carry import Carried
from tilec.coerce import cast, common_dtype, unify
from tilec.hidden import Snapshot
from tilec.ir.core import Block
from tilec.ir.errors import TilecSyntaxError, TilecTypeError
from tilec.ir.types import int32
from tilec.language.control import RunRange
from tilec.tile import Tile
from tilec.trace import Region, Tracer, active
from tilec.values import UNBOUND


class For(Statement):
    """``for``: over `tl.range` it records a loop, over anything else it is Python's."""

    what = "the loop"

    def __init__(
        self, iterable: Any, names: Sequence[str], targets: Sequence[str], env: Env, has_else: bool
    ) -> None:
        super().__init__(active())
        self.live = isinstance(iterable, RunRange)
        self.iterable, self.targets = iterable, targets
        self.depth = len(self._tracer.stack) if self._tracer else 0
        if not self.live:
            return
        if has_else:
            raise TilecSyntaxError(
                "S306", "else of a run-time loop", help="put the statements after the loop"
            )
        if len(targets) != 1:
            raise TilecSyntaxError("S307", "a loop over tl.range has one name", help="for i in tl.range(...)")
        self.carried = Carried(self.tracer, names, env, self.what)
        self.snapshot = Snapshot(env, sys._getframe(1))
        self.bounds = self._bounds()

    def _bounds(self) -> list[Tile]:
        bounds = self.iterable.bounds
        dtype = common_dtype(bounds, "tl.range")
        return [cast(t, int32) if dtype.bits < 32 else t for t in unify(bounds, "tl.range", dtype)]

    def __iter__(self) -> Iterator[Any]:
        if not self.live:
            yield from self.iterable
            return
        self.done = False
        while not self.done:
            self.region = self.open()
            induction = self.tracer.param(self.bounds[0].type, self.targets[0])
            self.values = self.carried.enter()
            yield induction

    def leave(self, env: Env) -> None:
        """After the body: record the loop, or ask for another trace of the body."""
        self.close()
        check_hidden(self.snapshot, self.what, self.line)
        yielded = self.carried.leave(self.region, env, self.line)
        if yielded is None:
            return
        self.done = True
        block = close_block(self.tracer, self.region, yielded)
        operands = [*self.bounds, *self.carried.initial()]
        results = self.tracer.emit(
            "for", operands, blocks=[block], hints=self.carried.hints(), **self.iterable.options
        )
        self.values = self.carried.after(results, self.line)
        for name in self.targets:
            self.lose(name, f"it is bound by the loop at line {self.line} and has a value only inside")

    def jump(self, word: str) -> None:
        """Called before break and continue of the user."""
        check_jump(self, word)


def close_block(tracer: Tracer, region: Region, tiles: Sequence[Tile]) -> Block:
    """The finished block of a region that yields these tiles."""
    tracer.stack.append(region)
    values = [tracer.visible(t) for t in tiles]
    tracer.stack.pop()
    return region.close(values, tracer.loc())


def check_jump(loop: Any, word: str) -> None:
    """Refuse break and continue that depend on run-time values."""
    mend = "use while with a condition, or do the work in an if; tl.static_range loops can break on constants"
    if loop.live:
        raise TilecSyntaxError("S303", f"{word} in a loop that runs on the device", help=mend)
    tracer = active()
    if tracer is not None and len(tracer.stack) > loop.depth:
        raise TilecSyntaxError("S303", f"{word} in a branch of a run-time if", help=mend)


class While(Statement):
    """``while``: decided by the first value of its condition."""

    what = "the while loop"

    def __init__(self, names: Sequence[str], env: Env, has_else: bool) -> None:
        super().__init__(active())
        self.names, self.has_else = names, has_else
        self.depth = len(self._tracer.stack) if self._tracer else 0
        self.state = "new" if self._tracer else "static"
        self.stop = False
        if self._tracer:
            self.carried = Carried(self._tracer, names, env, self.what)
            self.snapshot = Snapshot(env, sys._getframe(1))

    def turn(self, env: Env) -> bool:
        """Before each trace of the condition; False ends a recorded loop."""
        if self.state == "done":
            return False
        self.env = env = dict(env)
        self.values = {n: env.get(n, UNBOUND) for n in self.names}
        if self.state != "static":
            self.regions = [self.open()]
            self.values |= self.carried.enter()
        return True

    def test(self, condition: Any) -> None:
        """The condition's value; decides what the loop is."""
        live = is_live(condition, "while")
        if self.state == "static":
            if live:
                raise TilecTypeError(
                    "T341", "the condition of while is a constant at first and a run-time value later",
                    help="start from a run-time value: i = tl.full((), 0, tl.int32)",
                )  # fmt: skip
            self.stop = not condition
            return
        region = self.close()
        if not live:
            self.state, self.stop = "static", not condition
            self.values = {n: self.env.get(n, UNBOUND) for n in self.names}
            return
        if self.has_else:
            raise TilecSyntaxError(
                "S306", "else of a run-time loop", help="put the statements after the loop"
            )
        self.state, self.live = "live", True
        self.condition = close_block(self.tracer, region, [condition])
        self.cond_region = region
        self.regions.append(self.open())
        self.values = dict.fromkeys(self.names, UNBOUND) | self.carried.enter()

    def leave(self, env: Env) -> None:
        """After the body: record the loop, or ask for another trace."""
        if not self.live:
            return
        region = self.close()
        check_hidden(self.snapshot, self.what, self.line)
        yielded = self.carried.leave(region, env, self.line, self.cond_region)
        if yielded is None:
            return
        self.state = "done"
        body = close_block(self.tracer, region, yielded)
        condition = Block(tuple(self.cond_region.params), self.condition.ops)
        results = self.tracer.emit(
            "while", self.carried.initial(), blocks=[condition, body], hints=self.carried.hints()
        )
        self.values = self.carried.after(results, self.line)

    def jump(self, word: str) -> None:
        """Called before break and continue of the user."""
        check_jump(self, word)
