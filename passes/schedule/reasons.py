"""Constraints in words: what a bound or a minimal core names, by op and source line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tilec.passes.schedule.model import Bound, Edge, Problem

SHOWN = 12
"""Ops of a unit that are shown one by one."""

MEMORY = {"smem": ("bytes", "shared memory"), "tmem": ("columns", "tensor memory")}


@dataclass(frozen=True)
class Reason:
    """A constraint that binds: its class, what it says, the cycles that it asks for, its places."""

    kind: str
    text: str
    cycles: int = 0
    locs: tuple[str, ...] = ()

    def to_text(self) -> str:
        where = "" if not self.locs else f" ({', '.join(self.locs)})"
        return self.text + where


def of_bound(problem: Problem, bound: Bound) -> tuple[Reason, ...]:
    """A closed form in words; empty for other bounds."""
    if bound.kind == "unit":
        return (_saturated(problem, bound),)
    if bound.kind == "cycle":
        return (_recurrence(problem, bound),)
    return ()


def _saturated(problem: Problem, bound: Bound) -> Reason:
    """The unit, what each of its ops holds, and their sum."""
    unit, *ops = bound.names
    held = {v: sum(s.length * s.amount for s in problem.op[v].reserve if s.unit == unit) for v in ops}
    count = dict(problem.limits.units)[unit]
    share = f" / {count} units" if count > 1 else ""
    parts = " + ".join(f"{v} {cycles}" for v, cycles in list(held.items())[:SHOWN])
    if len(held) > SHOWN:
        parts += f" + {sum(list(held.values())[SHOWN:])} by {len(held) - SHOWN} more"
    more = "" if sum(held.values()) == problem.load[unit] else " (opposite predicates count once)"
    parts = f"{parts}{share}{more}"
    total = "" if parts.endswith(f" {bound.value}") else f" = {bound.value}"
    text = f"{unit} is held all the time: {parts}{total} cycles"
    return Reason("unit", text, bound.value, _locs(problem, ops))


def _recurrence(problem: Problem, bound: Bound) -> Reason:
    """The cycle op by op, with cycles and iterations."""
    steps = [_step(problem, a, b) for a, b in _pairs(bound.names)]
    chain = bound.names[0] + "".join(_arrow(e) for e in steps)
    cycles, distance = sum(e.d for e in steps), sum(e.delta for e in steps)
    text = f"the recurrence {chain} takes {cycles} cycles in {_iterations(distance)}"
    return Reason("cycle", text, bound.value, _locs(problem, bound.names))


def _pairs(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    yield from zip(names, (*names[1:], *names[:1]), strict=True)


def _step(problem: Problem, src: str, dst: str) -> Edge:
    edges = [e for e in problem.edges if (e.src, e.dst) == (src, dst)]
    return min(edges, key=lambda e: (e.delta, -e.d))


def _arrow(e: Edge, extra: int = 0) -> str:
    later = f", {_iterations(e.delta)} later" if e.delta else ""
    return f" -{e.d}{f' + {extra}' if extra else ''}{later}-> {e.dst}"


def _iterations(count: int) -> str:
    return "one iteration" if count == 1 else f"{count} iterations"


def of_core(problem: Problem, labels: Sequence[str]) -> tuple[Reason, ...]:
    """The labels of `cores.why_not` in words: dependences joined to chains, the rest by class."""
    table: dict[str, list[str]] = {}
    for label in labels:
        kind, _, item = label.partition(" ")
        table.setdefault(kind, []).append(item)
    found = [*_chains(problem, table.get("dependence", []), set(table.get("crossing", [])))]
    for kind, items in table.items():
        if kind in WORDS:
            found += WORDS[kind](problem, items)
    return tuple(found)


def _chains(problem: Problem, items: list[str], crossing: set[str]) -> Iterator[Reason]:
    """Dependences as few paths as a greedy walk needs, from ops that no other of them leads to."""
    left = [e for e in problem.edges if f"{e.src}>{e.dst}" in items]
    while left:
        inner = {e.dst for e in left}
        path = [next((e for e in left if e.src not in inner), left[0])]
        left.remove(path[0])
        while following := next((e for e in left if e.src == path[-1].dst), None):
            path.append(following)
            left.remove(following)
        extra = [problem.crossing(e) if f"{e.src}>{e.dst}" in crossing else 0 for e in path]
        chain = path[0].src + "".join(_arrow(e, x) for e, x in zip(path, extra, strict=True))
        far = ", and what follows a + where the group changes" if any(extra) else ""
        ops, cycles = [path[0].src, *(e.dst for e in path)], sum(e.d for e in path)
        yield Reason("dependence", f"{chain}: {cycles} cycles{far}", cycles, _locs(problem, ops))


def _together(problem: Problem, items: list[str]) -> Iterator[Reason]:
    """Ops joined by values that stay in registers."""
    sets: list[set[str]] = []
    for item in items:
        pair = set(item.split(">"))
        met = [s for s in sets if s & pair]
        sets = [s for s in sets if not s & pair] + [pair.union(*met)]
    for ops in sets:
        names = [o.id for o in problem.ops if o.id in ops]
        yield Reason("together", f"in one group, by values in registers: {', '.join(names)}")


def _units(problem: Problem, items: list[str]) -> Iterator[Reason]:
    for unit in items:
        ops = [o for o in problem.ops if any(s.unit == unit for s in o.reserve)]
        count = dict(problem.limits.units)[unit]
        runs = "one" if count == 1 else f"{count} units"
        yield Reason(
            "unit", f"{unit} runs {runs} at a time: {', '.join(o.id for o in ops)}", problem.load[unit]
        )


def _waits(problem: Problem, items: list[str]) -> Iterator[Reason]:
    yield Reason("wait", f"no code of the group is under way at the waits of {', '.join(items)}")


def _rings(problem: Problem, items: list[str]) -> Iterator[Reason]:
    for b in problem.buffers:
        if b.id in items:
            readers = ", ".join(r.op for r in b.readers)
            slots = "a place" if b.alloc else f"a ring of at most {b.max_depth} slots"
            text = f"{b.id}, {slots} of {b.size} {MEMORY[b.mem][0]}: {b.writer} fills, {readers} read"
            yield Reason("ring", text, locs=(b.loc,) if b.loc else ())


def _capacity(problem: Problem, items: list[str]) -> Iterator[Reason]:
    for mem in items:
        unit, name = MEMORY[mem]
        size = problem.limits.smem if mem == "smem" else problem.limits.tmem
        ids = [b.id for b in problem.buffers if b.mem == mem]
        yield Reason("capacity", f"{name} has {size} {unit} for {', '.join(ids)}")


def _columns(problem: Problem, items: list[str]) -> Iterator[Reason]:
    for mem in items:
        ids = [b.id for b in problem.buffers if b.mem == mem and b.alloc]
        yield Reason("columns", f"{', '.join(ids)} may share {MEMORY[mem][0]} only at different times")


def _registers(problem: Problem, items: list[str]) -> Iterator[Reason]:
    limits = problem.limits
    yield Reason("registers", f"{limits.reg_limit} registers per thread, {limits.reg_fixed} of them fixed")


def _file(problem: Problem, items: list[str]) -> Iterator[Reason]:
    yield Reason("file", f"all groups share {problem.limits.reg_file} registers")


def _hints(problem: Problem, items: list[str]) -> Iterator[Reason]:
    for h in problem.hints:
        if h.id in items:
            what = f"{h.kind} {h.value}" if h.kind not in ("together", "apart") else h.kind
            names = f" of {', '.join(h.names)}" if h.names else ""
            yield Reason("hint", f"{h.id}: {what}{names}", locs=(h.loc,) if h.loc else ())


def of_hints(problem: Problem, ids: Sequence[str]) -> tuple[Reason, ...]:
    """Hints in words."""
    return tuple(_hints(problem, list(ids)))


def _nothing(problem: Problem, items: list[str]) -> Iterator[Reason]:
    """Told with something else: "crossing" with its dependence, "life" with its ring."""
    yield from ()


WORDS = {
    "together": _together,
    "unit": _units,
    "wait": _waits,
    "ring": _rings,
    "life": _nothing,
    "crossing": _nothing,
    "capacity": _capacity,
    "columns": _columns,
    "registers": _registers,
    "file": _file,
    "hint": _hints,
}


def _locs(problem: Problem, ops: Sequence[str]) -> tuple[str, ...]:
    """Where ops come from, each place once."""
    return tuple(dict.fromkeys(loc for v in ops if (loc := problem.op[v].loc)))
