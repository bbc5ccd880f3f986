"""Refuses wrong schedules. Integers only: no solver, and no code shared with it.

Each rule yields sentences about what is wrong, each with the class of the rule in
brackets; no sentence means that the schedule obeys `model.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations, pairwise

from tilec.ir.errors import InternalError
from tilec.passes.schedule.model import Answer, Buffer, Hint, Op, Problem, Schedule

PRODUCER_REGISTERS = 24
WARP, WARPGROUP = 32, 4


def check(problem: Problem, answer: Answer) -> None:
    """InternalError X301 with all faults if an answer's schedule does not solve its problem."""
    schedule = answer.schedule
    faults = [] if schedule is None else list(violations(problem, schedule))
    if schedule is not None and answer.bound.value > schedule.ii:
        faults.append(f"[bound] {answer.bound.value} is above the interval {schedule.ii}")
    if answer.status == "optimal" and (schedule is None or answer.bound.value != schedule.ii):
        faults.append("[bound] called optimal, but the bound is not the interval")
    if faults:
        raise InternalError("X301", f"{problem.name}: wrong schedule: " + "; ".join(faults))


def violations(problem: Problem, schedule: Schedule) -> Iterator[str]:
    """What is wrong with a schedule."""
    shape = list(_shape(problem, schedule))
    yield from shape
    if not shape:
        for rule in RULES:
            yield from rule(problem, schedule)


def _shape(problem: Problem, s: Schedule) -> Iterator[str]:
    """All ops and buffers, and no others, with sensible numbers."""
    ops, rings = set(problem.op), {b.id for b in problem.buffers if not b.alloc}
    places = {b.id for b in problem.buffers if b.alloc}
    parts = (
        ("times", s.times, ops),
        ("groups", s.groups, ops),
        ("depths", s.depths, rings),
        ("offsets", s.offsets, places),
    )
    for name, have, want in parts:
        if set(have) != want:
            yield f"[shape] {name} are of {sorted(have)}, not of {sorted(want)}"
    if s.ii < 1:
        yield f"[shape] the interval is {s.ii}"
    if min(s.times.values(), default=0) < 0 or min(s.offsets.values(), default=0) < 0:
        yield "[shape] a time or an offset is negative"
    if set(s.registers) != set(s.groups.values()):
        yield f"[shape] budgets of groups {sorted(s.registers)}, not of {sorted(set(s.groups.values()))}"


def _dependences(problem: Problem, s: Schedule) -> Iterator[str]:
    for e in problem.edges:
        far = s.groups[e.src] != s.groups[e.dst]
        gap = s.times[e.dst] + e.delta * s.ii - s.times[e.src]
        if far and e.same:
            yield f"[together] {e.src} and {e.dst} are in groups {s.groups[e.src]} and {s.groups[e.dst]}"
        if gap < e.d:
            yield f"[dependence] {e.dst} issues {gap} cycles after {e.src}, not {e.d}"
        elif far and gap < e.d + problem.crossing(e):
            yield f"[crossing] {e.dst} issues {gap} cycles after {e.src}, not {e.d} + {problem.crossing(e)}"


def _groups(problem: Problem, s: Schedule) -> Iterator[str]:
    for o in problem.ops:
        if (s.groups[o.id] == 0) != o.stream:
            yield f"[stream] {o.id} is in group {s.groups[o.id]}"
        if not 0 <= s.groups[o.id] < problem.groups_max:
            yield f"[groups] {o.id} is in group {s.groups[o.id]} of at most {problem.groups_max}"


def _units(problem: Problem, s: Schedule) -> Iterator[str]:
    """Count what is held at each start of a reservation, where usage peaks, for each choice of predicates."""
    for unit, count in problem.limits.units:
        held = [
            (o, r.offset + s.times[o.id], r.length, r.amount)
            for o in problem.ops
            for r in o.reserve
            if r.unit == unit
        ]
        for _, at, length, _ in held:
            for arms in _arms(problem.ops) if length else ():
                users = [(o, t, n, k) for o, t, n, k in held if o.predicate is None or o.predicate in arms]
                used = sum(k * _copies(at - t, n, s.ii) for _, t, n, k in users)
                if used > count:
                    names = ", ".join(dict.fromkeys(o.id for o, t, n, _ in users if _copies(at - t, n, s.ii)))
                    yield f"[unit] {used} of {count} {unit} are held in cycle {at % s.ii}: {names}"
                    break


