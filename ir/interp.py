"""The numpy interpreter: the definition of what a kernel means, in every form.

Warp groups of the SCHEDULED form run as coroutines under a chosen interleaving;
slots of rings are real buffers that are poisoned outside their lifetime, and
asynchronous dots read them late, so that a wrong schedule gives a wrong result,
an error or a reported deadlock.
"""

from __future__ import annotations

import inspect
import itertools
import random
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import numpy as np

from tilec.ir.core import Block, Kernel, Op, Value, walk
from tilec.ir.errors import DeadlockError, InternalError, TilecValueError
from tilec.ir.loc import located
from tilec.ir.ops import attr, opdef
from tilec.ir.ops.shape import product
from tilec.ir.ring_flow import may_take_unfinished
from tilec.ir.types import ArefType, TensorType, TileType

# Policies: which of the runnable groups goes on next.
POLICIES = ("round_robin", "random", "first", "last")
Observe = Callable[[str, Op], None]


class Blocked:
    """Yielded by a coroutine that cannot go on: what it waits for, and where."""

    def __init__(self, reason: str, node: Op) -> None:
        self.reason = reason
        self.node = node


class Deferred:
    """The result of an asynchronous dot that has not been waited for."""

    def __init__(self, node: Op, a: Any, b: Any, acc: Any) -> None:
        self.node, self.inputs = node, (a, b, acc)
        self.value: np.ndarray[Any, Any] | None = None

    def force(self) -> None:
        a, b, acc = self.inputs
        self.value = product(self.node, a, b, finished(acc))


def finished(value: Any) -> Any:
    """The array of a waited-for dot; other values as they are."""
    return value.value if isinstance(value, Deferred) and value.value is not None else value


class Ring:
    """One aref at run time. Counters as in `tilec.ir.ops.aref`."""

    def __init__(self, node: Op, consumers: Sequence[str]) -> None:
        ring_type = node.result.type
        assert isinstance(ring_type, ArefType)
        self.name = node.result.hint or "aref"
        self.depth = ring_type.depth or 1
        self.slots = [
            tuple(poison(np.empty(t.shape, t.dtype.np)) for t in ring_type.payload) for _ in range(self.depth)
        ]
        self.put = self.full = 0
        self.got = dict.fromkeys(consumers, 0)
        self.done = dict.fromkeys(consumers, 0)

    def put_enter(self, node: Op) -> Generator[Any, None, int]:
        yield
        while self.put >= min(self.done.values(), default=self.put) + self.depth:
            yield Blocked(f"an empty slot of {self.name}", node)
        self.put += 1
        slot = (self.put - 1) % self.depth
        for buffer in self.slots[slot]:
            poison(buffer)
        yield
        return slot

    def write(self, slot: int, values: tuple[Any, ...]) -> None:
        for buffer, value in zip(self.slots[slot], values, strict=True):
            buffer[...] = value

    def put_exit(self) -> None:
        self.full += 1

    def get(self, node: Op, group: str) -> Generator[Any, None, tuple[Any, ...]]:
        yield
        while self.got[group] >= self.full:
            yield Blocked(f"a full slot of {self.name}", node)
        self.got[group] += 1
        return self.slots[(self.got[group] - 1) % self.depth]

    def release(self, node: Op, group: str, keep: int) -> None:
        while self.got[group] - self.done[group] > keep:
            self.done[group] += 1
            if min(self.done.values()) == self.done[group]:
                for buffer in self.slots[(self.done[group] - 1) % self.depth]:
                    poison(buffer)


