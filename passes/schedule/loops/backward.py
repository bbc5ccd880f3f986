"""Attention backward: query blocks as iterations, keys and values stay."""

from __future__ import annotations

from tilec.passes.schedule.loops.parts import SMEM, edge, limits, load, op
from tilec.passes.schedule.model import Buffer, Edge, Op, Problem, Reader


def fa3_backward(rows: int = 64, n: int = 128, d: int = 128, *, reg_limit: int = 240) -> Problem:
    """Hopper: ``rows`` query rows a step; the ``n`` keys are split over the sub-tiles a and b.

    dV and dK stay in registers, dQ leaves through shared memory and a reducing bulk copy.
    """
    ops = [load("LQ", rows * d * 2 // 64), load("LdO", rows * d * 2 // 64), load("RED", rows * d * 4 // 64)]
    edges: list[Edge] = []
    for x in "ab":
        ops += _ops(x, rows, n, d)
        edges += _edges(x, rows, n, d)
    machine = limits("H100", "TC ALU MUFU LSU TMA", SMEM - 2 * n * d * 2, reg_limit=reg_limit)
    rings = tuple(_rings(rows, n, d))
    return Problem(f"FA3 backward {rows}x{n}x{d}", tuple(ops), tuple(edges), rings, machine, groups_max=4)


def _ops(x: str, rows: int, n: int, d: int) -> list[Op]:
    half = n // 2
    tc, row, exp = half * rows * d // 2048, half * rows // 128, half * rows // 16
    ds, dq = half * rows * 2 // 128, rows * (d // 2) * 4 // 128
    return [
        op("S" + x, "TC", tc, 32, rows // 2),
        op("dP" + x, "TC", tc, 32, rows // 2),
        op("FMA" + x, "ALU", row, row + 8),
        op("EXP" + x, "MUFU", exp, exp),
        op("CVTP" + x, "ALU", row, row + 8, rows // 4),
        op("DS" + x, "ALU", 2 * row, 2 * row + 8),
        op("CVTD" + x, "ALU", row, row + 8, rows // 4),
        op("STSD" + x, "LSU", ds, ds + 30),
        op("dV" + x, "TC", tc, 32, pinned=d // 2),
        op("dK" + x, "TC", tc, 32, pinned=d // 2),
        op("dQ" + x, "TC", rows * (d // 2) * n // 2048, 32, rows * d // 2 // 128),
        op("STQ" + x, "LSU", dq, dq + 30),
    ]


def _edges(x: str, rows: int, n: int, d: int) -> list[Edge]:
    """S and dP are overwritten in place by P and dS until the conversions have read them."""
    half = n // 2
    tc, row, exp = half * rows * d // 2048, half * rows // 128, half * rows // 16
    ds, stq = half * rows * 2 // 128, rows * (d // 2) * 4 // 128
    done, dq = tc + 40, rows * (d // 2) * n // 2048
    return [
        edge(f"LQ>S{x}", 0, mem="smem", kind="b"),
        edge(f"LdO>dP{x}", 0, mem="smem", kind="b"),
        edge(f"LdO>dV{x}", 0, mem="smem", kind="b"),
        edge(f"LQ>dK{x}", 0, mem="smem", kind="b"),
        edge(f"S{x}>FMA{x}", done, kind="b"),
        edge(f"FMA{x}>EXP{x}", 16, kind="s"),
        edge(f"S{x}>EXP{x}", done, rd=exp, kind="s"),
        edge(f"EXP{x}>CVTP{x}", exp + 20, kind="s"),
        edge(f"S{x}>DS{x}", done, rd=2 * row, kind="s"),
        edge(f"EXP{x}>DS{x}", exp + 20, kind="s"),
        edge(f"dP{x}>DS{x}", done, rd=2 * row, kind="bs"),
        edge(f"DS{x}>CVTD{x}", 2 * row + 8, kind="s"),
        edge(f"dP{x}>CVTD{x}", done, rd=row, kind="s"),
        edge(f"CVTP{x}>dV{x}", row + 8, rd=done, kind="s"),
        edge(f"dV{x}>dV{x}", tc, 1, mem="ord"),
        edge(f"CVTD{x}>dK{x}", row + 8, rd=done, kind="s"),
        edge(f"dK{x}>dK{x}", tc, 1, mem="ord"),
        edge(f"CVTD{x}>STSD{x}", 8, rd=ds, kind="s"),
        edge(f"STSD{x}>dQa", ds + 30, mem="smem", kind="b"),
        edge(f"STSD{x}>dQb", ds + 30, mem="smem", kind="b"),
        edge(f"dQ{x}>STQ{x}", dq + 40, rd=stq, kind="bs"),
        edge(f"STQ{x}>RED", stq + 30, mem="smem", kind="b"),
        edge(f"dV{x}>dK{x}", 0, mem="ord"),
    ]


def _rings(rows: int, n: int, d: int) -> list[Buffer]:
    tc, dq = (n // 2) * rows * d // 2048, rows * (d // 2) * n // 2048
    inputs = [("Q", "S", "dK"), ("dO", "dP", "dV")]
    readers = [tuple(Reader(v + x, tc) for v in (first, second) for x in "ab") for _, first, second in inputs]
    rings = [
        Buffer(b, "smem", rows * d * 2, "L" + b, r) for (b, _, _), r in zip(inputs, readers, strict=True)
    ]
    for x in "ab":
        both = (Reader("dQa", dq), Reader("dQb", dq))
        done = (Reader("RED", rows * d * 4 // 64),)
        rings.append(Buffer("dS" + x, "smem", (n // 2) * rows * 2, "STSD" + x, both, max_depth=2))
        rings.append(Buffer("dQ" + x, "smem", rows * d // 2 * 4, "STQ" + x, done, max_depth=2))
    return rings
