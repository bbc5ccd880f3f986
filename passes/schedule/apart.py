"""Whether compute groups may access a tensor that one of them writes, without knowing of each other.

Groups run at their own pace. So of two groups that access a tensor, one of them writing,
each must keep to elements that the other never touches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations

from tilec.ir.core import Block, Kernel, Op, Value, walk
from tilec.ir.ops import opdef, section_sources, written_tensors
from tilec.ir.types import TensorType, TileType
from tilec.passes.rewrite import constant_of, where
from tilec.passes.schedule.reach import Reach, steering

FIRST_OFFSET = {"load": 1, "store": 2, "gather": 1, "scatter": 1}


@dataclass(frozen=True, eq=False)
class Access:
    """An op that reads or writes a tensor, and the groups that run it."""

    op: Op
    groups: frozenset[str]


@dataclass(frozen=True)
class Span:
    """Consecutive elements along an axis: the sum of ``base`` and ``first`` is the first of them."""

    base: Counter[Value]
    first: int
    extent: int = 1


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
        return any(self.apart_along(a, b, axis) for axis in range(_rank(a)))

    def apart_along(self, a: Op, b: Op, axis: int) -> bool:
        """Whether their elements along an axis always differ, modulo the extent of all parts."""
        one, two = self.span(a, axis, 1), self.span(b, axis, 1)
        if one is None or two is None:
            return False
        period = max(one.extent, two.extent) * len(self.every)
        one, two = self.span(a, axis, period), self.span(b, axis, period)
        assert one and two
        known = one.base == two.base and self.fixed.issuperset(one.base)
        ahead = two.first - one.first
        return known and one.extent <= ahead % period and two.extent <= -ahead % period

    def span(self, op: Op, axis: int, period: int) -> Span | None:
        """The elements that an op accesses along an axis; None if that is not known."""
        found = self.range_of(op.args[FIRST_OFFSET[op.name] + axis], period)
        whole = _extents(op)
        return replace(found, extent=whole[axis]) if found and whole else found

    def range_of(self, value: Value, period: int) -> Span | None:
        op, number = self.reach.defs.get(value), constant_of(value, self.reach.defs)
        if number is not None:
            return Span(Counter(), int(number))
        if op is not None and op.name in ("broadcast", "reshape"):
            return self.range_of(op.args[0], period)
        if op is not None and op.name == "arange":
            return Span(Counter(), op.attrs["start"], op.attrs["stop"] - op.attrs["start"])
        if op is not None and op.name == "add":
            return _sum(*(self.range_of(arg, period) for arg in op.args))
        if op is not None and op.name == "mul":
            factors = (constant_of(arg, self.reach.defs) for arg in op.args)
            if any(f is not None and f % period == 0 for f in factors):
                return Span(Counter(), 0)
        is_scalar = isinstance(value.type, TileType) and value.type.shape == ()
        return Span(Counter({value: 1}), 0) if is_scalar else None


def _sum(a: Span | None, b: Span | None) -> Span | None:
    """All sums of an element of each; None if they are not consecutive for sure."""
    if a is None or b is None or min(a.extent, b.extent) > 1:
        return None
    return Span(a.base + b.base, a.first + b.first, max(a.extent, b.extent))


def _rank(op: Op) -> int:
    """How many axes the tensor has that an op accesses."""
    found = op.args[0].type
    assert isinstance(found, TensorType)
    return found.rank


def _extents(op: Op) -> tuple[int, ...]:
    """The shape of a load or store; empty for others, which have the places of their elements."""
    if op.name not in ("load", "store"):
        return ()
    t = (op.result if op.name == "load" else op.args[1]).type
    return t.shape if isinstance(t, TileType) else ()


def _once(block: Block) -> Iterator[Value]:
    """Values that are computed once, as they are in no loop."""
    for op in block.ops:
        yield from op.results
        if op.name == "if":
            for inner in op.blocks:
                yield from _once(inner)
