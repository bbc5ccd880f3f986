"""`lower`: all passes in order, each result verified, each decision logged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tilec.ir.core import Kernel, Op, frozen, walk
from tilec.ir.errors import InfeasibleError, ResourceError, TilecTypeError, TilecValueError
from tilec.ir.forms import verify
from tilec.passes.allocate import scratch_sizes
from tilec.passes.bounds import join_bounds
from tilec.passes.canonicalize import canonicalize
from tilec.passes.cluster import AT_LAUNCH, IF_IT_PAYS, SIZES, clustered
from tilec.passes.copy_rules import TMA_ALONE, cp_async
from tilec.passes.late_scale import late_scale
from tilec.passes.late_sums import late_sums
from tilec.passes.layouts import assign_layouts
from tilec.passes.make_async import make_async
from tilec.passes.open_masks import open_masks
from tilec.passes.own_loads import own_loads
from tilec.passes.reread import reread
from tilec.passes.role_choice import ROLES, refuse_roles, with_roles
from tilec.passes.run_ahead import run_ahead
from tilec.passes.schedule.apply import (
    IN_ORDER,
    WARPGROUP,
    facts,
    refused,
    specialize,
    unplanned,
    unspecialized,
)
from tilec.passes.schedule.distribute import compute_warps
from tilec.passes.schedule.joint import KernelPlan, plan_kernel
from tilec.passes.schedule.machines import Machine
from tilec.passes.schedule.model import Answer, Bound, Problem
from tilec.passes.schedule.modulo_step import SEVERAL_STAGES
from tilec.passes.schedule.shares import SHARES
from tilec.passes.subtile import split_rows
from tilec.passes.sums_of_products import sums_of_products
from tilec.passes.targets import TARGETS, Target
from tilec.passes.warp_products import crowded, extra_smem, needs_warps, product_warps, share_products


@dataclass(frozen=True)
class Options:
    """Constraints of the author. None leaves the choice to the compiler.

    ``stages``: slots of the rings that loops fill (a loop's own `stages=` wins).
    ``specialize``: False keeps the kernel in one group. ``num_warps``: warps of
    the compute group, or of the only group. ``cluster``: how many programs side by side load
    together the tiles that they have in common, 0: as many as pay; the grid must be of whole clusters.
    None: the launch decides, which knows the grid. ``roles``: how many compute groups hand values on to one
    another; 1: none does.
    ``exp2_share``: of 16 exponentials in a loop that fills a ring so many are polynomials, 0 to 8; None:
    as many as pay.
    """

    stages: int | None = None
    specialize: bool | None = None
    num_warps: int | None = None
    cluster: int | None = None
    exp2_share: int | None = None
    roles: int | None = None


@dataclass(frozen=True)
class Stages:
    """A kernel in each form, and each ring loop's problem and answer, in program order.

    ``log`` has a line per pass: what it decided. ``nodes`` has, for each problem, the ops of
    ``aref`` that each of its op ids stands for.
    """

    tile: Kernel
    aref: Kernel
    problems: tuple[Problem, ...]
    answers: tuple[Answer, ...]
    scheduled: Kernel
    log: tuple[str, ...]
    nodes: tuple[Mapping[str, tuple[Op, ...]], ...] = ()


def lower(kernel: Kernel, target: str = "sm_90a", options: Options = Options()) -> Stages:
    """Take a TILE kernel through all passes for a target; every form is verified.

    A target without a machine model (as "cpu"), a kernel without asynchronous
    loads, or one that cannot be split gives a SCHEDULED form with one group.
    """
    check_options(options)
    row = TARGETS.get(target)
    machine = row.machine if row is not None else None
    tile = simplified(kernel, target)
    log = [f"canonicalize: {_ops(kernel)} ops -> {_ops(tile)}"]
    if row is not None and row.products == "mma.sync":
        return _ahead(tile, row, options, tuple(log))
    if machine is None or options.specialize is False:
        why = f"{target} runs one group" if machine is None else "specialize=False"
        return _one_group(tile, tile.with_(form="aref"), options, (*log, f"one group: {why}"))
    aref = _asynchronous(tile)
    notes: tuple[str, ...] = aref.attrs["notes"]
    log += ["make_async: " + (", ".join(_rings(aref)) or "no rings"), *(f"  {n}" for n in notes)]
    if not _rings(aref):
        if row is not None and row.small is not None and needs_warps(tile, row.float8):
            dots = tuple(n for n in notes if "this dot" in n)
            return _ahead(tile, row.small, options, (*log, "mma.sync: a product is none of wgmma"), dots)
        return _one_group(tile, aref, options, (*log, "one group: no asynchronous loads"))
    return _groups(tile, aref, machine, options, tuple(log))


def _asynchronous(tile: Kernel) -> Kernel:
    """The AREF form. TMA alone fills rings if the load group cannot know what its threads would load."""
    aref = _verified(canonicalize(make_async(tile)))
    if not _rings(aref) or refused(aref) is None:
        return aref
    return _verified(canonicalize(make_async(tile, TMA_ALONE)))


def simplified(kernel: Kernel, target: str) -> Kernel:
    """The TILE form that a target's passes begin with: all later forms have its bits."""
    tile = sums_of_products(canonicalize(join_bounds(canonicalize(_verified(kernel)))))
    tile = _verified(canonicalize(tile))
    row = TARGETS.get(target)
    if row is None or row.products != "wgmma":
        return tile
    return _verified(canonicalize(late_sums(late_scale(tile))))


def _ahead(
    tile: Kernel, target: Target, options: Options, log: tuple[str, ...], why: tuple[str, ...] = ()
) -> Stages:
    """One group, whose loops fill rings by cp.async as far ahead as the schedule says; ``why``: notes."""
    refuse_roles(options.roles, "copies by cp.async are one group's")
    warps = options.num_warps or product_warps(tile)
    aref = _verified(canonicalize(make_async(tile, cp_async(target.float8))))
    notes = (*aref.attrs["notes"], *why, *(crowded(tile, warps) if warps else ()))
    aref = aref.with_(attrs=frozen(**{**aref.attrs, "notes": notes}))
    log = (*log, "make_async: " + (", ".join(_rings(aref)) or "no rings"), *notes)
    plain = unspecialized(tile, warps, aref.attrs["notes"])
    if not _rings(aref):
        scheduled = _verified(share_products(plain, target.float8))
        return Stages(tile, aref, (), (), scheduled, (*log, "one group: no asynchronous loads"))
    plan, scheduled = _filled(aref, target, options, plain.attrs["num_warps"], 0)
    taken = extra_smem(scheduled)
    if taken:
        plan, scheduled = _filled(aref, target, options, plain.attrs["num_warps"], taken)
    problems = tuple(loop.problem for loop in plan.loops)
    one = f"one group of {plain.attrs['num_warps']} warps"
    log = (*log, *map(_line, problems, plan.answers), *plan.notes, one)
    nodes = tuple(loop.nodes for loop in plan.loops)
    return Stages(tile, plan.kernel, problems, plan.answers, scheduled, log, nodes)


def _filled(
    aref: Kernel, target: Target, options: Options, warps: int, taken: int
) -> tuple[KernelPlan, Kernel]:
    """A plan that leaves ``taken`` bytes of shared memory, if it can, and its program."""
    plan = plan_kernel(
        aref, target.machine, warps=warps, stages=options.stages, scratch=taken, share=options.exp2_share
    )
    kernel = canonicalize(run_ahead(plan.kernel, plan.depths, warps))
    notes = (*kernel.attrs["notes"], *unplanned(plan))
    attrs = frozen(**{**kernel.attrs, "notes": notes, "schedule": facts(plan)})
    return plan, _verified(share_products(kernel.with_(attrs=attrs), target.float8))


def check_options(options: Options) -> None:
    """Refuse what no schedule can have; warps are judged where the groups are known."""
    kinds = (("stages", int), ("specialize", bool), ("num_warps", int), ("exp2_share", int), ("roles", int))
    for name, kind in kinds:
        value = getattr(options, name)
        if value is not None and type(value) is not kind:
            raise TilecTypeError("T130", f"{name}={value!r} is no {kind.__name__}",
                                 help=f"pass {name}=None to leave it to the compiler")  # fmt: skip
    if options.stages is not None and options.stages < 1:
        raise TilecValueError("V130", f"stages={options.stages}: a ring has at least one slot")
    if options.roles not in (None, 1, *ROLES):
        raise TilecValueError("V135", f"roles={options.roles}", help=f"one of {(None, 1, *ROLES)}")
    sizes = (AT_LAUNCH, IF_IT_PAYS, *SIZES)
    if options.cluster not in sizes or isinstance(options.cluster, bool):
        raise TilecValueError("V133", f"cluster={options.cluster}", help=f"one of {sizes}")
    if options.exp2_share not in (None, 0, *SHARES):
        raise TilecValueError("V136", f"exp2_share={options.exp2_share}", help=f"0 to {SHARES[-1]} of 16")


def _groups(tile: Kernel, aref: Kernel, machine: Machine, options: Options, log: tuple[str, ...]) -> Stages:
    """Plan the ring loops and split the kernel over groups."""
    warps = compute_warps(aref, options.num_warps)
    refusal = warps if isinstance(warps, str) else refused(aref)
    if refusal is not None or isinstance(warps, str):
        return _one_group(tile, aref, options, (*log, f"one group: {refusal}"), (str(refusal),))
    split = _split(tile) if warps == 2 * WARPGROUP else None
    log = (*log, f"rows stay together: {split}") if isinstance(split, str) else log
    choices = [(aref, warps, 1), *((split,) if isinstance(split, tuple) else ())]
    plan, scheduled = min(
        (_followed(choice, machine, options) for choice in choices), key=lambda p: p[0].interval
    )
    plan, scheduled, lines = with_roles(
        aref, machine, warps, options.roles, (plan, scheduled), lambda *way: _followed(way, machine, options)
    )
    problems = tuple(loop.problem for loop in plan.loops)
    solved = tuple(zip(problems, plan.answers, strict=True))
    log = (*log, *lines, *map(_line, problems, plan.answers), *plan.notes, _split_line(scheduled))
    if options.cluster != 1:
        scheduled, shared = clustered(scheduled, machine, solved, options.cluster)
        log = (*log, shared)
    nodes = tuple(loop.nodes for loop in plan.loops)
    return Stages(tile, plan.kernel, problems, plan.answers, scheduled, log, nodes)


Choice = tuple[Kernel, int, int]  # (AREF kernel, warps of each part, parts)


def _split(tile: Kernel) -> Choice | str:
    """The kernel with its rows in two parts, one for each of two warp groups; or why that cannot be."""
    parts = split_rows(tile)
    if isinstance(parts, str):
        return parts
    aref = own_loads(canonicalize(make_async(canonicalize(parts))))
    reason = refused(aref)
    return (_verified(aref), WARPGROUP, 2) if reason is None and _rings(aref) else reason or "no ring"


def _followed(choice: Choice, machine: Machine, options: Options) -> tuple[KernelPlan, Kernel]:
    """A plan and its program. If products share a slot that the plan does not let them share, tiles are
    loaded once for each, where the memory for that is there and the plan can be followed then."""
    plan, scheduled = _fitted(choice, machine, options)
    if not any(SEVERAL_STAGES in note for note in scheduled.attrs["notes"]):
        return plan, scheduled
    apart = reread(choice[0])
    try:
        other = _fitted((_verified(apart), *choice[1:]), machine, options) if apart is not None else None
    except (ResourceError, InfeasibleError):
        other = None
    better = other is not None and other[0].interval <= plan.interval
    return other if other is not None and better and not _in_order(other[1]) else (plan, scheduled)


def _in_order(scheduled: Kernel) -> bool:
    return any(IN_ORDER in note for note in scheduled.attrs["notes"])


def _fitted(choice: Choice, machine: Machine, options: Options) -> tuple[KernelPlan, Kernel]:
    """A plan and its program; shared memory for the scratch of layouts is left if the rings can spare it."""
    plan, scheduled = _planned(choice, machine, options, 0)
    scratch = sum(scratch_sizes(assign_layouts(scheduled)).values())
    return _planned(choice, machine, options, scratch) if scratch else (plan, scheduled)


def _planned(choice: Choice, machine: Machine, options: Options, scratch: int) -> tuple[KernelPlan, Kernel]:
    aref, warps, parts = choice
    plan = plan_kernel(
        aref,
        machine,
        warps=warps,
        parts=parts,
        stages=options.stages,
        scratch=scratch,
        share=options.exp2_share,
    )
    return plan, _verified(canonicalize(open_masks(canonicalize(specialize(plan)))))


def _one_group(
    tile: Kernel, aref: Kernel, options: Options, log: tuple[str, ...], notes: tuple[str, ...] = ()
) -> Stages:
    refuse_roles(options.roles, log[-1])
    notes = (*aref.attrs.get("notes", ()), *notes)
    scheduled = _verified(unspecialized(tile, options.num_warps, notes))
    return Stages(tile, aref, (), (), scheduled, log)


def _verified(kernel: Kernel) -> Kernel:
    verify(kernel)
    return kernel


def _ops(kernel: Kernel) -> int:
    return sum(1 for _ in walk(kernel.body))


def _rings(kernel: Kernel) -> list[str]:
    return [op.result.hint for op in walk(kernel.body) if op.name == "aref.new"]


def _line(problem: Problem, answer: Answer) -> str:
    """What the solver says of a loop."""
    head, bound = f"schedule of {problem.loc}: ", answer.bound
    if answer.schedule is None:
        return head + f"none ({answer.status}); the groups run it in program order"
    plan = answer.schedule
    depths = ", ".join(f"{name} {depth} slots" for name, depth in plan.depths.items())
    stages = 1 + max(map(plan.stage, plan.times))
    return f"{head}interval {plan.ii} ({answer.status}: {_because(bound)}), {stages} stages, {depths}"


def _because(bound: Bound) -> str:
    """The lower bound and where it comes from."""
    reasons = {
        "unit": f"{bound.names[0] if bound.names else ''} is busy for {bound.value}",
        "cycle": f"a recurrence takes {bound.value}",
        "range": f"the solver refutes all below {bound.value}",
    }
    return reasons.get(bound.kind, "no bound")


def _split_line(kernel: Kernel) -> str:
    groups = next(op for op in kernel.body.ops if op.name == "warp_groups")
    parts = zip(groups.attrs["names"], groups.attrs["warps"], groups.attrs["registers"], strict=True)
    return "groups: " + ", ".join(f"{n} {w} warps {r} registers" for n, w, r in parts)
