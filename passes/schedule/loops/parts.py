"""Short forms for the loops: an op of one unit, and what a machine gives at nominal rates."""

from __future__ import annotations

from tilec.passes.schedule.model import Edge, Limits, Memory, Op, Segment

SMEM = 227 * 1024  # bytes that one program may use on sm_90 and sm_100 (CUDA programming guide)
TMEM = 512  # columns on sm_100 (PTX ISA, tcgen05.alloc)
REG_FILE = 65536  # registers of an SM (CUDA programming guide)


def op(
    id: str,
    unit: str,
    length: int,
    cyc: int,
    regs: int = 0,
    *,
    pinned: int = 0,
    warps: int = 4,
    predicate: str | None = None,
) -> Op:
    """An op that holds one unit from its issue on."""
    return Op(id, (Segment(unit, 0, length),), cyc, regs, pinned, warps, predicate=predicate)


def load(id: str, length: int) -> Op:
    """A bulk copy: one thread issues it in 32 cycles."""
    return Op(id, (Segment("TMA", 0, length),), 32, stream=True)


def edge(pair: str, d: int, delta: int = 0, *, mem: Memory = "reg", rd: int = 0, kind: str = "") -> Edge:
    """An edge "src>dst"; ``kind`` has b for blocking and s for same group."""
    src, dst = pair.split(">")
    return Edge(src, dst, d, delta, mem, "b" in kind, rd, "s" in kind)


def limits(name: str, units: str, smem: int = 0, tmem: int = 0, reg_limit: int = 240) -> Limits:
    """One instance of each unit, or as many as "UNIT:count" says."""
    pairs = (unit.partition(":") for unit in units.split())
    each = tuple((unit, int(count or 1)) for unit, _, count in pairs)
    return Limits(each, smem, tmem, reg_limit, name=name)
