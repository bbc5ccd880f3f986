"""A loop as a scheduling problem, and the answer to it. Frozen data, no IR nodes, no z3.

Iteration i issues op v in cycle ``times[v] + i * ii``. A *group* is a set of whole warps
that runs its ops in program order; group 0 is the producer, which runs the streams and
nothing else. What a schedule must obey is stated here, field by field; `encode.py` says
it to z3, `check.py` checks it without, `simulate.py` executes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

Memory = Literal["reg", "smem", "tmem", "ord"]
Status = Literal["optimal", "feasible", "infeasible", "unknown"]
HintKind = Literal["stages", "groups", "registers", "ii", "together", "apart"]


class Segment(NamedTuple):
    """``amount`` instances of ``unit`` are held in cycles [offset, offset + length) after issue."""

    unit: str
    offset: int
    length: int
    amount: int = 1


class Reader(NamedTuple):
    """``op`` reads a buffer until ``rd`` cycles after its issue."""

    op: str
    rd: int


@dataclass(frozen=True)
class Op:
    """One operation of the loop.

    ``cyc``: cycles that its group spends on it, the whole length for SIMT code and the
    issue slot for asynchronous ops. ``regs``: 32-bit registers per thread that its result
    holds while it lives. ``pinned``: registers that its group holds for the whole loop (an
    accumulator). ``min_warps``: the least warps of its group. ``stream``: of variable
    latency (TMA); it runs in group 0. ``predicate``: a name "p", or "!p", that keeps its value
    while iterations overlap: of opposite ones one arm runs, so both may hold a unit at once.
    ``loc``: "file:line".
    """

    id: str
    reserve: tuple[Segment, ...] = ()
    cyc: int = 0
    regs: int = 0
    pinned: int = 0
    min_warps: int = 1
    stream: bool = False
    predicate: str | None = None
    loc: str | None = None


@dataclass(frozen=True)
class Edge:
    """``dst`` of iteration i issues >= ``d`` cycles after ``src`` of iteration i - ``delta``.

    ``mem``: where the value travels; "ord" is an order without a value. ``blocking``: the
    reader must wait for an asynchronous producer. ``rd``: cycles after the issue of ``dst``
    until it has read the value. ``same``: both run in one group. An edge whose ends are in
    different groups (not "ord") takes more: see `Problem.crossing`.
    """

    src: str
    dst: str
    d: int
    delta: int = 0
    mem: Memory = "reg"
    blocking: bool = False
    rd: int = 0
    same: bool = False
    loc: str | None = None


@dataclass(frozen=True)
class Buffer:
    """A ring of slots of ``size`` (bytes in smem, columns in tmem), its depth chosen in 1..max_depth.

    The writer of iteration i + depth issues after every reader of iteration i has read.
    With ``alloc`` it is one slot whose offset (a multiple of ``align``) is chosen instead: it
    may share its place with other ``alloc`` buffers that live at other times, and lives from
    the writer's issue until its last reader has read, at most ii cycles.
    """

    id: str
    mem: Memory
    size: int
    writer: str
    readers: tuple[Reader, ...]
    max_depth: int = 4
    alloc: bool = False
    align: int = 32
    loc: str | None = None


@dataclass(frozen=True)
class Limits:
    """What the machine gives one program.

    ``units``: instances by name, kept sorted. ``smem`` bytes and ``tmem`` columns for the buffers.
    ``reg_limit``: registers per thread of a group, of which ``reg_fixed`` go to addresses
    and counters. ``reg_file``: registers that all groups share, given in steps of
    ``reg_step`` per thread to groups of whole warpgroups (None: not modelled). A value that
    crosses groups in registers takes ``hop + hop_per_reg * regs`` cycles, one that lies in
    memory ``sync``.
    """

    units: tuple[tuple[str, int], ...]
    smem: int = 0
    tmem: int = 0
    reg_limit: int = 240
    reg_fixed: int = 24
    reg_file: int | None = None
    reg_step: int = 8
    hop: float = 92
    hop_per_reg: float = 8.05
    sync: int = 30
    name: str = ""

    def __post_init__(self) -> None:
        # One order, so that a problem read back from JSON is the same problem.
        object.__setattr__(self, "units", tuple(sorted(self.units)))


@dataclass(frozen=True)
class Hint:
    """A wish of the author, kept as a constraint.

    "stages": every ring, or those in ``names``, has ``value`` slots. "groups": ``value``
    groups, the producer counted. "registers": no group has more than ``value`` per thread.
    "ii": the interval is at most ``value``. "together" / "apart": the ops ``names`` share one
    group / lie in different ones. ``loc`` is where the author said it.
    """

    id: str
    kind: HintKind
    value: int = 0
    names: tuple[str, ...] = ()
    loc: str | None = None


@dataclass(frozen=True)
class Problem:
    """One loop: its ops in normal-form order, dependences, buffers, limits and hints."""

    name: str
    ops: tuple[Op, ...]
    edges: tuple[Edge, ...]
    buffers: tuple[Buffer, ...]
    limits: Limits
    groups_max: int = 3
    hints: tuple[Hint, ...] = ()
    loc: str | None = None

    @cached_property
    def op(self) -> dict[str, Op]:
        """Ops by id."""
        return {o.id: o for o in self.ops}

    @cached_property
    def load(self) -> dict[str, int]:
        """Cycles times instances of each unit that one iteration takes; opposite predicates count once."""
        total: dict[str, int] = {}
        for unit, _ in self.limits.units:
            arms: dict[str | None, int] = {}
            for o in self.ops:
                work = sum(s.length * s.amount for s in o.reserve if s.unit == unit)
                arms[o.predicate] = arms.get(o.predicate, 0) + work
            total[unit] = _at_most_one_arm(arms)
        return total

    def crossing(self, edge: Edge) -> int:
        """Extra cycles of an edge whose ends are in different groups."""
        if edge.mem == "ord":
            return 0
        if edge.mem == "reg":
            return int(self.limits.hop + self.limits.hop_per_reg * max(1, self.op[edge.src].regs))
        return self.limits.sync


def _at_most_one_arm(arms: dict[str | None, int]) -> int:
    """The load that must be expected: of two opposite predicates the larger one."""
    names = {p.lstrip("!") for p in arms if p is not None}
    return arms.get(None, 0) + sum(max(arms.get(n, 0), arms.get("!" + n, 0)) for n in names)


def exclusive(a: Op, b: Op) -> bool:
    """Whether two ops never both run in an iteration: their predicates are opposite."""
    if a.predicate is None or b.predicate is None:
        return False
    return a.predicate != b.predicate and a.predicate.lstrip("!") == b.predicate.lstrip("!")


def waits(problem: Problem, op: str) -> list[Edge]:
    """Edges on which an op may have to wait: not ordering, not from itself.

    It does wait if one of them is blocking or comes from another group. A wait is one point
    of the group's program: no op o of the group may issue in the cyc_o cycles before it.
    """
    return [e for e in problem.edges if e.dst == op and e.src != op and e.mem != "ord"]


@dataclass(frozen=True)
class Schedule:
    """A plan for a problem: when, who, and where. All by op or buffer id, in the problem's order.

    ``depths`` has the rings and ``offsets`` the ``alloc`` buffers. ``registers`` is the budget
    per thread of each group that is used, multiples of `Limits.reg_step`.
    """

    ii: int
    times: dict[str, int]
    groups: dict[str, int]
    depths: dict[str, int] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)
    registers: dict[int, int] = field(default_factory=dict)

    def stage(self, op: str) -> int:
        """How many intervals after the iteration's start the op issues."""
        return self.times[op] // self.ii

    def order(self, group: int) -> list[str]:
        """The group's ops as one step of its steady state runs them."""
        mine = [v for v in self.times if self.groups[v] == group]
        return sorted(mine, key=lambda v: (self.times[v] % self.ii, list(self.times).index(v)))


@dataclass(frozen=True)
class Bound:
    """A lower bound of the interval and its reason.

    "unit": ``names`` are the unit and its ops; "cycle": the ops of the critical recurrence in
    order; "range": z3 refuted every interval in [``low``, value - 1], ``names`` are the
    constraints of a minimal core once it is asked for.
    """

    value: int
    kind: Literal["unit", "cycle", "range", "none"]
    names: tuple[str, ...] = ()
    low: int = 0


@dataclass(frozen=True)
class Answer:
    """What `solve` found. "optimal" only if ``schedule.ii == bound.value``, proven.

    ``goals``: each secondary goal with its value and whether that is proven least.
    ``conflicts``: hint ids of a minimal conflict, if hints make the problem infeasible.
    ``work``: z3's resource units, the same on every machine.
    """

    status: Status
    schedule: Schedule | None
    bound: Bound
    goals: tuple[tuple[str, int, bool], ...] = ()
    conflicts: tuple[str, ...] = ()
    work: int = 0