def _copies(since: int, length: int, ii: int) -> int:
    """Of a span's copies, one every ``ii`` cycles, those that are open ``since`` cycles after a start."""
    return since // ii - (since - length) // ii


def _arms(ops: Iterable[Op]) -> Iterator[frozenset[str]]:
    """Every way to choose a side for each predicate."""
    names = sorted({o.predicate.lstrip("!") for o in ops if o.predicate})
    for bits in range(1 << len(names)):
        yield frozenset(("!" if bits >> i & 1 else "") + n for i, n in enumerate(names))


def _waits(problem: Problem, s: Schedule) -> Iterator[str]:
    for v in problem.ops:
        if not _must_wait(problem, s, v):
            continue
        for o in problem.ops:
            since = (s.times[v.id] - s.times[o.id]) % s.ii
            if o is not v and s.groups[o.id] == s.groups[v.id] and since < o.cyc:
                yield f"[wait] {v.id} waits {since} cycles after {o.id} issues, which takes {o.cyc}"


def _must_wait(problem: Problem, s: Schedule, v: Op) -> bool:
    ins = [e for e in problem.edges if e.dst == v.id and e.src != v.id and e.mem != "ord"]
    if any(e.blocking or s.groups[e.src] != s.groups[v.id] for e in ins):
        return True
    mine = [b for b in problem.buffers if b.writer == v.id and not b.alloc and not v.stream]
    return any(s.groups[r.op] != s.groups[v.id] for b in mine for r in b.readers)


def _memory(problem: Problem, s: Schedule) -> Iterator[str]:
    for b in problem.buffers:
        depth = 1 if b.alloc else s.depths[b.id]
        if not 1 <= depth <= b.max_depth:
            yield f"[depth] {b.id} has {depth} slots, at most {b.max_depth}"
        for r in b.readers:
            free = s.times[b.writer] + depth * s.ii - s.times[r.op]
            if free < r.rd:
                yield f"[ring] {b.writer} fills {b.id} {free} cycles after {r.op} issues; it reads for {r.rd}"
    for mem, capacity in (("smem", problem.limits.smem), ("tmem", problem.limits.tmem)):
        rings = sum(b.size * s.depths[b.id] for b in problem.buffers if b.mem == mem and not b.alloc)
        top = max((s.offsets[b.id] + b.size for b in problem.buffers if b.mem == mem and b.alloc), default=0)
        if rings + top > capacity:
            yield f"[capacity] {mem}: {rings + top} of {capacity}"


def _placed(problem: Problem, s: Schedule) -> Iterator[str]:
    placed = [b for b in problem.buffers if b.alloc]
    for b in placed:
        if s.offsets[b.id] % b.align:
            yield f"[place] {b.id} starts at {s.offsets[b.id]}, not at a multiple of {b.align}"
        if _life(s, b) > s.ii:
            yield f"[place] {b.id} lives {_life(s, b)} cycles, more than {s.ii}"
    for a, b in combinations(placed, 2):
        beside = s.offsets[a.id] + a.size <= s.offsets[b.id] or s.offsets[b.id] + b.size <= s.offsets[a.id]
        meet = (s.times[b.writer] - s.times[a.writer]) % s.ii < _life(s, a)
        meet |= (s.times[a.writer] - s.times[b.writer]) % s.ii < _life(s, b)
        if a.mem == b.mem and meet and not beside:
            yield f"[place] {a.id} and {b.id} hold the same {a.mem} at once"


def _life(s: Schedule, b: Buffer) -> int:
    return max([1, *(s.times[r.op] + r.rd - s.times[b.writer] for r in b.readers)])


