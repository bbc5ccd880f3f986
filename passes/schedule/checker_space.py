"""The checker's rules about room: units, rings, memories, registers. Integers only, no solver."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tilec.passes.schedule.model import Buffer, Problem, Schedule

LEAST_REGISTERS = 24  # setmaxnreg takes 24 to 256 (PTX ISA, setmaxnreg)


def units(problem: Problem, schedule: Schedule) -> Iterator[str]:
    """No cycle of the wheel holds more instances than there are; of opposite predicates one arm counts."""
    count = dict(problem.limits.units)
    for unit in dict.fromkeys((*count, *(s.unit for o in problem.ops for s in o.reserve))):
        at, held = _peak(problem, schedule, unit)
        total, there = (
            _arms((problem.op[v].predicate, amount) for v, amount in held.items()),
            count.get(unit, 0),
        )
        if total > there:
            who = ", ".join(f"{amount} by {v} (cycle {schedule.times[v]})" for v, amount in held.items())
            yield f"[unit] {total} of {there} {unit} are held at cycle {at} of {schedule.ii}: {who}"


def _peak(problem: Problem, schedule: Schedule, unit: str) -> tuple[int, dict[str, int]]:
    """The cycle in which most is held, and by whom: usage rises only where a segment starts."""
    segments = [
        (o.id, (schedule.times[o.id] + s.offset) % schedule.ii, s.length, s.amount)
        for o in problem.ops
        for s in o.reserve
        if s.unit == unit
    ]
    best: tuple[int, dict[str, int]] = (0, {})
    most = 0
    for _, at, _, _ in segments:
        held: dict[str, int] = {}
        for v, start, length, amount in segments:
            copies = length // schedule.ii + ((at - start) % schedule.ii < length % schedule.ii)
            if copies:
                held[v] = held.get(v, 0) + copies * amount
        total = _arms((problem.op[v].predicate, amount) for v, amount in held.items())
        if total > most:
            most, best = total, (at, held)
    return best


def _arms(held: Iterable[tuple[str | None, int]]) -> int:
    """Sum of amounts by predicate, where of "p" and "!p" only the larger sum counts."""
    total: dict[str, int] = {}
    for predicate, amount in held:
        total[predicate or ""] = total.get(predicate or "", 0) + amount
    names = {p.removeprefix("!") for p in total if p}
    return total.get("", 0) + sum(max(total.get(n, 0), total.get("!" + n, 0)) for n in names)


def rings(problem: Problem, schedule: Schedule) -> Iterator[str]:
    """The writer comes back to a slot after each reader has read it; an `alloc` buffer is one slot."""
    for b in problem.buffers:
        depth = 1 if b.alloc else schedule.depths[b.id]
        if not b.alloc and depth > b.max_depth:
            yield f"[ring] {b.id} has {depth} slots where {b.max_depth} are allowed"
        for r in b.readers:
            again = schedule.times[b.writer] + depth * schedule.ii
            read = schedule.times[r.op] + r.rd
            if again < read:
                yield (
                    f"[ring] {b.id}: {b.writer} writes slot 0 of {depth} again at cycle {again}, "
                    f"but {r.op} reads it until {read}"
                )


def capacities(problem: Problem, schedule: Schedule) -> Iterator[str]:
    """All slots of all rings, and the columns up to the last that `alloc` buffers take, fit."""
    room = {"smem": problem.limits.smem, "tmem": problem.limits.tmem}
    for mem in sorted({b.mem for b in problem.buffers}):
        mine = [b for b in problem.buffers if b.mem == mem]
        slots = sum(b.size * schedule.depths[b.id] for b in mine if not b.alloc)
        extent = max((schedule.offsets[b.id] + b.size for b in mine if b.alloc), default=0)
        if slots + extent > room.get(mem, 0):
            yield (
                f"[capacity] {mem} has {room.get(mem, 0)}, but rings take {slots} and placed buffers {extent}"
            )


def allocations(problem: Problem, schedule: Schedule) -> Iterator[str]:
    """`alloc` buffers live at most ii cycles, at aligned places, and never two at one place at a time."""
    placed = [b for b in problem.buffers if b.alloc]
    for i, b in enumerate(placed):
        if schedule.offsets[b.id] % b.align:
            yield f"[alloc] {b.id} is at {schedule.offsets[b.id]}, not at a multiple of {b.align}"
        life = _life(b, schedule)
        if life > schedule.ii:
            yield (
                f"[alloc] {b.id} has one slot for an interval of {schedule.ii}, but lives {life} cycles from "
                f"{b.writer} (cycle {schedule.times[b.writer]})"
            )
        for other in placed[:i]:
            if b.mem == other.mem and _overlap(b, other, schedule) and _meet(b, other, schedule):
                yield f"[alloc] {_lives(other, schedule)} and {_lives(b, schedule)} meet at the same place"


def _life(b: Buffer, schedule: Schedule) -> int:
    """Cycles from the writer's issue until the last reader has read."""
    ends = [schedule.times[r.op] + r.rd - schedule.times[b.writer] for r in b.readers]
    return max(1, *ends) if ends else 1


