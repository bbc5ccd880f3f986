"""A pipelined loop means what the loop means: for all trips, plans and interleavings, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from modulo_kit import (
    FEW,
    costly,
    count,
    distributed,
    has_product,
    in_order,
    overlapped,
    pipelined,
    random_kernel,
    random_plan,
    run,
    same,
)
from pass_kernels import Builder, attention, attention_step, gemm, halves, persistent_gemm, row

from tilec.ir.core import Block, Kernel, Op, Value, frozen, walk
from tilec.ir.errors import TilecError
from tilec.ir.forms import verify
from tilec.ir.text import print_kernel
from tilec.ir.types import DType, float16, float32, int32, int64, uint32
from tilec.passes import canonicalize
from tilec.passes.schedule.modulo import LoopPlan, Segment, Turns, pipeline_loop
from tilec.passes.schedule.modulo_body import body_of
from tilec.passes.schedule.modulo_line import line_of
from tilec.passes.schedule.modulo_plan import rotations
from tilec.passes.schedule.modulo_step import Step, step_of


def zeros(*shape: int, dtype: Any = np.float16) -> Any:
    return np.zeros(shape, dtype)


def agree(base: Kernel, kernel: Kernel, grid: tuple[int, ...], args: list[Any]) -> None:
    verify(kernel)
    expected = run(base, grid, args)
    for policy, seed in FEW:
        assert same(run(kernel, grid, args, policy, seed), expected), (policy, seed)


# Random plans.


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 4))
@example(1290, 772, 4)  # two products that are equal in the first iteration
def test_random_loops_under_random_plans(loop: int, plan: int, stages: int) -> None:
    base = distributed(random_kernel(loop), 9)
    plans: list[LoopPlan] = []

    def plan_of(op: Op) -> LoopPlan | None:
        if not has_product(op):
            return None
        plans.append(random_plan(op, plan, stages))
        return plans[-1]

    kernel = pipelined(base, plan_of)
    verify(kernel)
    assert read_only_when_waited_for(kernel)
    for trips in range(plans[0].stages + 3):
        a, b = halves(trips, (64, 16 * max(trips, 1)), (16 * max(trips, 1), 16))
        args = [a, b, zeros(64, 16, dtype=np.float32), zeros(192, trips, dtype=np.float32)]
        expected = run(base, (1,), args)
        assert all(np.isfinite(e).all() for e in expected)
        for policy, seed in FEW[plan % 4 :: 4]:
            assert same(run(kernel, (1,), args, policy, seed), expected)


def read_only_when_waited_for(kernel: Kernel) -> bool:
    """Results of running products go to waits, accumulators and around loops, by their own name."""
    running = {op.result for op in walk(kernel.body) if op.attrs.get("asynchronous")}
    reads = {(op.name, i) for op in walk(kernel.body) for i, a in enumerate(op.args) if a in running}
    return {name for name, i in reads - {("dot", 2)}} <= {"dot.wait", "yield", "for"}


# GEMM: products in flight.


@pytest.mark.parametrize(("depth", "flying"), [(d, p) for d in range(1, 5) for p in range(1, d + 1)])
@pytest.mark.parametrize("build", [gemm, persistent_gemm], ids=lambda f: f.__name__)
def test_products_in_flight(build: Callable[[], Kernel], depth: int, flying: int) -> None:
    base = distributed(build(), depth)
    kernel = pipelined(base, lambda op: in_order(op, in_flight=flying) if has_product(op) else None)
    keeps = [op.attrs["keep"] for op in walk(kernel.body) if op.name == "aref.release"]
    assert keeps == [flying - 1] + [0] * (flying > 1)
    for trips in sorted({0, 1, depth - 1, depth, depth + 1}):
        a, b = halves(trips, (70, 16 * trips), (16 * trips, 20))
        agree(base, kernel, (2, 2), [a, b, zeros(70, 20)])


def test_more_products_in_flight_than_slots_are_refused() -> None:
    (loop,) = loops(distributed(gemm(), 2))
    found = pipeline_loop(loop, in_order(loop, in_flight=3))
    assert isinstance(found, str) and "holds 3 slots of a_b, which has 2" in found


def loops(kernel: Kernel) -> list[Op]:
    """Loops with products of the last group, or of a kernel without groups all loops."""
    groups = [op for op in kernel.body.ops if op.name == "warp_groups"]
    found = [op for op in walk(groups[0].blocks[-1] if groups else kernel.body) if op.name == "for"]
    return [op for op in found if has_product(op) or not groups]


# Attention: T, C and U side by side.


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize(("causal", "parts"), [(False, 1), (True, 1), (True, 2)])
def test_attention(causal: bool, parts: int, depth: int) -> None:
    base = distributed(attention(causal, parts), depth)
    kernel = pipelined(base, overlapped)
    for blocks in range(5):
        rows = 192 if causal else 64
        keys = rows if causal else 16 * blocks
        q, k, v = halves(blocks, (rows, 16), (keys, 16), (keys, 16))
        agree(base, kernel, (rows // 64,), [q, k, v, np.zeros_like(q)])


def test_the_steady_state_of_attention() -> None:
    """U_{k-1} is issued behind T_k and waited for behind C_k; each slot goes back at once."""
    kernel = pipelined(distributed(attention(), 2), overlapped)
    (loop,) = loops(kernel)
    names = ("aref.get", "dot", "dot.wait", "aref.release", "exp2", "cast")
    found = [(op.name, op.attrs.get("pending", op.attrs.get("keep"))) for op in loop.blocks[0].ops]
    assert [f for f in found if f[0] in names] == [
        ("aref.get", None), ("dot", None), ("aref.get", None), ("dot", None),
        ("dot.wait", 1), ("aref.release", 0), ("exp2", None), ("exp2", None),
        ("dot.wait", 0), ("aref.release", 0), ("cast", None),
    ]  # fmt: skip


def test_where_a_step_begins_is_left_to_the_pipeliner() -> None:
    """Some beginnings would have P or a wait cut in two: the one that lets most overlap is taken."""
    base = distributed(attention(), 2)
    (loop,) = loops(base)
    plan = overlapped(loop)
    assert plan is not None
    texts = [
        print_kernel(pipelined(base, lambda op, p=p: p if op is loop else None)) for p in rotations(plan)
    ]
    assert len(texts) > 3 and len(set(texts)) == 1


def test_a_product_that_is_read_in_the_next_step() -> None:
    """Its wait and release come before the next get: one slot is enough."""
    b = Builder()
    A, B, X = b.tensor("A"), b.tensor("B"), b.tensor("X", float32)
    zero, acc = b.const(0), b.const(0.0, float32, (64, 16))

    def body(i: Value, total: Value) -> Value:
        a, w = b("load", A, zero, i, shape=(64, 16)), b("load", B, i, zero, shape=(16, 16))
        return b("add", total, b("maximum", b("dot", a, w, acc), acc))

    (total,) = b.loop(0, b("dim", A, axis=1), body, acc, step=16)
    b.op("store", X, total, zero, zero)
    base = distributed(b.kernel(), 1)
    (loop,) = loops(base)
    dot, most, add = costly(loop)
    plan = LoopPlan({dot: 0, most: 1, add: 1}, (most, add, dot))
    step = step_of(body := body_of(loop, plan.order), line_of(body, plan), plan, across=True)
    assert isinstance(step, Step)
    (release,) = step.of("release")
    assert (step.held(release), step.keep(release), release.stage) == (1, 0, 1)
    kernel = pipelined(base, lambda op: plan if op is loop else None)
    assert {op.attrs["keep"] for op in walk(kernel.body) if op.name == "aref.release"} == {0}
    for trips in range(4):
        x, y = halves(trips, (64, 16 * trips), (16 * trips, 16))
        agree(base, kernel, (1,), [x, y, zeros(64, 16, dtype=np.float32)])


def persistent_attention(bm: int = 64, d: int = 16) -> Kernel:
    """Blocks of queries in an outer loop; each sees the keys up to its own last row."""
    b = Builder()
    Q, K, V, O = (b.tensor(n) for n in "QKVO")

    def block(first: Value) -> None:
        q = b("load", Q, first, b.const(0), shape=(bm, d), hint="q")
        state = b.const(0.0, float32, (bm, d)), b.const(0.0, float32, (bm,)), b.const(-1e30, float32, (bm,))
        end = b("add", first, b.const(16))
        step = lambda j, *s: attention_step(b, q, K, V, j, None, s)  # noqa: E731
        o, l, _ = b.loop(0, end, step, *state, step=16)
        b.op("store", O, b("cast", b("div", o, row(b, l, (bm, d))), dtype=float16), first, b.const(0))

    b.loop(b("mul", b("program_id", axis=0), b.const(bm)), b("dim", Q, axis=0), block, step=2 * bm)
    return b.kernel("persistent_attention")


@pytest.mark.parametrize("depth", [1, 2])
def test_persistent_attention_with_a_stop_that_changes(depth: int) -> None:
    base = distributed(persistent_attention(), depth)
    kernel = pipelined(base, overlapped)
    q, k, v = halves(1, (300, 16), (300, 16), (300, 16))
    agree(base, kernel, (2,), [q, k, v, np.zeros_like(q)])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 4), st.booleans())
def test_attention_under_random_plans(seed: int, stages: int, causal: bool) -> None:
    base = distributed(attention(causal, 1 + causal), 6)
    kernel = pipelined(base, lambda op: random_plan(op, seed, stages) if has_product(op) else None)
    rows = 128 if causal else 64
    for keys in (rows,) if causal else (0, 16, 32, 48, 96):
        q, k, v = halves(keys, (rows, 16), (keys, 16), (keys, 16))
        agree(base, kernel, (rows // 64,), [q, k, v, np.zeros_like(q)])


# Loop bounds.


def indexed(start: int, step: int, dtype: DType, stages: int, fixed: bool) -> tuple[Kernel, Kernel]:
    """X[n] = 2 i + n-th number of a recurrence for the n-th trip, the store ``stages`` - 1 steps late."""
    b = Builder()
    X, stop = b.tensor("X", dtype, 1), b.scalar("stop", dtype)
    by = b.const(step, dtype) if fixed else b.scalar("step", dtype)

    def body(i: Value, n: Value, x: Value) -> tuple[Value, ...]:
        y = b("add", b("broadcast", i, shape=(4,)), x)
        z = b("add", y, b("broadcast", i, shape=(4,)))
        b.op("store", X, z, b("mul", n, b.const(4)))
        return b("add", n, b.const(1)), b("add", b("mul", x, x), b.const(1, dtype, (4,)))

    first = b.const(start, dtype)
    n, _ = b.loop(first, stop, body, b.const(0), b.const(1, dtype, (4,)), step=by)
    b.op("store", X, b("broadcast", b("cast", n, dtype=dtype), shape=(4,)), b("mul", n, b.const(4)))
    base = b.kernel().with_(form="scheduled")
    late = (0, stages - 1, stages - 1)
    return base, pipelined(base, lambda op: in_order(op, late))


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize(
    ("start", "step", "dtype"),
    [(0, 1, int32), (-3, 2, int32), (5, 3, uint32), (9, -1, int32), (7, -4, int64)],
)
def test_starts_steps_and_stops(start: int, step: int, dtype: DType, fixed: bool, stages: int) -> None:
    base, kernel = indexed(start, step, dtype, stages, fixed)
    verify(kernel)
    sign = 1 if step > 0 else -1
    for far in range(-2, (stages + 3) * abs(step) + 1):
        stop = start + sign * far
        if stop < 0 and dtype is uint32:
            continue
        args = [np.zeros(64, dtype.np), stop, *([] if fixed else [step])]
        assert same(run(kernel, (1,), args), run(base, (1,), args)), stop


@pytest.mark.parametrize("stages", [(0, 0, 0), (0, 1, 1), (1, 1, 3), (0, 2, 2), (0, 0, 2)])
def test_a_scalar_that_adds_up_what_tiles_give(stages: tuple[int, int, int]) -> None:
    """The sum is free, but not made from the index alone: each stage makes its own from an older one."""
    b = Builder()
    X = b.tensor("X", float32, 1)

    def body(i: Value, total: Value) -> Value:
        x = b("broadcast", b("cast", i, dtype=float32), shape=(4,))
        fresh = b("reduce", b("add", x, x), kind="sum", axis=0)
        total = b("add", b("mul", total, b.const(0.5, float32)), fresh)
        b.op("store", X, b("broadcast", total, shape=(4,)), b("mul", i, b.const(4)))
        return total

    (total,) = b.loop(0, b.scalar("n"), body, b.const(1.0, float32))
    b.op("store", X, b("broadcast", total, shape=(4,)), b.const(60))
    base = b.kernel().with_(form="scheduled")
    kernel = pipelined(base, lambda op: in_order(op, stages))
    verify(kernel)
    for trips in range(max(stages) + 4):
        args = [np.zeros(64, np.float32), trips]
        assert same(run(kernel, (1,), args), run(base, (1,), args))


# Turns of two groups.


def taking_turns(depth: int, stages: tuple[int, int]) -> tuple[Kernel, Kernel]:
    """Attention done twice, by groups a and b; each holds its turn from T to U. Group a may be ahead."""
    base = distributed(attention(), depth, ("a", "b"))
    kernel = base
    for index, (group, hoisted) in enumerate(zip("ab", stages, strict=True)):

        def plan_of(op: Op, index: int = index, hoisted: int = hoisted) -> LoopPlan | None:
            if not has_product(op):
                return None
            plan = overlapped(op) if hoisted else in_order(op)
            assert plan is not None
            products = [o for o in plan.order if o.name == "dot"]
            turns = Turns("tc", 2, (Segment(index, products[0], products[-1]),))
            return LoopPlan(_later(plan, hoisted), plan.order, {}, turns)

        kernel = pipelined(kernel, plan_of, group)
    return base, kernel


def _later(plan: LoopPlan, stages: int) -> dict[Op, int]:
    """The plan with U ``stages`` late, and the rescaling of O, which needs the last U, one less."""
    late = [op for op, s in plan.stage.items() if s]
    rescaled = {value for op in late for value in op.args[2:]}
    before = [op for op in plan.order if rescaled & set(op.results)]
    return {**plan.stage, **dict.fromkeys(before, max(stages - 1, 0)), **dict.fromkeys(late, stages)}


@pytest.mark.parametrize("stages", [(0, 0), (0, 1), (1, 1), (2, 0), (2, 1), (3, 2)])
def test_groups_that_take_turns(stages: tuple[int, int]) -> None:
    base, kernel = taking_turns(5, stages)
    assert count(kernel, "turn.enter") == count(kernel, "turn.exit") >= 2
    for blocks in range(max(stages) + 4):
        q, k, v = halves(blocks, (64, 16), (16 * blocks, 16), (16 * blocks, 16))
        agree(base, kernel, (1,), [q, k, v, np.zeros_like(q)])


# Mutations: each is noticed, by the verifier or by running.

Edit = Callable[[Op], list[Op]]


def edited(block: Block, edit: Edit) -> Block:
    ops: list[Op] = []
    for op in block.ops:
        ops += edit(op.with_(blocks=tuple(edited(b, edit) for b in op.blocks)))
    return Block(block.params, tuple(ops))


def dropped(name: str) -> Edit:
    return lambda op: [] if op.name == name else [op]


def counted(name: str, attr: str, by: int) -> Edit:
    def edit(op: Op) -> list[Op]:
        if op.name != name:
            return [op]
        return [op.with_(attrs=frozen(**{**op.attrs, attr: op.attrs.get(attr, 0) + by}))]

    return edit


# name: the edit, and whether running shows it, too
MUTATIONS: dict[str, tuple[Edit, bool]] = {
    "no wait": (counted("dot.wait", "pending", 9), True),
    "a product more may run": (counted("dot.wait", "pending", 1), True),
    "a slot more is kept": (counted("aref.release", "keep", 1), False),
    "no release": (dropped("aref.release"), True),
    "no turn begins": (dropped("turn.enter"), True),
    "no turn ends": (dropped("turn.exit"), True),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_mutations_are_noticed(name: str) -> None:
    edit, shows = MUTATIONS[name]
    base, good = taking_turns(3, (1, 1))
    bad = good.with_(body=edited(good.body, edit))
    q, k, v = halves(3, (64, 16), (64, 16), (64, 16))
    args = [q, k, v, np.zeros_like(q)]
    verify(good)
    with pytest.raises(TilecError):
        verify(bad)
    expected = run(base, (1,), args)

    def noticed(policy: str, seed: int) -> bool:
        try:
            return not same(run(bad, (1,), args, policy, seed), expected)
        except TilecError:
            return True

    assert any(noticed(policy, seed) for policy, seed in FEW) == shows


@pytest.mark.parametrize("nth", range(4))
def test_a_release_too_early_is_noticed(nth: int) -> None:
    """Products in flight: a release in the loop that keeps nothing gives a slot back while it is read."""
    base = distributed(gemm(), 4)
    good = pipelined(base, lambda op: in_order(op, in_flight=3) if has_product(op) else None)
    bad = good.with_(body=edited(good.body, counted("aref.release", "keep", -1)))
    a, b = halves(nth, (64, 96), (96, 16))
    args = [a, b, zeros(64, 16)]
    with pytest.raises(TilecError, match=r"X22[57]"):
        verify(bad)
    assert not all(
        same(run(bad, (1, 1), args, p, s), run(base, (1, 1), args)) for p, s in [*FEW, ("random", nth)]
    )


def test_the_same_plan_gives_the_same_text() -> None:
    texts = {print_kernel(pipelined(distributed(attention(True, 2), 2), overlapped)) for _ in range(2)}
    assert len(texts) == 1


# Reasons.


def small_loop(fill: Callable[[Builder, Value, Value], Value]) -> Op:
    """A loop of a kernel without rings: ``fill`` gets the index and a carried tile of 4 numbers."""
    b = Builder()
    x = b.const(1.0, float32, (4,))
    b.loop(0, b.scalar("n"), lambda i, x: fill(b, i, x), x)
    return next(op for op in b.kernel().body.ops if op.name == "for")


def refused(loop: Op, plan: LoopPlan) -> str:
    found = pipeline_loop(loop, plan)
    assert isinstance(found, str)
    return found


def test_a_while_loop_is_refused() -> None:
    b = Builder()
    b.repeat([b.const(0)], lambda i: b("lt", i, b.const(3)), lambda i: b("add", i, b.const(1)))
    loop = next(op for op in b.kernel().body.ops if op.name == "while")
    assert "a while loop has no index" in refused(loop, LoopPlan({}, ()))


def test_control_flow_inside_is_refused() -> None:
    def fill(b: Builder, i: Value, x: Value) -> Value:
        (y,) = b.branch(b("lt", i, b.const(3)), lambda: b("add", x, x), lambda: x)
        return y

    assert "control flow inside (if)" in refused(small_loop(fill), LoopPlan({}, ()))


def test_an_order_against_a_dependence_is_refused() -> None:
    loop = small_loop(lambda b, i, x: b("neg", b("add", x, x)))
    add, neg = costly(loop)
    assert "this neg before the add of line" in refused(loop, LoopPlan({add: 0, neg: 0}, (neg, add)))
    assert "this neg before the add of line" in refused(loop, LoopPlan({add: 1, neg: 0}, (add, neg)))
    # The next iteration needs neg before that.
    assert "this add before the neg of line" in refused(loop, LoopPlan({add: 0, neg: 1}, (add, neg)))
    assert not isinstance(pipeline_loop(loop, LoopPlan({add: 0, neg: 1}, (neg, add))), str)


def test_a_value_of_two_iterations_ago() -> None:
    """It may be made two stages later, but not three."""
    b = Builder()
    x = b.const(1.0, float32, (4,))
    X = b.tensor("X", float32, 1)

    def body(i: Value, old: Value, older: Value) -> tuple[Value, ...]:
        b.op("store", X, older, b("mul", i, b.const(4)))
        return b("add", b("broadcast", b("cast", i, dtype=float32), shape=(4,)), x), old

    b.loop(0, b.scalar("n"), body, x, b("add", x, x))
    base = b.kernel().with_(form="scheduled")
    (loop,) = loops(base)
    store, add = costly(loop)
    assert "before the add" in refused(loop, LoopPlan({store: 0, add: 3}, (add, store)))
    assert "before the add" in refused(loop, LoopPlan({store: 0, add: 2}, (store, add)))
    kernel = pipelined(base, lambda _: LoopPlan({store: 0, add: 2}, (add, store)))
    for trips in range(6):
        args = [np.zeros(24, np.float32), trips]
        assert same(run(kernel, (1,), args), run(base, (1,), args))


def test_a_plan_of_one_stage_stays_one_loop() -> None:
    """Though U would run beside the softmax if a step began with it."""
    kernel = pipelined(distributed(attention(), 2), lambda op: in_order(op) if has_product(op) else None)
    assert count(kernel, "if") == 0 and len(loops(kernel)) == 1


def accesses(b: Builder, X: Value, i: Value, x: Value) -> Value:
    old = b("load", X, i, shape=(4,))
    b.op("store", X, b("broadcast", b("cast", i, dtype=float32), shape=(4,)), i)
    return b("fma", old, x, b("load", X, i, shape=(4,)))


@pytest.mark.parametrize(
    ("stage", "order", "reason"),
    [
        ((0, 0, 0, 0), (0, 1, 2, 3), None),
        ((0, 0, 0, 0), (0, 2, 1, 3), "moves this load across that"),
        ((0, 1, 1, 1), (1, 0, 2, 3), None),
        ((0, 1, 1, 1), (0, 1, 2, 3), "moves this store across that"),
        ((0, 0, 1, 1), (2, 0, 1, 3), None),
        ((0, 0, 1, 1), (0, 1, 2, 3), "moves this load across that"),
    ],
)
def test_accesses_to_one_tensor_stay_in_order(
    stage: tuple[int, ...], order: tuple[int, ...], reason: str | None
) -> None:
    b = Builder()
    X = b.tensor("X", float32, 1)
    b.loop(0, b.scalar("n"), lambda i, x: accesses(b, X, i, x), b.const(1.0, float32, (4,)))
    base = b.kernel().with_(form="scheduled")
    (loop,) = loops(base)
    ops = costly(loop)
    plan = LoopPlan(dict(zip(ops, stage, strict=True)), tuple(ops[i] for i in order))
    if reason is not None:
        assert reason in refused(loop, plan)
        return
    kernel = pipelined(base, lambda _: plan)
    for trips in range(5):
        args = [np.arange(9, dtype=np.float32), trips]
        assert same(run(kernel, (1,), args), run(base, (1,), args))


def test_an_effect_without_a_place_is_refused() -> None:
    b = Builder()
    X = b.tensor("X", float32, 1)
    b.loop(0, b.scalar("n"), lambda i, x: accesses(b, X, i, x), b.const(1.0, float32, (4,)))
    (loop,) = loops(b.kernel().with_(form="scheduled"))
    load, _, *rest = costly(loop)
    order = (load, *rest)
    assert "the plan has no place for this store" in refused(loop, LoopPlan(dict.fromkeys(order, 0), order))


def test_plans_that_do_not_fit_are_refused() -> None:
    base = distributed(attention(), 2)
    (loop,) = loops(base)
    plan = overlapped(loop)
    assert plan is not None
    assert "of different ops" in refused(loop, LoopPlan(plan.stage, plan.order[1:]))
    other = overlapped(loops(distributed(attention(), 2))[0])
    assert other is not None
    assert "is not in the body" in refused(loop, other)
    first, last = plan.order[0], plan.order[-1]
    for segments, reason in [
        ((Segment(0, last, first),), "overlap"),
        ((Segment(0, first, last), Segment(1, last, last)), "overlap"),
        ((Segment(1, first, first), Segment(0, last, last)), "ascending"),
        ((Segment(2, first, last),), "ascending"),
        ((Segment(0, Op("dot"), last),), "does not have"),
    ]:
        assert reason in refused(loop, LoopPlan(plan.stage, plan.order, {}, Turns("t", 2, segments)))


def test_a_slot_read_in_two_stages_is_refused() -> None:
    b = Builder()
    A, B, X = b.tensor("A"), b.tensor("B"), b.tensor("X", float32)
    zero, acc = b.const(0), b.const(0.0, float32, (64, 16))

    def body(i: Value, u: Value, v: Value) -> tuple[Value, ...]:
        a = b("load", A, zero, i, shape=(64, 16))
        w = b("load", B, i, zero, shape=(16, 16))
        return b("dot", a, w, u), b("dot", b("cast", u, dtype=float16), w, v)

    u, v = b.loop(0, b("dim", A, axis=1), body, acc, acc, step=16)
    b.op("store", X, b("add", u, v), zero, zero)
    base = distributed(canonicalize(b.kernel()), 4)
    (loop,) = loops(base)
    ops = costly(loop)
    stage = {op: int(op is ops[-1]) for op in ops}
    assert "is read in several stages" in refused(loop, LoopPlan(stage, ops))
    # Begun in front of the late product, a step reads it in one stage.
    assert not isinstance(pipeline_loop(loop, LoopPlan(stage, (ops[-1], *ops[:-1]))), str)
