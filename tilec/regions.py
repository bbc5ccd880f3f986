"""What captured code talks to: objects for `if`, `for`, `while`, and and/or/not.

Each object finds out whether its statement is Python's own (``live`` is False: it
then does nothing) or a run-time one, which it records as an op with regions.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tilec.capture import RESULT
from tilec.carry import Carried, adapt
from tilec.coerce import cast, common_dtype, unify
from tilec.hidden import Snapshot
from tilec.ir.core import Block
from tilec.ir.errors import TilecSyntaxError, TilecTypeError, TilecValueError
from tilec.ir.types import bool_, int32, scalar
from tilec.language.control import RunRange
from tilec.tile import Tile
from tilec.trace import Region, Tracer, active, current
from tilec.values import UNBOUND, describe, flatten, rebuild, same_object

Env = Mapping[str, Any]
VALUE = "_tilec_value"


def is_live(condition: Any, what: str) -> bool:
    """Is this a run-time condition? It then must be a bool scalar."""
    if not isinstance(condition, Tile):
        return False
    if condition.type != scalar(bool_):
        raise TilecTypeError(
            "T122", f"the condition of {what} must be a bool scalar, not {condition.type}",
            help="compare (x != 0), or reduce a tile with tl.any or tl.all; use tl.where per element",
        )  # fmt: skip
    return True


def check_hidden(snapshot: Snapshot, what: str, line: int) -> None:
    """Refuse changes of Python objects that were made before the region."""
    path = snapshot.changed()
    if path is not None:
        raise TilecValueError(
            "V340", f"{path} is changed in place inside {what} at line {line}, which runs on the device",
            help="keep the value in a name of its own and rebind that name: then it is carried",
        )  # fmt: skip


class Statement:
    """What run-time statements share: the values of the names, and jumps out."""

    what = "the statement"

    def __init__(self, tracer: Tracer | None) -> None:
        self._tracer = tracer
        self.live = False
        self.values: dict[str, Any] = {}
        self.line = 0

    @property
    def tracer(self) -> Tracer:
        """The running tracer; live statements have one."""
        return self._tracer or current(self.what)

    def get(self, name: str) -> Any:
        """The value that the name has from here on, or UNBOUND."""
        return self.values.get(name, UNBOUND)

    def open(self) -> Region:
        """Start a region."""
        loc = self.tracer.loc()
        self.line = loc.line
        self.tracer.stack.append(Region(self.what, loc))
        return self.tracer.region

    def close(self) -> Region:
        """End the innermost region."""
        return self.tracer.stack.pop()

    def lose(self, name: str, why: str) -> None:
        """Remember why a name has no value."""
        self.values[name] = UNBOUND
        self.tracer.lost[(self.tracer.loc().function, name)] = why


class If(Statement):
    """``if``: a Python condition chooses, a run-time one records both branches."""

    what = "the if"

    def __init__(self, condition: Any, names: Sequence[str], both: Sequence[str], env: Env) -> None:
        super().__init__(active())
        self.live = is_live(condition, "if")
        self.then = self.live or bool(condition)
        self.other = self.live or not self.then
        if self.live:
            self.condition, self.names, self.both = condition, names, both
            self.before = {n: env.get(n, UNBOUND) for n in names}
            self.snapshot = Snapshot(env, sys._getframe(1))
            self.regions = [self.open()]

    def middle(self, env: Env) -> None:
        """After the first branch: the names get back what they had."""
        self.first = {n: env.get(n, UNBOUND) for n in self.names}
        self.close()
        check_hidden(self.snapshot, self.what, self.line)
        self.values = dict(self.before)
        self.regions.append(self.open())

    def end(self, env: Env) -> None:
        """After the second branch: join the values and record the op."""
        second = {n: env.get(n, UNBOUND) for n in self.names}
        self.close()
        check_hidden(self.snapshot, self.what, self.line)
        self.outputs: list[tuple[Tile, Tile]] = []
        joined = {n: self._join(n, self.first[n], second[n]) for n in self.names}
        results = self._record([n for n in self.names for _ in (joined[n] or ([], None))[0]])
        for name, plan in joined.items():
            if plan is not None:
                leaves, nest = plan
                self.values[name] = rebuild([results[x] if isinstance(x, Slot) else x for x in leaves], nest)

    def _record(self, hints: Sequence[str]) -> list[Tile]:
        loc = self.tracer.loc()
        blocks: list[Block] = []
        for side, region in enumerate(self.regions):
            self.tracer.stack.append(region)
            yielded = [self.tracer.visible(pair[side]) for pair in self.outputs]
            self.tracer.stack.pop()
            blocks.append(region.close(yielded, loc))
        hints = [h for h in hints if not h.startswith("_tilec")]
        hints = hints if len(hints) == len(self.outputs) else []
        return self.tracer.emit("if", [self.condition], blocks=blocks, hints=hints)

    def _join(self, name: str, a: Any, b: Any) -> tuple[list[Any], Any] | None:
        """The leaves of a name after the `if` (slots are results of the op); None if it has no value."""
        if a is UNBOUND or b is UNBOUND:
            self.lose(name, f"it is bound only in one branch of the if at line {self.line}")
            return None
        (left, nest), (right, other) = flatten(a), flatten(b)
        mark = len(self.outputs)
        if nest.same(other):
            leaves = [self._leaf(x, y) for x, y in zip(left, right, strict=True)]
            if not any(x is UNBOUND for x in leaves):
                return leaves, nest
        del self.outputs[mark:]
        self._differ(name, a, b)
        return None

    def _leaf(self, x: Any, y: Any) -> Any:
        if same_object(x, y) or (isinstance(x, Tile) and isinstance(y, Tile) and x.value is y.value):
            return x
        x, y = adapt(self.tracer, self.regions[0], x, y), adapt(self.tracer, self.regions[1], y, x)
        if not isinstance(x, Tile) or not isinstance(y, Tile) or x.type != y.type:
            return UNBOUND
        self.outputs.append((x, y))
        return Slot(len(self.outputs) - 1)

    def _differ(self, name: str, a: Any, b: Any) -> None:
        text = f"{describe(a)} in the first branch and {describe(b)} in the second"
        if name in self.before and self.before[name] is UNBOUND and name not in (RESULT, VALUE):
            self.lose(name, f"it is {text} of the if at line {self.line}")
            return
        titles = {RESULT: "the returned value", VALUE: "the conditional expression"}
        raise TilecTypeError(
            "T340", f"{titles.get(name, repr(name))} is {text} of the if",
            help="both branches must give the same shape and dtype: use x.to(dtype), tl.full or another name",
        )  # fmt: skip


class Slot(int):
    """The number of an op's result, until the op is recorded."""


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


