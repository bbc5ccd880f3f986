"""What must hold before a schedule can be executed at all: names, groups, places, budgets."""

from __future__ import annotations

from collections.abc import Iterator

from tilec.passes.schedule.model import Problem, Schedule
from tilec.passes.schedule.simulate_plan import Plan
from tilec.passes.schedule.simulate_run import Fault

LEAST_REGISTERS = 24  # PTX ISA, setmaxnreg


def misfits(problem: Problem, schedule: Schedule) -> Iterator[Fault]:
    """Faults of names and numbers; with one of them nothing runs."""
    ids = [o.id for o in problem.ops]
    if sorted(schedule.times) != sorted(ids) or sorted(schedule.groups) != sorted(ids):
        yield Fault("names", 0, "times and groups are not those of the problem's ops")
    if schedule.ii < 1 or min(schedule.times.values(), default=0) < 0:
        yield Fault("names", 0, "an interval below 1 or a time below 0")
    rings = sorted(b.id for b in problem.buffers if not b.alloc)
    placed = sorted(b.id for b in problem.buffers if b.alloc)
    if sorted(schedule.depths) != rings or sorted(schedule.offsets) != placed:
        yield Fault("names", 0, "depths and offsets are not those of the problem's buffers")
    for unit in dict.fromkeys(s.unit for o in problem.ops for s in o.reserve):
        if unit not in dict(problem.limits.units):
            yield Fault("unit", 0, f"there is no {unit}")


def statics(plan: Plan) -> tuple[Fault, ...]:
    """Faults that every cycle has: who is where, and what is given out for good."""
    return (*_groups(plan), *_memory(plan), *_budgets(plan))


def _groups(plan: Plan) -> Iterator[Fault]:
    problem, groups = plan.problem, plan.schedule.groups
    for o in problem.ops:
        if o.stream != (groups[o.id] == 0):
            yield Fault("group", 0, f"{o.id} cannot run in group {groups[o.id]}")
    if len({0, *groups.values()}) > problem.groups_max:
        yield Fault("group", 0, f"more than {problem.groups_max} groups, the producer counted")
    for e in problem.edges:
        if e.same and groups[e.src] != groups[e.dst]:
            yield Fault("group", 0, f"{e.dst} has no access to the registers of {e.src}")


def _memory(plan: Plan) -> Iterator[Fault]:
    problem, schedule = plan.problem, plan.schedule
    for b in problem.buffers:
        if not b.alloc and not 1 <= schedule.depths[b.id] <= b.max_depth:
            yield Fault("memory", 0, f"{b.id} has {schedule.depths[b.id]} slots")
        if b.alloc and (schedule.offsets[b.id] < 0 or schedule.offsets[b.id] % b.align):
            yield Fault("memory", 0, f"{b.id} lies at {schedule.offsets[b.id]}")
    room = {"smem": problem.limits.smem, "tmem": problem.limits.tmem}
    for mem in dict.fromkeys(b.mem for b in problem.buffers):
        capacity = room.get(mem, 0)
        mine = [b for b in problem.buffers if b.mem == mem]
        rings = sum(b.size * schedule.depths[b.id] for b in mine if not b.alloc)
        extent = max((schedule.offsets[b.id] + b.size for b in mine if b.alloc), default=0)
        if rings + extent > capacity:
            yield Fault("memory", 0, f"{mem} takes {rings + extent} of {capacity}")


def _budgets(plan: Plan) -> Iterator[Fault]:
    limits, given = plan.problem.limits, plan.schedule.registers
    if sorted(given) != sorted(plan.groups):
        yield Fault("registers", 0, f"budgets for groups {sorted(given)}, used are {sorted(plan.groups)}")
    for group, budget in given.items():
        if budget % limits.reg_step or not LEAST_REGISTERS <= budget <= limits.reg_limit:
            yield Fault("registers", 0, f"group {group} cannot have a budget of {budget}")
    total = sum(32 * _warps(plan, g) * given.get(g, 0) for g in plan.groups)
    if limits.reg_file is not None and total > limits.reg_file:
        yield Fault("registers", 0, f"all groups have {total} registers of {limits.reg_file}")


def _warps(plan: Plan, group: int) -> int:
    most = max(plan.problem.op[v].min_warps for v in plan.groups[group])
    return -(-most // 4) * 4
