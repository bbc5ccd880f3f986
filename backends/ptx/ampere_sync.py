"""Rings of one group: which copies a get waits for, and which puts need a barrier before them.

All threads run one program. Each put is one commit group of cp.async; a get waits until at
most as many groups are under way as were committed after its own, then for all threads at a
barrier. A put may overwrite a slot once a barrier stands behind the last op that read it.
Both are found by abstract execution: what is unknown costs a wait, never a race.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tilec.ir.core import Block, Kernel, Op, Value, uses, walk
from tilec.ir.ops import attr

Counts = tuple[int, ...] | None  # for each full slot the groups committed after it; None: unknown
Flags = tuple[bool, ...] | None  # for each slot whether threads may still read it; None: unknown


@dataclass(frozen=True)
class Sync:
    """``pending`` of each get; the puts that need a barrier before them; the gets that nobody reads;
    the stores that find all slots empty, and may use their memory."""

    pending: Mapping[Op, int]
    barriers: frozenset[Op]
    unread: frozenset[Op]
    idle: frozenset[Op]


@dataclass(frozen=True)
class _Slots:
    """A ring at a point of the program: full, borrowed and empty slots, oldest first."""

    full: Counts
    held: Flags
    empty: Flags


State = dict[Value, _Slots]


def plan_sync(kernel: Kernel) -> Sync:
    """Waits and barriers of a SCHEDULED kernel of one group."""
    return _Walk(kernel).sync


class _Walk:
    def __init__(self, kernel: Kernel) -> None:
        read = uses(kernel.body)
        gets = [op for op in walk(kernel.body) if op.name == "aref.get"]
        self.unread = frozenset(g for g in gets if not any(r in read for r in g.results))
        self.pending: dict[Op, int] = {}
        self.barriers: set[Op] = set()
        self.idle: dict[Op, bool] = {}
        self.block(kernel.body, {})

    @property
    def sync(self) -> Sync:
        idle = frozenset(op for op, always in self.idle.items() if always)
        return Sync(self.pending, frozenset(self.barriers), self.unread, idle)

    def block(self, block: Block, state: State) -> State:
        for op in block.ops:
            state = self.op(op, state)
        return state

    def op(self, op: Op, state: State) -> State:
        if op.name == "aref.new":
            empty = (False,) * (attr(op, "depth") or 1)
            return {**state, op.result: _Slots((), (), empty)}
        steps = {
            "aref.put": self.put, "aref.get": self.get, "aref.release": self.release, "store": self.store,
        }  # fmt: skip
        if op.name in steps:
            return steps[op.name](op, state)
        if op.name == "if":
            return _join(*(self.block(b, state) for b in op.blocks))
        return self.loop(op, state) if op.blocks else state

    def loop(self, op: Op, state: State) -> State:
        """Zero or more rounds, walked until nothing changes."""
        while True:
            end = state
            for block in op.blocks:
                end = self.block(block, end)
            joined = _join(state, end)
            if joined == state:
                return state
            state = joined

    def put(self, op: Op, state: State) -> State:
        ring = op.args[0]
        if state[ring].empty is None or any((state[ring].empty or ())[:1]):
            self.barriers.add(op)
            state = _met(state)
        committed = {r: replace(s, full=_later(s.full)) for r, s in state.items()}
        mine = committed[ring]
        full = None if mine.full is None else (*mine.full, 0)
        return {**committed, ring: replace(mine, full=full, empty=mine.empty and mine.empty[1:])}

    def get(self, op: Op, state: State) -> State:
        ring, read = op.args[0], op not in self.unread
        mine = state[ring]
        pending = mine.full[0] if mine.full else 0
        self.pending[op] = min(self.pending.get(op, pending), pending)
        held = None if mine.held is None else (*mine.held, read)
        state = {**state, ring: replace(mine, full=mine.full and mine.full[1:], held=held)}
        return _met(state) if read else state

    def release(self, op: Op, state: State) -> State:
        mine = state[op.args[0]]
        if mine.held is None or mine.empty is None:
            return {**state, op.args[0]: replace(mine, empty=None)}
        count = max(0, len(mine.held) - attr(op, "keep"))
        empty = (*mine.empty, *mine.held[:count])
        return {**state, op.args[0]: replace(mine, held=mine.held[count:], empty=empty)}

    def store(self, op: Op, state: State) -> State:
        """A store may use the memory of the rings: until the next barrier threads read there."""
        empty = all(s.full == () and s.held == () for s in state.values())
        self.idle[op] = self.idle.get(op, True) and empty
        if not empty:
            return state
        return {ring: replace(s, empty=s.empty and (True,) * len(s.empty)) for ring, s in state.items()}


def _later(full: Counts) -> Counts:
    return None if full is None else tuple(n + 1 for n in full)


def _met(state: State) -> State:
    """After a barrier: what was released before it is read by nobody."""
    return {
        ring: s if s.empty is None else replace(s, empty=(False,) * len(s.empty)) for ring, s in state.items()
    }


def _join(a: State, b: State) -> State:
    return {ring: _joined(a[ring], b[ring]) for ring in a if ring in b}


def _joined(a: _Slots, b: _Slots) -> _Slots:
    return _Slots(_fewest(a.full, b.full), _any(a.held, b.held), _any(a.empty, b.empty))


def _fewest(a: Counts, b: Counts) -> Counts:
    if a is None or b is None or len(a) != len(b):
        return None
    return tuple(map(min, a, b))


def _any(a: Flags, b: Flags) -> Flags:
    if a is None or b is None or len(a) != len(b):
        return None
    return tuple(x or y for x, y in zip(a, b, strict=True))
