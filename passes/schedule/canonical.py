"""A problem under plain names: what loops that differ in names and source lines only have in common."""

from __future__ import annotations

from dataclasses import replace

from tilec.passes.schedule.model import Answer, Bound, Buffer, Problem, Reader, Schedule

Names = dict[str, str]


def plain(problem: Problem) -> tuple[Problem, Names]:
    """The problem with ops o0, o1, ..., buffers b0, b1, ... and no lines; and the old names by the new."""
    ops = {o.id: f"o{i}" for i, o in enumerate(problem.ops)}
    buffers = {b.id: f"b{i}" for i, b in enumerate(problem.buffers)}
    predicates = {p: f"p{i}" for i, p in enumerate(dict.fromkeys(_bare(o.predicate) for o in problem.ops))}
    renamed = replace(
        problem,
        name="loop",
        loc=None,
        limits=replace(problem.limits, name="machine"),
        ops=tuple(
            replace(o, id=ops[o.id], predicate=_signed(o.predicate, predicates), loc=None)
            for o in problem.ops
        ),
        edges=tuple(replace(e, src=ops[e.src], dst=ops[e.dst], loc=None) for e in problem.edges),
        buffers=tuple(_buffer(b, buffers[b.id], ops) for b in problem.buffers),
        hints=tuple(
            replace(h, id=f"h{i}", names=tuple(ops.get(n, buffers.get(n, n)) for n in h.names), loc=None)
            for i, h in enumerate(problem.hints)
        ),
    )
    return renamed, {new: old for table in (ops, buffers) for old, new in table.items()}


def _buffer(b: Buffer, id: str, ops: Names) -> Buffer:
    readers = tuple(Reader(ops[r.op], r.rd) for r in b.readers)
    return replace(b, id=id, writer=ops[b.writer], readers=readers, loc=None)


def _bare(predicate: str | None) -> str:
    return (predicate or "").lstrip("!")


def _signed(predicate: str | None, names: Names) -> str | None:
    return predicate and "!" * predicate.startswith("!") + names[_bare(predicate)]


def named(answer: Answer, names: Names) -> Answer:
    """The answer for the problem that had these names, its tables in that problem's order."""
    plan = answer.schedule
    return replace(
        answer,
        schedule=None if plan is None else _schedule(plan, names),
        bound=_bound(answer.bound, names),
    )


def _schedule(plan: Schedule, names: Names) -> Schedule:
    def table(old: dict[str, int]) -> dict[str, int]:
        return {names[k]: old[k] for k in names if k in old}

    return Schedule(
        plan.ii,
        table(plan.times),
        table(plan.groups),
        table(plan.depths),
        table(plan.offsets),
        dict(plan.registers),
    )


def _bound(bound: Bound, names: Names) -> Bound:
    """A bound of the kind "unit" starts with the unit's name, which stays."""
    kept = 1 if bound.kind == "unit" else 0
    return replace(bound, names=(*bound.names[:kept], *(names[n] for n in bound.names[kept:])))
