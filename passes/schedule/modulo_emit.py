"""Prologue, kernel and epilogue, from one step.

A value of an iteration is named by what the body calls it and its *age*: the iterations
that came after it, counted from a base. The base is the first kernel step in the prologue
(iteration 0 has age stages - 1 there), the step itself in the kernel, and the number of
trips in the epilogue. So what the prologue knows under a name is what the kernel's carried
value of that name starts with, and what it ends with is what the epilogue calls by it.
"""

from __future__ import annotations

from collections.abc import Callable

from tilec.ir.core import Block, Op, Value, clone_op, frozen
from tilec.ir.errors import InternalError
from tilec.ir.ops import make
from tilec.passes.schedule.modulo_body import Body
from tilec.passes.schedule.modulo_step import Item, Step

Key = tuple[Value, int]
MANY = 1 << 30


class Part:
    """One of the three parts: its ops so far, and its values by name.

    ``missing`` gives a value that no op of the part makes, ``index`` the loop's index. ``running``: products
    that may run at this point.
    """

    def __init__(
        self, body: Body, step: Step, missing: Callable[[Key], Value], index: Callable[[Part, int], Value],
        first: bool = False, last: bool = False,
    ) -> None:  # fmt: skip
        self.body, self.step, self.missing, self.index = body, step, missing, index
        self.first, self.last = first, last
        self.running = 0 if first else MANY
        self.ops: list[Op] = []
        self.env: dict[Key, Value] = {}

    # Values.

    def value(self, value: Value, age: int) -> Value:
        """The value that the body calls ``value`` in the iteration of an age."""
        value, age = self.name(value, age)
        op = self.body.defs.get(value)
        if (value, age) in self.env:
            return self.env[value, age]
        if value is self.body.index:
            self.env[value, age] = self.index(self, age)
        elif value in self.body.following or op in self.body.fixed:
            self.env[value, age] = self.missing((value, age))
        elif op is None:
            return value
        else:
            self.copy(op, age)
        return self.env[value, age]

    def name(self, value: Value, age: int) -> Key:
        """A carried value is what the iteration before it made, unless that may be none."""
        while True:
            op = self.body.defs.get(value)
            if value in self.body.following and age <= self.step.stages - 2:
                value, age = self.body.following[value], age + 1
            elif op is not None and op.name == "dot.wait":
                value = op.args[op.results.index(value)]
            else:
                return value, age

    def copy(self, op: Op, age: int) -> None:
        """The op of one iteration."""
        env = {a: self.value(a, age) for a in op.args}
        new = clone_op(op, env, lambda inner, _: [inner])
        self.ops.append(new)
        self.env.update({(r, age): n for r, n in zip(op.results, new.results, strict=True)})

    def scalar(self, name: str, *args: Value) -> Value:
        """The result of one more op on scalars like the loop's index."""
        self.ops.append(make(name, args, loc=self.body.loop.loc))
        return self.ops[-1].result

    def number(self, n: int) -> Value:
        t = self.body.index.type
        self.ops.append(make("const", loc=self.body.loop.loc, dtype=t.dtype, shape=(), value=n))  # type: ignore[union-attr]
        return self.ops[-1].result

    # Items.

    def run(self, offset: int) -> None:
        """One step, ``offset`` steps before the base."""
        for item in self.step.items:
            age = item.stage + offset
            turn = item.kind in ("enter", "exit")
            if turn and not self.last:
                self.turn(item)
            elif not turn and not (self.first and age > self.step.stages - 1) and not (self.last and age < 1):
                self.item(item, offset, age)

    def item(self, item: Item, offset: int, age: int) -> None:
        if item.kind in ("op", "get"):
            self.copy(item.op, age)
            self.running += item in self.step.products
        elif item.kind == "release":
            keep = self.step.keep(item, offset, self.last)
            attrs = frozen(**{**item.op.attrs, "keep": keep})
            self.ops.append(item.op.with_(attrs=attrs))
        else:
            # ptxas (13.5) counts by what waits say, so they say no more than what earlier ones have left.
            self.running = min(self.running, self.step.pending(item, offset, self.last))
            self.wait(item, age, self.running)

    def wait(self, item: Item, age: int, pending: int) -> None:
        """The wait; from here on the product's result is what it passes on."""
        if item.access is None:
            self.ops.append(make("dot.wait", loc=item.op.loc, pending=pending))
            return
        value, since = item.access
        key = self.name(value, age - since)
        running = self.value(*key)
        self.ops.append(make("dot.wait", (running,), loc=item.op.loc, hints=(value.hint,), pending=pending))
        self.env[key] = self.ops[-1].result

    def turn(self, item: Item) -> None:
        turns = self.step.turns
        assert turns is not None
        self.ops.append(
            make(f"turn.{item.kind}", loc=item.op.loc, chain=turns.chain, index=item.turn, of=turns.of)
        )