def _overlap(a: Buffer, b: Buffer, schedule: Schedule) -> bool:
    first, second = schedule.offsets[a.id], schedule.offsets[b.id]
    return first < second + b.size and second < first + a.size


def _meet(a: Buffer, b: Buffer, schedule: Schedule) -> bool:
    """Whether two lifetimes meet on the wheel of ii cycles."""
    after = (schedule.times[b.writer] - schedule.times[a.writer]) % schedule.ii
    before = (schedule.times[a.writer] - schedule.times[b.writer]) % schedule.ii
    return after < _life(a, schedule) or before < _life(b, schedule)


def _lives(b: Buffer, schedule: Schedule) -> str:
    start, at = schedule.times[b.writer], schedule.offsets[b.id]
    return f"{b.id} (cycles {start} to {start + _life(b, schedule)}, {b.mem} {at} to {at + b.size})"


def registers(problem: Problem, schedule: Schedule) -> Iterator[str]:
    """Where an op issues, fixed and pinned registers and the live values of its group fit its budget."""
    ends = {o.id: _end(problem, schedule, o.id) for o in problem.ops}
    for group in sorted(set(schedule.groups.values()) - {0}):
        mine = [o for o in problem.ops if schedule.groups[o.id] == group]
        pinned = sum(o.pinned for o in mine)
        for e in mine:
            live = {o.id: o.regs * _copies(schedule, o.id, ends[o.id], e.id) for o in mine}
            need = problem.limits.reg_fixed + pinned + sum(live.values())
            if need > schedule.registers[group]:
                held = ", ".join(f"{v} {regs}" for v, regs in live.items() if regs)
                yield (
                    f"[registers] group {group} has {schedule.registers[group]}, holds {need} when {e.id} "
                    f"issues: {problem.limits.reg_fixed} fixed, {pinned} pinned, {held or 'no values'}"
                )
                break


def _end(problem: Problem, schedule: Schedule, op: str) -> int:
    """The cycle from which the registers of a result are free."""
    readers = [e for e in problem.edges if e.src == op and e.mem == "reg"]
    ends = [schedule.times[e.dst] + e.delta * schedule.ii + max(1, e.rd) for e in readers]
    return max(ends, default=schedule.times[op] + 1)


def _copies(schedule: Schedule, value: str, end: int, at: str) -> int:
    """Iterations whose value is live when op ``at`` issues: those that began, less those that ended."""
    now = schedule.times[at]
    return max(0, (now - schedule.times[value]) // schedule.ii - (now - end) // schedule.ii)


def budgets(problem: Problem, schedule: Schedule) -> Iterator[str]:
    """Budgets are what the machine can give, each and together."""
    limits, total = problem.limits, 0
    for group, budget in sorted(schedule.registers.items()):
        if budget % limits.reg_step:
            yield f"[budget] group {group} has {budget} registers, not a multiple of {limits.reg_step}"
        if not LEAST_REGISTERS <= budget <= limits.reg_limit:
            yield f"[budget] group {group} has {budget}, not from {LEAST_REGISTERS} to {limits.reg_limit}"
        warps = max(o.min_warps for o in problem.ops if schedule.groups[o.id] == group)
        total += 32 * (-(-warps // 4) * 4) * budget
    if limits.reg_file is not None and total > limits.reg_file:
        yield f"[budget] all groups take {total} registers of a file of {limits.reg_file}"
