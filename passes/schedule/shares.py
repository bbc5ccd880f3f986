"""How many of a loop's exponentials a polynomial computes, so that XU, the slow unit, does not bind.

A share is a variant of the loop: other costs, hence another problem, solved and proven by itself. The
plan is the best over the variants: each that is not taken has a bound or a plan that is no better.
Warps also have to issue all those instructions. No unit of the model says so, so a variant counts
with its issue slots where they are more than its interval.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from tilec.ir.core import Block, Kernel, Op, frozen, walk
from tilec.ir.errors import InternalError
from tilec.ir.ops.arith import EXPONENTIALS
from tilec.ir.types import TileType
from tilec.passes.schedule.bounds import NEVER, lower_bound
from tilec.passes.schedule.costs import ISSUE, PIPES, SIXTEEN
from tilec.passes.schedule.extract import LoopProblem, Wishes, loop_problem, ring_loops
from tilec.passes.schedule.machines import Machine
from tilec.passes.schedule.model import Answer, Problem
from tilec.passes.schedule.proofs import solve_once

UNIT = "XU"
SHARES = range(1, SIXTEEN // 2 + 1)
BUSY = 0.75  # of the interval: from there on a unit is worth relieving
GAIN = 0.02  # of the interval: less is within the error of the costs
TURN = 100  # instructions of a warp in a turn beside elementwise ones: waits, products, slots (ptxas 13.5)
SCHEDULERS = 4  # of an SM: each issues one instruction of a warp in a cycle


@dataclass(frozen=True)
class Place:
    """A ring loop of a kernel for a machine, by the number that `ring_loops` gives it; ``rlimit`` is z3's
    budget for a variant."""

    number: int
    machine: Machine
    wishes: Wishes
    rlimit: int


@dataclass(frozen=True, eq=False)
class Variant:
    """A kernel with a share in one loop, that loop's problem, and the issue slots of an iteration."""

    kernel: Kernel
    share: int
    loop: LoopProblem
    slots: int

    @property
    def bound(self) -> int:
        """No plan counts less."""
        return max(self.slots, lower_bound(self.loop.problem).value)


@dataclass(frozen=True, eq=False)
class Solved(Variant):
    """A variant and its answer."""

    answer: Answer

    @property
    def value(self) -> int:
        """Cycles per iteration: the plan's interval, or the issue slots."""
        plan = self.answer.schedule
        return max(self.slots, plan.ii) if plan else NEVER


def best_variant(kernel: Kernel, place: Place, wish: int | None) -> tuple[Solved, str | None]:
    """The loop with the share that makes it fastest, solved; and a line for the log, if there was a choice.

    ``wish``: the author's share in sixteenths; None: none, unless XU is busy and another gains.
    """
    plain = _solved(_variant(kernel, place, wish or 0), place)
    if wish is not None or not _binds(plain.loop.problem, plain.value):
        return plain, None
    limit = int(plain.value * (1 - GAIN))
    others = [n for unit, n in plain.loop.problem.load.items() if unit != UNIT]
    found = _least(_ordered(kernel, place), place, limit) if max(others) <= limit else None
    return found or plain, _line(plain, found)


def _least(variants: list[Variant], place: Place, limit: int) -> Solved | None:
    """The variant of least value up to a limit; ``variants`` by their bounds, so most are not solved."""
    best = None
    for v in variants:
        if v.bound > limit or (best is not None and v.bound >= best.value):
            break
        solved = _solved(v, place)
        if solved.value <= limit and (best is None or solved.value < best.value):
            best = solved
    return best


def _ordered(kernel: Kernel, place: Place) -> list[Variant]:
    found = [_variant(kernel, place, share) for share in SHARES]
    return sorted((v for v in found if v.kernel is not kernel), key=lambda v: (v.bound, v.share))


def _variant(kernel: Kernel, place: Place, share: int) -> Variant:
    changed = with_share(kernel, ring_loops(kernel)[place.number], share, place.wishes.warps)
    loop = loop_problem(changed, place.number, place.machine, place.wishes)
    warps = place.wishes.warps * place.wishes.parts
    return Variant(changed, share, loop, issue_slots(loop.problem, place.machine, warps))


def _solved(v: Variant, place: Place) -> Solved:
    return Solved(v.kernel, v.share, v.loop, v.slots, solve_once(v.loop.problem, place.rlimit))


def _binds(problem: Problem, value: int) -> bool:
    return value < NEVER and problem.load.get(UNIT, 0) >= BUSY * value


def issue_slots(problem: Problem, machine: Machine, warps: int) -> int:
    """Cycles in which the SM issues an iteration's instructions: elementwise ones, from what they hold of
    the pipes, and what each warp needs beside."""
    rates = dict(machine.lanes)
    elementwise = sum(problem.load.get(p, 0) * rates[p] for p in PIPES) / ISSUE
    return ceil(elementwise + warps * TURN / SCHEDULERS)


def with_share(kernel: Kernel, loop: Op, share: int, warps: int) -> Kernel:
    """The kernel whose ``loop`` computes ``share`` of 16 exponentials by polynomial, where each thread of
    ``warps`` warps has a multiple of 16. All ops that do not change stay the same objects."""
    inside = {op for op in walk(loop.blocks[-1]) if share and _in_sixteens(op, warps)}

    def changed(op: Op) -> Op:
        blocks = tuple(map(block, op.blocks))
        op = op if all(map(_same, blocks, op.blocks)) else op.with_(blocks=blocks)
        return op.with_(attrs=frozen(**{**op.attrs, "share": share})) if op in inside else op

    def block(old: Block) -> Block:
        ops = tuple(map(changed, old.ops))
        return old if all(map(_same, ops, old.ops)) else Block(old.params, ops)

    body = block(kernel.body)
    return kernel if body is kernel.body else kernel.with_(body=body)


def _same(a: object, b: object) -> bool:
    return a is b


def _in_sixteens(op: Op, warps: int) -> bool:
    kind = op.results[0].type if op.name in EXPONENTIALS else None
    return isinstance(kind, TileType) and kind.dtype.bits <= 32 and not kind.size % (SIXTEEN * 32 * warps)


def share_of(loop: LoopProblem) -> int:
    """The share of a planned loop, in sixteenths."""
    members = (op for ops in loop.nodes.values() for op in ops)
    return max((op.attrs.get("share", 0) for op in members), default=0)


def check_costs(kernel: Kernel, solved: Iterator[tuple[Place, LoopProblem]]) -> None:
    """InternalError X301 if a loop of the kernel that is emitted has other costs than its plan."""
    for place, loop in solved:
        found = loop_problem(kernel, place.number, place.machine, place.wishes).problem
        if found != loop.problem:
            raise InternalError("X301", f"{found.name}: [share] the kernel has other costs than its plan")


def _line(plain: Solved, found: Solved | None) -> str:
    where = f"exponentials of {plain.loop.problem.loc}: "
    if found is None:
        busy = plain.loop.problem.load[UNIT]
        return f"{where}XU is busy for {busy} of {_counts(plain)}; no share by polynomial saves {GAIN:.0%}"
    return f"{where}{found.share} of {SIXTEEN} by polynomial: {_counts(found)}, without {_counts(plain)}"


def _counts(variant: Solved) -> str:
    plan = variant.answer.schedule
    return f"{plan.ii if plan else '-'} cycles ({variant.slots} issue slots)"
