"""An AREF loop as a scheduling problem: operations, dependences, units and rings.

Frozen data without IR nodes, so it can be stored as JSON, hashed and compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from tilec.ir.core import Kernel, Op, Value, walk
from tilec.ir.types import ArefType
from tilec.passes.schedule.machine import Machine, Units, cost, dot_cycles


@dataclass(frozen=True)
class Node:
    """An operation: units held from issue on, and cycles from issue to its result."""

    id: int
    op: str
    line: int
    reserve: Units
    latency: int


@dataclass(frozen=True, order=True)
class Edge:
    """``dst`` of iteration i issues at least ``latency`` after ``src`` of iteration i - distance."""

    src: int
    dst: int
    latency: int
    distance: int


@dataclass(frozen=True)
class Buffer:
    """A ring filled in this loop. ``readers`` are (node, cycles from issue until it has read).

    ``lag`` says that its one reader is a product whose accumulator feeds only
    itself, so that products may overlap. ``stages`` is the author's depth.
    """

    name: str
    bytes: int
    writers: tuple[int, ...]
    readers: tuple[tuple[int, int], ...]
    lag: bool
    stages: int | None


@dataclass(frozen=True)
class Problem:
    """One loop of a kernel. ``loop`` counts the loops with rings in program order."""

    kernel: str
    loop: int
    line: int
    units: tuple[str, ...]
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    buffers: tuple[Buffer, ...]

    def to_json(self) -> str:
        """The problem as canonical JSON."""
        return json.dumps(asdict(self), sort_keys=True)


def ring_loops(kernel: Kernel) -> list[Op]:
    """Loops without ring loops inside that fill a ring, in program order."""
    return [op for op in walk(kernel.body) if op.name in ("for", "while") and _is_innermost(op)]


def _is_innermost(loop: Op) -> bool:
    inner = [op for op in walk(loop.blocks[-1]) if op.name in ("for", "while")]
    return bool(_puts(loop)) and not any(_puts(op) for op in inner)


def _puts(loop: Op) -> list[Op]:
    return [op for op in walk(loop.blocks[-1]) if op.name == "aref.put"]


def problems(kernel: Kernel, machine: Machine, stages: int | None = None) -> tuple[Problem, ...]:
    """The problem of each ring loop of an AREF kernel. ``stages`` is the default depth wish."""
    return tuple(
        _Extractor(loop, machine, stages).problem(kernel.name, number)
        for number, loop in enumerate(ring_loops(kernel))
    )


Source = tuple[int, int]  # (node, iterations ago)


class _Extractor:
    """Finds the nodes of one loop body and what each reads, through free ops and rings.

    An `if` or loop inside is one node that holds its units for all it contains.
    """

    def __init__(self, loop: Op, machine: Machine, stages: int | None) -> None:
        wish = loop.attrs.get("stages")
        self.loop, self.machine, self.stages = loop, machine, stages if wish is None else wish
        self.body = loop.blocks[-1]
        self.puts = _puts(loop)
        self.ring_loads = {tile for put in self.puts for tile in put.args[1:]}
        self.defs = {r: op for op in self.body.ops for r in op.results}
        self.nodes: dict[Op, Node] = {}
        for op in self.body.ops:
            self._add(op)
        self.by_id = list(self.nodes)
        self.overlaps = accumulator_place(loop) is not None

    def _add(self, op: Op) -> None:
        if op.name.startswith("aref.") or op.name == "yield":
            return
        through_ring = not self.ring_loads.isdisjoint(op.results)
        price = cost(op, self.machine, through_ring=through_ring)
        if price.reserve:
            self.nodes[op] = Node(len(self.nodes), op.name, op.loc.line, price.reserve, price.latency)

    def problem(self, kernel: str, number: int) -> Problem:
        edges = tuple(sorted({e for op in self.nodes for e in self._edges(op)}))
        rings = tuple(self._buffer(put) for put in self.puts)
        nodes = tuple(self.nodes.values())
        return Problem(kernel, number, self.loop.loc.line, self.machine.units, nodes, edges, rings)

    def _edges(self, op: Op) -> Iterator[Edge]:
        target = self.nodes[op].id
        for value in _read(op):
            for source, distance in self._sources(value, 0, frozenset()):
                yield Edge(source, target, self._delay(self.by_id[source], op, value), distance)

    def _delay(self, source: Op, op: Op, value: Value) -> int:
        """Products that chain through the accumulator follow each other without draining."""
        chained = source.name == op.name == "dot" and value is op.args[2] and self._maker(value) is source
        return dot_cycles(source) if chained else self.nodes[source].latency

    def _maker(self, value: Value) -> Op | None:
        """The op that makes a value, in this iteration or, through the yield, in the one before."""
        carried = self._carried(value)
        return self.defs.get(value if carried is None else carried)

    def _carried(self, value: Value) -> Value | None:
        """What the previous iteration yields for a carried parameter."""
        params = self.body.params[len(self.body.params) - len(self.loop.results) :]
        return self.body.yielded[params.index(value)] if value in params else None

    def _sources(self, value: Value, distance: int, seen: frozenset[Value]) -> set[Source]:
        """The nodes that a value comes from, with the number of iterations in between."""
        if value in seen:
            return set()
        seen |= {value}
        carried = self._carried(value)
        if carried is not None:
            return self._sources(carried, distance + 1, seen)
        op = self.defs.get(value)
        if op is None:
            return set()
        if op in self.nodes:
            return {(self.nodes[op].id, distance)}
        return {s for a in self._behind(op, value) for s in self._sources(a, distance, seen)}

    def _behind(self, op: Op, value: Value) -> list[Value]:
        """What a free op's result comes from; for a get, the tile that was put."""
        if op.name != "aref.get":
            return _read(op)
        put = next(p for p in self.puts if p.args[0] is op.args[0])
        return [put.args[1 + op.results.index(value)]]

    def _buffer(self, put: Op) -> Buffer:
        """The ring of a put; put and gets inside an inner op belong to that op's node."""
        ring = put.args[0]
        assert isinstance(ring.type, ArefType)
        writers = [self._holder(op) for tile in put.args[1:] for op in (self._load(tile),)]
        readers = [op for op in self.nodes if self._reads_ring(op, ring)]
        ids = tuple(dict.fromkeys(self.nodes[op].id for op in writers if op is not None))
        holds = tuple((self.nodes[op].id, self.nodes[op].latency) for op in readers)
        lag = self.overlaps and len(readers) == 1 and readers[0].name == "dot"
        return Buffer(ring.hint, ring.type.slot_bytes, ids, holds, lag, self.stages)

    def _load(self, tile: Value) -> Op:
        return next(op for op in walk(self.body) if tile in op.results)

    def _holder(self, op: Op) -> Op | None:
        """The op of the loop body that is or contains an op."""
        inside = (n for n in self.nodes if n is op or any(op is o for b in n.blocks for o in walk(b)))
        return next(inside, None)

    def _reads_ring(self, op: Op, ring: Value) -> bool:
        gets = {o.results for o in walk(self.body) if o.name == "aref.get" and o.args[0] is ring}
        tiles = {tile for results in gets for tile in results}
        return any(self._tile_behind(a) in tiles for a in _read(op)) or any(
            o.results in gets for b in op.blocks for o in walk(b)
        )

    def _tile_behind(self, value: Value) -> Value:
        op = self.defs.get(value)
        while op is not None and op.name in ("reshape", "permute"):
            value = op.args[0]
            op = self.defs.get(value)
        return value


def _read(op: Op) -> list[Value]:
    """Operands, and what the op's blocks read from outside."""
    return [*op.args, *(a for b in op.blocks for o in walk(b) for a in o.args)]


def accumulator_place(loop: Op) -> int | None:
    """The carried value of a `for` that is only the accumulator of its only product.

    None if the loop has no product or several, or if anything else reads the
    accumulator: then products of different iterations must not overlap.
    """
    body = loop.blocks[-1]
    dots = [op for op in walk(body) if op.name == "dot"]
    if loop.name != "for" or len(dots) != 1 or dots[0] not in body.ops:
        return None
    dot, params = dots[0], body.params[1:]
    if dot.args[2] not in params:
        return None
    place = params.index(dot.args[2])
    read = [a for op in walk(body) for a in op.args]
    alone = read.count(dot.result) == 1 and read.count(params[place]) == 1
    return place if alone and body.yielded[place] is dot.result else None
