"""What each constraint is for: without it a known loop has plans that are wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tilec.passes.schedule.checker import violations
from tilec.passes.schedule.loops import fa3_forward, fa4_forward, gallery
from tilec.passes.schedule.model import Buffer, Edge, Hint, Op, Problem, Reader, Schedule
from tilec.passes.schedule.query import Query
from tilec.passes.schedule.search import solve
from tilec.passes.schedule.smt import Session, Sum

KNOBS = fa4_forward(share=0.25, split=4)


def limited(problem: Problem, **limits: int) -> Problem:
    return replace(problem, limits=replace(problem.limits, **limits))


def ring_of_waits() -> Problem:
    """b a and d c in two groups, which at II = 1 all issue in one cycle, in this order.

    d must come after a, and b after c, in the same step: each group waits for the other.
    """
    before = (("a", "d", 0, 0), ("c", "b", 0, 0), ("d", "a", 1, 1), ("b", "c", 1, 1))
    edges = tuple(Edge(src, dst, d, delta, mem="ord") for src, dst, d, delta in before)
    hints = (
        Hint("one", "together", names=("a", "b")),
        Hint("two", "together", names=("c", "d")),
        Hint("both", "apart", names=("a", "c")),
    )
    ops = tuple(Op(v) for v in "badc")
    return Problem("ring", ops, edges, (), gallery["toy"]().limits, groups_max=3, hints=hints)


# class: a loop, and intervals that the class alone rules out
CLASSES: dict[str, tuple[Problem, int, int]] = {
    "dependence": (fa4_forward(), 2064, 2605),
    "crossing": (KNOBS, 2048, 2127),
    "together": (fa3_forward(subtiles=1), 1024, 1275),
    "unit": (fa3_forward(), 1600, 2047),
    "wait": (KNOBS, 2048, 2127),
    "ring": (fa4_forward(), 2064, 2605),
    "capacity": (fa4_forward(layout="separate"), 2064, 4000),
    "columns": (limited(fa4_forward(layout="free"), tmem=160), 2064, 2930),
    "life": (limited(fa4_forward(layout="free"), tmem=160), 2064, 2930),
    "registers": (fa3_forward(subtiles=1), 1024, 1275),
    "file": (limited(KNOBS, reg_file=65536), 2048, 2128),
    "stream": (replace(fa3_forward(), groups_max=2), 2048, 4000),
    "deadlock": (ring_of_waits(), 1, 1),
    "hint": (replace(fa3_forward(), hints=(Hint("two", "groups", 2),)), 2048, 4000),
}


@pytest.mark.parametrize("kind", CLASSES)
def test_without_a_class_wrong_plans_pass(kind: str) -> None:
    problem, low, high = CLASSES[kind]
    assert Query(problem, low, high, Session(10**8)).ask() == "unsat"
    # Registers are refined for as long as plans hold too many, and without dependences all do.
    dropped = {kind, "registers"} if kind == "dependence" else {kind}
    wrong = Query(problem, low, high, Session(10**8), dropped=frozenset(dropped)).ask()
    assert isinstance(wrong, Schedule)
    assert list(violations(problem, wrong))


INTERVALS = {
    "gemm": 1024, "dual-gemm": 1024, "fa3": 2048, "fa4-alias": 2606, "fa4-free": 2064, "fa3-backward": 2560
}  # fmt: skip
WARS = [(loop, b.id, r.op) for loop in INTERVALS for b in gallery[loop]().buffers for r in b.readers]


# Readers whose wait follows from that of a later one.
IMPLIED = {
    ("fa4-alias", "SPa", "LDSa"): "PVa", ("fa4-alias", "SPb", "LDSb"): "PVb",
    ("fa3-backward", "Q", "Sa"): "dKa", ("fa3-backward", "Q", "Sb"): "dKb",
}  # fmt: skip


def without(problem: Problem, buffer: str, reader: str) -> Problem:
    """The problem in which nobody waits for one reader of a buffer."""

    def less(b: Buffer) -> Buffer:
        kept: tuple[Reader, ...] = tuple(r for r in b.readers if (b.id, r.op) != (buffer, reader))
        return replace(b, readers=kept)

    return replace(problem, buffers=tuple(less(b) for b in problem.buffers))


@pytest.mark.parametrize(("loop", "buffer", "reader"), WARS)
def test_each_war_edge_is_needed(loop: str, buffer: str, reader: str) -> None:
    """Without it there is a plan of the same interval that overwrites what that reader still reads."""
    problem = gallery[loop]()
    if (loop, buffer, reader) in IMPLIED:
        problem = without(problem, buffer, IMPLIED[loop, buffer, reader])
    ii, weaker = INTERVALS[loop], without(problem, buffer, reader)
    query = Query(weaker, ii, ii, Session(10**8))
    enc = query.encoding
    i = next(i for i, b in enumerate(problem.buffers) if b.id == buffer)
    b = problem.buffers[i]
    rd = next(r.rd for r in b.readers if r.op == reader)
    writer, read, slots = enc.index[b.writer], enc.index[reader], () if b.alloc else (f"d{i}",)
    # t_writer + slots * ii - t_reader <= rd - 1, as its negation >= 1 - rd
    early = enc.later(writer, read, 1 - rd, Sum((), slots, -1 if b.alloc else 0))
    for clause in early:
        enc.require(clause)
    wrong = query.ask()
    assert isinstance(wrong, Schedule)
    assert list(violations(weaker, wrong)) == []
    assert any(
        reader in fault and fault.startswith(("[ring]", "[alloc]")) for fault in violations(problem, wrong)
    )


ANSWERS = {
    ("gemm", "A", "MMAa"): "depths", ("gemm", "A", "MMAb"): "depths", ("gemm", "B", "MMAa"): "depths",
    ("gemm", "B", "MMAb"): "depths", ("fa4-alias", "SPa", "PVa"): "ii", ("fa3", "K", "QKa"): "times",
    ("fa3", "V", "PVa"): "times", ("fa3-backward", "dO", "dVa"): "times",
}  # fmt: skip


@pytest.mark.parametrize(("loop", "buffer", "reader"), ANSWERS)
def test_war_edges_change_answers(loop: str, buffer: str, reader: str) -> None:
    problem, part = gallery[loop](), ANSWERS[loop, buffer, reader]
    right, wrong = solve(problem).schedule, solve(without(problem, buffer, reader)).schedule
    assert right is not None and wrong is not None
    assert getattr(right, part) != getattr(wrong, part)
    assert list(violations(problem, wrong))
