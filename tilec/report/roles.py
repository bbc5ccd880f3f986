"""Which ops of a compiled attention loop are those that published plans speak of.

Published rules (`passes.schedule.published`) name the ops of the gallery's loops: QKa, MAXa, CVTa,
RESCa, PVa and the same with b. A compiled loop with its rows split has the same structure under
other names. Where it is found, beyond doubt, the loop gets those names, and plans are named back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from tilec.passes.schedule.model import Op, Problem, Schedule

Names = Mapping[str, str]


def roles(problem: Problem) -> Names:
    """The published name of each op that has one, in both sub-tiles; empty for any other loop."""
    firsts = _firsts(problem)
    found = _attention(problem, firsts) if firsts else {}
    return {v + tile: name + (tile or "a") for v, name in found.items() for tile in ("", "b")}


def _firsts(problem: Problem) -> dict[str, Op]:
    """The ops of the first of two equal sub-tiles: each has a twin with a "b" behind its name."""
    ops = {o.id: o for o in problem.ops if not o.stream}
    firsts = {v: o for v, o in ops.items() if v + "b" in ops and _alike(o, ops[v + "b"])}
    return firsts if len(ops) == 2 * len(firsts) else {}


def _alike(a: Op, b: Op) -> bool:
    return replace(a, id="", loc=None) == replace(b, id="", loc=None)


def _attention(problem: Problem, firsts: Mapping[str, Op]) -> dict[str, str]:
    """Two products with a softmax between them; empty if any role has no or several candidates."""
    edges = {(e.src, e.dst, e.delta) for e in problem.edges if e.mem == "reg"}
    dots = [v for v, o in firsts.items() if any(s.unit == "TC" for s in o.reserve)]
    pv, qk = ([v for v in dots if bool(firsts[v].pinned) == pinned] for pinned in (True, False))
    if len(pv) != 1 or len(qk) != 1:
        return {}
    (second,), (first,) = pv, qk
    resc = [v for v in firsts if {(second, v, 1), (v, second, 0)} <= edges]
    cvt = [v for v in firsts if (v, second, 0) in edges and v not in resc]
    held = [v for v in firsts if {(first, v, 0), (v, v, 1)} <= edges]
    top = [v for v in held if len(cvt) == 1 and cvt[0] in _after(v, edges)]
    if [len(x) for x in (resc, cvt, top)] != [1, 1, 1]:
        return {}
    found = {first: "QK", second: "PV", resc[0]: "RESC", cvt[0]: "CVT", top[0]: "MAX"}
    mask = [v for v in firsts if {(first, v, 0), (v, top[0], 0)} <= edges]
    return found | ({mask[0]: "MASK"} if len(mask) == 1 else {})


def _after(op: str, edges: set[tuple[str, str, int]]) -> set[str]:
    """Ops that need an op's value in the same iteration, through any number of others."""
    found: set[str] = set()
    todo = [op]
    while todo:
        src = todo.pop()
        new = sorted(dst for a, dst, delta in edges if a == src and not delta and dst not in found)
        found.update(new)
        todo += new
    return found


def renamed(problem: Problem, names: Names) -> Problem:
    """The problem with some ops under other names, all else as it is."""
    return replace(
        problem,
        ops=tuple(replace(o, id=names.get(o.id, o.id)) for o in problem.ops),
        edges=tuple(
            replace(e, src=names.get(e.src, e.src), dst=names.get(e.dst, e.dst)) for e in problem.edges
        ),
        buffers=tuple(
            replace(
                b,
                writer=names.get(b.writer, b.writer),
                readers=tuple(r._replace(op=names.get(r.op, r.op)) for r in b.readers),
            )
            for b in problem.buffers
        ),
        hints=tuple(replace(h, names=tuple(_named(h.names, names))) for h in problem.hints),
    )


def _named(items: tuple[str, ...], names: Names) -> Iterator[str]:
    yield from (names.get(v, v) for v in items)


def plan_renamed(plan: Schedule, names: Names) -> Schedule:
    """The plan of a renamed problem."""
    times = {names.get(v, v): t for v, t in plan.times.items()}
    return replace(plan, times=times, groups={names.get(v, v): g for v, g in plan.groups.items()})
