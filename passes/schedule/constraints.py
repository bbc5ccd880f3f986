"""The constraints of a schedule, family by family, as clauses of an `Encoding`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product

from tilec.passes.schedule.encode import FALSE, TRUE, Encoding, longest
from tilec.passes.schedule.model import Buffer, Edge, Hint, Op, Problem, Segment, exclusive
from tilec.passes.schedule.registers import limit
from tilec.passes.schedule.smt import Clause, Sum, negate, number, total


def constrain(enc: Encoding) -> None:
    """Everything that is known before a plan is tried: registers are refined later."""
    times(enc)
    groups(enc)
    for e in enc.problem.edges:
        dependence(enc, e)
    for unit, count in enc.problem.limits.units:
        reservations(enc, unit, count)
    waiting(enc)
    buffers(enc)
    ties(enc)
    limit(enc)
    for h in enc.problem.hints:
        enc.add(f"hint {h.id}", hint(enc, h))


def times(enc: Encoding) -> None:
    """Residues and stages; the longest op of the busiest unit starts the window, as all may turn together."""
    for v in range(len(enc.problem.ops)):
        enc.integer(f"s{v}", 0)
        enc.integer(f"r{v}", 0)
        enc.require((enc.reaches(Sum((), (f"r{v}",)), 1, -1),))
    anchor = anchor_of(enc.problem)
    if anchor is not None:
        enc.require((f"(= r{anchor} 0)",))


def anchor_of(problem: Problem) -> int | None:
    """The op whose residue is 0, None where no unit is held."""
    load, count = problem.load, dict(problem.limits.units)
    busiest = max(load, key=lambda u: load[u] / count[u], default=None)
    if busiest is None or not load[busiest]:
        return None
    return max(range(len(problem.ops)), key=lambda v: longest(problem.ops[v], busiest))


def groups(enc: Encoding) -> None:
    """Each op in one group; streams in group 0; groups 1.. are numbered by first use."""
    free = [v for v in range(len(enc.problem.ops)) if enc.head[v] == v and not enc.fixed(v)]
    for v in free:
        row = [enc.runs_in(v, g) for g in enc.numbers if enc.runs_in(v, g) != FALSE]
        for name in row:
            enc.boolean(name)
        enc.require(tuple(row))
        for a, b in combinations(row, 2):
            enc.require((negate(a), negate(b)))
    for i, v in enumerate(free):
        for g in enc.numbers[2:]:
            enc.require((negate(enc.runs_in(v, g)), *(enc.runs_in(u, g - 1) for u in free[:i])))


def dependence(enc: Encoding, e: Edge) -> None:
    """The order that an edge asks for, and what it costs to cross groups."""
    for kind, clauses in order(enc, e, enc.problem.crossing(e)):
        enc.add(f"{kind} {e.src}>{e.dst}", clauses)


def order(enc: Encoding, e: Edge, crossing: int) -> Iterator[tuple[str, list[Clause]]]:
    """The clauses of an edge by class. An op cannot precede itself, nor what it depends on."""
    src, dst, delta = enc.index[e.src], enc.index[e.dst], Sum(const=e.delta)
    yield "dependence", list(enc.later(src, dst, max(e.d, int(src == dst)), delta))
    if src == dst:
        return
    near = enc.same(src, dst)
    if e.same:
        yield "together", [(near,)]
    elif e.mem != "ord" and near != TRUE:
        yield "crossing", [(near, *clause) for clause in enc.later(src, dst, e.d + crossing, delta)]


def reservations(enc: Encoding, unit: str, count: int) -> None:
    """At no cycle more instances than there are."""
    held = [(v, s) for v, o in enumerate(enc.problem.ops) for s in o.reserve if s.unit == unit and s.length]
    if not held:
        return
    if _pairwise(held, count):
        for (a, x), (b, y) in combinations(held, 2):
            if not exclusive(enc.problem.ops[a], enc.problem.ops[b]):
                enc.add(f"unit {unit}", enc.apart(a, x.length, b, y.length))
        for _, x in held:
            enc.add(f"unit {unit}", [(f"(>= {enc.interval} {x.length})",)])
    else:
        for v, x in held:
            enc.add(f"unit {unit}", _usage(enc, held, v, x, count))


def _pairwise(held: list[tuple[int, Segment]], count: int) -> bool:
    """Whether no two reservations fit at once: then it is enough to keep pairs apart."""
    simple = len({v for v, _ in held}) == len(held) and len({s.offset for _, s in held}) == 1
    amounts = sorted(s.amount for _, s in held)
    return simple and amounts[-1] <= count and 2 * amounts[0] > count


def _usage(
    enc: Encoding, held: list[tuple[int, Segment]], v: int, start: Segment, count: int
) -> Iterator[Clause]:
    """What is held when a segment starts is at most ``count``: usage only peaks at starts."""
    ops = enc.problem.ops
    for arms in _arms([ops[o] for o, _ in held]):
        terms = []
        for o, s in held:
            if ops[o].predicate is None or ops[o].predicate in arms:
                terms += [
                    f"(ite {x} {s.amount} 0)"
                    for x in _active(enc, enc.gap(o, v).add(start.offset - s.offset), s)
                ]
        yield (f"(<= {total(terms)} {number(count)})",) if terms else (TRUE,)


def _active(enc: Encoding, gap: Sum, s: Segment) -> Iterator[str]:
    """For each window m that matters: m * II <= gap < m * II + length."""
    ends = (enc.low, enc.high)
    first = min((1 - ii + gap.const - s.length) // ii + 1 for ii in ends)
    last = max((ii - 1 + gap.const) // ii for ii in ends)
    for m in range(first, last + 1):
        yield f"(and {enc.reaches(gap, 0, m)} {enc.reaches(gap.negated(), 1 - s.length, -m)})"


def _arms(ops: list[Op]) -> Iterator[set[str]]:
    """The sets of predicates that can hold together."""
    names = sorted({o.predicate.lstrip("!") for o in ops if o.predicate})
    for signs in product(("", "!"), repeat=len(names)):
        yield {sign + name for sign, name in zip(signs, names, strict=True)}


def waiting(enc: Encoding) -> None:
    """A wait is one point of its group's program: no op of the group is under way then."""
    for v, waiter in enumerate(enc.problem.ops):
        wait = enc.waits(v)
        for o, other in enumerate(enc.problem.ops):
            near = enc.same(o, v) if o != v and other.cyc and wait != FALSE else FALSE
            if near != FALSE:
                guard = (negate(near), negate(wait))
                enc.add(f"wait {waiter.id}", [(*guard, *clause) for clause in enc.outside(v, o, other.cyc)])


