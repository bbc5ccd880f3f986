"""Helpers of the pipeliner's tests: plans for loops, loops replaced in a kernel, runs compared."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pass_kernels import Builder

from tilec.ir.core import Block, Kernel, Op, Value, frozen, walk
from tilec.ir.interp import POLICIES, interpret
from tilec.ir.ops import make, opdef
from tilec.ir.types import TileType, float16, float32
from tilec.passes import canonicalize, make_async
from tilec.passes.schedule.distribute import compute_block, load_block
from tilec.passes.schedule.modulo import LoopPlan, pipeline_loop
from tilec.passes.schedule.modulo_body import body_of, reads

FREE = {"const", "arange", "reshape", "permute", "broadcast", "yield", "assume", "dot.wait"}
PlanOf = Callable[[Op], LoopPlan | None]
FEW = [(p, 0) for p in POLICIES] + [("random", seed) for seed in range(1, 4)]


def costly(loop: Op) -> tuple[Op, ...]:
    """Ops of the body that a schedule would place: work on tiles, and all effects but rings'."""
    return tuple(
        op for op in loop.blocks[0].ops
        if op.name not in FREE and not op.name.startswith("aref.") and (_on_tiles(op) or _acts(op))
    )  # fmt: skip


def _on_tiles(op: Op) -> bool:
    return any(isinstance(v.type, TileType) and v.type.size > 1 for v in (*op.args, *op.results))


def _acts(op: Op) -> bool:
    return opdef(op.name).effect == "write"


def replaced(block: Block, plan_of: PlanOf) -> Block:
    """The block with every loop pipelined for which there is a plan."""
    ops: list[Op] = []
    for op in block.ops:
        plan = plan_of(op) if op.name == "for" else None
        if plan is None:
            ops.append(op.with_(blocks=tuple(replaced(b, plan_of) for b in op.blocks)))
        else:
            found = pipeline_loop(op, plan)
            assert not isinstance(found, str), found
            ops += found
    return Block(block.params, tuple(ops))


def distributed(kernel: Kernel, depth: int, groups: Sequence[str] = ("compute",), warps: int = 4) -> Kernel:
    """A TILE kernel over a load group and ``groups`` of ``warps``, each of which does the whole work of
    a compute group; every product is waited for at once. Rings in loops have ``depth`` slots, others one."""
    aref = canonicalize(make_async(canonicalize(kernel)))
    top = {op.args[0] for op in aref.body.ops if op.name == "aref.put"}
    news = [op for op in aref.body.ops if op.name == "aref.new"]
    rings = {op.result: _with_depth(op, 1 if op.result in top else depth) for op in news}
    env = {old: new.result for old, new in rings.items()}
    blocks = (load_block(aref, env), *(compute_block(aref, env, "compute") for _ in groups))
    few, many = {4: (24, 240), 8: (40, 232)}[warps * len(groups)]
    made = make(
        "warp_groups", blocks=blocks, names=("load", *groups), warps=(4, *[warps] * len(groups)),
        registers=(few, *[many] * len(groups)),
    )  # fmt: skip
    attrs = frozen(**{**aref.attrs, "num_warps": 4 + warps * len(groups)})
    return aref.with_(form="scheduled", body=Block((), (*rings.values(), made, make("yield"))), attrs=attrs)


def _with_depth(new: Op, depth: int) -> Op:
    return make("aref.new", hints=(new.result.hint,), payload=new.attrs["payload"], depth=depth)


def pipelined(kernel: Kernel, plan_of: PlanOf, group: str = "compute") -> Kernel:
    """The SCHEDULED kernel with the loops of one group (all, if it has no groups) pipelined."""
    groups = [op for op in kernel.body.ops if op.name == "warp_groups"]
    if not groups:
        return canonicalize(kernel.with_(body=replaced(kernel.body, plan_of)))
    (old,) = groups
    names = old.attrs["names"]
    blocks = [replaced(b, plan_of) if n == group else b for n, b in zip(names, old.blocks, strict=True)]
    ops = tuple(op.with_(blocks=tuple(blocks)) if op is old else op for op in kernel.body.ops)
    return canonicalize(kernel.with_(body=Block((), ops)))