def _registers(problem: Problem, s: Schedule) -> Iterator[str]:
    limits = problem.limits
    for e in problem.ops:
        if e.stream:
            continue
        mine = [o for o in problem.ops if s.groups[o.id] == s.groups[e.id]]
        live = sum(o.regs * _live_copies(problem, s, o, e) for o in mine)
        used = limits.reg_fixed + sum(o.pinned for o in mine) + live
        if used > s.registers[s.groups[e.id]]:
            yield f"[registers] group {s.groups[e.id]} holds {used} at {e.id}, more than its budget"
    for g, budget in s.registers.items():
        most = max(limits.reg_limit, PRODUCER_REGISTERS)
        if not PRODUCER_REGISTERS <= budget <= most or budget % limits.reg_step:
            yield f"[budget] group {g} has {budget}, not a multiple of {limits.reg_step} up to {most}"
    if limits.reg_file is not None:
        total = sum(WARP * _warps(problem, s, g) * r for g, r in s.registers.items())
        if total > limits.reg_file:
            yield f"[budget] all groups take {total} registers of {limits.reg_file}"


def _live_copies(problem: Problem, s: Schedule, u: Op, e: Op) -> int:
    """Results of ``u`` that are held when ``e`` issues."""
    start, now = s.times[u.id], s.times[e.id]
    reads = [x for x in problem.edges if x.src == u.id and x.mem == "reg"]
    end = max((s.times[x.dst] + x.delta * s.ii + max(1, x.rd) for x in reads), default=start + 1)
    return (now - start) // s.ii - (now - end) // s.ii


def _warps(problem: Problem, s: Schedule, group: int) -> int:
    most = max(o.min_warps for o in problem.ops if s.groups[o.id] == group)
    return -(-most // WARPGROUP) * WARPGROUP


def _hints(problem: Problem, s: Schedule) -> Iterator[str]:
    for h in problem.hints:
        if not _granted(h, problem, s):
            yield f"[hint] {h.id}: {h.kind} {h.value or ', '.join(h.names)}"


def _granted(h: Hint, problem: Problem, s: Schedule) -> bool:
    if h.kind == "stages":
        named = h.names or tuple(s.depths)
        return all(s.depths[n] == h.value for n in named)
    if h.kind == "groups":
        return len(set(s.groups.values())) == h.value
    if h.kind == "registers":
        return all(r <= h.value for g, r in s.registers.items() if g)
    if h.kind == "ii":
        return s.ii <= h.value
    homes = [s.groups[n] for n in h.names]
    return len(set(homes)) == (1 if h.kind == "together" else len(homes))


def _deadlock(problem: Problem, s: Schedule) -> Iterator[str]:
    """Within one step no chain of waits may come back to its start: then some order runs the step."""
    after: dict[str, set[str]] = {o.id: set() for o in problem.ops}
    for src, dst in _in_step(problem, s):
        after[src].add(dst)
    done: set[str] = set()
    while True:
        ready = [v for v in after if v not in done and not any(v in after[u] for u in after if u not in done)]
        if not ready:
            break
        done.update(ready)
    if len(done) < len(after):
        yield f"[deadlock] these wait for each other: {', '.join(v for v in after if v not in done)}"


def _in_step(problem: Problem, s: Schedule) -> Iterator[tuple[str, str]]:
    """Who must run before whom in one step: values, ring slots, and each group's order."""
    for e in problem.edges:
        if e.delta + s.stage(e.dst) - s.stage(e.src) == 0:
            yield e.src, e.dst
    for b in problem.buffers:
        for r in b.readers:
            depth = 1 if b.alloc else s.depths[b.id]
            if depth + s.stage(b.writer) - s.stage(r.op) == 0:
                yield r.op, b.writer
    for group in sorted(set(s.groups.values())):
        mine = [v for v in problem.op if s.groups[v] == group]
        mine.sort(key=lambda v: s.times[v] % s.ii)
        yield from pairwise(mine)


RULES = (
    _dependences, _groups, _units, _waits, _memory, _placed, _registers, _hints, _deadlock,
)  # fmt: skip
