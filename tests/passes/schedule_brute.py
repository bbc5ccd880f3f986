"""The least interval of a small problem by exhaustive search, judged by the checker alone.

All groupings, all residues, all stages; depths and budgets are then the least that the times
allow, offsets are tried. A branch is left only where a rule that `model.py` states is broken by
what is already placed. Stages have no bound in the model; here an op is at most ``span`` stages
later than its ties ask for, so a plan may exist where this search finds none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations, product

from tilec.passes.schedule.checker import violations
from tilec.passes.schedule.model import Buffer, Op, Problem, Schedule

FAR, LEAST = 10**6, 24
Gaps = dict[tuple[str, str], int]  # (u, v) -> least number of cycles (or stages) from u to v
Wheel = dict[tuple[str, int], dict[str | None, int]]  # (unit, cycle) -> instances held by predicate


def least_interval(problem: Problem, most: int, span: int = 3) -> Schedule | None:
    """A plan of the least interval up to ``most``."""
    return next((s for ii in range(1, most + 1) if (s := a_plan(problem, ii, span))), None)


def a_plan(problem: Problem, ii: int, span: int = 3) -> Schedule | None:
    """Some plan of an interval, None if there is none."""
    for groups in groupings(problem):
        search = Brute(problem, ii, span, groups)
        if plan := next(search.plans(), None):
            return plan
    return None


def groupings(problem: Problem) -> Iterator[dict[str, int]]:
    """Who may run where, groups 1.. numbered by first use."""
    free = [o.id for o in problem.ops if not o.stream]
    for choice in product(range(1, problem.groups_max), repeat=len(free)):
        groups = {o.id: 0 for o in problem.ops} | dict(zip(free, choice, strict=True))
        first = list(dict.fromkeys(choice))
        apart = any(e.same and groups[e.src] != groups[e.dst] for e in problem.edges)
        if first == sorted(first) and first == list(range(1, len(first) + 1)) and not apart:
            yield groups


@dataclass
class Brute:
    """The plans of one interval and one grouping."""

    problem: Problem
    ii: int
    span: int
    groups: dict[str, int]

    def __post_init__(self) -> None:
        ids = [o.id for o in self.problem.ops]
        self.gaps = closed(ids, dict(self._gaps()))
        self.order = _connected(ids, self.gaps)
        self.waiting = {v for v in ids if self._waits(v)}

    def plans(self) -> Iterator[Schedule]:
        """All of them that the checker accepts."""
        if any(self.gaps.get((v, v), 0) > 0 for v in self.groups) or not self._room({}, self.gaps):
            return
        for residues in self._residues({}, {}):
            for stages in self._stages(residues):
                times = {v: residues[v] + self.ii * stages[v] for v in self.groups}
                for plan in self._completed(times):
                    if not any(violations(self.problem, plan)):
                        yield plan

    def _gaps(self) -> Iterator[tuple[tuple[str, str], int]]:
        found: Gaps = {}
        for e in self.problem.edges:
            far = self.groups[e.src] != self.groups[e.dst]
            cycles = e.d + (self.problem.crossing(e) if far else 0) - e.delta * self.ii
            found[e.src, e.dst] = max(cycles, found.get((e.src, e.dst), -FAR))
        for b in self.problem.buffers:
            for r in b.readers:
                cycles = r.rd - (1 if b.alloc else b.max_depth) * self.ii
                found[r.op, b.writer] = max(cycles, found.get((r.op, b.writer), -FAR))
        yield from found.items()

    def _waits(self, v: str) -> bool:
        for e in self.problem.edges:
            far = self.groups[e.src] != self.groups[v]
            if e.dst == v and e.src != v and e.mem != "ord" and (e.blocking or far):
                return True
        rings = [b for b in self.problem.buffers if b.writer == v and not b.alloc]
        far = any(self.groups[r.op] != self.groups[v] for b in rings for r in b.readers)
        return far and not self.problem.op[v].stream

    def _residues(self, placed: dict[str, int], wheel: Wheel) -> Iterator[dict[str, int]]:
        """The first op may as well issue in cycle 0: all times can be moved together."""
        if len(placed) == len(self.order):
            yield placed
            return
        v = self.order[len(placed)]
        for r in range(self.ii) if placed else (0,):
            more = self._held(wheel, self.problem.op[v], r)
            fits = more is not None and all(self._fit(v, r, u, placed[u]) for u in placed)
            if fits and self._room({**placed, v: r}, self.gaps):
                yield from self._residues({**placed, v: r}, more or {})

    def _fit(self, v: str, rv: int, u: str, ru: int) -> bool:
        """Whether two residues leave some distance, and no wait in the middle of the other op."""
        there = -(-(self.gaps.get((u, v), -FAR) - rv + ru) // self.ii)
        back = -(-(self.gaps.get((v, u), -FAR) - ru + rv) // self.ii)
        if there + back > 0:
            return False
        if self.groups[u] != self.groups[v]:
            return True
        late = u in self.waiting and (ru - rv) % self.ii < self.problem.op[v].cyc
        return not late and not (v in self.waiting and (rv - ru) % self.ii < self.problem.op[u].cyc)

    def _held(self, wheel: Wheel, o: Op, r: int) -> Wheel | None:
        """The wheel with one op more; None where a unit has too few instances."""
        count, more = dict(self.problem.limits.units), dict(wheel)
        for s in o.reserve:
            for c in range(r + s.offset, r + s.offset + s.length):
                held = dict(more.get((s.unit, c % self.ii), {}))
                held[o.predicate] = held.get(o.predicate, 0) + s.amount
                more[s.unit, c % self.ii] = held
                arms = {(p or "").strip("!"): 0 for p in held}
                for p, amount in held.items():
                    arms[(p or "").strip("!")] = max(arms[(p or "").strip("!")], amount)
                if sum(arms.values()) > count[s.unit]:
                    return None
        return more

    def _room(self, residues: dict[str, int], gaps: Gaps) -> bool:
        """Whether memories and registers could do, if no distance were longer than it must be."""

        def least(u: str, v: str) -> int:
            gap = gaps.get((u, v), -FAR)
            if u in residues and v in residues:
                gap += (residues[v] - residues[u] - gap) % self.ii
            return gap

        room = self._capacities()
        for b in self.problem.buffers:
            room[b.mem] -= 0 if b.alloc else b.size * max(1, -(-self._life(b, least) // self.ii))
        placed = [b for b in self.problem.buffers if b.alloc and b.writer in residues]
        for a, b in combinations(placed, 2):
            after = (residues[b.writer] - residues[a.writer]) % self.ii
            before = (residues[a.writer] - residues[b.writer]) % self.ii
            meet = after < self._life(a, least) or before < self._life(b, least)
            if a.mem == b.mem and meet and a.size + b.size > room[a.mem]:
                return False
        need = {g: [LEAST] for g in self.groups.values()}
        for e in self.problem.ops:
            need[self.groups[e.id]] += [] if e.stream else [self._pressure(e, residues, least)]
        return min(room.values()) >= 0 and self._registers({g: max(n) for g, n in need.items()})

    def _capacities(self) -> dict[str, int]:
        return {"smem": self.problem.limits.smem, "tmem": self.problem.limits.tmem}

    def _life(self, b: Buffer, least: Callable[[str, str], int]) -> int:
        return max([1, *(least(b.writer, r.op) + r.rd for r in b.readers)])

    def _registers(self, need: dict[int, int]) -> bool:
        """Whether every group, and all of them, can have what they need."""
        limits, total = self.problem.limits, 0
        for g, registers in need.items():
            warps = max(o.min_warps for o in self.problem.ops if self.groups[o.id] == g)
            total += 32 * -(-warps // 4) * 4 * self._stepped(registers)
        enough = limits.reg_file is None or total <= limits.reg_file
        return enough and self._stepped(max(need.values())) <= limits.reg_limit

    def _stepped(self, registers: int) -> int:
        step = self.problem.limits.reg_step
        return -(-registers // step) * step

    def _pressure(self, e: Op, residues: dict[str, int], least: Callable[[str, str], int]) -> int:
        """Registers that are held at least when an op issues."""
        held = self.problem.limits.reg_fixed
        for o in self.problem.ops:
            if self.groups[o.id] == self.groups[e.id]:
                known = o.id in residues and e.id in residues
                since = (residues[e.id] - residues[o.id]) % self.ii if known else self.ii - 1
                held += o.pinned + o.regs * max(0, -(-(self._held_for(o, least) - since) // self.ii))
        return held

    def _stages(self, residues: dict[str, int]) -> Iterator[dict[str, int]]:
        """Stages from 0 that keep every distance; ops that nothing ties together start alike."""
        ids = list(self.groups)
        apart = {(u, v): gap - residues[v] + residues[u] for (u, v), gap in self.gaps.items()}
        need = closed(ids, {ends: -(-gap // self.ii) for ends, gap in apart.items()})
        cycles = {(u, v): k * self.ii + residues[v] - residues[u] for (u, v), k in need.items()}
        if all(need.get((v, v), 0) <= 0 for v in ids) and self._room(residues, cycles):
            for found in self._staged({}, need):
                low = min(found.values())
                yield {v: s - low for v, s in found.items()}

    def _staged(self, placed: dict[str, int], need: Gaps) -> Iterator[dict[str, int]]:
        if len(placed) == len(self.order):
            yield placed
            return
        v = self.order[len(placed)]
        tied = [u for u in placed if (u, v) in need or (v, u) in need]
        lows = [placed[u] + need[u, v] for u in tied if (u, v) in need]
        highs = [placed[u] - need[v, u] for u in tied if (v, u) in need]
        low = max(lows, default=min(highs, default=self.span) - self.span)
        high = min(highs, default=low + self.span)
        for s in range(low, min(high, low + self.span) + 1):
            yield from self._staged({**placed, v: s}, need)

    def _completed(self, times: dict[str, int]) -> Iterator[Schedule]:
        """With the fewest slots and registers, at every choice of places."""
        depths = {b.id: self._depth(b, times) for b in self.problem.buffers if not b.alloc}
        budgets = {g: self._budget(g, times) for g in sorted(set(self.groups.values()))}
        places, room = [b for b in self.problem.buffers if b.alloc], self._capacities()
        for offsets in product(*(range(0, max(0, room[b.mem] - b.size) + 1, b.align) for b in places)):
            placed = {b.id: o for b, o in zip(places, offsets, strict=True)}
            yield Schedule(self.ii, times, self.groups, depths, placed, budgets)

    def _depth(self, b: Buffer, times: dict[str, int]) -> int:
        return -(-self._life(b, lambda u, v: times[v] - times[u]) // self.ii)

    def _budget(self, group: int, times: dict[str, int]) -> int:
        """Iteration by iteration of a long run, what is held when the ops of a group issue."""
        mine = [o for o in self.problem.ops if self.groups[o.id] == group]
        stages, most = max(times.values()) // self.ii, LEAST
        for e in mine if group else ():
            now = times[e.id] + (stages + 8) * self.ii
            held = self.problem.limits.reg_fixed + sum(o.pinned for o in mine)
            for o in mine:
                start, end = times[o.id], times[o.id] + self._held_for(o, lambda u, v: times[v] - times[u])
                runs = (i * self.ii for i in range(2 * stages + 9))
                held += o.regs * sum(start + i <= now < end + i for i in runs)
            most = max(most, held)
        return self._stepped(most)

    def _held_for(self, o: Op, least: Callable[[str, str], int]) -> int:
        """Cycles from an op's issue until its registers are free."""
        reads = [x for x in self.problem.edges if x.src == o.id and x.mem == "reg"]
        return max((least(o.id, x.dst) + x.delta * self.ii + max(1, x.rd) for x in reads), default=1)


def closed(ids: list[str], gaps: Gaps) -> Gaps:
    """The longest distances that follow from some."""
    found = dict(gaps)
    for w, u, v in product(ids, repeat=3):
        if (u, w) in found and (w, v) in found:
            found[u, v] = max(found.get((u, v), -FAR), found[u, w] + found[w, v])
    return found


def _connected(ids: list[str], gaps: Gaps) -> list[str]:
    """An order in which each op is tied to one before it, where any is."""
    order = [ids[0]]
    while len(order) < len(ids):
        rest = [v for v in ids if v not in order]
        tied = [v for v in rest if any((u, v) in gaps or (v, u) in gaps for u in order)]
        order.append((tied or rest)[0])
    return order
