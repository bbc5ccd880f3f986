"""The least initiation interval of a Problem, by z3. The only module that imports z3.

Every node issues at ``ii * stage + residue``. A query asks whether one interval
is feasible. Nodes hold their units from issue on and no edge has a negative
latency, so a feasible interval stays feasible when an idle cycle is appended:
one refuted interval refutes all smaller ones.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Literal

import z3

from tilec.passes.schedule.problem import Problem
from tilec.passes.schedule.schedule import Schedule, minimum_ii, overlap

RLIMIT = 20_000_000
SEED = 1

Starts = tuple[int, ...]
Answer = Starts | Literal["infeasible", "unknown"]


def solve(problem: Problem, rlimit: int = RLIMIT) -> Schedule:
    """The best schedule found; "optimal" only if its interval equals a proven bound.

    ``rlimit`` bounds the work of each query in z3's own units, so the answer does
    not depend on the machine's speed.
    """
    bound, reason = minimum_ii(problem)
    best = serial(problem)
    low = middle = bound
    while low < best.ii:
        answer = query(problem, middle, rlimit)
        if isinstance(answer, tuple):
            best = Schedule(problem.loop, middle, answer, "feasible", 0, "")
        else:
            low = middle + 1
        if answer == "infeasible":
            bound, reason = middle + 1, "search"
        middle = (low + best.ii) // 2
    proven = "optimal" if best.ii == bound else best.status
    starts = late_loads(problem, compact(problem, best.starts, best.ii), best.ii)
    return replace(best, starts=starts, status=proven, bound=bound, reason=reason)


def serial(problem: Problem) -> Schedule:
    """One node after the other in program order, iterations not overlapped: always feasible."""
    starts, now = [], 0
    for node in problem.nodes:
        starts.append(now)
        now += max(node.latency, *(cycles for _, cycles in node.reserve), 1)
    return Schedule(problem.loop, max(now, minimum_ii(problem)[0]), tuple(starts), "heuristic", 0, "")


def query(problem: Problem, ii: int, rlimit: int = RLIMIT) -> Answer:
    """Starts that repeat every ``ii`` cycles, or whether there are none."""
    context = z3.Context()
    solver = z3.SolverFor("QF_LIA", ctx=context)
    solver.set(random_seed=SEED, rlimit=rlimit)
    residue = [z3.Int(f"r{n.id}", context) for n in problem.nodes]
    stage = [z3.Int(f"s{n.id}", context) for n in problem.nodes]
    for r, s in zip(residue, stage, strict=True):
        solver.add(r >= 0, r < ii, s >= 0)
    for e in problem.edges:
        gap = ii * (stage[e.dst] - stage[e.src] + e.distance) + residue[e.dst] - residue[e.src]
        solver.add(gap >= e.latency)
    for a, length_a, b, length_b in _rivals(problem):
        before = z3.And(residue[a] + length_a <= residue[b], residue[b] + length_b <= residue[a] + ii)
        after = z3.And(residue[b] + length_b <= residue[a], residue[a] + length_a <= residue[b] + ii)
        solver.add(z3.Or(before, after))
    return _answer(solver, ii, residue, stage)


def _answer(solver: z3.Solver, ii: int, residue: list[z3.ArithRef], stage: list[z3.ArithRef]) -> Answer:
    verdict = solver.check()
    if verdict == z3.unsat:
        return "infeasible"
    if verdict != z3.sat:
        return "unknown"
    model = solver.model()
    starts = [ii * s + r for s, r in zip(stage, residue, strict=True)]
    return tuple(model.eval(t, True).as_long() for t in starts)


def _rivals(problem: Problem) -> list[tuple[int, int, int, int]]:
    """Pairs of nodes that hold the same unit, each with its cycles."""
    found = []
    for unit in problem.units:
        users = [(n.id, cycles) for n in problem.nodes for u, cycles in n.reserve if u == unit]
        found += [(a, la, b, lb) for (a, la), (b, lb) in combinations(users, 2)]
    return found


def compact(problem: Problem, starts: Starts, ii: int) -> Starts:
    """The same residues in the earliest stages that the dependences allow."""
    stage = [0] * len(starts)
    residue = [t % ii for t in starts]
    for _ in problem.nodes:
        for e in problem.edges:
            least = stage[e.src] - e.distance + -(-(e.latency + residue[e.src] - residue[e.dst]) // ii)
            stage[e.dst] = max(stage[e.dst], least)
    return tuple(ii * s + r for s, r in zip(stage, residue, strict=True))


def late_loads(problem: Problem, starts: Starts, ii: int) -> Starts:
    """Move loads that nothing holds back to the latest free place: slots live shorter."""
    moved = list(starts)
    targets = {e.dst for e in problem.edges}
    writers = {w for b in problem.buffers for w in b.writers} - targets
    for w in sorted(writers, key=lambda w: -starts[w]):
        latest = [moved[e.dst] - e.latency + e.distance * ii for e in problem.edges if e.src == w]
        limit = min(latest, default=starts[w])
        places = (t for t in range(limit, max(limit - ii, starts[w]), -1) if _free(problem, moved, ii, w, t))
        moved[w] = next(places, starts[w])
    return tuple(moved)


def _free(problem: Problem, starts: list[int], ii: int, node: int, at: int) -> bool:
    trial = [*starts[:node], at, *starts[node + 1 :]]
    rivals = [r for r in _rivals(problem) if node in (r[0], r[2])]
    return not any(overlap(trial[a], la, trial[b], lb, ii) for a, la, b, lb in rivals)
