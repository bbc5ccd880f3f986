"""An order of the ops of a block in which fewer registers are held.

For a loop whose products leave few registers: ptxas places instructions within what the order
of the program needs, and spills what does not fit. What has an effect stays in its order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import or_

from tilec.backends.ptx.liveness import op_uses
from tilec.backends.ptx.pressure import PRODUCT, RENAMES, is_tight, registers
from tilec.ir.core import Block, Kernel, Value
from tilec.ir.ops import opdef, written_tensors
from tilec.ir.types import TileType

STATES = 16  # partial orders that are looked at together


def frugal(kernel: Kernel) -> Kernel:
    """The kernel with layouts, with the ops of blocks with products in another order if it holds too much."""
    if not is_tight(kernel):
        return kernel
    written = frozenset(written_tensors(kernel.body))
    return kernel.with_(body=_block(kernel.body, written))


def _block(block: Block, written: frozenset[Value]) -> Block:
    ops = tuple(
        op.with_(blocks=tuple(_block(b, written) for b in op.blocks)) if op.blocks else op for op in block.ops
    )
    block = Block(block.params, ops)
    if sum(op.name == "dot" for op in ops) < 2:
        return block
    return Block(block.params, tuple(ops[i] for i in _order(_Graph(block, written))))


@dataclass(frozen=True)
class _State:
    """Ops that are placed: as bits, in order; what they hold, and held at most."""

    placed: int = 0
    order: tuple[int, ...] = ()
    held: int = 0
    peak: int = 0

    @property
    def rank(self) -> tuple[int, int, tuple[int, ...]]:
        return self.peak, self.held, self.order


class _Graph:
    """The ops of a block by number: what must come before each, and what it makes and ends."""

    def __init__(self, block: Block, written: frozenset[Value]) -> None:
        self.ops = block.ops
        self.number = {r: i for i, op in enumerate(self.ops) for r in op.results}
        self.local = {*block.params, *self.number}
        self.before = [_bits(self.number[a] for a in op_uses(op) if a in self.number) for op in self.ops]
        self._keep_effects(written)
        self.size = {v: 0 if self._is_name(v) else registers(v) for v in self.local}
        self._copies_hold_nothing()
        self.reads = [{self.root(a) for a in op_uses(op) if a in self.local} for op in self.ops]
        self.users: dict[Value, int] = {}
        for i, found in enumerate(self.reads):
            for value in found:
                self.users[value] = self.users.get(value, 0) | 1 << i

    def _keep_effects(self, written: frozenset[Value]) -> None:
        """Effects stay in order, and before the products behind them; a slot is read before its release."""
        last: int | None = None
        for i, op in enumerate(self.ops):
            fixed = bool(op.blocks) or opdef(op.name).effect not in ("pure", "read")
            if (fixed or op.name == "dot") and last is not None:
                self.before[i] |= 1 << last
            if op.name == "aref.release":
                self.before[i] |= _bits(j for j in range(i) if any(map(_in_memory, self.ops[j].args)))
            if fixed or not written.isdisjoint(op.args):
                self.before[i] |= 0 if last is None else 1 << last
                last = i
        self.before[-1] |= (1 << len(self.ops) - 1) - 1  # the yield

    def _is_name(self, value: Value) -> bool:
        return value in self.number and self.ops[self.number[value]].name in RENAMES

    def _copies_hold_nothing(self) -> None:
        for op in self.ops:
            if op.name == "aref.put":
                self.size.update(dict.fromkeys((a for a in op.args if a in self.size), 0))

    def root(self, value: Value) -> Value:
        """The value whose registers these are."""
        while self._is_name(value) and self.ops[self.number[value]].args:
            source = self.ops[self.number[value]].args[0]
            if source not in self.local:
                break
            value = source
        return value

    def ready(self, state: _State) -> list[int]:
        """The ops that may come next; if one of them costs nothing, only that."""
        found = [i for i, b in enumerate(self.before) if not state.placed >> i & 1 and not b & ~state.placed]
        free = [i for i in found if self.ops[i].name != "dot" and not self._made(i)]
        return free[:1] or found

    def _made(self, i: int) -> int:
        return sum(self.size[r] for r in self.ops[i].results)

    def placed(self, state: _State, i: int) -> _State:
        placed = state.placed | 1 << i
        ended = sum(self.size[v] for v in self.reads[i] if not self.users[v] & ~placed)
        held = state.held + self._made(i) - ended
        peak = max(state.peak, held + PRODUCT * (self.ops[i].name == "dot"))
        return _State(placed, (*state.order, i), held, peak)


def _order(graph: _Graph) -> tuple[int, ...]:
    """The order of the least peak that is found, of equal ones the one nearest to the program's."""
    start = _State()
    for i in range(len(graph.ops)):
        start = graph.placed(start, i)
    states = [_State()]
    for _ in graph.ops:
        found: dict[int, _State] = {}
        for new in (graph.placed(s, i) for s in states for i in graph.ready(s)):
            old = found.get(new.placed)
            found[new.placed] = new if old is None else min(old, new, key=lambda s: s.rank)
        states = sorted(found.values(), key=lambda s: s.rank)[:STATES]
    return states[0].order if states[0].peak < start.peak else start.order


def _bits(numbers: Iterator[int]) -> int:
    return reduce(or_, (1 << n for n in numbers), 0)


def _in_memory(value: Value) -> bool:
    return isinstance(value.type, TileType) and value.type.space == "smem"
