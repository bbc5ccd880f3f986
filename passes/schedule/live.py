"""Which registers the results of a loop's nodes hold: accumulators, and results that overwrite others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from tilec.ir.core import Op, Value
from tilec.ir.ops import opdef
from tilec.ir.types import TileType
from tilec.passes.schedule.body import ALONE, Body, reads

WARP = 32


@dataclass(frozen=True, eq=False)
class Registers:
    """32-bit registers per thread of nodes that ``warps`` warps run."""

    body: Body
    warps: int

    @cached_property
    def accumulators(self) -> dict[Op, Value]:
        """Products whose accumulator is a carried value, updated in place, with that value."""
        found = {}
        for op in self.body.block.ops:
            if op.name == "dot":
                param = self._carried_behind(op.args[2], op.result.type)
                if param is not None:
                    found[op] = param
        return found

    def _carried_behind(self, value: Value, kind: object) -> Value | None:
        """The carried value that an accumulator comes from, through products and elementwise ops."""
        if self.body.carried(value) is not None:
            return value
        op = self.body.defs.get(value)
        if op is None or not (op.name == "dot" or opdef(op.name).family.startswith("elementwise")):
            return None
        args = op.args[2:] if op.name == "dot" else op.args
        behind = (self._carried_behind(a, kind) for a in args if a.type == kind)
        return next((v for v in behind if v is not None), None)

    @cached_property
    def pinned(self) -> dict[Op, int]:
        """Registers of each carried accumulator, at the last product that writes it."""
        last = {param: op for op, param in self.accumulators.items()}
        return {op: self._size(op.result) for op in last.values()}

    @cached_property
    def in_place(self) -> dict[Op, Op]:
        """Nodes whose result takes the registers of another node's result, which ends there."""
        found: dict[Op, Op] = {}
        for lead in self.body.members:
            root = self._overwritten(lead) if lead.name not in ALONE else None
            if root is not None:
                found[lead] = found.get(root, root)
        return found

    def _overwritten(self, lead: Op) -> Op | None:
        for source, distance, value in self._inputs(lead):
            same = self._size(value) == self._result_size(lead) > 1
            if distance == 0 and same and not source.name.startswith("aref") and self._last(source, lead):
                return source
        return None

    def _last(self, source: Op, lead: Op) -> bool:
        """Whether every other reader of the source must come before ``lead`` anyway."""
        return all(r is lead or r in self._before[lead] for r in self._readers[source])

    @cached_property
    def _readers(self) -> dict[Op, list[Op]]:
        table: dict[Op, list[Op]] = {lead: [] for lead in self.body.members}
        for lead in self.body.members:
            for source, _, _ in self._inputs(lead):
                table[source].append(lead)
        return table

    @cached_property
    def _before(self) -> dict[Op, set[Op]]:
        """For each node those of the same iteration that it depends on."""
        table: dict[Op, set[Op]] = {}
        for lead in self.body.members:
            near = {s for s, distance, _ in self._inputs(lead) if distance == 0}
            table[lead] = near.union(*(table.get(s, set()) for s in near))
        return table

    def _inputs(self, lead: Op) -> Iterator[tuple[Op, int, Value]]:
        """What a node reads from others: (node, iterations ago, the value as it is read)."""
        for member in self.body.members[lead]:
            for value in reads(member):
                for source, distance in self.body.sources(value):
                    if source is not lead or distance:
                        yield source, distance, value

    @cached_property
    def held(self) -> dict[Op, int]:
        """Registers that a node's result holds: none if they are another's, or an accumulator's."""
        feeding = {s for dot in self.accumulators for s, _ in self.body.sources(dot.args[2])}
        held = {}
        for lead in self.body.members:
            free = lead in self.in_place or lead in self.accumulators or lead in feeding
            if not free and not lead.name.startswith("aref"):
                held[lead] = self._result_size(lead) + self._loaded(lead)
        return held

    def _loaded(self, lead: Op) -> int:
        """Registers of tiles that were handed over, which a node loads while it makes its result."""
        inputs = self._inputs(lead) if lead.name != "dot" else ()
        return sum(self._size(v) for source, _, v in inputs if source in self.body.handed.values())

    def _result_size(self, lead: Op) -> int:
        return sum(self._size(r) for r in lead.results)

    def _size(self, value: Value) -> int:
        if not isinstance(value.type, TileType) or not value.type.shape:
            return 0
        return -(-value.type.bytes // (4 * WARP * self.warps))
