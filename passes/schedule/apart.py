"""Whether compute groups may access a tensor that one of them writes, without knowing of each other.

Groups run at their own pace. So of two groups that access a tensor, one of them writing,
each must keep to elements that the other never touches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

from tilec.ir.core import Block, Kernel, Op, Value, walk
from tilec.ir.ops import opdef, section_sources, written_tensors
from tilec.ir.types import TileType
from tilec.passes.rewrite import constant_of, where
from tilec.passes.schedule.reach import Reach, steering

FIRST_OFFSET = {"load": 1, "store": 2}


@dataclass(frozen=True, eq=False)
class Access:
    """An op that reads or writes a tensor, and the groups that run it."""

    op: Op
    groups: frozenset[str]


def why_not_apart(kernel: Kernel, owners: Mapping[Op, str]) -> str | None:
    """A pair of accesses of two groups that may meet, as a sentence; None if there is none.

    ``owners``: the compute group of each op that writes. A read belongs to each group whose
    writes need it, and to all if loops or branches depend on it.
    """
    judge, written = _Judge(kernel, owners), written_tensors(kernel.body)
    for tensor in (t for t in (*kernel.params, *section_sources(kernel.body)) if t in written):
        for a, b in combinations(judge.accesses(tensor), 2):
            writes = "write" in (opdef(a.op.name).effect, opdef(b.op.name).effect)
            if writes and len(a.groups | b.groups) > 1 and not judge.never_meet(a.op, b.op):
                what = f"{a.op.name} and {b.op.name}" if a.op.name != b.op.name else a.op.name
                return f"{where(b.op)}: two warp groups would {what} the same elements of {tensor.hint}"
    return None


class _Judge:
    """Knows what the values of a kernel are made from."""

    def __init__(self, kernel: Kernel, owners: Mapping[Op, str]) -> None:
        self.kernel, self.owners, self.reach = kernel, owners, Reach(kernel.body)
        self.every = frozenset(owners.values())
        self.fixed = {*kernel.params, *_once(kernel.body)}
        self.needs = {op: self.reach.behind(op.args) for op in owners}
        self.steers = self.reach.behind(v for op in walk(kernel.body) if op.blocks for v in steering(op))

    def accesses(self, tensor: Value) -> list[Access]:
        """All loads, stores and the like of a tensor."""
        memory = (op for op in walk(self.kernel.body) if opdef(op.name).family == "memory")
        return [Access(op, self.groups(op)) for op in memory if op.args[0] is tensor]

    def groups(self, op: Op) -> frozenset[str]:
        if op in self.owners:
            return frozenset({self.owners[op]})
        users = (self.owners[write] for write, behind in self.needs.items() if op in behind)
        return self.every if op in self.steers else frozenset(users)

    def never_meet(self, a: Op, b: Op) -> bool:
        """Whether two ops access different elements, in whichever rounds of loops they are."""
        if a.name == b.name == "atomic":
            return bool(a.attrs["kind"] == b.attrs["kind"])
        if a.name not in FIRST_OFFSET or b.name not in FIRST_OFFSET:
            return False
        return any(self.apart_along(a, b, axis) for axis in range(len(_extents(a))))

    def apart_along(self, a: Op, b: Op, axis: int) -> bool:
        """Whether their offsets always differ by the extent of a part, modulo that of all parts."""
        extent = _extents(a)[axis]
        period = extent * len(self.every)
        if extent != _extents(b)[axis]:
            return False
        (base, first), (other, second) = (
            self.offset(op.args[FIRST_OFFSET[op.name] + axis], period) for op in (a, b)
        )
        known = base == other and self.fixed.issuperset(base)
        return known and extent <= (second - first) % period <= period - extent

    def offset(self, value: Value, period: int) -> tuple[Counter[Value], int]:
        """An offset modulo ``period``: values to be added, and a number."""
        op, number = self.reach.defs.get(value), constant_of(value, self.reach.defs)
        if number is not None:
            return Counter(), int(number)
        if op is not None and op.name == "add":
            one, two = (self.offset(arg, period) for arg in op.args)
            return one[0] + two[0], one[1] + two[1]
        if op is not None and op.name == "mul":
            factors = (constant_of(arg, self.reach.defs) for arg in op.args)
            if any(f is not None and f % period == 0 for f in factors):
                return Counter(), 0
        return Counter({value: 1}), 0


def _extents(op: Op) -> tuple[int, ...]:
    """The shape of a load or store."""
    t = (op.result if op.name == "load" else op.args[1]).type
    return t.shape if isinstance(t, TileType) else ()


def _once(block: Block) -> Iterator[Value]:
    """Values that are computed once, as they are in no loop."""
    for op in block.ops:
        yield from op.results
        if op.name == "if":
            for inner in op.blocks:
                yield from _once(inner)
