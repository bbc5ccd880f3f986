"""The building blocks of the encoding and the closed-form bounds, against direct enumeration."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations, product

import pytest

from tilec.passes.schedule.bounds import NEVER, lower_bound, recurrence_bound, resource_bound
from tilec.passes.schedule.constraints import reservations
from tilec.passes.schedule.encode import Encoding
from tilec.passes.schedule.heuristic import serial_length
from tilec.passes.schedule.loops import gallery
from tilec.passes.schedule.model import Edge, Limits, Op, Problem, Segment
from tilec.passes.schedule.smt import Session, Sum, either

TOY = gallery["toy"]()


def conjunction(clauses: Iterator[tuple[str, ...]]) -> str:
    return f"(and {' '.join(either(c) for c in clauses)})"


def differ(enc: Encoding, formula: str, meaning: str, ii: int) -> bool:
    """Whether a formula and its meaning can differ at one interval."""
    session = Session(10**8)
    fixed = f"(assert (= {enc.interval} {ii}))\n" if enc.low != enc.high else ""
    session.read(enc.take() + fixed + f"(assert (not (= {formula} {meaning})))")
    return session.check() == "sat"


@pytest.mark.parametrize("seed", range(25))
def test_at_least_is_exact_on_a_whole_range(seed: int) -> None:
    dice = random.Random(seed)
    low = dice.randint(1, 6)
    high, d = low + dice.randint(0, 6), dice.randint(-15, 25)
    for ii in range(low, high + 1):
        enc = Encoding(TOY, low, high)
        enc.integer("s0")
        enc.integer("r0", 1 - ii, ii - 1)
        formula = conjunction(enc.at_least(Sum(("s0",)), Sum(("r0",)), d))
        direct = f"(>= (+ (* {ii} s0) r0) {d if d >= 0 else f'(- {-d})'})"
        assert not differ(enc, formula, direct, ii)


def test_one_clause_less_is_not_exact() -> None:
    """Each clause decides something at some interval of the range."""

    def wrong(left_out: int, ii: int) -> bool:
        enc = Encoding(TOY, 4, 9)
        enc.integer("s0")
        enc.integer("r0", 1 - ii, ii - 1)
        clauses = list(enc.at_least(Sum(("s0",)), Sum(("r0",)), 7))
        rest = conjunction(iter(clauses[:left_out] + clauses[left_out + 1 :]))
        return differ(enc, rest, f"(>= (+ (* {ii} s0) r0) 7)", ii)

    count = len(list(Encoding(TOY, 4, 9).at_least(Sum(("s0",)), Sum(("r0",)), 7)))
    assert all(any(wrong(i, ii) for ii in range(4, 10)) for i in range(count))
    assert not any(wrong(count, ii) for ii in range(4, 10))


def held(problem: Problem, starts: tuple[int, ...], ii: int, unit: str) -> int:
    """The most instances in any cycle, counted one by one; of opposite predicates the larger."""
    most = 0
    for cycle in range(ii):
        arms = {"": 0, "p": 0, "!p": 0}
        for start, o in zip(starts, problem.ops, strict=True):
            for s in o.reserve:
                covers = sum((start + s.offset + c) % ii == cycle for c in range(s.length))
                arms[o.predicate or ""] += s.amount * covers * (s.unit == unit)
        most = max(most, arms[""] + max(arms["p"], arms["!p"]))
    return most


@pytest.mark.parametrize("seed", range(40))
def test_units_against_counting(seed: int) -> None:
    """Several instances, segments, amounts and predicates, segments longer than the interval."""
    dice = random.Random(seed)
    ii, count = dice.randint(2, 4), dice.randint(1, 3)
    simple = dice.random() < 0.4
    ops = []
    for v in range(dice.randint(2, 3)):
        segments = [
            Segment(
                "U",
                0 if simple else dice.randint(0, 3),
                dice.randint(1, 3 if simple else 5),
                dice.randint(1, 2),
            )
            for _ in range(1 if simple else dice.randint(1, 2))
        ]
        ops.append(Op(f"v{v}", tuple(segments), predicate=dice.choice((None, None, "p", "!p"))))
    problem = Problem("units", tuple(ops), (), (), Limits((("U", count),)))
    enc = Encoding(problem, ii, ii + dice.randint(0, 2))
    for v in range(len(ops)):
        enc.integer(f"r{v}")
    reservations(enc, "U", count)
    session = Session(10**9)
    session.read(enc.take() + (f"(assert (= II {ii}))" if enc.low != enc.high else ""))
    for n, starts in enumerate(product(range(ii), repeat=len(ops))):
        place = " ".join(f"(= r{v} {t})" for v, t in enumerate(starts))
        session.read(f"(declare-fun A{n} () Bool)(assert (=> A{n} (and {place})))")
        assert (session.check([f"A{n}"]) == "sat") == (held(problem, starts, ii, "U") <= count)


def cycles(problem: Problem) -> Iterator[tuple[int, int]]:
    """d and delta of each simple cycle, parallel edges one by one."""
    ids = list(problem.op)
    for size in range(1, len(ids) + 1):
        for path in permutations(ids, size):
            steps = [
                [(e.d, e.delta) for e in problem.edges if (e.src, e.dst) == pair]
                for pair in zip(path, (*path[1:], path[0]), strict=True)
            ]
            for chosen in product(*steps):
                yield sum(d for d, _ in chosen), sum(delta for _, delta in chosen)


@pytest.mark.parametrize("seed", range(40))
def test_recurrences_against_all_cycles(seed: int) -> None:
    dice = random.Random(seed)
    ops = tuple(Op(f"v{v}") for v in range(dice.randint(2, 5)))
    edges = tuple(
        Edge(*dice.choices([o.id for o in ops], k=2), dice.randint(0, 9), dice.choice((0, 1, 1, 2)))
        for _ in range(dice.randint(1, 8))
    )
    problem = Problem("cycles", ops, edges, (), Limits(()))
    found = list(cycles(problem))
    bound = recurrence_bound(problem)
    if any(d > 0 and not delta for d, delta in found):
        assert bound.value == NEVER
        return
    value = max([1, *(-(-d // delta) for d, delta in found if delta)])
    assert bound.value == value and (bound.kind == "cycle") == (value > 1)
    if bound.names:
        best: dict[tuple[str, str], list[Edge]] = {}
        for pair in zip(bound.names, (*bound.names[1:], bound.names[0]), strict=True):
            best[pair] = [e for e in edges if (e.src, e.dst) == pair]
        ways = [(sum(e.d for e in way), sum(e.delta for e in way)) for way in product(*best.values())]
        assert any(delta and -(-d // delta) == value for d, delta in ways)


def test_a_long_reservation_bounds_the_interval() -> None:
    """Three instances, two at a time for ten cycles: the next copy must wait."""
    ops = (Op("v", (Segment("U", 0, 10, 2),)),)
    problem = Problem("long", ops, (), (), Limits((("U", 3),)))
    assert resource_bound(problem).value == 10
    assert resource_bound(replace(problem, limits=Limits((("U", 4),)))).value == 5
    assert resource_bound(replace(problem, limits=Limits((("U", 1),)))).value == NEVER


def test_of_two_arms_the_larger_counts() -> None:
    ops = (
        Op("a", (Segment("U", 0, 5),), predicate="p"),
        Op("b", (Segment("U", 0, 3),), predicate="!p"),
        Op("c", (Segment("U", 0, 2),)),
    )
    bound = lower_bound(Problem("arms", ops, (), (), Limits((("U", 1),))))
    assert (bound.value, bound.kind, bound.names) == (7, "unit", ("U", "a", "b", "c"))


@pytest.mark.parametrize("name", ["fa3", "fa4-free", "graph-22"])
def test_a_serial_iteration_is_longer_than_any_path(name: str) -> None:
    problem = gallery[name]()
    path = {o.id: 0 for o in problem.ops}
    for _ in problem.ops:
        for e in problem.edges:
            if not e.delta:
                path[e.dst] = max(path[e.dst], path[e.src] + e.d + problem.crossing(e))
    assert serial_length(problem) > max(path.values())
