"""A SCHEDULED kernel in cycles: what its groups really run, on the units of the machine model.

`simulate` runs a plan. This runs the program that was made of it: prologue, steps, waits, turns,
slots, as each group has them. Groups run in order; an op waits for its operands, for its units
(first come, first served), for slots, turns and products. Costs are those of `costs`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tilec.ir.core import Kernel, Op, Value, walk
from tilec.ir.errors import InternalError
from tilec.ir.interp import consumer, interpret, ring_consumers
from tilec.ir.ops import attr
from tilec.ir.types import ArefType
from tilec.passes.schedule.costs import FREE, Cost, cost
from tilec.passes.schedule.extract import chain
from tilec.passes.schedule.handed import hands_over, put_cost, read_cost
from tilec.passes.schedule.machines import Machine

SHORT = 16  # cycles: warps take turns on a pipe, so what holds it no longer does not queue


@dataclass(frozen=True)
class Ran:
    """A group ran an op from cycle ``start`` to ``end``; ``waited`` cycles it could not go on before."""

    group: str
    op: Op
    start: int
    end: int
    waited: int


@dataclass(frozen=True)
class Replay:
    """``events`` in order of time; ``released``: when each consumer gave back each slot, by ring."""

    events: tuple[Ran, ...]
    released: Mapping[str, Mapping[str, tuple[int, ...]]]

    @property
    def cycles(self) -> int:
        """Until the last group has ended."""
        return max((e.end for e in self.events), default=0)

    def interval(self, ring: str) -> float:
        """Cycles per slot of a ring, from a third of all that the run fills to the last but one."""
        times = next(iter(self.released[ring].values()))
        first, last = len(times) // 3, len(times) - 2
        return (times[last] - times[first]) / (last - first)


def replay(kernel: Kernel, machine: Machine, grid: Sequence[int], args: Sequence[Any]) -> Replay:
    """Run one program instance per point of the grid, one after the other; ``args`` as for `interpret`."""
    programs: dict[str, list[Op]] = defaultdict(list)
    interpret(kernel, grid, args, observe=lambda group, op: programs[group].append(op))
    return _Engine(kernel, machine, programs).run()


@dataclass
class _Ring:
    depth: int
    full: list[int] = field(default_factory=list)
    got: dict[str, int] = field(default_factory=dict)
    done: dict[str, list[int]] = field(default_factory=dict)


class _Engine:
    """The state of the machine: when groups, units, rings, turns and products are ready."""

    def __init__(self, kernel: Kernel, machine: Machine, programs: Mapping[str, list[Op]]) -> None:
        self.machine, self.programs = machine, programs
        self.now = dict.fromkeys(programs, 0)
        self.position = dict.fromkeys(programs, 0)
        self.units: dict[str, int] = defaultdict(int)
        self.ready: dict[Value, int] = {}
        self.turns: dict[str, list[int]] = defaultdict(list)
        self.dots: dict[str, list[int]] = defaultdict(list)
        self.events: list[Ran] = []
        self.warps = _warps(kernel)
        self.rings = {op.result: _ring(op, names) for op, names in _rings(kernel)}
        self.sources = {r: op for op in walk(kernel.body) for r in op.results}
        puts = [op for op in walk(kernel.body) if op.name == "aref.put"]
        self.copies = {
            op: [s for s in map(self.sources.get, op.args[1:]) if s and s.name == "load"] for op in puts
        }
        self.copied = {load for loads in self.copies.values() for load in loads}
        handed = {op.args[0] for op in puts if hands_over(op)}
        self.handed = {
            r: op for r, op in self.sources.items() if op.name != "aref.get" or op.args[0] in handed
        }

    def run(self) -> Replay:
        while steps := list(self._steps()):
            start, group = min(steps)
            op = self.programs[group][self.position[group]]
            waited = start - self.now[group]
            self.now[group] = self._execute(group, op, start)
            self.position[group] += 1
            self.events.append(Ran(group, op, start, self.now[group], waited))
        stuck = [g for g, program in self.programs.items() if self.position[g] < len(program)]
        if stuck:
            raise InternalError("X302", f"the replay stands still: {', '.join(stuck)}")
        released = {
            v.hint or f"ring {i}": {c: tuple(t) for c, t in r.done.items()}
            for i, (v, r) in enumerate(self.rings.items())
        }
        return Replay(tuple(sorted(self.events, key=lambda e: e.start)), released)

    def _steps(self) -> Iterator[tuple[int, str]]:
        """The groups whose next op can start at a known cycle, with that cycle."""
        for group, program in self.programs.items():
            if self.position[group] < len(program):
                needs = list(self._needs(group, program[self.position[group]]))
                if None not in needs:
                    yield max(n for n in (self.now[group], *needs) if n is not None), group

    def _needs(self, group: str, op: Op) -> Iterator[int | None]:
        """Cycles before which an op cannot start; None where that is not known yet."""
        yield from (self.ready.get(a, 0) for a in op.args)
        if op.name == "aref.put":
            ring = self.rings[op.args[0]]
            yield from (_at(done, len(ring.full) - ring.depth) for done in ring.done.values())
        elif op.name == "aref.get":
            ring = self.rings[op.args[0]]
            full = _at(ring.full, ring.got[consumer(op, group)])
            yield None if full is None else full + self.machine.sync
        elif op.name == "turn.enter":
            over = self.turns[op.attrs["chain"]]
            yield None if len(over) % op.attrs["of"] != op.attrs["index"] else (over or [0])[-1]
        elif op.name == "dot.wait":
            running = self.dots[group]
            yield from running[: len(running) - op.attrs["pending"]]
        else:
            yield from (self.units[s.unit] for s in self._cost(group, op).reserve)

    def _cost(self, group: str, op: Op) -> Cost:
        if hands_over(op):
            return put_cost(op, self.machine)
        if op in self.copied or op.name.startswith(("aref.", "turn.", "dot.")):
            return FREE
        found = cost(op, self.machine, warps=self.warps.get(group, 4))
        read = read_cost(op, self.handed, self.machine) if found.reserve else None
        found = chain([read, found]) if read is not None else found
        short = all(s.length <= SHORT for s in found.reserve)
        return replace(found, reserve=()) if short else found

    def _execute(self, group: str, op: Op, start: int) -> int:
        """Do an op; the cycle from which the group goes on."""
        if hands_over(op):
            self.rings[op.args[0]].full.append(start + self._cost(group, op).latency)
        elif op.name == "aref.put":
            return self._put(op, start)
        if op.name == "aref.get":
            self.rings[op.args[0]].got[consumer(op, group)] += 1
        elif op.name == "aref.release":
            self._release(self.rings[op.args[0]], consumer(op, group), attr(op, "keep"), start)
        elif op.name == "turn.exit":
            self.turns[op.attrs["chain"]].append(start + self.machine.barrier)
        return self._compute(group, op, start)

    def _compute(self, group: str, op: Op, start: int) -> int:
        spent = self._cost(group, op)
        for s in spent.reserve:
            self.units[s.unit] = start + s.offset + s.length
        asynchronous = bool(op.attrs.get("asynchronous"))
        if asynchronous:
            self.dots[group].append(start + spent.latency)
        else:
            self.ready.update(dict.fromkeys(op.results, start + spent.latency))
        waits = op.name == "dot" and not asynchronous
        return start + (spent.latency if waits else spent.cyc)

    def _put(self, op: Op, start: int) -> int:
        """Copies one after the other; a slot is full when the last one is there."""
        now, there = start, start
        for load in self.copies[op]:
            spent = cost(load, self.machine, through_ring=True)
            (held,) = spent.reserve
            begin = max(now, self.units[held.unit])
            self.units[held.unit] = begin + held.length
            now, there = begin + spent.cyc, max(there, begin + spent.latency)
        self.rings[op.args[0]].full.append(there)
        return now

    def _release(self, ring: _Ring, who: str, keep: int, now: int) -> None:
        while ring.got[who] - len(ring.done[who]) > keep:
            ring.done[who].append(now)


def _at(times: list[int], index: int) -> int | None:
    """An entry; 0 before the first, None where it has not happened."""
    if index < 0:
        return 0
    return times[index] if index < len(times) else None


def _copies(kernel: Kernel) -> dict[Op, list[Op]]:
    """The loads that each put copies."""
    loads = {r: op for op in walk(kernel.body) if op.name == "load" for r in op.results}
    puts = [op for op in walk(kernel.body) if op.name == "aref.put"]
    return {op: [loads[a] for a in op.args[1:] if a in loads] for op in puts}


def _warps(kernel: Kernel) -> dict[str, int]:
    found = {"main": int(kernel.attrs.get("num_warps", 4))}
    for op in walk(kernel.body):
        if op.name == "warp_groups":
            found.update(zip(op.attrs["names"], op.attrs["warps"], strict=True))
    return found


def _rings(kernel: Kernel) -> Iterator[tuple[Op, tuple[str, ...]]]:
    consumers = ring_consumers(kernel)
    for op in walk(kernel.body):
        if op.name == "aref.new":
            yield op, consumers[op.result]


def _ring(op: Op, names: Sequence[str]) -> _Ring:
    assert isinstance(op.result.type, ArefType)
    return _Ring(op.result.type.depth or 1, [], dict.fromkeys(names, 0), {n: [] for n in names})
