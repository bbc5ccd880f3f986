"""A ring for each of several products that read one tile: what a plan with the products far apart needs.

A slot is held from the first to the last of its readers. A pipelined loop gets each slot in one
stage, so two products that the plan puts in different stages cannot share a slot. The tile is loaded
once for each of them then: attention backward reads each block of Q (or K) twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tilec.ir.core import Block, Kernel, Op, Value, walk
from tilec.ir.ops import attr
from tilec.ir.ring_flow import VIEWS


def reread(kernel: Kernel) -> Kernel | None:
    """The AREF kernel in which the second product of a loop that reads a slot has a ring of its own, and
    so on; with rows split, the second of each part. None if no two products share a slot."""
    found = _Rings(kernel)
    return kernel.with_(body=_Copy(found).block(kernel.body)) if found.copies else None


class _Rings:
    """``copies``: the further rings of a ring; ``turn``: which of them a product reads."""

    def __init__(self, kernel: Kernel) -> None:
        self.copies: dict[Value, list[Value]] = {}
        self.turn: dict[Op, int] = {}
        self.names = {op.result.hint for op in walk(kernel.body) if op.name == "aref.new"}
        for block in (b for op in walk(kernel.body) if op.name == "for" for b in op.blocks):
            gets = [op for op in block.ops if op.name == "aref.get" and len(op.results) == 1]
            for ring in dict.fromkeys(get.args[0] for get in gets):
                self._read(ring, [_readers(block, get) for get in gets if get.args[0] is ring])

    def _read(self, ring: Value, groups: list[dict[Op, int]]) -> None:
        """``groups``: the products that each group reads the ring with, and which of its own each is."""
        readers = {op: n for group in groups for op, n in group.items()}
        most = max(readers.values(), default=0)
        if most and self.turn.keys().isdisjoint(readers):  # a product has one turn, so it counts for one ring
            self.turn.update(readers)
            self.copies[ring] = [Value(ring.type, self._name(ring, n)) for n in range(2, most + 2)]

    def _name(self, ring: Value, n: int) -> str:
        name = f"{ring.hint}_{n}"
        while name in self.names:
            name += "_"
        self.names.add(name)
        return name


def _readers(block: Block, get: Op) -> dict[Op, int]:
    """The products that read a slot's tile, numbered within their part of the rows."""
    tiles, seen = set(get.results), Counter[int | None]()
    found: dict[Op, int] = {}
    for op in block.ops:
        if op.name in VIEWS and op.args[0] in tiles:
            tiles.add(op.result)
        elif op.name == "dot" and not tiles.isdisjoint(op.args):
            found[op] = seen[attr(op, "part")]
            seen[attr(op, "part")] += 1
    return found


class _Copy:
    """Emits what belongs to a ring again for each of its further rings; ``names``: copy n of a value.

    A further ring is filled right before its reader: the load group fills rings in this order, and
    must not wait for a slot that is free only after a tile behind it has come.
    """

    def __init__(self, rings: _Rings) -> None:
        self.rings = rings
        self.home = {ring: ring for ring in rings.copies}
        self.names = {(r, n): v for r, found in rings.copies.items() for n, v in enumerate(found, 1)}
        self.waiting: dict[tuple[Value, int], list[Op]] = {}

    def block(self, block: Block) -> Block:
        puts = [op for op in block.ops if op.name == "aref.put" and op.args[0] in self.home]
        self.home.update({tile: put.args[0] for put in puts for tile in put.args[1:]})
        return Block(block.params, tuple(new for op in block.ops for new in self.op(op)))

    def op(self, op: Op) -> Iterator[Op]:
        turn = self.rings.turn.get(op, 0)
        if turn:
            for ring in dict.fromkeys(self.home[a] for a in op.args if a in self.home):
                yield from self.waiting.pop((ring, turn), ())
        yield op.with_(
            args=tuple(self.names.get((a, turn), a) for a in op.args),
            blocks=tuple(self.block(b) for b in op.blocks),
        )
        home = self._ring(op)
        if home is not None:
            yield from self._copies(op, home)

    def _copies(self, op: Op, ring: Value) -> Iterator[Op]:
        for n in range(1, len(self.rings.copies[ring]) + 1):
            again = self._again(op, ring, n)
            if op.name in ("aref.new", "aref.release"):
                yield again
            else:
                self.waiting.setdefault((ring, n), []).append(again)

    def _again(self, op: Op, ring: Value, n: int) -> Op:
        for r in op.results:
            self.home.setdefault(r, ring)
            self.names.setdefault((r, n), Value(r.type, r.hint))
        results = tuple(self.names[r, n] for r in op.results)
        return op.with_(args=tuple(self.names.get((a, n), a) for a in op.args), results=results)

    def _ring(self, op: Op) -> Value | None:
        """The ring that an op makes, fills, takes from or gives back to, or of whose tile it is a view."""
        named = op.results if op.name in ("aref.new", "load") else op.args[:1]
        own = op.name.startswith("aref.") or op.name in ("load", *VIEWS)
        return next((self.home[v] for v in named if v in self.home), None) if own else None
