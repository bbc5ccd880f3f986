"""What captured code talks to: what its statements share, and `if`.

An object finds out whether its statement is Python's own (``live`` is False: it
then does nothing) or a run-time one, which it records as an op with regions.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from tilec.capture import RESULT
from tilec.carry import adapt
from tilec.hidden import Snapshot
from tilec.ir.core import Block
from tilec.ir.errors import TilecTypeError, TilecValueError
from tilec.ir.types import bool_, scalar
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
