"""`lower`: all passes in order, each result verified, each decision logged."""

from __future__ import annotations

from dataclasses import dataclass

from tilec.ir.core import Kernel, walk
from tilec.ir.errors import TilecTypeError, TilecValueError
from tilec.ir.forms import verify
from tilec.passes.allocate import scratch_sizes
from tilec.passes.canonicalize import canonicalize
from tilec.passes.layouts import assign_layouts
from tilec.passes.make_async import make_async
from tilec.passes.schedule.apply import ring_slots, specialize, unspecialized
from tilec.passes.schedule.check import check, check_memory
from tilec.passes.schedule.depths import choose_depths
from tilec.passes.schedule.machine import MACHINES, Machine
from tilec.passes.schedule.problem import Problem, problems
from tilec.passes.schedule.schedule import Schedule


@dataclass(frozen=True)
class Options:
    """Constraints of the author. None leaves the choice to the compiler.

    ``stages``: slots of the rings that loops fill (a loop's own `stages=` wins).
    ``specialize``: False keeps the kernel in one group. ``num_warps``: warps of
    the compute group, or of the only group.
    """

    stages: int | None = None
    specialize: bool | None = None
    num_warps: int | None = None


@dataclass(frozen=True)
class Stages:
    """A kernel in each form. ``log`` has a line per pass: what it decided."""

    tile: Kernel
    aref: Kernel
    problems: tuple[Problem, ...]
    schedules: tuple[Schedule, ...]
    scheduled: Kernel
    log: tuple[str, ...]


def lower(kernel: Kernel, target: str = "sm_90a", options: Options = Options()) -> Stages:
    """Take a TILE kernel through all passes for a target; every form is verified.

    A target without a machine model (as "cpu"), a kernel without asynchronous
    loads, or one that cannot be split gives a SCHEDULED form with one group.
    """
    check_options(options)
    machine = MACHINES.get(target)
    tile = _verified(canonicalize(_verified(kernel)))
    log = [f"canonicalize: {_ops(kernel)} ops -> {_ops(tile)}"]
    if machine is None or options.specialize is False:
        why = f"{target} runs one group" if machine is None else "specialize=False"
        return _one_group(tile, tile.with_(form="aref"), options, (*log, f"one group: {why}"))
    aref = _verified(canonicalize(make_async(tile, machine)))
    notes: tuple[str, ...] = aref.attrs["notes"]
    log += ["make_async: " + (", ".join(_rings(aref)) or "no rings"), *(f"  {n}" for n in notes)]
    if not _rings(aref):
        return _one_group(tile, aref, options, (*log, "one group: no asynchronous loads"))
    return _groups(tile, aref, machine, options, tuple(log))


def check_options(options: Options) -> None:
    """Refuse what no schedule can have; warps are judged where the groups are known."""
    for name, kind in (("stages", int), ("specialize", bool), ("num_warps", int)):
        value = getattr(options, name)
        if value is not None and type(value) is not kind:
            raise TilecTypeError("T130", f"{name}={value!r} is no {kind.__name__}",
                                 help=f"pass {name}=None to leave it to the compiler")  # fmt: skip
    if options.stages is not None and options.stages < 1:
        raise TilecValueError("V130", f"stages={options.stages}: a ring has at least one slot")


def _groups(tile: Kernel, aref: Kernel, machine: Machine, options: Options, log: tuple[str, ...]) -> Stages:
    """Schedule the ring loops and split the kernel over them."""
    # z3 takes a while to import, and a kernel without rings does not need it.
    from tilec.passes.schedule.solve import solve

    found = problems(aref, machine, options.stages)
    solved = tuple(solve(p) for p in found)
    schedules, scheduled = _split(aref, found, solved, machine, options, 0)
    scratch = 0 if isinstance(scheduled, str) else sum(scratch_sizes(assign_layouts(scheduled)).values())
    if scratch:
        schedules, scheduled = _split(aref, found, solved, machine, options, scratch)
    if isinstance(scheduled, str):
        return _one_group(tile, aref, options, (*log, f"one group: {scheduled}"), (scheduled,))
    for problem, schedule in zip(found, schedules, strict=True):
        check(problem, schedule)
    check_memory(ring_slots(scheduled), machine.smem)
    log = (*log, *(_line(p, s) for p, s in zip(found, schedules, strict=True)), _split_line(scheduled))
    return Stages(tile, aref, found, schedules, scheduled, log)


def _split(
    aref: Kernel, found: tuple[Problem, ...], solved: tuple[Schedule, ...], machine: Machine,
    options: Options, scratch: int,
) -> tuple[tuple[Schedule, ...], Kernel | str]:  # fmt: skip
    """Depths that leave space for ``scratch`` bytes, and the kernel in groups or why not."""
    schedules = choose_depths(aref, found, solved, machine, scratch)
    split = specialize(aref, schedules, machine, options.num_warps)
    return schedules, split if isinstance(split, str) else _verified(canonicalize(split))


def _one_group(
    tile: Kernel, aref: Kernel, options: Options, log: tuple[str, ...], notes: tuple[str, ...] = ()
) -> Stages:
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


def _line(problem: Problem, schedule: Schedule) -> str:
    depths = ", ".join(f"{name} {depth} slots" for name, depth in schedule.depths)
    flying = max((p for _, p in schedule.in_flight), default=1)
    order = ""
    if schedule.in_order > schedule.sustained:
        order = f"; in program order, as emitted, up to {schedule.in_order}"
    return (
        f"schedule of line {problem.line}: the loop admits interval {schedule.ii} ({schedule.status}, bound "
        f"{schedule.bound} by {schedule.reason}), {schedule.sustained} with {depths}{order}; "
        f"{flying} products in flight"
    )


def _split_line(kernel: Kernel) -> str:
    groups = next(op for op in kernel.body.ops if op.name == "warp_groups")
    parts = zip(groups.attrs["names"], groups.attrs["warps"], groups.attrs["registers"], strict=True)
    return "groups: " + ", ".join(f"{n} {w} warps {r} registers" for n, w, r in parts)