def poison(buffer: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Fill with NaN, or with the largest integer: a value that no test expects."""
    if buffer.dtype.kind in "fV":
        buffer[...] = np.nan
    else:
        buffer.view(np.uint8)[...] = 0x7F if buffer.dtype != bool else 1
    return buffer


class Runtime:
    """One program instance: its grid position, environment and rings."""

    def __init__(
        self,
        grid: tuple[int, ...],
        program_id: tuple[int, ...],
        choose: Callable[[int], int],
        env: dict[Value, Any],
        group: str = "main",
        consumers: dict[Value, tuple[str, ...]] | None = None,
        turns: dict[str, int] | None = None,
        observe: Observe | None = None,
    ) -> None:
        self.observe = observe
        self.grid, self.program_id, self.choose = grid, program_id, choose
        self.env, self.group = env, group
        self.consumers = consumers or {}
        self.turns = {} if turns is None else turns  # by chain: how many are over; all groups share it
        self.held: set[tuple[str, int]] = set()
        self.dots: list[Deferred] = []

    def run_block(self, block: Block, args: Sequence[Any]) -> Generator[Any, None, tuple[Any, ...]]:
        self.env.update(zip(block.params, args, strict=True))
        for node in block.ops:
            values = tuple(self.operand(node, i) for i in range(len(node.args)))
            if node.name == "yield":
                return values
            with located(node.loc):
                result = opdef(node.name).meaning(self, node, *values)
                if inspect.isgenerator(result):
                    result = yield from result
            self.bind(node, result)
            if self.observe is not None and not node.blocks:
                self.observe(self.group, node)
        return ()

    def operand(self, node: Op, index: int) -> Any:
        value = finished(self.env[node.args[index]])
        if isinstance(value, Deferred) and not may_take_unfinished(node, index):
            raise InternalError(
                "X104", f"{node.name} uses the result of a dot that was not waited for", loc=node.loc
            )
        return value

    def bind(self, node: Op, result: Any) -> None:
        if len(node.results) == 1 and not isinstance(result, tuple):
            result = (result,)
        self.env.update(zip(node.results, result or (), strict=True))

    def consumer(self, node: Op) -> str:
        """Under which name this get or release counts."""
        return consumer(node, self.group)

    def new_ring(self, node: Op) -> Ring:
        return Ring(node, self.consumers.get(node.result, ("main",)))

    def defer(self, node: Op, a: Any, b: Any, acc: Any) -> Deferred:
        self.dots.append(Deferred(node, a, b, acc))
        return self.dots[-1]

    def wait_dots(self, pending: int, values: tuple[Any, ...]) -> tuple[Any, ...]:
        while len(self.dots) > pending:
            self.dots.pop(0).force()
        return tuple(finished(v) for v in values)

    def enter_turn(self, node: Op) -> Generator[Any, None, None]:
        yield
        chain, index, of = (node.attrs[n] for n in ("chain", "index", "of"))
        self.hold_turn(node, False)
        while self.turns.setdefault(chain, 0) % of != index:
            yield Blocked(f"turn {index} of {chain}", node)
        self.held.add((chain, index))

    def exit_turn(self, node: Op) -> None:
        self.hold_turn(node, True)
        self.held.remove((node.attrs["chain"], node.attrs["index"]))
        self.turns[node.attrs["chain"]] += 1

    def hold_turn(self, node: Op, wanted: bool) -> None:
        chain, index = node.attrs["chain"], node.attrs["index"]
        if ((chain, index) in self.held) != wanted:
            what = "is not held" if wanted else "is held already"
            raise InternalError("X105", f"{node.name}: turn {index} of {chain} {what}", loc=node.loc)

    def check_assumption(self, node: Op, ok: bool) -> None:
        if not ok:
            raise TilecValueError("V110", "an assumption does not hold", loc=node.loc)

    def run_groups(self, node: Op) -> Generator[Any, None, Any]:
        """Interleave one coroutine per group until all have finished."""
        tasks: dict[str, Generator[Any, None, Any]] = {}
        for name, block in zip(node.attrs["names"], node.blocks, strict=True):
            child = Runtime(
                self.grid, self.program_id, self.choose, dict(self.env), name, None, self.turns, self.observe
            )
            tasks[name] = child.run_block(block, ())
        waiting: dict[str, Blocked] = {}
        while tasks:
            ready = [n for n in tasks if n not in waiting]
            if not ready:
                raise deadlock(waiting)
            name = ready[self.choose(len(ready))]
            try:
                state = next(tasks[name])
            except StopIteration:
                del tasks[name]
                waiting.clear()
                continue
            if isinstance(state, Blocked):
                waiting[name] = state
            else:
                waiting.clear()
        yield


def deadlock(waiting: dict[str, Blocked]) -> DeadlockError:
    """An error that names who waits for what, and where."""
    parts = [f"{name} waits for {b.reason} at {b.node.loc}" for name, b in sorted(waiting.items())]
    return DeadlockError("D101", "deadlock: " + "; ".join(parts), loc=next(iter(waiting.values())).node.loc)


def chooser(policy: str, seed: int) -> Callable[[int], int]:
    """A function n -> index of the runnable group that goes on."""
    if policy == "random":
        rng = random.Random(seed)
        return rng.randrange
    if policy == "first":
        return lambda n: 0
    if policy == "last":
        return lambda n: n - 1
    if policy == "round_robin":
        turn = itertools.count()
        return lambda n: next(turn) % n
    raise TilecValueError("V111", f"no interleaving named {policy!r}", help=f"one of {POLICIES}")


def interpret(
    kernel: Kernel,
    grid: Sequence[int],
    args: Sequence[Any],
    *,
    policy: str = "round_robin",
    seed: int = 0,
    observe: Observe | None = None,
) -> None:
    """Run a kernel of any form on numpy arrays (written in place) and numbers.

    ``grid`` has up to three extents. ``policy`` chooses among runnable groups:
    "round_robin", "random" (by ``seed``), or the adversarial "first" and "last",
    which let one group run as far as it can. ``observe`` is called with the group and each op
    without blocks that it has run.
    """
    full = tuple(int(n) for n in grid) + (1,) * (3 - len(grid))
    env = {p: bind(p, a) for p, a in zip(kernel.params, args, strict=True)}
    consumers = ring_consumers(kernel)
    choose = chooser(policy, seed)
    with np.errstate(all="ignore"):
        for program_id in _instances(full):
            runtime = Runtime(full, program_id, choose, dict(env), "main", consumers, None, observe)
            for state in runtime.run_block(kernel.body, ()):
                if isinstance(state, Blocked):
                    raise deadlock({"main": state})


def _instances(grid: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    for z, y, x in itertools.product(*(range(n) for n in reversed(grid))):
        yield x, y, z


def bind(param: Value, arg: Any) -> Any:
    """A run-time argument as the interpreter holds it."""
    if isinstance(param.type, TensorType):
        return np.asarray(arg)
    assert isinstance(param.type, TileType)
    return np.asarray(arg, param.type.dtype.np)


def consumer(node: Op, group: str) -> str:
    """Who gets and releases: the group that runs the op; outside of groups the one that the op names."""
    return attr(node, "group") or group if group == "main" else group


def ring_consumers(kernel: Kernel) -> dict[Value, tuple[str, ...]]:
    """For every ring the groups that get from it."""
    found: dict[Value, dict[str, None]] = {}

    def visit(block: Block, group: str) -> None:
        for node in block.ops:
            if node.name == "aref.get":
                found.setdefault(node.args[0], {})[consumer(node, group)] = None
            names = node.attrs["names"] if node.name == "warp_groups" else (group,) * len(node.blocks)
            for inner, name in zip(node.blocks, names, strict=True):
                visit(inner, name)

    visit(kernel.body, "main")
    rings = [n.result for n in walk(kernel.body) if n.name == "aref.new"]
    return {r: tuple(found.get(r, {})) for r in rings}
