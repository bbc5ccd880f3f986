"""An AREF loop as a scheduling problem: operations, dependences, units and rings.

Frozen data without IR nodes, so it can be stored as JSON, hashed and compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from tilec.ir.core import Block, Kernel, Op, Value, walk
from tilec.ir.types import ArefType
from tilec.passes.schedule.machine import Machine, Units, cost, dot_cycles
from tilec.passes.sweep import CARRIED


@dataclass(frozen=True)
class Node:
    """An operation: units held from issue on, and cycles from issue to its result."""

    id: int
    op: str
    line: int
    reserve: Units
    latency: int


@dataclass(frozen=True)
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
    inner = list(walk(loop.blocks[-1]))
    if any(op.name in ("for", "while") and _puts(op) for op in inner):
        return False
    return bool(_puts(loop))


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
    """Finds the nodes of one loop body and what each reads, through free ops and rings."""

    def __init__(self, loop: Op, machine: Machine, stages: int | None) -> None:
        wish = loop.attrs.get("stages")
        self.loop, self.machine, self.stages = loop, machine, stages if wish is None else wish
        self.body = loop.blocks[-1]
        self.puts = [op for op in self.body.ops if op.name == "aref.put"]
        self.ring_loads = {a: put for put in self.puts for a in put.args[1:]}
        self.defs = {r: op for op in self.body.ops for r in op.results}
        self.nodes: dict[Op, Node] = {}
        for op in self.body.ops:
            self._add(op)

    def _add(self, op: Op) -> None:
        if op.name.startswith("aref.") or op.name == "yield":
            return
        through_ring = bool(op.results) and op.results[0] in self.ring_loads
        price = cost(op, self.machine, through_ring=through_ring)
        if price.reserve:
            self.nodes[op] = Node(len(self.nodes), op.name, op.loc.line, price.reserve, price.latency)

    def problem(self, kernel: str, number: int) -> Problem:
        edges = tuple(dict.fromkeys(e for op in self.nodes for e in self._edges(op)))
        rings = tuple(self._buffer(put) for put in self.puts)
        return Problem(
            kernel, number, self.loop.loc.line, self.machine.units, tuple(self.nodes.values()), edges, rings
        )

    def _edges(self, op: Op) -> Iterator[Edge]:
        target = self.nodes[op]
        for value in _read(op):
            for source, distance in self._sources(value):
                yield Edge(source, target.id, self._delay(source, op, value), distance)

    def _delay(self, source: int, op: Op, value: Value) -> int:
        """Products that chain through the accumulator follow each other without draining."""
        node = self._op(source)
        if op.name == "dot" and node.name == "dot" and self._direct(value) is node and value is op.args[2]:
            return dot_cycles(node)
        return self.nodes[node].latency

    def _op(self, node: int) -> Op:
        return list(self.nodes)[node]

    def _direct(self, value: Value) -> Op | None:
        """The op that makes a value, in this iteration or, by the yield, in the one before."""
        if value in self.defs:
            return self.defs[value]
        place = self._carried_place(value)
        return None if place is None else self.defs.get(self.body.yielded[place])

    def _carried_place(self, value: Value) -> int | None:
        extra = len(self.body.params) - len(self.loop.results)
        carried = self.body.params[extra:]
        return carried.index(value) if value in carried else None

    def _sources(self, value: Value, distance: int = 0, seen: frozenset[Value] = frozenset()) -> set[Source]:
        """The nodes that a value comes from, with the number of iterations in between."""
        if value in seen:
            return set()
        seen |= {value}
        op = self.defs.get(value)
        if op is None:
            place = self._carried_place(value)
            return set() if place is None else self._sources(self.body.yielded[place], distance + 1, seen)
        if op in self.nodes:
            return {(self.nodes[op].id, distance)}
        if op.name == "aref.get":
            put = next(p for p in self.puts if p.args[0] is op.args[0])
            return self._sources(put.args[1 + op.results.index(value)], distance, seen)
        return {s for a in _read(op) for s in self._sources(a, distance, seen)}

    def _buffer(self, put: Op) -> Buffer:
        ring = put.args[0]
        assert isinstance(ring.type, ArefType)
        writers = tuple(self.nodes[self.defs[a]].id for a in dict.fromkeys(put.args[1:]))
        readers = [op for op in self.nodes if any(self._reads_ring(a, ring) for a in _read(op))]
        holds = tuple((self.nodes[op].id, self.nodes[op].latency) for op in readers)
        lag = len(readers) == 1 and self._overlaps(readers[0])
        return Buffer(ring.hint, ring.type.slot_bytes, writers, holds, lag, self.stages)

    def _reads_ring(self, value: Value, ring: Value) -> bool:
        op = self.defs.get(value)
        while op is not None and op.name in ("reshape", "permute"):
            op = self.defs.get(op.args[0])
        return op is not None and op.name == "aref.get" and op.args[0] is ring

    def _overlaps(self, dot: Op) -> bool:
        return accumulator_place(self.loop) is not None and dot.name == "dot" and dot in self.body.ops


def _read(op: Op) -> list[Value]:
    """Operands, and what the op's blocks read from outside."""
    inner = [a for b in op.blocks for o in walk(b) for a in o.args]
    return [*op.args, *inner]


def accumulator_place(loop: Op) -> int | None:
    """The carried value of a loop that is only the accumulator of its only product.

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


def block_of(kernel: Kernel, op: Op) -> Block | None:
    """The block that holds an op."""
    found = [b for o in walk(kernel.body) for b in o.blocks if op in b.ops]
    return found[0] if found else None


__all__ = ["CARRIED", "Buffer", "Edge", "Node", "Problem", "accumulator_place", "problems", "ring_loops"]
