"""Why nothing can go on: who waits for whom, and which rule explains it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tilec.runtime.emulator.check_mbarrier import BarrierWatch
from tilec.runtime.emulator.clocks import FIRST
from tilec.runtime.emulator.cta import MBarrier, NamedBarrier
from tilec.runtime.emulator.program import Op
from tilec.runtime.emulator.race import Race
from tilec.runtime.emulator.report import Report, where

_ARRIVES = re.compile(r"mbarrier\.arrive|cp\.async\.mbarrier|tcgen05\.commit|.*mbarrier::complete_tx")

_PARTIAL = {False: Race("E15", "a warp"), True: Race("E16", "a warpgroup")}

if TYPE_CHECKING:
    from tilec.runtime.emulator.checker import Checker
    from tilec.runtime.emulator.strand import Strand


def explain(checker: Checker, strands: Sequence[Strand]) -> list[str]:
    """Lines for the message of a deadlock: the barriers that are waited for, and the shortest
    cycle of waits."""
    lines = []
    for watch in _watches(strands):
        lines += [f"  {line}" for line in _owed(checker, watch)]
    for named, number in _named(strands):
        names = _rows(checker, named.warps)
        lines.append(f"  barrier {number} has {named.arrived} of {named.wanted} threads: {names}")
    lines += [f"  {r}" for r in _causes(checker, strands)]
    cycle = _cycle(checker, strands)
    if cycle:
        lines.append("  cycle: " + " -> ".join(s.name() for s in (*cycle, cycle[0])))
    return lines


def _causes(checker: Checker, strands: Sequence[Strand]) -> list[Report]:
    """The rules that explain it, which also go into the reports of the run."""
    found = []
    for s in strands:
        on, inst = s.wait.on if s.wait else None, s.cta.program.code[s.pc].inst
        if isinstance(on, Op) and not _held_up(s, strands, on.group):
            code = _PARTIAL[on.group]
            text = f"{s.n} threads wait at an aligned instruction for the rest of {code.edge}"
            found.append(Report(code.code, text, inst.line, inst.loc))
    for watch in _watches(strands):
        last = max(watch.armed.values(), key=lambda a: a.time, default=None)
        if last and watch.barrier.tx and not watch.barrier.pending and not watch.flights:
            text = f"{watch.name} expects other bytes than its copies bring: {watch.barrier}"
            found.append(Report("E8", text, last.inst.line, last.inst.loc))
    return [r for r in found if checker.machine.note(r)]


def _held_up(s: Strand, strands: Sequence[Strand], group: bool) -> bool:
    """Whether other threads of the warps (warpgroups) of a strand wait for a barrier."""
    shift = 7 if group else 5
    mine = set((s.threads >> shift).tolist())
    others = [
        t for t in strands if t.cta is s.cta and t.wait and isinstance(t.wait.on, (MBarrier, NamedBarrier))
    ]
    return any(not mine.isdisjoint((t.threads >> shift).tolist()) for t in others)


def _watches(strands: Sequence[Strand]) -> list[BarrierWatch]:
    found = [s.wait.on.watch for s in strands if s.wait and isinstance(s.wait.on, MBarrier)]
    return list(dict.fromkeys(w for w in found if isinstance(w, BarrierWatch)))


def _named(strands: Sequence[Strand]) -> list[tuple[NamedBarrier, int]]:
    found = {}
    for s in strands:
        if s.wait and isinstance(s.wait.on, NamedBarrier):
            number = next(n for n, b in s.cta.named.items() if b is s.wait.on)
            found[id(s.wait.on)] = (s.wait.on, number)
    return list(found.values())


def _rows(checker: Checker, rows: Iterable[int]) -> str:
    return ", ".join(checker.clocks.name(FIRST + r) for r in sorted(rows)) or "nobody has arrived"


def debtors(watch: BarrierWatch) -> set[int]:
    """The warps that arrived in the phase before, and have not in this one."""
    return set(watch.before.arrived) - set(watch.history.arrived)


def _owed(checker: Checker, watch: BarrierWatch) -> list[str]:
    """What a barrier lacks."""
    barrier = watch.barrier
    lines = [f"{watch.name} (initialised at {where(watch.inst)})"]
    if barrier.pending:
        arrived = _rows(checker, watch.history.arrived)
        lines.append(f"  {barrier.pending} of {barrier.expected} arrivals are owed; so far: {arrived}")
        if debtors(watch):
            lines.append(f"  in the phase before, also: {_rows(checker, debtors(watch))}")
    if barrier.phase and not watch.history.seen:
        lines.append(
            f"  phase {barrier.phase - 1} is over and no wait has seen that: is the parity the other one?"
        )
    if barrier.tx:
        last = max(watch.armed.values(), key=lambda a: a.time, default=None)
        at = f", last expected at {where(last.inst)}" if last else ""
        what = "bytes are owed" if barrier.tx > 0 else "bytes too many have landed"
        lines.append(f"  {abs(barrier.tx)} {what}{at}")
    return lines


def _cycle(checker: Checker, strands: Sequence[Strand]) -> list[Strand]:
    """The shortest cycle of strands in which each waits for an arrival of the next."""
    after = {id(s): [t for t in strands if t is not s and _waits_for(checker, s, t)] for s in strands}
    best: list[Strand] = []
    for start in strands:
        paths = [[start]]
        seen = {id(start)}
        while paths and not (best and len(best) <= len(paths[0])):
            path = paths.pop(0)
            for s in after[id(path[-1])]:
                if s is start:
                    best = path
                elif id(s) not in seen:
                    seen.add(id(s))
                    paths.append([*path, s])
    return best


def _may_arrive(s: Strand) -> bool:
    """Whether a strand can still come to an instruction that arrives at an mbarrier."""
    code, todo, seen = s.cta.program.code, [s.pc], set()
    while todo:
        pc = todo.pop()
        if pc in seen or pc >= len(code):
            continue
        seen.add(pc)
        op = code[pc]
        if _ARRIVES.match(op.inst.opcode):
            return True
        if op.targets is None or op.pred >= 0:
            todo.append(pc + 1)
        todo += op.targets or ()
    return False


def _waits_for(checker: Checker, s: Strand, other: Strand) -> bool:
    """Whether one strand waits for a barrier where the other arrived in the phase before or, in
    the first phase, where it might arrive."""
    on = s.wait.on if s.wait else None
    rows = set(checker.rows(other).tolist())
    if isinstance(on, MBarrier) and isinstance(on.watch, BarrierWatch):
        owed = debtors(on.watch)
        return not rows.isdisjoint(owed) if owed else _may_arrive(other)
    if isinstance(on, NamedBarrier):
        return not rows.isdisjoint(on.last - on.warps)
    return False
