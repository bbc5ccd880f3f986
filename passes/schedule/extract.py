"""AREF kernel -> the `Problem` of a loop that fills a ring.

The ops of the loop body that cost something become nodes (`body.py`), values become
edges, rings become buffers. Registers are counted per thread of a node's warps; an
elementwise op overwrites an operand that nothing reads after it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import PurePath

from tilec.ir.core import Kernel, Op, Value, definitions, walk
from tilec.ir.ops import opdef
from tilec.ir.types import ArefType, TileType
from tilec.passes.open_masks import rare_ops
from tilec.passes.schedule import model
from tilec.passes.schedule.body import Body, reads
from tilec.passes.schedule.costs import Cost, cost, product_cycles
from tilec.passes.schedule.handed import handed_tiles, hands_over, put_cost, read_cost, role_hints
from tilec.passes.schedule.live import Registers
from tilec.passes.schedule.machines import Machine, limits
from tilec.passes.schedule.model import Buffer, Edge, Hint, Problem, Reader, Segment
from tilec.passes.thread_copies import by_threads, role_registers

WARPGROUP = 4


WITHIN = 8
HOLD_WITHIN = frozenset({"where", "tanh", "sin", "cos", "erf", "pow", "mod", "floordiv"})
LOADING, MANY = 56, 16  # registers for the places and bounds of a load of many elements in each thread


@dataclass(frozen=True, eq=False)
class LoopProblem:
    """A loop of a kernel and its problem; ``nodes`` has the IR ops of each op id, in program order."""

    loop: Op
    problem: Problem
    nodes: dict[str, tuple[Op, ...]]


@dataclass(frozen=True)
class Wishes:
    """What the author asked for; ``warps`` run each part of the kernel, ``parts`` are its sub-tiles.

    ``smem_reserved``: bytes of shared memory that the loop's rings cannot have.
    """

    stages: int | None = None
    warps: int = WARPGROUP
    parts: int = 1
    smem_reserved: int = 0


def loop_problem(kernel: Kernel, number: int, machine: Machine, wishes: Wishes = Wishes()) -> LoopProblem:
    """The problem of the kernel's ring loop ``number``, as `ring_loops` counts them."""
    loop = ring_loops(kernel)[number]
    return _Extractor(kernel, loop, machine, wishes).result(f"{kernel.name} loop {number}")


def loop_body(kernel: Kernel, number: int, machine: Machine, wishes: Wishes = Wishes()) -> Body:
    """The nodes of the loop and their costs."""
    return _Extractor(kernel, ring_loops(kernel)[number], machine, wishes).body


def ring_loops(kernel: Kernel) -> list[Op]:
    """Loops without ring loops inside that fill a ring, in program order."""
    return [op for op in walk(kernel.body) if op.name in ("for", "while") and _is_innermost(op)]


def _is_innermost(loop: Op) -> bool:
    inner = [op for op in walk(loop.blocks[-1]) if op.name in ("for", "while")]
    return bool(_puts(loop)) and not any(_puts(op) for op in inner)


def _puts(loop: Op) -> list[Op]:
    return [op for op in walk(loop.blocks[-1]) if op.name == "aref.put"]