def has_product(loop: Op) -> bool:
    return any(op.name == "dot" for op in loop.blocks[0].ops)


def in_order(loop: Op, stages: Sequence[int] = (), in_flight: int = 1) -> LoopPlan:
    """The program's order; ``stages`` of the ops, 0 where it is too short."""
    ops = costly(loop)
    products = [op for op in ops if op.name == "dot"]
    found = [*stages, *[0] * len(ops)][: len(ops)]
    return LoopPlan(dict(zip(ops, found, strict=True)), ops, dict.fromkeys(products, in_flight))


def overlapped(loop: Op) -> LoopPlan | None:
    """Attention with T_k, U_{k-1} and C_k in a step: U is one stage late, O is rescaled behind it,
    and P is rounded when U no longer reads the last one."""
    products = [op for op in costly(loop) if op.name == "dot"]
    if len(products) != 2:
        return None
    t, u = products
    rest = [op for op in costly(loop) if op not in products]
    late = [op for value in (u.args[2], u.args[0]) for op in rest if value in op.results]
    order = (t, u, *(op for op in rest if op not in late), *late)
    return LoopPlan({op: int(op is u) for op in order}, order)


def always_running(loop: Op) -> LoopPlan | None:
    """Attention in three stages: U of one block is issued, then half of the next block's softmax runs
    beside it, then T of the block after that is issued, and the other half runs beside both."""
    if not has_product(loop):
        return None
    ops = costly(loop)
    t, u = (op for op in ops if op.name == "dot")
    maximum = next(i for i, op in enumerate(ops) if op.name == "reduce") if ops else 0
    late = [op for op in ops if _sums(op, u, ops)]
    last = [op for value in (u.args[2], u.args[0]) for op in ops if value in op.results]
    sums = [op for op in late if op not in last]
    first = [op for op in ops[:maximum] if op is not t]
    rest = [op for op in ops[maximum:] if op not in (*late, u)]
    stage = {**dict.fromkeys(ops, 1), **dict.fromkeys((*late, u), 2), t: 0}
    return LoopPlan(stage, (*last, u, *first, *sums, t, *rest))


def _sums(op: Op, u: Op, ops: Sequence[Op]) -> bool:
    """Ops that only add up what the exponentials give: for O, for P, and for the sum of P."""
    if any(r in (u.args[0], u.args[2]) for r in op.results):
        return True
    total = next(o for o in reversed(ops) if o.name == "reduce" and o.attrs["kind"] == "sum")
    add = next(o for o in ops if total.result in o.args)
    return op in (total, add) or any(r in add.args for r in op.results)


def random_plan(loop: Op, seed: int, stages: int) -> LoopPlan:
    """A random legal plan: stages that respect dependences, then a random topological order."""
    rng = random.Random(seed)
    ops = costly(loop)
    body = body_of(loop, ops)
    needs = [
        (op, leaf.op, leaf.distance) for op in ops for _, leaf in reads(body, op) if leaf.op in ops
    ]  # fmt: skip
    needs += _memory(ops)
    stage = {op: rng.randrange(stages) for op in ops}
    rules = [*needs, *_slots(ops, body)]
    while late := [n for n in rules if stage[n[0]] + n[2] < stage[n[1]]]:
        op, source, distance = late[0]
        stage[op] = stage[source] - distance
    tight = {op: {b for a, b, d in needs if a is op and stage[a] + d == stage[b]} for op in ops}
    order: list[Op] = []
    while len(order) < len(ops):
        ready = [op for op in ops if op not in order and tight[op] <= {*order, op}]
        order.append(rng.choice(ready))
    in_flight = {op: rng.randint(1, 3) for op in ops if op.name == "dot"}
    return LoopPlan(stage, tuple(order), in_flight)


