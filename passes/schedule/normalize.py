"""Small costs in nearly the same proportions, as Twill's first step makes them (arXiv 2512.18134).

Of positive integers C_i find C'_i with sum C' <= total so that F = max |C_i C'_j - C_j C'_i| is
least. Twill allows C' = 0, and then most costs of a large loop vanish; here C' >= 1, so an
order stays an order. Our solver needs no small costs: this is for comparison, and for solvers
whose size grows with the number of cycles.

Exact without a solver: for a given F the conditions are C_i C'_j >= C_j C'_i - F for all i, j,
which only push upwards. So there is a least solution >= 1, found by raising what is too small;
no other solution has a smaller sum. F is feasible if that sum is <= total, and larger F are too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor

from tilec.ir.errors import TilecValueError
from tilec.passes.schedule.model import Op, Problem, Segment


@dataclass(frozen=True)
class Normalized:
    """A problem with small costs. ``small`` maps each duration, ``scale`` is the ratio of the sums.

    ``error`` is F, the largest |C_i C'_j - C_j C'_i|.
    """

    problem: Problem
    small: Mapping[int, int]
    scale: Fraction
    error: int


def normalize(problem: Problem, total: int = 300) -> Problem:
    """The problem with costs whose sum over the ops, the longest of each, is at most ``total``."""
    return normalized(problem, total).problem


def normalized(problem: Problem, total: int = 300) -> Normalized:
    """Like `normalize`, with how it was done.

    All durations of the problem are mapped alike: reservations, code, latencies, reads and the
    costs of changing groups. V132 if there are more ops than ``total``.
    """
    longest = [c for c in map(_longest, problem.ops) if c]
    if len(longest) > total:
        raise TilecValueError(
            "V132",
            f"{len(longest)} ops cannot share {total} cycles, one each",
            help="give a larger total",
        )
    costs = sorted(_durations(problem))
    weights = [longest.count(c) for c in costs]
    values, error = least_error(costs, weights, total)
    small = {0: 0, **dict(zip(costs, values, strict=True))}
    scale = Fraction(sum(small[c] for c in longest), sum(longest)) if longest else Fraction(1)
    return Normalized(_mapped(problem, small, scale), small, scale, error)


def least_error(costs: Sequence[int], weights: Sequence[int], total: int) -> tuple[list[int], int]:
    """The least values >= 1 of the least F with sum of weights * values <= total, and F."""
    low, high = -1, max(costs, default=0)  # all ones have an error below the largest cost
    best = [1] * len(costs)
    while high - low > 1:
        middle = (low + high) // 2
        values = _least_values(costs, weights, total, middle)
        if values is None:
            low = middle
        else:
            high, best = middle, values
    both = list(zip(costs, best, strict=True))
    return best, max((abs(a * y - b * x) for a, x in both for b, y in both), default=0)


def _least_values(costs: Sequence[int], weights: Sequence[int], total: int, error: int) -> list[int] | None:
    """The least solution >= 1 for an F, None if its weighted sum exceeds ``total``."""
    values = [1] * len(costs)
    # It ends: the costs themselves are a solution of every F, so no value is raised above its cost.
    raised = True
    while raised:
        raised = False
        for j, c in enumerate(costs):
            need = max(-(-(c * x - error) // b) for b, x in zip(costs, values, strict=True))
            if need > values[j]:
                values[j], raised = need, True
        if sum(w * x for w, x in zip(weights, values, strict=True)) > total:
            return None
    return values


def _longest(op: Op) -> int:
    return max((s.length for s in op.reserve), default=0)


def _durations(problem: Problem) -> set[int]:
    """Every positive number of cycles in the problem."""
    found = {n for o in problem.ops for s in o.reserve for n in (s.offset, s.length)}
    found |= {o.cyc for o in problem.ops} | {n for e in problem.edges for n in (e.d, e.rd)}
    found |= {r.rd for b in problem.buffers for r in b.readers} | {problem.limits.sync}
    return {n for n in found if n > 0}


def _mapped(problem: Problem, small: Mapping[int, int], scale: Fraction) -> Problem:
    ops = tuple(
        replace(o, cyc=small[o.cyc], reserve=tuple(_mapped_segment(s, small) for s in o.reserve))
        for o in problem.ops
    )
    edges = tuple(
        replace(e, d=small[e.d] if e.d >= 0 else floor(e.d * scale), rd=small[e.rd]) for e in problem.edges
    )
    buffers = tuple(
        replace(b, readers=tuple(r._replace(rd=small[r.rd]) for r in b.readers)) for b in problem.buffers
    )
    hop, per_reg = (float(x * scale) for x in (problem.limits.hop, problem.limits.hop_per_reg))
    limits = replace(problem.limits, hop=max(1.0, hop), hop_per_reg=per_reg, sync=small[problem.limits.sync])
    hints = tuple(replace(h, value=ceil(h.value * scale)) if h.kind == "ii" else h for h in problem.hints)
    name = f"{problem.name} normalized"
    return replace(problem, name=name, ops=ops, edges=edges, buffers=buffers, limits=limits, hints=hints)


def _mapped_segment(s: Segment, small: Mapping[int, int]) -> Segment:
    return s._replace(offset=small[s.offset], length=small[s.length])
