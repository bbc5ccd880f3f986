"""The cycle simulator: what it calls broken is broken, and what it runs obeys the rules."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from fractions import Fraction
from functools import cache

import pytest
from schedule_kit import mutants, small_problem

from tilec.passes.schedule.loops import gallery
from tilec.passes.schedule.loops.parts import edge, load, op
from tilec.passes.schedule.model import Buffer, Edge, Limits, Op, Problem, Reader, Schedule, Segment
from tilec.passes.schedule.search import solve
from tilec.passes.schedule.simulate import Run, execute, simulate
from tilec.passes.schedule.simulate_free import Arbiter
from tilec.passes.schedule.simulate_plan import Plan


@cache
def planned(name: str) -> tuple[Problem, Schedule]:
    problem = gallery[name]()
    schedule = solve(problem, "fewest", polish=False).schedule
    assert schedule is not None
    return problem, schedule


LOOPS = {"toy": 2, "gemm": 1024, "gemm-1": 640, "dual-gemm": 1024, "fa3": 2048, "fa3-d64": 1040,
         "fa3-causal": 2048, "fa3-1tile": 1276, "fa4-free": 2064, "fa4-knobs": 2128, "fa4-1tile": 1389,
         "fa3-backward": 2560, "fa4-backward": 3328}  # fmt: skip


@pytest.mark.parametrize("name", LOOPS)
def test_a_proven_interval_is_the_one_that_runs(name: str) -> None:
    problem, schedule = planned(name)
    run = execute(problem, schedule)
    assert (run.faults, run.deadlock) == ((), ())
    assert schedule.ii == run.ii == LOOPS[name]


def test_two_iterations_in_turn_can_be_half_a_cycle_faster() -> None:
    """II is a whole number in a schedule; the loop itself settles in a period of two iterations."""
    problem, schedule = planned("fa4-alias")
    run = execute(problem, schedule)
    assert not run.broken and schedule.ii == 2606 and run.ii == Fraction(2577 + 2634, 2)


# -- one loop by hand: L on the copy unit fills R, P and Q read it


def pipeline(depth: int = 2, **changes: object) -> tuple[Problem, Schedule]:
    ops = (load("L", 4), op("P", "TC", 5, 2, 8), op("Q", "ALU", 3, 3))
    edges = (edge("L>P", 20, mem="smem", kind="b", rd=5), edge("P>Q", 9, kind="b"))
    ring = Buffer("R", "smem", 10, "L", (Reader("P", 5),), 4)
    limits = Limits((("TC", 1), ("ALU", 1), ("TMA", 1)), smem=40, hop=6, hop_per_reg=0.5, sync=2)
    problem = Problem("by hand", ops, edges, (ring,), limits)
    schedule = Schedule(
        32, {"L": 0, "P": 22, "Q": 31}, {"L": 0, "P": 1, "Q": 1}, {"R": depth}, {}, {0: 24, 1: 32}
    )
    return problem, replace(schedule, **changes)  # type: ignore[arg-type]


def kinds(run: Run) -> set[str]:
    return {f.kind for f in run.faults}


def test_a_loop_by_hand_works() -> None:
    run = execute(*pipeline())
    assert not run.broken and run.ii == Fraction(27, 2)  # two slots share load, latency and read: 22 + 5
    timed = simulate(*pipeline(), 12, mode="timed")
    assert dict(timed.busy) == {"TC": 5 / 32, "ALU": 3 / 32, "TMA": 4 / 32}


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"times": {"L": 0, "P": 21, "Q": 31}}, "dependence"),
        ({"times": {"L": 0, "P": 22, "Q": 30}}, "dependence"),
        ({"times": {"L": 0, "P": 22, "Q": 31}, "groups": {"L": 0, "P": 1, "Q": 2}}, "dependence"),
        ({"groups": {"L": 1, "P": 1, "Q": 1}, "registers": {1: 32}}, "group"),
        ({"groups": {"L": 0, "P": 0, "Q": 1}}, "group"),
        ({"depths": {"R": 0}}, "memory"),
        ({"depths": {"R": 5}}, "memory"),
        ({"registers": {0: 24, 1: 24}}, "registers"),
        ({"registers": {0: 24, 1: 36}}, "registers"),
        ({"registers": {0: 24}}, "registers"),
        ({"registers": {0: 24, 1: 248}}, "registers"),
        ({"ii": 4}, "unit"),
        ({"times": {"L": 0, "P": 22}}, "names"),
        ({"depths": {}}, "names"),
    ],
)
def test_each_rule_that_is_broken_is_named(changes: dict[str, object], kind: str) -> None:
    assert kind in kinds(simulate(*pipeline(**changes), 12, mode="timed"))


def test_a_fault_says_when_and_who() -> None:
    problem, schedule = pipeline(times={"L": 0, "P": 21, "Q": 31})
    [fault] = simulate(problem, schedule, 12, mode="timed").faults
    assert str(fault) == "[dependence] cycle 21: P reads L before it is there"


def test_a_slot_is_not_written_while_it_is_read() -> None:
    problem, schedule = pipeline(depth=1, ii=27)
    assert not simulate(problem, schedule, 12, mode="timed").faults
    tight = replace(schedule, ii=26)
    assert kinds(simulate(problem, tight, 12, mode="timed")) == {"ring"}
    assert not simulate(problem, replace(tight, depths={"R": 2}), 12, mode="timed").faults


def test_code_does_not_straddle_a_wait() -> None:
    problem, schedule = pipeline(times={"L": 8, "P": 30, "Q": 61})  # Q leaves at 61, P stands at 62
    assert kinds(simulate(problem, schedule, 12, mode="timed")) == {"wait"}
    later = replace(schedule, times={"L": 8, "P": 32, "Q": 61})
    assert not simulate(problem, later, 12, mode="timed").faults


def test_results_of_several_iterations_take_registers() -> None:
    problem, schedule = pipeline(times={"L": 0, "P": 22, "Q": 61})  # two copies of P's eight registers
    assert kinds(simulate(problem, schedule, 12, mode="timed")) == {"registers"}
    assert not simulate(problem, replace(schedule, registers={0: 24, 1: 40}), 12, mode="timed").faults


def test_the_register_file_is_shared() -> None:
    problem, schedule = pipeline()
    limits = replace(problem.limits, reg_file=32 * 4 * (24 + 32))
    assert not execute(replace(problem, limits=limits), schedule).broken
    less = replace(problem, limits=replace(limits, reg_file=32 * 4 * (24 + 32) - 1))
    assert kinds(execute(less, schedule)) == {"registers"}


def placed(offset: int, d: int) -> tuple[Problem, Schedule]:
    """A writes X for C, B writes Y for C; Y lies at ``offset`` and B issues at ``d``."""
    ops = tuple(Op(v, (Segment("U", 0, 1),), 1) for v in "ABC")
    edges = (Edge("A", "C", 1, mem="tmem"), Edge("B", "C", 1, mem="tmem"))
    buffers = (
        Buffer("X", "tmem", 2, "A", (Reader("C", 1),), alloc=True, align=1),
        Buffer("Y", "tmem", 2, "B", (Reader("C", 1),), alloc=True, align=1),
    )
    problem = Problem("places", ops, edges, buffers, Limits((("U", 1),), tmem=4), groups_max=2)
    return problem, Schedule(
        6, {"A": 0, "B": d, "C": 4}, dict.fromkeys("ABC", 1), {}, {"X": 0, "Y": offset}, {1: 24}
    )


def test_a_place_has_one_tenant_at_a_time() -> None:
    assert not execute(*placed(2, 1)).broken
    assert kinds(execute(*placed(1, 1))) == {"place"}
    assert kinds(execute(*placed(3, 1))) == {"memory"}
    problem, schedule = placed(2, 1)
    assert kinds(execute(problem, replace(schedule, times={"A": 0, "B": 1, "C": 8}))) == {"place"}


def test_opposite_predicates_hold_a_unit_at_once() -> None:
    ops = tuple(Op(v, (Segment("U", 0, 2),), 1, predicate=p) for v, p in (("A", "p"), ("B", "!p")))
    problem = Problem("arms", ops, (), (), Limits((("U", 1),)), groups_max=2)
    schedule = Schedule(2, {"A": 0, "B": 0}, {"A": 1, "B": 1}, {}, {}, {1: 24})
    assert not execute(problem, schedule).broken
    both = replace(problem, ops=(ops[0], replace(ops[1], predicate="q")))
    assert kinds(execute(both, schedule)) == {"unit"}


# -- free running


def test_a_loop_that_cannot_go_on_says_who_waits_for_what() -> None:
    ops = (Op("A", (), 1), Op("B", (), 1))
    edges = (Edge("A", "B", 0, mem="smem"), Edge("B", "A", 0, mem="smem"))
    problem = Problem("ring of waits", ops, edges, (), Limits((), sync=0), groups_max=3)
    schedule = Schedule(4, {"A": 0, "B": 0}, {"A": 1, "B": 2}, {}, {}, {1: 24, 2: 24})
    assert simulate(problem, schedule, 4).deadlock == (
        "group 1 at A of iteration 0 waits for value B",
        "group 2 at B of iteration 0 waits for value A",
    )


def test_late_loads_slow_a_shallow_ring_only() -> None:
    problem, schedule = pipeline(depth=1, ii=27)
    deep = replace(schedule, depths={"R": 4})
    runs = {n: simulate(problem, s, 96, jitter=20, seed=3) for n, s in ((1, schedule), (4, deep))}
    assert runs[1].ii is not None and runs[4].ii is not None
    assert runs[1].ii > 27 > runs[4].ii
    assert simulate(problem, schedule, 96, mode="timed", jitter=20, seed=3).faults


def test_a_seed_gives_one_run() -> None:
    problem, schedule = planned("fa3")
    first, second = (simulate(problem, schedule, 24, jitter=900, seed=7) for _ in range(2))
    assert first == second != simulate(problem, schedule, 24, jitter=900, seed=8)


def test_stalls_name_their_cause() -> None:
    problem, schedule = pipeline(depth=1, ii=27)
    run = simulate(problem, schedule, 24)
    assert {(s.op, s.cause) for s in run.stalls} == {("P", "value L"), ("Q", "value P")}
    assert {s.op: s.cycles for s in run.stalls}["Q"] == 24 * (9 - 2)


def test_units_that_serve_who_comes_first_can_lose_the_plan() -> None:
    """X may come 8 cycles after Y, and then the next Y has to wait; in the plan X lets it go first."""
    ops = (op("Y", "U", 2, 0), op("Z", "V", 10, 0), op("X", "U", 6, 0))
    edges = (edge("Y>Z", 2), edge("Z>Y", 10, 1), edge("Y>X", 8, 1, mem="ord"))
    problem = Problem("turns", ops, edges, (), Limits((("U", 1), ("V", 1))), groups_max=3)
    groups, registers = {"Y": 1, "Z": 1, "X": 2}, {1: 24, 2: 24}
    schedule = Schedule(12, {"Y": 0, "Z": 2, "X": 14}, groups, {}, {}, registers)
    assert execute(problem, schedule).ii == 12 and not execute(problem, schedule).broken
    assert simulate(problem, schedule, 48, arbiter="first").ii == 14


# -- properties


@cache
def solved(count: int) -> list[tuple[int, Problem, Schedule]]:
    """Random problems that have an answer."""
    problems = [(seed, small_problem(seed)) for seed in range(count)]
    answers = [(seed, p, solve(p, "fewest", polish=False).schedule) for seed, p in problems]
    return [(seed, p, s) for seed, p, s in answers if s is not None]


def test_a_solved_loop_works_and_is_no_slower_and_so_is_what_else_works() -> None:
    assert len(solved(100)) > 50
    for seed, problem, schedule in solved(100):
        run = execute(problem, schedule)
        assert not run.broken and run.ii is not None and run.ii <= schedule.ii, seed
        for other in mutants(seed, problem, schedule, 5):
            run = execute(problem, other)
            assert run.broken or (run.ii is not None and run.ii <= other.ii), (seed, other)


@pytest.mark.parametrize("arbiter", ["schedule", "first"])
def test_a_free_run_obeys_the_rules(arbiter: Arbiter) -> None:
    ended = 0
    for seed, problem, schedule in solved(100):
        run = simulate(problem, schedule, 16, arbiter=arbiter, jitter=seed % 4, seed=seed)
        if not run.deadlock:
            audit(problem, schedule, run)
            ended += 1
    assert ended == len(solved(100)) or arbiter == "first"


def audit(problem: Problem, schedule: Schedule, run: Run) -> None:
    """Order, values, slots and units of a trace, looked up one by one."""
    issued = {(e.op, e.iteration): e.start for e in run.trace if e.lane.startswith("group")}
    plan = Plan(problem, schedule, 16)
    for group in plan.groups:
        cycles = [issued[x] for x in plan.program(group) if x in issued]
        assert cycles == sorted(cycles)
    for e in problem.edges:
        for (v, i), cycle in issued.items():
            if v == e.dst and (e.src, i - e.delta) in issued:
                assert cycle >= issued[e.src, i - e.delta] + plan.delay(e)
    for b in (b for b in problem.buffers if not b.alloc):
        for r in b.readers:
            for i in range(schedule.depths[b.id], 16):
                past = (r.op, i - schedule.depths[b.id])
                if past in issued and (b.writer, i) in issued:
                    assert issued[b.writer, i] >= issued[past] + r.rd
    for unit, count in problem.limits.units:
        used: dict[int, int] = defaultdict(int)
        for event in run.trace:
            if event.lane == unit:
                for cycle in range(event.start, event.end):
                    used[cycle] += 1
        assert max(used.values(), default=0) <= count
