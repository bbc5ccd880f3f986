"""Attention forward on Hopper (FlashAttention-3) and Blackwell (FlashAttention-4), key blocks as iterations.

Rates per clock and SM: 2048 (Hopper) or 4096 (Blackwell) multiply-adds, 16 exp2, 128 ALU
lanes (packed pairs on Blackwell), 64 bytes of TMA, 4 cycles per KB of tensor memory.
"""

from __future__ import annotations

from typing import Literal

from tilec.passes.schedule.loops.parts import SMEM, TMEM, edge, limits, load, op
from tilec.passes.schedule.model import Buffer, Edge, Op, Problem, Reader

Layout = Literal["alias", "free", "separate"]


def fa3_forward(
    subtiles: int = 2, n: int = 128, d: int = 128, *, causal: bool = False, reg_limit: int = 240
) -> Problem:
    """``subtiles`` x 64 query rows, ``n`` keys a step, head dimension ``d``; each sub-tile is one warpgroup.

    ``causal``: a step that meets the diagonal also masks S; the loop must expect it.
    """
    tiles, kv = "abc"[:subtiles], n * d * 2
    ops = [load("LK", kv // 64), load("LV", kv // 64)]
    edges: list[Edge] = []
    for x in tiles:
        ops += _fa3_ops(x, n, d, causal)
        edges += _fa3_edges(x, n, d, causal)
    tc = 64 * n * d // 2048
    rings = tuple(
        Buffer(b, "smem", kv, "L" + b, tuple(Reader(product + x, tc) for x in tiles))
        for b, product in (("K", "QK"), ("V", "PV"))
    )
    machine = limits("H100", "TC ALU MUFU TMA", smem=SMEM - subtiles * 64 * d * 2, reg_limit=reg_limit)
    name = f"FA3 forward {subtiles}x64x{n}x{d}" + " causal" * causal
    return Problem(name, tuple(ops), tuple(edges), rings, machine, groups_max=3)


def _fa3_ops(x: str, n: int, d: int, causal: bool) -> list[Op]:
    tc, row, exp, out = 64 * n * d // 2048, 64 * n // 128, 64 * n // 16, 64 * d // 128
    return [
        op("QK" + x, "TC", tc, 32, n // 2),
        *([op("MASK" + x, "ALU", row, row + 8)] if causal else []),
        op("MAX" + x, "ALU", row, row + 40, 1),
        op("ALPHA" + x, "MUFU", 8, 30, 1),
        op("FMA" + x, "ALU", row, row + 8),
        op("EXP" + x, "MUFU", exp, exp),
        op("SUM" + x, "ALU", row, row + 8, 1),
        op("CVT" + x, "ALU", row, row + 8, n // 4),
        op("RESC" + x, "ALU", out, out + 8),
        op("PV" + x, "TC", tc, 32, pinned=d // 2),
    ]


def _fa3_edges(x: str, n: int, d: int, causal: bool) -> list[Edge]:
    """S stays in the registers of QK, updated in place, until CVT has read it."""
    tc, row, exp, out = 64 * n * d // 2048, 64 * n // 128, 64 * n // 16, 64 * d // 128
    done = tc + 40
    if causal:
        scores = [
            edge(f"QK{x}>MASK{x}", done, kind="bs"),
            edge(f"MASK{x}>MAX{x}", row + 8, kind="s"),
            edge(f"MASK{x}>FMA{x}", row + 8, kind="s"),
        ]
    else:
        scores = [edge(f"QK{x}>MAX{x}", done, kind="b"), edge(f"QK{x}>FMA{x}", done, kind="b")]
    return [
        edge(f"LK>QK{x}", 0, mem="smem", kind="b"),
        edge(f"LV>PV{x}", 0, mem="smem", kind="b"),
        *scores,
        edge(f"QK{x}>CVT{x}", done, rd=row + 8, kind="bs"),
        edge(f"MAX{x}>MAX{x}", row + 40, 1),
        edge(f"MAX{x}>ALPHA{x}", row + 40),
        edge(f"MAX{x}>FMA{x}", row + 40),
        edge(f"FMA{x}>EXP{x}", 16, kind="s"),
        edge(f"EXP{x}>SUM{x}", exp + 20, kind="s"),
        edge(f"EXP{x}>CVT{x}", exp + 20, kind="s"),
        edge(f"SUM{x}>SUM{x}", row + 8, 1),
        edge(f"ALPHA{x}>SUM{x}", 30),
        edge(f"ALPHA{x}>RESC{x}", 30),
        edge(f"PV{x}>RESC{x}", done, 1, kind="bs"),
        edge(f"RESC{x}>PV{x}", out + 8, kind="s"),
        edge(f"CVT{x}>PV{x}", row + 8, rd=done, kind="s"),
    ]


def fa4_forward(
    subtiles: int = 2,
    layout: Layout = "alias",
    share: float = 0.0,
    split: int = 1,
    n: int = 128,
    d: int = 128,
    *,
    reg_limit: int = 240,
    groups_max: int = 5,
) -> Problem:
    """``subtiles`` x 128 query rows; S, P and O lie in tensor memory.

    ``layout``: "alias" P over its own S, "free" columns chosen, "separate" S and P side by
    side. ``share`` of the exp2 runs on the FMA pipe, ten instructions each. The product with
    V may start when (split-1)/split of P is stored.
    """
    tiles, kv, tc = "ab"[:subtiles], n * d * 2, 128 * n * d // 4096
    ops = [load("LK", kv // 64), load("LV", kv // 64)]
    edges: list[Edge] = []
    buffers: list[Buffer] = []
    for x in tiles:
        ops += _fa4_ops(x, n, d, share)
        edges += _fa4_edges(x, n, d, share, split)
        buffers += _fa4_columns(x, n, tc, layout)
    for b, product in (("K", "QK"), ("V", "PV")):
        buffers.append(Buffer(b, "smem", kv, "L" + b, tuple(Reader(product + x, tc) for x in tiles)))
    smem = SMEM - subtiles * 128 * d * 2
    machine = limits("B200", "TC ALU MUFU TMEM TMA", smem, TMEM - subtiles * d, reg_limit)
    knobs = f" exp2 {share:.0%} split {split}" if share or split > 1 else ""
    name = f"FA4 forward {subtiles}x128x{n}x{d} {layout}{knobs}"
    return Problem(name, tuple(ops), tuple(edges), tuple(buffers), machine, groups_max)


def _fa4_costs(n: int, d: int, share: float) -> tuple[int, int, int, int, int, int]:
    """Cycles of a row of ALU work, TMEM load, store of P, load of O, exp2 and its polynomial."""
    exps = 128 * n
    return (
        exps // 128 // 2,
        4 * exps * 4 // 1024,
        4 * exps * 2 // 1024,
        4 * 128 * d * 4 // 1024,
        int(exps * (1 - share) / 16),
        int(exps * share * 10 / 128 / 2),
    )


def _fa4_ops(x: str, n: int, d: int, share: float) -> list[Op]:
    tc, mul = 128 * n * d // 4096, 128 * d // 128 // 2
    row, lds, stp, ldo, exp, poly = _fa4_costs(n, d, share)
    return [
        op("QK" + x, "TC", tc, 16),
        op("LDS" + x, "TMEM", lds, lds + 41, n),
        op("MAX" + x, "ALU", row, row + 20, 1),
        op("ALPHA" + x, "MUFU", 8, 30, 1),
        op("FMA" + x, "ALU", row, row + 8),
        op("EXP" + x, "MUFU", exp, exp),
        *([op("POLY" + x, "ALU", poly, poly + 20)] if share else []),
        op("CVT" + x, "ALU", 2 * row, 2 * row, n // 2),
        op("STP" + x, "TMEM", stp, stp + 41),
        op("SUM" + x, "ALU", row, row + 8, 1),
        op("LDO" + x, "TMEM", ldo, ldo + 41, d // 4),
        op("MUL" + x, "ALU", mul, mul + 8),
        op("STO" + x, "TMEM", ldo, ldo + 41),
        op("PV" + x, "TC", tc, 16),
    ]


def _fa4_edges(x: str, n: int, d: int, share: float, split: int) -> list[Edge]:
    """Piece by piece, max follows the load of S, the conversion exp2, the store the conversion."""
    done = 128 * n * d // 4096 + 60
    row, lds, stp, ldo, exp, poly = _fa4_costs(n, d, share)
    early = exp // split if split > 1 else 0
    polynomial = [
        edge(f"FMA{x}>POLY{x}", 16, kind="s"),
        edge(f"POLY{x}>CVT{x}", max(16, poly - early), kind="s"),
        edge(f"POLY{x}>SUM{x}", poly + 20, kind="s"),
    ]
    return [
        edge(f"LK>QK{x}", 0, mem="smem", kind="b"),
        edge(f"LV>PV{x}", 0, mem="smem", kind="b"),
        edge(f"QK{x}>LDS{x}", done, mem="tmem", kind="b"),
        edge(f"LDS{x}>MAX{x}", max(60, lds + 41 - row), kind="s"),
        edge(f"LDS{x}>FMA{x}", lds + 41, kind="s"),
        edge(f"LDS{x}>CVT{x}", lds + 41, rd=2 * row, kind="s"),
        edge(f"MAX{x}>MAX{x}", row + 20, 1),
        edge(f"MAX{x}>ALPHA{x}", row + 20),
        edge(f"MAX{x}>FMA{x}", row + 20, kind="s"),
        edge(f"FMA{x}>EXP{x}", 16, kind="s"),
        edge(f"EXP{x}>CVT{x}", max(16, exp - early - 2 * row + 32), kind="s"),
        edge(f"CVT{x}>STP{x}", max(16, 2 * row - stp + 32), rd=stp + 41, kind="s"),
        edge(f"STP{x}>PV{x}", stp + 41, mem="tmem", kind="b"),
        edge(f"EXP{x}>SUM{x}", exp + 20, kind="s"),
        edge(f"SUM{x}>SUM{x}", row + 8, 1),
        edge(f"ALPHA{x}>SUM{x}", 30),
        edge(f"ALPHA{x}>MUL{x}", 30),
        edge(f"PV{x}>LDO{x}", done, 1, mem="tmem", kind="b"),
        edge(f"LDO{x}>MUL{x}", ldo // 4 + 41, kind="s"),
        edge(f"MUL{x}>STO{x}", 16, kind="s"),
        edge(f"STO{x}>PV{x}", ldo + 41, mem="tmem", kind="b"),
        *(polynomial if share else []),
    ]


def _fa4_columns(x: str, n: int, tc: int, layout: Layout) -> list[Buffer]:
    """Where S and P of a sub-tile lie: n columns of f32, n // 2 of 16 bits."""
    scores, probabilities = Reader("LDS" + x, 4 * 128 * n * 4 // 1024 + 41), Reader("PV" + x, tc)
    if layout == "alias":
        return [Buffer("SP" + x, "tmem", n, "QK" + x, (scores, probabilities))]
    free = layout == "free"
    return [
        Buffer("S" + x, "tmem", n, "QK" + x, (scores,), alloc=free),
        Buffer("P" + x, "tmem", n // 2, "STP" + x, (probabilities,), alloc=free),
    ]
