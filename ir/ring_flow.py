"""Which slots a warp group may hold, and which of its dots may run, at each point.

The group's block is walked with a `State` that holds for every way to get there;
loops are walked until it no longer changes. Ages count from 1, the newest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from tilec.ir.core import Block, Op, Value
from tilec.ir.ops import attr
from tilec.ir.program import Fault

VIEWS = frozenset({"reshape", "permute"})
# Ops that pass a tile to another name; a borrowed tile must not go that way.
CARRIERS = {"yield": 0, "while": 0, "for": 3}
GONE = 1 << 20
MOST_DOTS = 32

Reads = dict[Value, int]


@dataclass(frozen=True)
class State:
    """What may be so at a point of a group.

    ``held``: the most slots of each ring that may be borrowed. ``tiles``: for each
    borrowed tile its ring and the highest age of its slot (GONE once released).
    ``dots``: the running dots, newest first, each as ring -> highest age of a slot
    that it reads. ``unfinished``: dot results -> lowest place in ``dots``.
    """

    held: dict[Value, int] = field(default_factory=dict)
    tiles: dict[Value, tuple[Value, int]] = field(default_factory=dict)
    dots: tuple[Reads, ...] = ()
    unfinished: dict[Value, int] = field(default_factory=dict)

    def join(self, other: State) -> State:
        """What may be so after one of two paths."""
        held = {r: max(self.held.get(r, 0), other.held.get(r, 0)) for r in {**self.held, **other.held}}
        tiles = {**self.tiles, **other.tiles}
        for value in self.tiles.keys() & other.tiles.keys():
            tiles[value] = max(self.tiles[value], other.tiles[value], key=lambda t: t[1])
        longest = max(len(self.dots), len(other.dots))
        dots = tuple(_oldest(self.dots[i : i + 1] + other.dots[i : i + 1]) for i in range(longest))
        unfinished = {
            v: min(self.unfinished.get(v, GONE), other.unfinished.get(v, GONE))
            for v in {**self.unfinished, **other.unfinished}
        }
        return State(held, tiles, dots, unfinished)


def _oldest(dots: Iterable[Reads]) -> Reads:
    merged: Reads = {}
    for reads in dots:
        for ring, age in reads.items():
            merged[ring] = max(merged.get(ring, 0), age)
    return merged


def escapes(op: Op, tiles: Collection[Value]) -> bool:
    """Whether the op passes one of the tiles on under another name."""
    first = CARRIERS.get(op.name)
    return first is not None and any(a in tiles for a in op.args[first:])


def walk_group(block: Block, rings: dict[Value, int]) -> list[Fault]:
    """The faults of one group; ``rings`` maps rings to depths."""
    walker = _Walker(rings)
    end = walker.block(block, State())
    for ring, held in end.held.items():
        if held:
            what = f"up to {held} slots of {ring.hint or 'a ring'} are never released"
            walker.faults.append(Fault("X229", walker.last_get[ring], what))
    return walker.faults


class _Walker:
    def __init__(self, rings: dict[Value, int]) -> None:
        self.rings = rings
        self.oldest = max(rings.values(), default=1) + 1
        self.faults: list[Fault] = []
        self.last_get: dict[Value, Op] = {}

    def block(self, block: Block, state: State) -> State:
        for op in block.ops:
            self.check_operands(op, state)
            state = self.step(op)(op, state)
        return state

    def step(self, op: Op) -> Callable[[Op, State], State]:
        steps = {
            "aref.get": self.get, "aref.release": self.release, "dot": self.dot, "dot.wait": self.wait,
            "for": self.loop, "while": self.loop, "if": self.branch, "reshape": self.view,
            "permute": self.view,
        }  # fmt: skip
        return steps.get(op.name, lambda _, state: state)

    def fault(self, code: str, op: Op, message: str) -> None:
        self.faults.append(Fault(code, op, message))

    def check_operands(self, op: Op, state: State) -> None:
        for i, arg in enumerate(op.args):
            if arg in state.tiles and state.tiles[arg][1] == GONE:
                self.fault("X215", op, f"{op.name} uses a borrowed tile that may be released already")
            if arg in state.unfinished and not may_take_unfinished(op, i):
                self.fault("X228", op, f"{op.name} uses the result of a dot that may still run")
        if escapes(op, state.tiles):
            self.fault("X215", op, f"a borrowed tile leaves its block through {op.name}")

    def get(self, op: Op, state: State) -> State:
        (ring,) = op.args
        held = state.held.get(ring, 0) + 1
        self.last_get[ring] = op
        if held > self.rings[ring]:
            self.fault("X226", op, f"waits for ever: all {self.rings[ring]} slots may be held")
        tiles = {v: (r, self.older(a) if r is ring else a) for v, (r, a) in state.tiles.items()}
        tiles.update((result, (ring, 1)) for result in op.results)
        dots = tuple({r: self.older(a) if r is ring else a for r, a in d.items()} for d in state.dots)
        held = min(held, self.oldest)
        return replace(state, held={**state.held, ring: held}, tiles=tiles, dots=dots)

    def older(self, age: int) -> int:
        return age if age == GONE else min(age + 1, self.oldest)

    def release(self, op: Op, state: State) -> State:
        ring, keep = op.args[0], attr(op, "keep")
        held = state.held.get(ring, 0)
        if held == 0:
            self.fault("X226", op, "releases a slot although none is held")
        if any(reads.get(ring, 0) > keep for reads in state.dots):
            self.fault("X227", op, "releases a slot that a running dot may read: a dot.wait must come first")
        tiles = {v: (r, GONE if r is ring and age > keep else age) for v, (r, age) in state.tiles.items()}
        return replace(state, held={**state.held, ring: min(held, keep)}, tiles=tiles)

    def view(self, op: Op, state: State) -> State:
        if op.args[0] not in state.tiles:
            return state
        return replace(state, tiles={**state.tiles, op.result: state.tiles[op.args[0]]})

    def dot(self, op: Op, state: State) -> State:
        if not attr(op, "asynchronous"):
            return state
        borrowed = [state.tiles[a] for a in op.args if a in state.tiles]
        dots = (_oldest({ring: age} for ring, age in borrowed), *state.dots)
        kept = (*dots[: MOST_DOTS - 1], _oldest(dots[MOST_DOTS - 1 :])) if len(dots) > MOST_DOTS else dots
        unfinished = {v: min(place + 1, MOST_DOTS) for v, place in state.unfinished.items()}
        return replace(state, dots=kept, unfinished={**unfinished, op.result: 1})

    def wait(self, op: Op, state: State) -> State:
        pending = op.attrs["pending"]
        unfinished = {v: place for v, place in state.unfinished.items() if place <= pending}
        waited = replace(state, dots=state.dots[:pending], unfinished=unfinished)
        return _passed(waited, op.args, op.results)

    def loop(self, op: Op, state: State) -> State:
        """Walk the blocks until the state at the loop's head holds for every trip.

        At the head the op's results stand for the carried values.
        """
        reported = len(self.faults)
        head = _passed(state, op.args[CARRIERS[op.name] :], op.results)
        while True:
            del self.faults[reported:]
            leave, end = self.trip(op, head)
            again = head.join(_passed(end, op.blocks[-1].yielded, op.results))
            if again == head:
                return leave
            head = again

    def trip(self, op: Op, head: State) -> tuple[State, State]:
        """The states after leaving the loop here, and after one more trip."""
        body, params = op.blocks[-1], op.blocks[-1].params
        if op.name == "for":
            params = params[1:]
        else:
            cond = op.blocks[0]
            head = self.block(cond, _passed(head, op.results, cond.params))
        return head, self.block(body, _passed(head, op.results, params))

    def branch(self, op: Op, state: State) -> State:
        ends = [_passed(self.block(b, state), b.yielded, op.results) for b in op.blocks]
        return ends[0].join(ends[1])


def _passed(state: State, sources: Sequence[Value], targets: Sequence[Value]) -> State:
    """The state after values get other names: a target is unfinished if its source is."""
    unfinished = {v: place for v, place in state.unfinished.items() if v not in targets}
    for source, target in zip(sources, targets, strict=True):
        if source in state.unfinished:
            unfinished[target] = state.unfinished[source]
    return replace(state, unfinished=unfinished)


def may_take_unfinished(op: Op, operand: int) -> bool:
    """A running dot's result may go to the next dot's accumulator, a wait, or on around a loop."""
    if op.name == "dot":
        return operand == 2 and bool(attr(op, "asynchronous"))
    return op.name == "dot.wait" or operand >= CARRIERS.get(op.name, operand + 1)
