"""Loops in LLVM IR, and how an extent is cut into vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tilec.backends.cpu.lanes import I64

Index = Any  # an i64 register, or a Python int where it is known
Values = Sequence[Any]


def i64(x: Index) -> Any:
    """An index as an LLVM value."""
    return I64(x) if isinstance(x, int) else x


def add(b: Any, x: Index, y: Index) -> Index:
    """x + y, folded where both are known."""
    if isinstance(x, int) and isinstance(y, int):
        return x + y
    if isinstance(x, int) and x == 0:
        return y
    if isinstance(y, int) and y == 0:
        return x
    return b.add(i64(x), i64(y))


def mul(b: Any, x: Index, y: Index) -> Index:
    """x * y, folded where that is easy."""
    if isinstance(x, int) and isinstance(y, int):
        return x * y
    if isinstance(x, int):
        x, y = y, x
    if isinstance(y, int) and y in (0, 1):
        return 0 if y == 0 else x
    return b.mul(i64(x), i64(y))


def least(b: Any, x: int, y: Index) -> Index:
    """The smaller of a known and another number."""
    if isinstance(y, int):
        return min(x, y)
    return b.select(b.icmp_signed("<", y, i64(x)), y, i64(x))


def loop(
    b: Any,
    start: Index,
    stop: Index,
    step: int,
    initial: Values,
    body: Callable[[Index, list[Any]], Values],
) -> list[Any]:
    """for i in range(start, stop, step): values = body(i, values); gives the last values.

    A loop of one known iteration becomes straight code.
    """
    if isinstance(start, int) and isinstance(stop, int) and 0 < stop - start <= step:
        return list(body(start, list(initial)))
    before = b.block
    head, inside, after = (b.append_basic_block(n) for n in ("loop", "body", "done"))
    b.branch(head)
    b.position_at_end(head)
    index = b.phi(I64)
    carried = [b.phi(v.type) for v in initial]
    b.cbranch(b.icmp_signed("<", index, i64(stop)), inside, after)
    b.position_at_end(inside)
    values = body(index, list(carried))
    following = b.add(index, I64(step))
    latch = b.block
    b.branch(head)
    firsts, laters = [i64(start), *initial], [following, *values]
    for phi, first, later in zip([index, *carried], firsts, laters, strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(later, latch)
    b.position_at_end(after)
    return carried


def each(b: Any, start: Index, stop: Index, step: int, body: Callable[[Index], None]) -> None:
    """A loop that carries nothing."""

    def run(i: Index, _: list[Any]) -> Values:
        body(i)
        return ()

    loop(b, start, stop, step, (), run)


def nest(b: Any, bounds: Sequence[tuple[Index, Index]], body: Callable[[tuple[Index, ...]], None]) -> None:
    """Nested loops over (start, stop) bounds, the last one innermost."""

    def level(d: int, at: tuple[Index, ...]) -> None:
        if d == len(bounds):
            body(at)
        else:
            each(b, *bounds[d], 1, lambda i: level(d + 1, (*at, i)))

    level(0, ())


def segments(extent: int, lanes: int) -> list[tuple[int, int, int]]:
    """Cut range(extent) into (lanes, start, stop): full vectors, then halves for the rest."""
    parts, start = [], 0
    while start < extent:
        stop = start + (extent - start) // lanes * lanes
        if stop > start:
            parts.append((lanes, start, stop))
        start, lanes = stop, max(lanes // 2, 1)
    return parts


def branch(b: Any, condition: Any, then: Callable[[], Values], other: Callable[[], Values]) -> list[Any]:
    """if condition: then() else: other(); gives their values merged."""
    blocks = [b.append_basic_block(n) for n in ("then", "else", "merge")]
    b.cbranch(condition, blocks[0], blocks[1])
    ends = []
    for block, make in zip(blocks[:2], (then, other), strict=True):
        b.position_at_end(block)
        values = make()
        ends.append((b.block, values))
        b.branch(blocks[2])
    b.position_at_end(blocks[2])
    merged = []
    for i in range(len(ends[0][1])):
        phi = b.phi(ends[0][1][i].type)
        for block, values in ends:
            phi.add_incoming(values[i], block)
        merged.append(phi)
    return merged
