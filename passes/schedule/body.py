"""A loop body of an AREF kernel, cut into the nodes that a schedule places.

A node is one op that costs something, with the ops fused into it: a tile op that only
one other op of the loop reads runs right before that op, and all loads of one put are
one copy. Scalars, changes of shape and ring ops belong to no node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from tilec.ir.core import Block, Op, Value, uses, walk
from tilec.ir.ops import attr
from tilec.passes.schedule.costs import Cost

Source = tuple[Op, int]  # (the lead op of a node, iterations ago)
ASYNCHRONOUS = ("dot",)
ALONE = ("dot", "load", "gather", "store", "scatter", "for", "while", "if")
FREE = ("reshape", "permute", "slice", "broadcast")  # pass a tile on


@dataclass(frozen=True, eq=False)
class Body:
    """The loop and what its ops cost; ``costs`` has the ops that cost something.

    ``copies`` maps loads that fill a ring to their put. ``split``: the rows are split over
    groups; then each group makes for itself what does not come from its rows.
    """

    loop: Op
    costs: Mapping[Op, Cost]
    copies: Mapping[Op, Op]
    split: bool = False

    @property
    def block(self) -> Block:
        """The loop's body."""
        return self.loop.blocks[-1]

    @cached_property
    def defs(self) -> dict[Value, Op]:
        """The op of the body that makes each value."""
        return {r: op for op in self.block.ops for r in op.results}

    @cached_property
    def puts(self) -> list[Op]:
        """Every put of the loop, also those inside inner ops."""
        return [op for op in walk(self.block) if op.name == "aref.put"]

    @cached_property
    def handed(self) -> dict[Value, Op]:
        """The put of each ring that a compute group fills, by ring: an op that costs something."""
        return {p.args[0]: p for p in self.puts if p in self.costs}

    @cached_property
    def streams(self) -> frozenset[Op]:
        """The puts of the load group."""
        return frozenset(p for p in self.puts if p not in self.costs)

    @cached_property
    def lead(self) -> dict[Op, Op]:
        """For each op that costs something the op whose node it belongs to."""
        found: dict[Op, Op] = {}
        for op in reversed(self.block.ops):
            if op in self.copies:
                found[op] = self.copies[op]
            elif op in self.costs and op not in self.shared:
                found[op] = self._lead_of(op, found)
        return found

    @cached_property
    def shared(self) -> frozenset[Op]:
        """Ops that every group runs again, where the rows are split: they see no product and no ring, and
        nothing that a part reads for itself."""
        if not self.split:
            return frozenset()
        rows: set[Op] = set()
        while True:
            more = {op for op in self.block.ops if op not in rows and self._has_rows(op, rows)}
            if not more:
                found = (op for op in self.costs if op not in rows and op not in self.copies)
                return frozenset(op for op in found if not self.handed or len(self._takers(op, rows)) > 1)
            rows |= more

    def _takers(self, op: Op, rows: set[Op]) -> set[str]:
        """The roles that need an op without rows; what the loop carries may be needed by all."""
        found, todo = set[str](), list(op.results)
        while todo:
            for user in self._users.get(todo.pop(), []):
                if user.name == "yield":
                    found |= {"", "yield"}
                elif user in rows or user.name == "aref.put":
                    found.add(self._role(user))
                else:
                    todo += user.results
        return found

    def _role(self, op: Op) -> str:
        """The group of an op with rows: that of the tiles that it takes."""
        todo, seen = [op], set[Op]()
        while todo:
            op = todo.pop(0)
            if op.name in ("aref.get", "aref.put"):
                return str(attr(op, "group"))
            seen.add(op)
            values = [v for a in reads(op) for v in (a, self.carried(a)) if v is not None]
            todo += [self.defs[v] for v in values if v in self.defs and self.defs[v] not in seen]
        return ""

    def _has_rows(self, op: Op, rows: set[Op]) -> bool:
        if op.name in ("dot", "aref.get") or op.blocks or op.attrs.get("part") is not None:
            return True
        values = [v for a in op.args for v in (a, self.carried(a)) if v is not None]
        return any(self.defs.get(v) in rows for v in values)

    def again(self, lead: Op) -> list[Op]:
        """The shared ops that a node needs, in program order."""
        found: set[Op] = set()
        todo = [a for m in self.members[lead] for a in m.args]
        while todo:
            op = self.defs.get(todo.pop())
            if op is not None and op not in found and op not in self.lead:
                found.add(op)
                todo += op.args
        return [op for op in self.block.ops if op in found and op in self.shared]

    def _lead_of(self, op: Op, found: Mapping[Op, Op]) -> Op:
        if op.name in ALONE or op.name.startswith("atomic"):
            return op
        readers = {found.get(r, r) for r in self._costly_readers(op)}
        only = next(iter(readers)) if len(readers) == 1 else op
        return op if only.name in ALONE or only.name == "yield" else only

    def _costly_readers(self, op: Op) -> set[Op]:
        """Ops that read the op's results, through ops without a node; `yield` for the next iteration."""
        found: set[Op] = set()
        todo = list(op.results)
        while todo:
            for user in self._users.get(todo.pop(), []):
                if user in self.costs or user.name in ("yield", "aref.put") or user.blocks:
                    found.add(user)
                else:
                    todo += user.results
        return found

    @cached_property
    def _users(self) -> dict[Value, list[Op]]:
        table: dict[Value, list[Op]] = {}
        for op in self.block.ops:
            for value in dict.fromkeys(reads(op)):
                table.setdefault(value, []).append(op)
        return table

    @cached_property
    def members(self) -> dict[Op, tuple[Op, ...]]:
        """The ops of each node in program order, by lead; nodes in program order of their leads."""
        table: dict[Op, list[Op]] = {}
        for op in self.block.ops:
            if op in self.lead:
                table.setdefault(self.lead[op], []).append(op)
        return {op: tuple(table[op]) for op in self.block.ops if op in table}

    def carried(self, value: Value) -> Value | None:
        """What the previous iteration yields for a carried parameter."""
        params = self.block.params[len(self.block.params) - len(self.loop.results) :]
        return self.block.yielded[params.index(value)] if value in params else None

    def sources(self, value: Value) -> dict[Source, None]:
        """The nodes that a value comes from, with the number of iterations in between, in order."""
        return dict.fromkeys(self._sources(value, 0, frozenset()))

    def _sources(self, value: Value, distance: int, seen: frozenset[Value]) -> Iterable[Source]:
        if value in seen:
            return
        seen |= {value}
        carried = self.carried(value)
        if carried is not None:
            yield from self._sources(carried, distance + 1, seen)
        op = self.defs.get(value)
        if op is None:
            return
        if op.name == "aref.get" and op.args[0] in self.handed:
            yield self.handed[op.args[0]], distance
            return
        if op in self.lead:
            yield self.lead[op], distance
            return
        for arg in self._behind(op, value):
            yield from self._sources(arg, distance, seen)

    def _behind(self, op: Op, value: Value) -> list[Value]:
        """What a free op's result comes from; for a get, the tile that was put."""
        if op.name != "aref.get":
            return reads(op)
        put = next((p for p in self.puts if p.args[0] is op.args[0]), None)
        return [] if put is None else [put.args[1 + op.results.index(value)]]

    def ring_of(self, value: Value) -> Value | None:
        """The ring in which a tile lies."""
        get = get_behind(value, self.defs)
        return get.args[0] if get is not None else None

    def ring_readers(self, ring: Value) -> list[Op]:
        """The leads of the nodes that read a ring's tiles, or hold such a reader inside."""
        found: dict[Op, None] = {}
        for op in self.block.ops:
            if op in self.lead and op not in self.copies and self._reads_ring(op, ring):
                found[self.lead[op]] = None
        return list(found)

    def _reads_ring(self, op: Op, ring: Value) -> bool:
        if any(self.ring_of(a) is ring for a in reads(op)):
            return True
        return any(o.name == "aref.get" and o.args[0] is ring for b in op.blocks for o in walk(b))


def get_behind(value: Value, defs: Mapping[Value, Op]) -> Op | None:
    """The get that a tile is of, seen through what passes it on."""
    op = defs.get(value)
    while op is not None and op.name in FREE:
        op = defs.get(op.args[0])
    return op if op is not None and op.name == "aref.get" else None


def reads(op: Op) -> list[Value]:
    """Operands, and what the op's blocks read from outside."""
    inside = [a for b in op.blocks for a in uses(b)]
    return [*op.args, *inside]
