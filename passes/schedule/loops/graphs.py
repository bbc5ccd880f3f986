"""Graphs that others published: a compiler's attention loop, and a toy of three ops."""

from __future__ import annotations

from tilec.passes.schedule.loops.parts import edge
from tilec.passes.schedule.model import Edge, Limits, Memory, Op, Problem, Segment

# Attention forward with B200 costs as Triton's compiler extracted it: case3_FA of the joint
# solver in facebookexperimental/triton. id: unit, occupancy, cycles of its group, warps, and
# registers of the result, which are our estimate.
_OPS: dict[str, tuple[str, int, int, int, int]] = {
    "muli0": ("CUDA", 1, 1, 1, 0),
    "addi1": ("CUDA", 1, 1, 1, 0),
    "tma_load2": ("TMA", 96, 30, 1, 0),
    "tma_load3": ("TMA", 96, 30, 1, 0),
    "mma7": ("TC", 256, 30, 1, 0),
    "tmem_load8": ("TMEM", 128, 128, 4, 64),
    "reduce9": ("CUDA", 152, 152, 4, 1),
    "mulf10": ("CUDA", 1, 1, 4, 1),
    "maxnumf11": ("CUDA", 1, 1, 4, 1),
    "subf12": ("CUDA", 1, 1, 4, 1),
    "exp2_13": ("SFU", 1, 1, 4, 1),
    "mulf14": ("CUDA", 64, 64, 4, 1),
    "subf17": ("CUDA", 64, 64, 4, 1),
    "exp2_18": ("SFU", 64, 64, 4, 64),
    "reduce19": ("CUDA", 319, 319, 4, 1),
    "tmem_load23": ("TMEM", 256, 256, 4, 128),
    "mulf24": ("CUDA", 128, 128, 4, 128),
    "truncf25": ("CUDA", 32, 32, 4, 32),
    "tmem_store27": ("TMEM", 48, 48, 4, 0),
    "mma28": ("TC", 256, 30, 1, 0),
    "mulf29": ("CUDA", 1, 1, 4, 1),
    "addf30": ("CUDA", 1, 1, 4, 1),
}

_LATENCY = {
    "muli0": 1, "addi1": 1, "mma7": 900, "tmem_load8": 266, "reduce9": 230, "mulf10": 1, "maxnumf11": 1,
    "subf12": 1, "exp2_13": 8, "mulf14": 69, "subf17": 65, "exp2_18": 570, "reduce19": 845,
    "tmem_load23": 532, "mulf24": 138, "truncf25": 52, "tmem_store27": 96, "mma28": 559, "mulf29": 1,
    "addf30": 1, "tma_load2": 0, "tma_load3": 0,
}  # fmt: skip

_EDGES = (
    "muli0>addi1 addi1>tma_load2 addi1>tma_load3 tma_load3>mma28 tma_load2>mma7 mma7>tmem_load8 "
    "tmem_load8>reduce9 reduce9>mulf10 mulf10>maxnumf11 maxnumf11>subf12 subf12>exp2_13 tmem_load8>mulf14 "
    "maxnumf11>subf17 mulf14>subf17 subf17>exp2_18 exp2_18>reduce19 exp2_13>mulf24 tmem_load23>mulf24 "
    "exp2_18>truncf25 tmem_load23>tmem_store27 mulf24>tmem_store27 truncf25>mma28 tmem_store27>mma28 "
    "exp2_13>mulf29 mulf29>addf30 reduce19>addf30"
)
_CARRIED = "maxnumf11>maxnumf11 maxnumf11>subf12 addf30>mulf29 tmem_load8>mma7 mma28>tmem_load23"
_SHARED = ("muli0", "addi1", "tma_load2", "tma_load3")


def attention_graph(copies: int = 1) -> Problem:
    """The graph with ``copies`` sub-tiles that share the loads: 22, 40, 58 ops. It tests size, not truth."""
    ops = [_op(v, v) for v in _SHARED]
    edges: list[Edge] = []
    for x in "abc"[:copies]:
        ops += [_op(v, v + x) for v in _OPS if v not in _SHARED]
        edges += [
            _edge(pair, x, delta) for delta, pairs in ((0, _EDGES), (1, _CARRIED)) for pair in pairs.split()
        ]
    unique = tuple(dict.fromkeys(edges))
    units = tuple((u, 1) for u in ("CUDA", "TMA", "TC", "TMEM", "SFU"))
    machine = Limits(units, reg_fixed=16, hop=150, name="B200")
    return Problem(f"attention graph, {len(ops)} ops", tuple(ops), unique, (), machine, 4 + copies)


def _op(v: str, name: str) -> Op:
    unit, length, cyc, warps, regs = _OPS[v]
    return Op(name, (Segment(unit, 0, length),), cyc, regs, min_warps=warps, stream=unit == "TMA")


def _edge(pair: str, x: str, delta: int) -> Edge:
    src, dst = pair.split(">")
    units = (_OPS[src][0], _OPS[dst][0])
    memory: Memory = "reg"
    if src in ("muli0", "addi1"):
        memory = "ord"
    elif units[0] == "TMA":
        memory = "smem"
    elif "TC" in units:
        memory = "tmem"
    ends = ">".join(v if v in _SHARED else v + x for v in (src, dst))
    d, waits = _LATENCY[src], "b" * (units[0] in ("TC", "TMA"))
    return edge(ends, d, delta, mem=memory, kind=waits)


def toy() -> Problem:
    """Twill's example with unit costs: S and O on the tensor core, P between them on another unit.

    One iteration takes three cycles; overlapped, one starts every two.
    """
    ops = (
        Op("S", (Segment("TC", 0, 1),), 1),
        Op("P", (Segment("EXP", 0, 1),), 1),
        Op("O", (Segment("TC", 0, 1),), 1),
    )
    edges = (edge("S>P", 1), edge("P>O", 1))
    return Problem("toy", ops, edges, (), Limits((("TC", 1), ("EXP", 1)), name="toy"), groups_max=2)
