"""Values between compute groups: AREF -> AREF, with a ring for each value that one group makes for another.

Who runs what follows from the values that are handed over. A group's roots are what it hands over,
and the writes if it is the last one; it runs all that they need, back to what it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tilec.ir.core import Block, Kernel, Op, Value, definitions, frozen, walk
from tilec.ir.errors import TilecValueError
from tilec.ir.ops import make, opdef
from tilec.ir.ring_flow import VIEWS
from tilec.ir.types import TileType
from tilec.passes.rewrite import where
from tilec.passes.schedule.reach import Reach

RING_OPS = ("aref.get", "aref.release")
Given = tuple[Value, str]  # (value, group)


@dataclass(frozen=True)
class Cut:
    """A tile that group ``source`` makes and hands to group ``target``."""

    value: Value
    source: str
    target: str


def hand_over(kernel: Kernel, cuts: tuple[Cut, ...], last: str) -> Kernel:
    """The AREF kernel with a put, a get and a release for each cut; ``last`` is the group that writes.

    In program order it means what it meant. TilecValueError V134 where a loaded tile, or an op
    that takes what is handed over, would be two groups'.
    """
    return _HandOver(kernel, cuts, last).kernel()


class _HandOver:
    def __init__(self, kernel: Kernel, cuts: tuple[Cut, ...], last: str) -> None:
        self.old, self.cuts, self.last = kernel, cuts, last
        self.rings = {c: _ring(c, number) for number, c in enumerate(cuts)}
        self.defs = definitions(kernel.body)
        self.needs = {g: self._needs(g) for g in dict.fromkeys((*(c.source for c in cuts), last))}
        self.gets = {op.args[0]: self._only(op) for op in walk(kernel.body) if op.name == "aref.get"}

    def kernel(self) -> Kernel:
        body = self.block(self.old.body, {})
        rings = tuple(self.rings.values())
        return self.old.with_(body=Block(body.params, (*rings, *body.ops)))

    def _needs(self, group: str) -> set[Op]:
        """The ops that a group runs."""
        given = {c.value for c in self.cuts if c.target == group}
        todo = [c.value for c in self.cuts if c.source == group]
        if group == self.last:
            todo += [a for op in walk(self.old.body) if opdef(op.name).effect == "write" for a in op.args]
        before, seen = Reach(self.old.body).before, set[Value]()
        while todo:
            value = todo.pop()
            if value not in seen and value not in given:
                seen.add(value)
                todo += before.get(value, [])
        return {self.defs[v] for v in seen if v in self.defs}

    def _only(self, op: Op) -> str:
        """The one group that runs an op."""
        found = [g for g, ops in self.needs.items() if op in ops]
        if len(found) != 1:
            raise TilecValueError("V134", f"{where(op)}: this {op.name} would be of groups {found}")
        return found[0]

    def block(self, block: Block, table: Mapping[Given, Value]) -> Block:
        given, out = dict(table), list[Op]()
        local = [c for c in self.cuts if any(c.value in op.results for op in block.ops)]
        ends = {c: self._last_user(block, c) for c in local}
        for op in block.ops:
            out += [*self._views(op, given), self._copy(op, given)]
            for cut in (c for c in local if c.value in op.results):
                put, get = self._pair(cut)
                given[cut.value, cut.target] = get.result
                out += [put, get]
            out += [_release(self.rings[c], c.target) for c in local if ends[c] is op]
        return Block(block.params, tuple(out))

    def _last_user(self, block: Block, cut: Cut) -> Op:
        """The last op of a block that reads, or holds a reader of, what the target is given."""
        names, last = {cut.value}, None
        for op in block.ops:
            inner = (op, *(o for b in op.blocks for o in walk(b)))
            if any(self._runs(o, cut.target) and not names.isdisjoint(o.args) for o in inner):
                last = op
                names |= set(op.results) if op.name in VIEWS else set()
        if last is None:
            raise TilecValueError("V134", f"{cut.target} does not use {cut.value.hint or 'a value'}")
        return last

    def _runs(self, op: Op, group: str) -> bool:
        return op in self.needs[group] or (opdef(op.name).effect == "write" and group == self.last)

    def _views(self, op: Op, given: dict[Given, Value]) -> list[Op]:
        """Changes of shape of what a group is given are views of shared memory, for that group alone."""
        found = []
        for value, group in list(given) if op.name in VIEWS else ():
            if value is op.args[0] and op in self.needs[group]:
                new = make(op.name, (given[value, group],), loc=op.loc, hints=(op.result.hint,), **op.attrs)
                given[op.result, group] = new.result
                found.append(new)
        return found

    def _copy(self, op: Op, given: Mapping[Given, Value]) -> Op:
        """The op on what its group is given; gets and releases of loaded tiles under its group's name."""
        args = op.args
        if op.name not in VIEWS and not op.blocks:
            args = tuple(self._argument(op, a, given) for a in op.args)
        attrs = op.attrs
        if op.name in RING_OPS:
            attrs = frozen(**{**attrs, "group": self.gets[op.args[0]]})
        return op.with_(args=args, attrs=attrs, blocks=tuple(self.block(b, given) for b in op.blocks))

    def _argument(self, op: Op, value: Value, given: Mapping[Given, Value]) -> Value:
        takers = [g for v, g in given if v is value and self._runs(op, g)]
        if not takers:
            return value
        runners = [g for g in self.needs if self._runs(op, g)]
        if len(runners) > 1:
            raise TilecValueError("V134", f"{where(op)}: groups {runners} would run this {op.name}")
        return given[value, takers[0]]

    def _pair(self, cut: Cut) -> tuple[Op, Op]:
        ring = self.rings[cut].result
        put = make("aref.put", (ring, cut.value), group=cut.source)
        return put, make("aref.get", (ring,), hints=(cut.value.hint,), group=cut.target)


def _ring(cut: Cut, number: int) -> Op:
    t = cut.value.type
    assert isinstance(t, TileType)
    name = f"{cut.value.hint or f'value{number}'}_of_{cut.source}"
    return make("aref.new", payload=(t,), hints=(name,))


def _release(ring: Op, group: str) -> Op:
    return make("aref.release", (ring.result,), group=group)
