"""apply: AREF program and plan -> SCHEDULED program. Who runs what, in which order.

Distribution clones the whole body per group, drops the other groups' effects, and lets the
dead-code sweep remove what the group does not need: index arithmetic is duplicated,
everything else ends up in one place. Then each compute group's loops follow the plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tilec.ir.core import Block, Kernel, Op, Value, frozen, walk
from tilec.ir.errors import InfeasibleError
from tilec.ir.ops import make
from tilec.ir.types import TileType
from tilec.passes.make_async import LOAD
from tilec.passes.schedule.distribute import compute_block, consumers, effects, load_block, why_not_closed
from tilec.passes.schedule.follow import Place, follow, mark
from tilec.passes.schedule.joint import KernelPlan
from tilec.passes.schedule.shares import share_of
from tilec.passes.thread_copies import role_registers

LOAD_WARPS = WARPGROUP = 4
LARGE_TILE = 64 * 128
ONE_GROUP_WARPS = (1, 2, 4, 8, 16)
IN_ORDER = "in program order"
IN_FLIGHT = 2  # more products than two keep no tensor core busier, but hold slots


def refused(kernel: Kernel) -> str | None:
    """Why an AREF kernel cannot be split over groups; None if it can."""
    owners = effects(kernel)
    rings = {op.result: op.result for op in walk(kernel.body) if op.name == "aref.new"}
    return owners if isinstance(owners, str) else why_not_closed(kernel, load_block(kernel, rings), rings)


def specialize(plan: KernelPlan, in_flight: int = IN_FLIGHT) -> Kernel:
    """The SCHEDULED form of a planned AREF kernel that is not `refused`: a load group and the compute groups.

    ``in_flight``: how many products that only add to themselves run at once, if the rings
    have as many slots.
    """
    news = [op for op in walk(plan.kernel.body) if op.name == "aref.new"]
    deep = [_with_depth(op, plan.depths[op.result.hint]) for op in news]
    rings = {old.result: new.result for old, new in zip(news, deep, strict=True)}
    names = consumers(plan.kernel)
    flying = min((in_flight, *(plan.depths[n] for n in _loop_rings(plan))))
    found = _followed(plan, plan.places, rings, flying)
    if len(names) > 1 and any(refusals for _, refusals in found):
        # Groups that share rings and turns run ahead together or not at all: else they may wait for ever.
        plain = _followed(plan, {}, rings, flying)
        found = [(block, refusals) for (block, _), (_, refusals) in zip(plain, found, strict=True)]
    few, many = role_registers(plan.kernel, len(names), plan.warps)
    groups = make(
        "warp_groups", blocks=tuple(block for block, _ in found), loc=news[0].loc, names=(LOAD, *names),
        warps=(LOAD_WARPS, *(plan.warps for _ in names)), registers=(few, *(many for _ in names)),
    )  # fmt: skip
    notes = [f"{IN_ORDER}: {note}" for _, refusals in found for note in refusals]
    return _scheduled(plan, Block((), (*deep, groups, make("yield"))), [*notes, *unplanned(plan)])


def unplanned(plan: KernelPlan) -> list[str]:
    """Notes on the loops for which no plan was found."""
    answers = zip(plan.loops, plan.answers, strict=True)
    return [
        f"{IN_ORDER}: {loop.problem.loc}: no plan found ({a.status})"
        for loop, a in answers
        if a.schedule is None
    ]


def _followed(
    plan: KernelPlan, places: Mapping[Op, Place], rings: dict[Value, Value], flying: int
) -> list[tuple[Block, tuple[str, ...]]]:
    """Each group's block with its loops as the places say, and why some are not."""
    names = consumers(plan.kernel)
    return [follow(block, flying) for block in _blocks(mark(plan.kernel, places), rings, names)]


def _blocks(kernel: Kernel, rings: dict[Value, Value], names: tuple[str, ...]) -> list[Block]:
    return [load_block(kernel, rings), *(compute_block(kernel, rings, name) for name in names)]


def _scheduled(plan: KernelPlan, body: Block, notes: list[str]) -> Kernel:
    kernel = plan.kernel
    warps = LOAD_WARPS + plan.warps * len(consumers(kernel))
    attrs = {**kernel.attrs, "num_warps": warps, "schedule": facts(plan)}
    attrs["notes"] = (*kernel.attrs.get("notes", ()), *dict.fromkeys(notes))
    return kernel.with_(form="scheduled", body=body, attrs=frozen(**attrs))


def _loop_rings(plan: KernelPlan) -> list[str]:
    return [b.id for loop in plan.loops for b in loop.problem.buffers]


def unspecialized(kernel: Kernel, num_warps: int | None = None, notes: tuple[str, ...] = ()) -> Kernel:
    """The SCHEDULED form of a TILE kernel: the same ops, run by one group."""
    sizes = [r.type.size for op in walk(kernel.body) for r in op.results if isinstance(r.type, TileType)]
    warps = num_warps or (8 if max(sizes, default=1) >= LARGE_TILE else 4)
    if warps not in ONE_GROUP_WARPS:
        raise InfeasibleError("I103", f"num_warps={warps}", help=f"one of {ONE_GROUP_WARPS}")
    attrs = {**kernel.attrs, "num_warps": warps, "notes": notes}
    return kernel.with_(form="scheduled", attrs=frozen(**attrs))


def _with_depth(new: Op, depth: int) -> Op:
    return make("aref.new", loc=new.loc, hints=(new.result.hint,), payload=new.attrs["payload"], depth=depth)


def facts(plan: KernelPlan) -> tuple[tuple[tuple[str, Any], ...], ...]:
    """What the answers say, as plain data for ``kernel.attrs["schedule"]``, a row for each ring loop."""
    rows = []
    for number, (loop, answer) in enumerate(zip(plan.loops, plan.answers, strict=True)):
        row: dict[str, Any] = {"loop": number, "status": answer.status}
        row |= {"bound": answer.bound.value, "reason": answer.bound.kind}
        if answer.schedule is not None:
            stages = max(map(answer.schedule.stage, answer.schedule.times), default=0) + 1
            row |= {"ii": answer.schedule.ii, "stages": stages}
        if share_of(loop):
            row["share"] = share_of(loop)
        row["depths"] = tuple((b.id, plan.depths[b.id]) for b in loop.problem.buffers)
        rows.append(tuple(row.items()))
    return tuple(rows)