@dataclass(frozen=True, eq=False)
class _Extractor:
    kernel: Kernel
    loop: Op
    machine: Machine
    wishes: Wishes
    names: dict[Op, str] = field(default_factory=dict)

    @cached_property
    def body(self) -> Body:
        copies = {load: p for p in _puts(self.loop) if not hands_over(p) for load in self._loads_of(p)}
        rare = rare_ops(self.loop, definitions(self.kernel.body)) if self.machine.product.asynchronous else ()
        ops = [op for op in self.loop.blocks[-1].ops if _may_cost(op) and op not in rare]
        costs = {op: self._cost(op, op in copies) for op in ops}
        return Body(self.loop, {op: c for op, c in costs.items() if c.reserve}, copies, self.wishes.parts > 1)

    @cached_property
    def live(self) -> Registers:
        return Registers(self.body, self.wishes.warps)

    def _loads_of(self, put: Op) -> list[Op]:
        tiles = set(put.args[1:])
        return [op for op in self.loop.blocks[-1].ops if not tiles.isdisjoint(op.results)]

    def _cost(self, op: Op, copied: bool) -> Cost:
        if hands_over(op):
            return put_cost(op, self.machine)
        own = cost(op, self.machine, warps=self.wishes.warps, through_ring=copied)
        read = read_cost(op, self._handed, self.machine)
        return chain([read, own]) if read is not None and own.reserve else own

    @cached_property
    def _handed(self) -> Mapping[Value, Op]:
        return handed_tiles(self.loop.blocks[-1])

    def result(self, name: str) -> LoopProblem:
        leads = list(self.body.members)
        for lead in leads:
            self.names[lead] = self._name(lead)
        ops = tuple(self._op(lead) for lead in leads)
        edges = [*self._value_edges(), *self._kept_edges(), *self._place_edges(),
                 *self._effect_edges(), *self._copy_edges()]  # fmt: skip
        limit = limits(self.machine, smem=self.wishes.smem_reserved)
        share = role_registers(self.kernel, self.wishes.parts, self.wishes.warps)[1]
        most, fixed = min(limit.reg_limit, share), limit.reg_fixed + self._within()
        limit = replace(limit, reg_limit=most, reg_fixed=fixed)
        problem = Problem(
            name, ops, _merged(edges), tuple(self._buffers()), limit, 1 + self.wishes.parts,
            tuple(self._hints()), _loc(self.loop),
        )  # fmt: skip
        return LoopProblem(self.loop, problem, {self.names[n]: m for n, m in self.body.members.items()})

    def _within(self) -> int:
        """Registers that a loop's masks and longer functions, or its own loads, hold while they go over a
        tile: groups of warps whose plan left none for them spilled (ptxas 13.5), and with these none did."""
        if not self.machine.product.asynchronous:
            return 0
        leads = [lead for lead in self.body.members if lead.name != "aref.put"]
        own = (op for lead in leads for op in (lead, *self.body.again(lead)))
        if any(op.name in ("load", "gather") and self._elements(op) >= MANY for op in own):
            return LOADING
        ops = [op for members in self.body.members.values() for op in members]
        return WITHIN if any(op.name in HOLD_WITHIN or op.attrs.get("share") for op in ops) else 0

    def _elements(self, op: Op) -> int:
        """How many elements of an op's result each thread has."""
        assert isinstance(op.result.type, TileType)
        return op.result.type.size // (32 * self.wishes.warps)

    def _name(self, lead: Op) -> str:
        """The op and its line; ops of one name and line are told apart by letters."""
        base = f"{_short(lead)}.{lead.loc.line}"
        taken = set(self.names.values())
        return next(n for n in itertools.chain((base,), (f"{base}{c}" for c in _letters())) if n not in taken)

    def _op(self, lead: Op) -> model.Op:
        total = self.total(lead)
        stream = lead in self.body.streams
        return model.Op(
            self.names[lead], total.reserve, total.cyc, self.live.held.get(lead, 0),
            self.live.pinned.get(lead, 0), 1 if stream else self.wishes.warps, stream, None, _loc(lead),
        )  # fmt: skip

    def latency(self, lead: Op) -> int:
        """Cycles from the issue of a node until its result can be used."""
        return self.total(lead).latency

    def total(self, lead: Op) -> Cost:
        """The cost of a node's ops, and of what it makes again for itself."""
        ops = (*self.body.again(lead), *self.body.members[lead])
        return chain([self.body.costs[op] for op in ops], parallel=lead in self.body.streams)

    # -- edges

    def _value_edges(self) -> Iterator[Edge]:
        for lead in self.body.members:
            for member in self.body.members[lead]:
                for place, value in enumerate(reads(member)):
                    yield from self._edges_of(lead, member, place, value)

    def _edges_of(self, lead: Op, member: Op, place: int, value: Value) -> Iterator[Edge]:
        for source, distance in self.body.sources(value):
            if source is lead and not distance:
                continue
            if source.name == member.name == "dot" and place == 2:
                yield self._edge(source, lead, product_cycles(source, self.machine), distance, mem="ord")
                continue
            smem = source.name == "aref.put"
            waits = smem or source.name == "dot"
            rd = self.latency(lead) if lead.name == "dot" else self.body.costs[member].cyc
            yield self._edge(
                source, lead, self.latency(source), distance,
                mem="smem" if smem else "reg", blocking=waits, rd=rd,
                same=not smem and lead not in self.body.streams,
            )  # fmt: skip

    def _kept_edges(self) -> Iterator[Edge]:
        """The registers of an overwritten result are held until the readers of the new value are done."""
        for lead, root in self.live.in_place.items():
            for e in list(self._value_edges()):
                if e.src == self.names[lead] and e.mem == "reg":
                    yield self._edge(
                        root, self._by_name[e.dst], self.latency(root), e.delta, rd=e.rd, same=True,
                        blocking=root.name == "dot",
                    )  # fmt: skip

    def _place_edges(self) -> Iterator[Edge]:
        """What a running product writes, and what it reads from registers, lies in one place: the next
        instance comes after the readers of this one. A second place would cost a move a register."""
        if not self.machine.product.asynchronous:
            return
        for lead in self.body.members:
            for source, value in self._near(lead):
                written = source.name == "dot" and source not in self.live.accumulators
                operand = lead.name == "dot" and value is lead.args[0] and source.name != "aref.put"
                if written or operand:
                    rd = self.latency(lead) if lead.name == "dot" else self._reading(lead, value)
                    yield self._edge(lead, source, rd, 1, mem="ord", same=True)

    def _near(self, lead: Op) -> Iterator[tuple[Op, Value]]:
        """What a node reads of the same iteration: (node, the value as it is read)."""
        for value in (v for m in self.body.members[lead] for v in reads(m)):
            for source, distance in self.body.sources(value):
                if source is not lead and not distance:
                    yield source, value

    def _reading(self, lead: Op, value: Value) -> int:
        """Cycles from a node's issue until its last op that reads a value is done."""
        ops = self.body.members[lead]
        last = max(n for n, op in enumerate(ops) if value in reads(op))
        return sum(self.body.costs[op].cyc for op in ops[: last + 1])

    @cached_property
    def _by_name(self) -> dict[str, Op]:
        return {name: lead for lead, name in self.names.items()}

    def _effect_edges(self) -> Iterator[Edge]:
        """Writes to memory, and reads of what is written, stay in program order, also across iterations."""
        written = {op.args[0] for op in walk(self.loop.blocks[-1]) if opdef(op.name).effect == "write"}
        yield from self._in_order([n for n, m in self.body.members.items() if _touches(m, written)])

    def _copy_edges(self) -> Iterator[Edge]:
        """The producer fills the rings in program order, iteration by iteration; where its threads do, it
        takes their time."""
        puts = [n for n in self.body.members if n in self.body.streams]
        busy = {p: self.total(p).cyc for p in puts if any(map(by_threads, self.body.members[p]))}
        yield from self._in_order(puts, busy)

    def _in_order(self, leads: list[Op], busy: Mapping[Op, int] | None = None) -> Iterator[Edge]:
        """``busy``: cycles after which the next one comes, if not at once."""
        pairs, busy = [(a, b, 0) for a, b in itertools.pairwise(leads)], busy or {}
        if len(leads) > 1 or busy:
            pairs.append((leads[-1], leads[0], 1))
        for a, b, distance in pairs:
            yield self._edge(a, b, busy.get(a, 1), distance, mem="ord", same=True)

    def _edge(
        self, src: Op, dst: Op, d: int, delta: int, *, mem: model.Memory = "reg", blocking: bool = False,
        rd: int = 0, same: bool = False,
    ) -> Edge:  # fmt: skip
        names = self.names
        return Edge(names[src], names[dst], max(1, d), delta, mem, blocking, rd, same, _loc(dst))

    # -- rings and wishes

    def _buffers(self) -> Iterator[Buffer]:
        for put in self.body.puts:
            if put in self.names:
                ring = put.args[0]
                kind = ring.type
                readers = tuple(Reader(self.names[r], self.latency(r)) for r in self.body.ring_readers(ring))
                size = kind.slot_bytes if isinstance(kind, ArefType) else 0
                most = max(self.machine.max_depth, self.stages or 1)
                yield Buffer(ring.hint, "smem", size, self.names[put], readers, most, loc=_loc(put))

    @property
    def stages(self) -> int | None:
        """The author's depth: that of the loop, or of the kernel."""
        own = self.loop.attrs.get("stages")
        return self.wishes.stages if own is None else max(own, 1)

    def _hints(self) -> Iterator[Hint]:
        if self.stages is not None:
            yield Hint("stages", "stages", self.stages, (), _loc(self.loop))
        yield from role_hints(self.body, self.names)