def returning(depth: int) -> None:
    """Called before a return that could not be joined with the end of the function."""
    tracer = active()
    if tracer is not None and len(tracer.stack) > depth:
        raise TilecSyntaxError(
            "S304", "return inside of a loop that runs on the device, or of an if in a Python loop",
            help="set a name in the loop and return after it",
        )  # fmt: skip


def choose(condition: Any, a: Callable[[], Any], b: Callable[[], Any]) -> Any:
    """``a if condition else b``."""
    state = If(condition, (VALUE,), (VALUE,), {})
    if not state.live:
        return a() if state.then else b()
    state.middle({VALUE: a()})
    state.end({VALUE: b()})
    return state.get(VALUE)


def _logic(word: str, a: Any, b: Any) -> Any:
    for x in (a, b):
        is_live(x, word)
    return a & b if word == "and" else a | b


def both(first: Any, *rest: Callable[[], Any]) -> Any:
    """``a and b``; bool scalars that are run-time values are combined without short circuit."""
    for thunk in rest:
        if isinstance(first, Tile):
            first = _logic("and", first, _truth(thunk()))
        elif first:
            first = thunk()
    return first


def either(first: Any, *rest: Callable[[], Any]) -> Any:
    """``a or b``; bool scalars that are run-time values are combined without short circuit."""
    for thunk in rest:
        if isinstance(first, Tile):
            first = _logic("or", first, _truth(thunk()))
        elif not first:
            first = thunk()
    return first


def _truth(x: Any) -> Any:
    return x if isinstance(x, Tile) else bool(x)


def negate(x: Any) -> Any:
    """``not x``."""
    return ~x if is_live(x, "not") else not x


def chain(left: Any, *steps: tuple[Callable[[], Any], Callable[[Any, Any], Any]]) -> Any:
    """``a < b < c``."""
    result: Any = True
    for thunk, compare in steps:
        right = thunk()
        step = compare(left, right)
        result = _logic("and", step, result) if isinstance(step, Tile) or isinstance(result, Tile) else step
        if not isinstance(result, Tile) and not result:
            return result
        left = right
    return result
