"""Attention backward on Blackwell (FlashAttention-4, one CTA of 128 keys): query blocks as iterations.

Of the five products of 128 x 128 x 128 three read both operands from shared memory, dV and dK
take P and dS from tensor memory. With dS written, dQ written and dQ read by the reducing copy
shared memory moves 128 bytes a cycle for 3328 cycles, the tensor core works 2560 and exp2 1024:
the figures of the FlashAttention-4 paper (arXiv 2603.05451). So shared memory is a unit here,
of two instances with 64 bytes a cycle each.
"""

from __future__ import annotations

from tilec.passes.schedule.loops.parts import SMEM, TMEM, edge, limits, load, op
from tilec.passes.schedule.model import Buffer, Edge, Op, Problem, Reader, Segment

PRODUCT = 512  # cycles of a product on the tensor core
DONE = PRODUCT + 60
TILE = 128 * 128 * 2  # bytes of a 16-bit tile


def fa4_backward(*, reg_limit: int = 240, groups_max: int = 5) -> Problem:
    """128 query rows a step, head dimension 128. Halves a, b of the rows go through softmax, u, v of dQ out.

    S, P, dP, dS and dQ share the 256 columns of tensor memory that dV and dK leave.
    """
    ops = [
        load("LQ", TILE // 64),
        load("LdO", TILE // 64),
        _product("S", 2),
        _product("dP", 2),
        _product("dV", 1),
        _product("dK", 1),
        _product("dQ", 2),
    ]
    edges = [
        *(edge(pair, 0, mem="smem", kind="b") for pair in ("LQ>S", "LQ>dK", "LdO>dP", "LdO>dV")),
        edge("dV>dV", PRODUCT, 1, mem="ord"),
        edge("dK>dK", PRODUCT, 1, mem="ord"),
    ]
    for x in "ab":
        ops += _softmax_ops(x)
        edges += _softmax_edges(x)
    for x in "uv":
        ops += [
            op("LDQ" + x, "TMEM", 128, 169, 64),
            op("STQ" + x, "SMEM", 512, 286),
            Op("RED" + x, (Segment("TMA", 0, 512), Segment("SMEM", 0, 512)), 32, stream=True),
        ]
        edges += [
            edge(f"dQ>LDQ{x}", DONE, mem="tmem", kind="b"),
            edge(f"LDQ{x}>STQ{x}", 169, rd=286, kind="s"),
            edge(f"STQ{x}>RED{x}", 542, mem="smem", kind="b"),
        ]
    machine = limits("B200", "TC ALU MUFU TMEM SMEM:2 TMA", SMEM - 2 * TILE, TMEM - 256, reg_limit)
    name = "FA4 backward 128x128x128"
    return Problem(name, tuple(ops), tuple(edges), (*_rings(), *_columns()), machine, groups_max)


def _product(id: str, operands: int) -> Op:
    """``operands`` that come from shared memory, each at half its rate."""
    return Op(id, (Segment("TC", 0, PRODUCT), Segment("SMEM", 0, PRODUCT, operands)), 16)


def _softmax_ops(x: str) -> list[Op]:
    """128 keys x 64 rows: P from S, then dS from P and dP."""
    return [
        op("LDS" + x, "TMEM", 128, 169, 64),
        op("FMA" + x, "ALU", 32, 40),
        op("EXP" + x, "MUFU", 512, 512),
        op("CVTP" + x, "ALU", 64, 64, 32),
        op("STP" + x, "TMEM", 64, 105),
        op("LDD" + x, "TMEM", 128, 169, 64),
        op("DS" + x, "ALU", 64, 72),
        op("CVTD" + x, "ALU", 64, 64, 32),
        op("STD" + x, "TMEM", 64, 105),
        op("STSD" + x, "SMEM", 256, 158),
    ]


def _softmax_edges(x: str) -> list[Edge]:
    """P overwrites S, and dS dP, in registers, where each is kept until its last reader."""
    return [
        edge(f"S>LDS{x}", DONE, mem="tmem", kind="b"),
        edge(f"LDS{x}>FMA{x}", 169, kind="s"),
        edge(f"FMA{x}>EXP{x}", 16, kind="s"),
        edge(f"EXP{x}>CVTP{x}", 480, kind="s"),
        edge(f"LDS{x}>CVTP{x}", 169, rd=64, kind="s"),
        edge(f"CVTP{x}>STP{x}", 32, rd=105, kind="s"),
        edge(f"STP{x}>dV", 105, mem="tmem", kind="b"),
        edge(f"dP>LDD{x}", DONE, mem="tmem", kind="b"),
        edge(f"LDD{x}>DS{x}", 169, rd=64, kind="s"),
        edge(f"LDS{x}>DS{x}", 169, rd=64, kind="s"),
        edge(f"EXP{x}>DS{x}", 532, kind="s"),
        edge(f"DS{x}>CVTD{x}", 16, kind="s"),
        edge(f"LDD{x}>CVTD{x}", 169, rd=64, kind="s"),
        edge(f"CVTD{x}>STD{x}", 32, rd=105, kind="s"),
        edge(f"CVTD{x}>STSD{x}", 64, rd=158, kind="s"),
        edge(f"STD{x}>dK", 105, mem="tmem", kind="b"),
        edge(f"STSD{x}>dQ", 286, mem="smem", kind="b"),
    ]


def _rings() -> list[Buffer]:
    """Operands in shared memory; the halves of dQ may take turns in one place."""
    rings = [
        Buffer("Q", "smem", TILE, "LQ", (Reader("S", PRODUCT), Reader("dK", PRODUCT)), 2),
        Buffer("dO", "smem", TILE, "LdO", (Reader("dP", PRODUCT), Reader("dV", PRODUCT)), 2),
    ]
    for x in "ab":
        rings.append(Buffer("dS" + x, "smem", TILE // 2, "STSD" + x, (Reader("dQ", PRODUCT),), 2))
    for x in "uv":
        rings.append(
            Buffer("dQ" + x, "smem", TILE, "STQ" + x, (Reader("RED" + x, 512),), alloc=True, align=1024)
        )
    return rings


def _columns() -> list[Buffer]:
    """Tensor memory: 128 columns of f32 or 32 of half a 16-bit tile."""
    columns = [
        Buffer("S.t", "tmem", 128, "S", (Reader("LDSa", 169), Reader("LDSb", 169)), alloc=True),
        Buffer("dP.t", "tmem", 128, "dP", (Reader("LDDa", 169), Reader("LDDb", 169)), alloc=True),
        Buffer("dQ.t", "tmem", 128, "dQ", (Reader("LDQu", 169), Reader("LDQv", 169)), alloc=True),
    ]
    for x in "ab":
        columns.append(Buffer("P.t" + x, "tmem", 32, "STP" + x, (Reader("dV", PRODUCT),), alloc=True))
        columns.append(Buffer("dS.t" + x, "tmem", 32, "STD" + x, (Reader("dK", PRODUCT),), alloc=True))
    return columns