def buffers(enc: Encoding) -> None:
    """Rings and places in the memories."""
    problem, memories = enc.problem, {"smem": enc.problem.limits.smem, "tmem": enc.problem.limits.tmem}
    rings = [(i, b) for i, b in enumerate(problem.buffers) if not b.alloc]
    placed = [(i, b) for i, b in enumerate(problem.buffers) if b.alloc]
    for i, b in rings:
        ring(enc, i, b)
    for i, b in placed:
        place(enc, i, b)
    for mem, capacity in memories.items():
        slots = [f"(* {b.size} d{i})" for i, b in rings if b.mem == mem]
        if slots:
            enc.add(f"capacity {mem}", [(f"(<= {total(slots)} {capacity})",)])
        for i, b in placed:
            if b.mem == mem:
                ends = [f"(* {b.align} o{i})", number(b.size), *slots]
                enc.add(f"capacity {mem}", [(f"(<= {total(ends)} {capacity})",)])
    for (i, a), (j, b) in combinations(placed, 2):
        if a.mem == b.mem:
            enc.add(f"columns {a.mem}", _disjoint(enc, i, a, j, b))


def ring(enc: Encoding, i: int, b: Buffer) -> None:
    """The writer comes round to a slot when every reader has read it."""
    depth = Sum((enc.integer(f"d{i}", 1, b.max_depth),))
    writer = enc.index[b.writer]
    for r in b.readers:
        enc.add(f"ring {b.id}", enc.later(enc.index[r.op], writer, max(r.rd, 0), depth))


def place(enc: Encoding, i: int, b: Buffer) -> None:
    """One slot: its offset, and its lifetime l from the write to the last read, at most II."""
    enc.integer(f"o{i}", 0)
    life, writer = enc.integer(f"l{i}", 1), enc.index[b.writer]
    enc.require((enc.reaches(Sum((), (life,)), 0, -1),))
    for r in b.readers:
        reader = enc.index[r.op]
        enc.add(f"ring {b.id}", enc.later(reader, writer, max(r.rd, 0), Sum(const=1)))
        enc.add(f"life {b.id}", _lives(enc, writer, reader, r.rd, life))