def _memory(ops: Sequence[Op]) -> list[tuple[Op, Op, int]]:
    """A store after what came before it, and before what comes in the next iteration."""
    found = []
    for i, first in enumerate(ops):
        for second in ops[i + 1 :]:
            names = {first.name, second.name}
            if "store" in names and names <= {"load", "store"} and first.args[0] is second.args[0]:
                found += [(second, first, 0), (first, second, 1)]
    return found


def _slots(ops: Sequence[Op], body: Any) -> list[tuple[Op, Op, int]]:
    """Readers of one slot are in one stage: none before the other."""
    by_get: dict[Op, list[Op]] = {}
    for op in ops:
        for _, leaf in reads(body, op):
            if leaf.op.name == "aref.get":
                by_get.setdefault(leaf.op, []).append(op)
    return [(a, b, 0) for readers in by_get.values() for a in readers for b in readers if a is not b]


def random_kernel(seed: int) -> Kernel:
    """A TILE loop of up to ten tile ops and two products with carried tiles, a counter, and stores.

    Values stay between -8 and 8: what shared memory is poisoned with would show.
    """
    rng = random.Random(seed)
    b = Builder()
    A, B, OUT, X = b.tensor("A"), b.tensor("B"), b.tensor("OUT", float32), b.tensor("X", float32)
    zero = b.const(0)
    tile = (64, 16)

    def spread(x: Value) -> Value:
        return b("broadcast", b("cast", x, dtype=float32), shape=tile)

    def bounded(x: Value) -> Value:
        return b("minimum", b("maximum", x, b.const(-8.0, float32, tile)), b.const(8.0, float32, tile))

    def product(pool: list[Value], i: Value) -> Value:
        k = b("mul", i, b.const(16))
        left = b("load", A, zero, k, shape=(64, 16), hint="a")
        if rng.random() < 0.4:
            left = b("cast", bounded(rng.choice(pool)), dtype=float16)
        right = b("load", B, k, zero, shape=(16, 16), hint="b")
        acc = rng.choice([b.const(0.0, float32, tile), *pool[:2], *pool[-2:]])
        return b("dot", left, right, acc)

    def body(i: Value, counter: Value, *carried: Value) -> tuple[Value, ...]:
        pool, products = [*carried, spread(i), spread(counter)], list[Value]()
        kinds = ["product"] * rng.randint(1, 2) + ["work"] * rng.randint(1, 6) + ["store"] * rng.randint(0, 1)
        rng.shuffle(kinds)
        for kind in kinds:
            if kind == "product":
                products.append(product(pool, i))
                pool.append(products[-1])
            elif kind == "work":
                name = rng.choice(["add", "sub", "mul", "maximum"])
                pool.append(bounded(b(name, rng.choice(pool), rng.choice(pool[-3:]))))
            else:
                old = b("load", OUT, zero, zero, shape=tile)
                b.op("store", OUT, bounded(b("add", old, pool[-1])), zero, zero)
        counter = b("add", b("mul", counter, b.const(3)), b.const(1))
        following = [rng.choice([pool[-1], *pool[:3], rng.choice(pool)]) for _ in carried]
        following[0] = rng.choice(products)
        return (b("mod", counter, b.const(7)), *following)

    initial = [b.const(x, float32, tile) for x in (1.0, -2.0, 0.5)[: rng.randint(1, 3)]]
    results = b.loop(0, b("dim", X, axis=1), body, b.const(2), *initial)
    for n, value in enumerate(results[1:]):
        b.op("store", X, bounded(value), b.const(64 * n), zero)
    return b.kernel("random")


def run(
    kernel: Kernel, grid: tuple[int, ...], args: Sequence[Any], policy: str = "first", seed: int = 0
) -> Any:
    """All arrays after a run on copies."""
    copies = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
    interpret(kernel, grid, copies, policy=policy, seed=seed)
    return [a for a in copies if isinstance(a, np.ndarray)]


def same(a: Any, b: Any) -> bool:
    return all(np.array_equal(x, y, equal_nan=x.dtype.kind == "f") for x, y in zip(a, b, strict=True))


def count(kernel: Kernel, name: str) -> int:
    return sum(op.name == name for op in walk(kernel.body))
