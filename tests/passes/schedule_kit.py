"""Small random scheduling problems, and schedules that are a little wrong."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from tilec.passes.schedule.model import Buffer, Edge, Limits, Op, Problem, Reader, Schedule, Segment

UNITS = ("A", "B")


def small_problem(seed: int, most: int = 6) -> Problem:
    """A loop of 2 to ``most`` ops with streams, rings, places, predicates and several instances."""
    dice = random.Random(seed)
    count = dice.randint(2, most)
    streams = [o for o in range(count) if o < 2 and dice.random() < 0.4]
    ops = tuple(_op(dice, v, v in streams) for v in range(count))
    edges = tuple(dict.fromkeys(_edges(dice, ops)))
    limits = Limits(
        tuple((u, dice.choice((1, 1, 2))) for u in UNITS),
        smem=dice.choice((4, 8)),
        tmem=dice.choice((2, 3, 4)),
        reg_limit=dice.choice((32, 48, 64)),
        reg_fixed=20,
        reg_file=dice.choice((None, 32 * 4 * 96)),
        hop=dice.randint(1, 4),
        hop_per_reg=0.25,
        sync=dice.randint(1, 3),
        name="toy",
    )
    buffers = tuple(_buffers(dice, ops, edges))
    return Problem(f"random {seed}", ops, edges, buffers, limits, groups_max=dice.choice((2, 3)))


def _op(dice: random.Random, v: int, stream: bool) -> Op:
    reserve = tuple(
        Segment(dice.choice(UNITS), dice.choice((0, 0, 0, 1, 2)), dice.randint(1, 3))
        for _ in range(dice.choice((1, 1, 1, 2)))
    )
    cyc = dice.randint(0, 3)
    if stream:
        return Op(f"s{v}", reserve, cyc, stream=True)
    predicate = dice.choice((None, None, None, None, "p", "!p"))
    pinned = dice.choice((0, 0, 8))
    return Op(f"v{v}", reserve, cyc, dice.choice((0, 4, 8)), pinned, dice.choice((1, 4)), predicate=predicate)


def _edges(dice: random.Random, ops: tuple[Op, ...]) -> Iterator[Edge]:
    for b in range(1, len(ops)):
        for a in dice.sample(range(b), dice.randint(0, min(2, b))):
            yield _edge(dice, ops[a], ops[b], 0)
    for _ in range(dice.randint(0, 2)):
        a, b = sorted(dice.choices(range(len(ops)), k=2))
        yield _edge(dice, ops[b], ops[a], dice.randint(1, 2))


def _edge(dice: random.Random, src: Op, dst: Op, delta: int) -> Edge:
    if dst.stream and not src.stream:
        return Edge(src.id, dst.id, dice.randint(0, 4), delta, "smem", blocking=dice.random() < 0.5)
    mem = "smem" if src.stream else dice.choice(("reg", "reg", "smem", "ord"))
    same = mem == "reg" and not src.stream and not dst.stream and dice.random() < 0.3
    return Edge(src.id, dst.id, dice.randint(0, 5), delta, mem, dice.random() < 0.4, dice.randint(0, 3), same)


def _buffers(dice: random.Random, ops: tuple[Op, ...], edges: tuple[Edge, ...]) -> Iterator[Buffer]:
    for o in ops:
        readers = [e for e in edges if e.src == o.id and e.dst != o.id and e.mem == "smem" and e.delta == 0]
        if readers and dice.random() < 0.8:
            read = tuple(Reader(e.dst, e.rd) for e in readers)
            if dice.random() < 0.3:
                yield Buffer(f"T{o.id}", "tmem", 1, o.id, read, alloc=True, align=1)
            else:
                yield Buffer(f"R{o.id}", "smem", dice.choice((1, 2)), o.id, read, dice.choice((1, 2, 3)))


def mutants(seed: int, problem: Problem, schedule: Schedule, count: int) -> Iterator[Schedule]:
    """Schedules that differ from the given one in one or two numbers."""
    dice = random.Random(seed)
    for _ in range(count):
        wrong = schedule
        for _ in range(dice.choice((1, 1, 2))):
            wrong = dice.choice((_shifted, _shifted, _moved, _resized, _replaced, _budgeted, _squeezed))(
                dice, problem, wrong
            )
        if wrong != schedule:
            yield wrong


def _shifted(dice: random.Random, problem: Problem, s: Schedule) -> Schedule:
    v = dice.choice(list(s.times))
    by = dice.choice((-2, -1, 1, 2, s.ii, -s.ii))
    return replace(s, times={**s.times, v: max(0, s.times[v] + by)})


def _moved(dice: random.Random, problem: Problem, s: Schedule) -> Schedule:
    v = dice.choice(list(s.times))
    groups = {**s.groups, v: dice.randrange(problem.groups_max)}
    budget = max(s.registers.values(), default=problem.limits.reg_limit)
    return replace(
        s, groups=groups, registers={g: s.registers.get(g, budget) for g in sorted(set(groups.values()))}
    )


def _resized(dice: random.Random, problem: Problem, s: Schedule) -> Schedule:
    if not s.depths:
        return s
    b = dice.choice(list(s.depths))
    return replace(s, depths={**s.depths, b: s.depths[b] + dice.choice((-1, 1))})


def _replaced(dice: random.Random, problem: Problem, s: Schedule) -> Schedule:
    if not s.offsets:
        return s
    b = dice.choice(list(s.offsets))
    return replace(s, offsets={**s.offsets, b: dice.randint(0, 3)})


def _budgeted(dice: random.Random, problem: Problem, s: Schedule) -> Schedule:
    if not s.registers:
        return s
    g = dice.choice(list(s.registers))
    return replace(s, registers={**s.registers, g: s.registers[g] + dice.choice((-8, 8))})


def _squeezed(dice: random.Random, problem: Problem, s: Schedule) -> Schedule:
    return replace(s, ii=max(1, s.ii + dice.choice((-1, 1))))
