"""Values between compute groups: AREF -> AREF, with a ring for each value that one group makes for another.

Who runs what follows from the values that are handed over. A group's roots are what it hands over,
and its writes; it runs all that they need, back to what it is given. A loaded tile that several
groups need is a ring that each of them reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, count

from tilec.ir.core import Block, Kernel, Op, Value, definitions, frozen, walk
from tilec.ir.errors import TilecValueError
from tilec.ir.ops import make, opdef
from tilec.ir.ring_flow import VIEWS
from tilec.ir.types import TileType
from tilec.passes.layout_rules import SHAPES
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


def hand_over(
    kernel: Kernel, cuts: tuple[Cut, ...], last: str, writers: Mapping[Op, str] | None = None
) -> Kernel:
    """The AREF kernel with a put, a get and a release for each cut; ``last`` is the group of all writes that
    ``writers`` has none for.

    In program order it means what it meant. TilecValueError V134 where a product, or an op
    that takes what is handed over, would be two groups'.
    """
    return _HandOver(kernel, cuts, last, writers or {}).kernel()


class _HandOver:
    def __init__(self, kernel: Kernel, cuts: tuple[Cut, ...], last: str, writers: Mapping[Op, str]) -> None:
        self.old, self.cuts, self.last, self.writers = kernel, cuts, last, writers
        self.defs = definitions(kernel.body)
        self.rings = self._rings()
        names = dict.fromkeys((*(c.source for c in cuts), *writers.values(), last))
        self.needs = {g: self._needs(g) for g in names}
        self.gets = {op.args[0]: self._groups(op) for op in walk(kernel.body) if op.name == "aref.get"}
        for op in (op for op in walk(kernel.body) if op.name == "dot"):
            self._only(op)

    def kernel(self) -> Kernel:
        body = self.block(self.old.body, {})
        rings = tuple(self.rings.values())
        return self.old.with_(body=Block(body.params, (*rings, *body.ops)))

    def _needs(self, group: str) -> set[Op]:
        """The ops that a group runs."""
        given = {c.value for c in self.cuts if c.target == group}
        todo = [c.value for c in self.cuts if c.source == group]
        todo += [a for op in walk(self.old.body) if self._writes(op, group) for a in op.args]
        before, seen = Reach(self.old.body).before, set[Value]()
        while todo:
            value = todo.pop()
            if value not in seen and value not in given:
                seen.add(value)
                todo += before.get(value, [])
        return {self.defs[v] for v in seen if v in self.defs}

    def _writes(self, op: Op, group: str) -> bool:
        return opdef(op.name).effect == "write" and self.writers.get(op, self.last) == group

    def _groups(self, op: Op) -> list[str]:
        """The groups that run an op."""
        return [g for g, ops in self.needs.items() if op in ops]

    def _only(self, op: Op) -> None:
        if len(self._groups(op)) != 1:
            raise TilecValueError(
                "V134", f"{where(op)}: this {op.name} would be of groups {self._groups(op)}"
            )

    def block(self, block: Block, table: Mapping[Given, Value]) -> Block:
        given, out = dict(table), list[Op]()
        local = [c for c in self.cuts if any(c.value in op.results for op in block.ops)]
        ends = {c: self._last_user(block, c) for c in local}
        for op in block.ops:
            out += [*self._views(op, given), *self._copies(op, given)]
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
        return op in self.needs[group] or self._writes(op, group)

    def _views(self, op: Op, given: dict[Given, Value]) -> list[Op]:
        """Changes of shape of what a group is given, for that group alone; but for broadcasts views of
        shared memory."""
        found = []
        for value, group in list(given) if op.name in SHAPES else ():
            if value is op.args[0] and op in self.needs[group]:
                new = make(op.name, (given[value, group],), loc=op.loc, hints=(op.result.hint,), **op.attrs)
                given[op.result, group] = new.result
                found.append(new)
        return found

    def _copies(self, op: Op, given: dict[Given, Value]) -> Iterator[Op]:
        """The op on what its group is given; gets and releases of loaded tiles for each group by name."""
        if op.name in RING_OPS:
            for number, group in enumerate(self.gets[op.args[0]]):
                results = op.results if not number else tuple(Value(r.type, r.hint) for r in op.results)
                if number:
                    given.update({(old, group): new for old, new in zip(op.results, results, strict=True)})
                yield op.with_(results=results, attrs=frozen(**{**op.attrs, "group": group}))
            return
        args = op.args
        if op.name not in SHAPES and not op.blocks:
            args = tuple(self._argument(op, a, given) for a in op.args)
        yield op.with_(args=args, blocks=tuple(self.block(b, given) for b in op.blocks))

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
        loc = self.defs[cut.value].loc
        put = make("aref.put", (ring, cut.value), loc=loc, group=cut.source)
        return put, make("aref.get", (ring,), loc=loc, hints=(cut.value.hint,), group=cut.target)

    def _rings(self) -> dict[Cut, Op]:
        """A ring for each cut, of a name of its own."""
        taken, found = {op.result.hint for op in walk(self.old.body) if op.name == "aref.new"}, {}
        for cut in self.cuts:
            t, op = cut.value.type, self.defs[cut.value]
            assert isinstance(t, TileType)
            name = f"{cut.value.hint or op.name}_of_{cut.source}"
            name = next(n for n in chain((name,), (f"{name}_{i}" for i in count(2))) if n not in taken)
            taken.add(name)
            found[cut] = make("aref.new", loc=op.loc, payload=(t,), hints=(name,))
        return found


def _release(ring: Op, group: str) -> Op:
    return make("aref.release", (ring.result,), loc=ring.loc, group=group)