class Kernel:
    """The kernel part and the values that it carries, found where they are missing."""

    def __init__(self, body: Body, step: Step) -> None:
        self.body, self.step = body, step
        t = body.index
        self.counter = Value(t.type, t.hint)
        self.carried: dict[Key, tuple[Value, Value]] = {}
        self.part = Part(body, step, lambda key: self.carry(key)[0], self._index)

    def carry(self, key: Key) -> tuple[Value, Value]:
        """The parameter and the result of a carried value."""
        if key not in self.carried:
            value, age = key
            op = self.body.defs.get(value)
            if age >= self.step.stages or (op is not None and op.name == "aref.get"):
                raise InternalError("X303", "the pipeliner lost a value", loc=self.body.loop.loc)
            names = dict(zip(self.body.params, self.body.loop.results, strict=True))
            after = names.get(value, value)
            self.carried[key] = Value(value.type, value.hint), Value(value.type, after.hint)
        return self.carried[key]

    def _index(self, part: Part, age: int) -> Value:
        if age == 0:
            return self.counter
        step = self.body.loop.args[2]
        return part.scalar("sub", self.counter, part.scalar("mul", part.number(age), step))

    def loop(self, start: Value, prologue: Part) -> Op:
        """The kernel as a loop that begins at ``start``; call it last."""
        following = self._following()
        initial = tuple(prologue.value(*key) for key in self.carried)
        self.part.ops.append(make("yield", following))
        params, results = zip(*self.carried.values(), strict=True) if self.carried else ((), ())
        block = Block((self.counter, *params), tuple(self.part.ops))
        old = self.body.loop
        return Op("for", (start, *old.args[1:3], *initial), old.attrs, tuple(results), (block,), old.loc)

    def _following(self) -> list[Value]:
        """What each carried value is one step later; this may ask for more carried values."""
        found: list[Value] = []
        while len(found) < len(self.carried):
            value, age = list(self.carried)[len(found)]
            found.append(self.part.value(value, age - 1))
        return found


def prologue_of(body: Body, step: Step) -> Part:
    """The steps before the kernel, run from nothing."""
    initial = dict(zip(body.params, body.loop.args[3:], strict=True))

    def missing(key: Key) -> Value:
        if key[0] not in initial:
            raise InternalError("X303", "the pipeliner lost a value", loc=body.loop.loc)
        return initial[key[0]]

    def index(part: Part, age: int) -> Value:
        start, _, by = body.loop.args[:3]
        n = step.stages - 1 - age
        return part.scalar("add", start, part.scalar("mul", part.number(n), by)) if n else start

    return Part(body, step, missing, index, first=True)


def epilogue_of(body: Body, step: Step, kernel: Kernel) -> Part:
    """The steps after the kernel, in which no iteration begins."""

    def index(part: Part, age: int) -> Value:
        """The loop ends at stop, or at the first index beyond that a whole step away from start."""
        start, stop, by = body.loop.args[:3]
        over = part.scalar("mod", part.scalar("sub", stop, start), by)
        end = part.scalar("add", stop, part.scalar("mod", part.scalar("sub", by, over), by))
        return part.scalar("sub", end, part.scalar("mul", part.number(age), by))

    return Part(body, step, lambda key: kernel.carry(key)[1], index, last=True)
