"""Matrix products on Hopper: slices of the contracted dimension as iterations.

The latency of a load is an edge, so the depth of a ring is an answer.
"""

from __future__ import annotations

from tilec.passes.schedule.loops.parts import SMEM, edge, limits, load, op
from tilec.passes.schedule.model import Buffer, Problem, Reader


def gemm(
    consumers: int = 2, bn: int = 256, bk: int = 64, latency: int = 1000, *, groups_max: int | None = None
) -> Problem:
    """A (64 * consumers) x ``bn`` tile; each consumer multiplies 64 rows. ``latency``: cycles of a load."""
    return _products("GEMM", consumers, ("B",), bn, bk, latency, groups_max)


def dual_gemm(
    consumers: int = 2, bn: int = 128, bk: int = 64, latency: int = 1000, *, groups_max: int | None = None
) -> Problem:
    """Two products with the same left side, as in a gated MLP."""
    return _products("dual GEMM", consumers, ("B", "C"), bn, bk, latency, groups_max)


def _products(
    name: str, consumers: int, right: tuple[str, ...], bn: int, bk: int, latency: int, groups: int | None
) -> Problem:
    bm, tc, tiles = 64 * consumers, 64 * bn * bk // 2048, "abc"[:consumers]
    ops = [load("LA", bm * bk * 2 // 64), *(load("L" + b, bn * bk * 2 // 64) for b in right)]
    products = [(b, "MMA" + (b if len(right) > 1 else "") + x) for x in tiles for b in right]
    ops += [op(p, "TC", tc, 32, pinned=bn // 2) for _, p in products]
    loads = [f"{source}>{p}" for b, p in products for source in ("LA", "L" + b)]
    edges = [edge(pair, latency, mem="smem", kind="b") for pair in loads]
    edges += [edge(f"{p}>{p}", tc, 1, mem="ord") for _, p in products]
    rings = [Buffer("A", "smem", bm * bk * 2, "LA", tuple(Reader(p, tc + 40) for _, p in products), 8)]
    for b in right:
        readers = tuple(Reader(p, tc + 40) for c, p in products if c == b)
        rings.append(Buffer(b, "smem", bn * bk * 2, "L" + b, readers, 8))
    return Problem(
        f"{name} {bm}x{bn}x{bk} load latency {latency}",
        tuple(ops),
        tuple(edges),
        tuple(rings),
        limits("H100", "TC TMA", SMEM),
        groups or consumers + 1,
    )