def _lives(enc: Encoding, writer: int, reader: int, rd: int, life: str) -> Iterator[Clause]:
    """life >= t_reader + rd - t_writer, for each number of windows between the two."""
    windows, gap = Sum((f"s{reader}",), (f"s{writer}",)), enc.gap(writer, reader)
    for j in (-1, 0, 1):
        other = (enc.reaches(windows.negated(), 1 - j), enc.reaches(windows, j + 1))
        yield *other, enc.reaches(Sum((life, *gap.minus), gap.plus), rd, j)


def _disjoint(enc: Encoding, i: int, a: Buffer, j: int, b: Buffer) -> Iterator[Clause]:
    """Columns or lifetimes do not meet."""
    first, second = f"(* {a.align} o{i})", f"(* {b.align} o{j})"
    beside = (f"(>= (- {second} {first}) {a.size})", f"(>= (- {first} {second}) {b.size})")
    for clause in enc.apart(enc.index[a.writer], f"l{i}", enc.index[b.writer], f"l{j}"):
        yield *beside, *clause


def ties(enc: Encoding) -> None:
    """No ring of waits closes within one cycle of the wheel.

    A wait of at least a cycle leads to a later residue. Of those that take none, and of the ops
    of a group at one residue, which run in order of the problem, each leads to a higher rank q.
    Where all of them follow that order, it is the rank.
    """
    loose = list(_without_length(enc))
    if all(src < dst for src, dst, _ in loose):
        return
    ops = range(len(enc.problem.ops))
    for v in ops:
        enc.integer(f"q{v}", 0, len(ops))
    for src, dst, delta in loose:
        tokens = Sum((f"s{dst}", *delta.plus), (f"s{src}",), delta.const)
        higher = enc.reaches(Sum((f"q{dst}",), (f"q{src}",)), 1)
        enc.add("deadlock", [(enc.reaches(tokens, 1), enc.reaches(enc.gap(src, dst), 1), higher)])
    for a, b in combinations(ops, 2):
        if (near := enc.same(a, b)) != FALSE:
            higher = enc.reaches(Sum((f"q{b}",), (f"q{a}",)), 1)
            other = (enc.reaches(enc.gap(a, b), 1), enc.reaches(enc.gap(b, a), 1))
            enc.add("deadlock", [(negate(near), *other, higher)])


def _without_length(enc: Encoding) -> Iterator[tuple[int, int, Sum]]:
    """Waits that may end in the cycle in which they begin: from, to, distance."""
    for e in enc.problem.edges:
        if e.d <= 0 and e.src != e.dst:
            yield enc.index[e.src], enc.index[e.dst], Sum(const=e.delta)
    for i, b in enumerate(enc.problem.buffers):
        for r in b.readers:
            if r.rd <= 0 and r.op != b.writer:
                yield enc.index[r.op], enc.index[b.writer], Sum(const=1) if b.alloc else Sum((f"d{i}",))


def hint(enc: Encoding, h: Hint) -> Iterator[Clause]:
    """What the author wants."""
    problem, step = enc.problem, enc.problem.limits.reg_step
    if h.kind == "stages":
        named = [i for i, b in enumerate(problem.buffers) if not b.alloc and (not h.names or b.id in h.names)]
        yield from ((f"(= d{i} {number(h.value)})",) for i in named)
    elif h.kind == "groups":
        yield from _used(enc, h.value)
    elif h.kind == "registers":
        yield from ((f"(<= b{g} {h.value // step})",) for g in enc.numbers[1:])
    elif h.kind == "ii":
        yield (f"(<= {enc.interval} {h.value})",)
    else:
        for a, b in combinations([enc.index[v] for v in h.names], 2):
            near = enc.same(a, b)
            yield (near if h.kind == "together" else negate(near),)


def _used(enc: Encoding, count: int) -> Iterator[Clause]:
    """As many groups are used, the producer counted: they are numbered without gaps."""
    ops = enc.problem.ops
    last = count - int(any(o.stream for o in ops))
    free = [v for v, o in enumerate(ops) if not o.stream]
    if last > 0:
        yield tuple(enc.runs_in(v, last) for v in free) if last in enc.numbers else ()
    for g in enc.numbers[1:]:
        if g > last:
            yield from ((negate(enc.runs_in(v, g)),) for v in free)