def chain(costs: list[Cost], parallel: bool = False) -> Cost:
    """Ops one after the other as one; with ``parallel`` copies that share one barrier.

    Each unit is held from the first issue on, for the sum of what the ops hold: within a
    node the order of units is left to the assembler.
    """
    held: dict[str, int] = {}
    at = cycles = latency = 0
    for c in costs:
        for s in c.reserve:
            held[s.unit] = held.get(s.unit, 0) + s.length
        latency = max(latency, at + c.latency)
        cycles += c.cyc
        at += max((s.length for s in c.reserve), default=0) if parallel else c.cyc
    return Cost(tuple(Segment(unit, 0, length) for unit, length in held.items()), cycles, latency)


def _merged(edges: list[Edge]) -> tuple[Edge, ...]:
    """Parallel edges of one kind become one, with the longest delay and read; in a fixed order."""
    best: dict[tuple[str, str, int, str], Edge] = {}
    for e in edges:
        key = (e.src, e.dst, e.delta, e.mem)
        old = best.get(key, e)
        best[key] = replace(
            e, d=max(e.d, old.d), rd=max(e.rd, old.rd), blocking=e.blocking or old.blocking,
            same=e.same or old.same,
        )  # fmt: skip
    return tuple(best.values())


def _may_cost(op: Op) -> bool:
    return hands_over(op) or (not op.name.startswith(("aref.", "turn.")) and op.name != "yield")


def _touches(members: tuple[Op, ...], written: set[Value]) -> bool:
    return any(op.args and op.args[0] in written for m in members for op in (m, *_inside(m)))


def _inside(op: Op) -> list[Op]:
    return [o for b in op.blocks for o in walk(b)]


def _short(lead: Op) -> str:
    verb = "put" if hands_over(lead) else "load"
    return f"{verb} {lead.args[0].hint}" if lead.name == "aref.put" else lead.name


def _letters() -> Iterator[str]:
    yield from "bcdefghijklmnopqrstuvwxyz"
    yield from (str(n) for n in range(2, 10000))


def _loc(op: Op) -> str | None:
    """File and line, without the folder: a problem is the same wherever its kernel lies."""
    return f"{PurePath(op.loc.file).name}:{op.loc.line}" if op.loc.line else None
