"""A Problem as clauses of integer arithmetic, for every interval in [low, high] at once.

Op v issues at ``II * s_v + r_v`` with 0 <= r_v < II. II is a constant where low == high and
an integer variable else, so one refutation rules out a whole range. Ops and buffers go by
index in names: r3, s3; w3_1 "op 3 runs in group 1"; m2_5 "ops 2 and 5 share a group"; k3
"op 3 waits"; d1, o1, l1 depth, offset and lifetime of buffer 1; b2 budget of group 2.
The families of constraints are in `constraints.py`, registers in `registers.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property

from tilec.passes.schedule.model import Op, Problem
from tilec.passes.schedule.smt import Clause, Sum, declare, either, negate, number, total

TRUE, FALSE = "true", "false"


class Encoding:
    """Variables, building blocks, and the text that a solver has not yet read.

    ``tracked``: each constraint holds only under the assumption literal of its label, so that
    a core names labels. ``dropped``: classes of constraints (the first word of a label) that
    are left out, for tests that show what each class is for.
    """

    def __init__(
        self,
        problem: Problem,
        low: int,
        high: int,
        *,
        tracked: bool = False,
        dropped: frozenset[str] = frozenset(),
    ) -> None:
        self.problem, self.low, self.high = problem, low, high
        self.tracked, self.dropped = tracked, dropped
        self.index = {o.id: i for i, o in enumerate(problem.ops)}
        self.labels: dict[str, str] = {}
        self.pending: list[str] = []
        self.seen: set[str] = set()
        self.interval = number(low)
        if low != high:
            self.interval = self.integer("II", low, high)

    # Text

    def take(self) -> str:
        """What was added since the last call."""
        text = "".join(self.pending)
        self.pending = []
        return text

    def integer(self, name: str, low: int | None = None, high: int | None = None) -> str:
        """Declare a variable once, with its constant bounds."""
        if name not in self.seen:
            self.seen.add(name)
            self.pending.append(declare(name, "Int"))
            if low is not None:
                self.require((f"(>= {name} {number(low)})",))
            if high is not None:
                self.require((f"(<= {name} {number(high)})",))
        return name

    def boolean(self, name: str) -> str:
        if name not in self.seen:
            self.seen.add(name)
            self.pending.append(declare(name, "Bool"))
        return name

    def require(self, clause: Clause) -> None:
        """A clause that always holds."""
        if TRUE not in clause:
            self.pending.append(f"(assert {either(tuple(x for x in clause if x != FALSE))})\n")

    def add(self, label: str, clauses: Iterable[Clause]) -> None:
        """Clauses of a constraint; the first word of the label is its class."""
        if label.split(" ", 1)[0] in self.dropped:
            return
        guard: Clause = (f"(not {self.literal(label)})",) if self.tracked or label.startswith("hint ") else ()
        for clause in clauses:
            self.require(guard + clause)

    def literal(self, label: str) -> str:
        """The assumption literal of a label."""
        if label not in self.labels:
            self.labels[label] = self.boolean(f"A{len(self.labels)}")
        return self.labels[label]

    # Building blocks

    def cycles(self, const: int, windows: int = 0) -> str:
        """const + windows * II."""
        if self.low == self.high:
            return number(const + windows * self.low)
        if not windows:
            return number(const)
        product = "II" if windows == 1 else f"(* {number(windows)} II)"
        return f"(+ {number(const)} {product})" if const else product

    def reaches(self, sum: Sum, const: int, windows: int = 0) -> str:
        """The literal: sum >= const + windows * II."""
        left = total(sum.plus)
        if sum.minus:
            left = f"(- {left} {' '.join(sum.minus)})"
        return f"(>= {left} {self.cycles(const - sum.const, windows)})"

    def at_least(self, k: Sum, rho: Sum, d: int) -> Iterator[Clause]:
        """II * k + rho >= d where |rho| < II, exactly for every II of the range.

        Either k has one more window, or what d leaves after j windows must come from rho.
        """
        ends = (self.low, self.high)
        j = min(-((ii - 1 - d) // ii) for ii in ends)
        yield (self.reaches(k, j),)
        while any(d - j * ii > 1 - ii for ii in ends):
            yield self.reaches(k, j + 1), self.reaches(rho, d, -j)
            j += 1

    def later(self, src: int, dst: int, d: int, delta: Sum) -> Iterator[Clause]:
        """Op dst of an iteration issues at least d cycles after op src of ``delta`` iterations before."""
        k = Sum((f"s{dst}", *delta.plus), (f"s{src}", *delta.minus), delta.const)
        if src == dst:
            k = delta
        return self.at_least(k, self.gap(src, dst), d)

    def gap(self, src: int, dst: int) -> Sum:
        """From the residue of one op to that of another."""
        return Sum((f"r{dst}",), (f"r{src}",)) if src != dst else Sum()

    def apart(self, a: int, la: str | int, b: int, lb: str | int) -> Iterator[Clause]:
        """The arcs [r_a, r_a + la) and [r_b, r_b + lb) do not meet modulo II; lengths <= II."""
        (minus_a, const_a), (minus_b, const_b) = _length(la), _length(lb)
        ab, ba = Sum((f"r{b}",), (f"r{a}", *minus_a)), Sum((f"r{a}",), (f"r{b}", *minus_b))
        yield self.reaches(ab, const_a), self.reaches(ba, const_b)
        yield (self.reaches(ab, const_a, -1),)
        yield (self.reaches(ba, const_b, -1),)

    def outside(self, v: int, o: int, c: int) -> Iterator[Clause]:
        """(r_v - r_o) mod II is not in [0, c)."""
        yield self.reaches(self.gap(o, v), c), self.reaches(self.gap(v, o), 1)
        yield (self.reaches(self.gap(o, v), c, -1),)

    # Groups

    @cached_property
    def numbers(self) -> range:
        """The numbers that a group may have: the producer is 0 and exists only for streams."""
        return range(self.problem.groups_max)

    @cached_property
    def head(self) -> list[int]:
        """For each op the first op that must share its group: they have the same group variables.

        Where labels are tracked, or the class is dropped, every op is its own head.
        """
        head = list(range(len(self.problem.ops)))
        if self.tracked or "together" in self.dropped:
            return head
        for e in self.problem.edges:
            a, b = head[self.index[e.src]], head[self.index[e.dst]]
            if e.same and a != b and self.fixed(self.index[e.src]) == self.fixed(self.index[e.dst]):
                head = [min(a, b) if h in (a, b) else h for h in head]
        return head

    def fixed(self, v: int) -> bool:
        """Whether the op's group is 0 by definition."""
        return self.problem.ops[v].stream and "stream" not in self.dropped

    def runs_in(self, v: int, g: int) -> str:
        """The literal: op v runs in group g."""
        if "stream" not in self.dropped and (self.fixed(v) or g == 0):
            return TRUE if self.fixed(v) and g == 0 else FALSE
        return f"w{self.head[v]}_{g}"

    def same(self, a: int, b: int) -> str:
        """The literal: two ops run in one group."""
        a, b = sorted((self.head[a], self.head[b]))
        if a == b or (self.fixed(a) and self.fixed(b)):
            return TRUE
        if self.fixed(a) or self.fixed(b):
            return FALSE
        name = f"m{a}_{b}"
        if name not in self.seen:
            self.boolean(name)
            for g in self.numbers:
                one, other = self.runs_in(a, g), self.runs_in(b, g)
                self.require((negate(name), negate(one), other))
                self.require((negate(name), one, negate(other)))
                self.require((name, negate(one), negate(other)))
        return name

    def waits(self, v: int) -> str:
        """The literal: op v waits; blocking edges make it true, other edges where they cross groups."""
        ins = [
            e
            for e in self.problem.edges
            if e.dst == self.problem.ops[v].id and e.src != e.dst and e.mem != "ord"
        ]
        if any(e.blocking for e in ins):
            return TRUE
        partners = [self.index[e.src] for e in ins]
        for b in self.problem.buffers:
            if b.writer == self.problem.ops[v].id and not b.alloc and not self.problem.ops[v].stream:
                partners += [self.index[r.op] for r in b.readers]
        near = [self.same(p, v) for p in dict.fromkeys(partners)]
        if FALSE in near:
            return TRUE
        near = [x for x in near if x != TRUE]
        if not near:
            return FALSE
        name = f"k{v}"
        if name not in self.seen:
            self.boolean(name)
            for x in near:
                self.require((name, x))
        return name


def longest(op: Op, unit: str) -> int:
    """Cycles times instances of a unit that an op holds."""
    return sum(s.length * s.amount for s in op.reserve if s.unit == unit)


def _length(length: str | int) -> tuple[Clause, int]:
    """A length as variables to subtract and a constant."""
    return ((), length) if isinstance(length, int) else ((length,), 0)
