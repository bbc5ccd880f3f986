"""What each ring of a SCHEDULED kernel needs: layouts of its tiles, barrier counts, bytes.

Nothing is emitted here; all is decided from the kernel's text, so that it can be
tested without a GPU and printed next to the schedule.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal

from tilec.backends.artifact import TensorMap
from tilec.backends.ptx.hopper_operands import WARPGROUP
from tilec.backends.ptx.hopper_smem import SmemTile, operand, smem_tile
from tilec.backends.ptx.hopper_views import Use, dot_axes, uses_of
from tilec.ir.core import Block, Kernel, Op, Value, definitions, walk
from tilec.ir.errors import UnsupportedError
from tilec.ir.layout import LANE_BITS
from tilec.ir.ops import attr
from tilec.ir.types import ArefType, TensorType, TileType
from tilec.passes.make_async import LOAD

MAX_RANK = 5
Reader = Literal["wgmma", "warp"]


@dataclass(frozen=True)
class RingPlan:
    """One ring; ``tma`` says that the copy engine writes it, ``copied`` that threads do by cp.async;
    else they store. ``cluster``: how many programs fill a slot together, and wait for its readers.

    ``full_count`` and ``empty_count`` are arrivals per phase of the two barriers of a
    slot; ``readers`` says for each consumer group how it reads: "wgmma" readers arrive
    once per warpgroup, "warp" readers (ordinary loads) once per warp.
    """

    depth: int
    tiles: tuple[SmemTile, ...]
    tma: bool
    full_count: int
    empty_count: int
    readers: Mapping[str, Reader]
    copied: bool = False
    cluster: int = 1

    @property
    def box_bytes(self) -> int:
        """Bytes that the copies of one put complete: the full boxes, padding of layouts apart."""
        return sum(prod(t.shape) * t.es for t in self.tiles)

    @property
    def proxy_fence(self) -> bool:
        """Whether a fence must stand between writes of threads and the reads of tensor cores: behind
        stores of the writer; behind the wait of the reader where cp.async writes."""
        return not self.tma and "wgmma" in self.readers.values()


@dataclass(frozen=True)
class Site:
    """An op and the group of warps that runs it."""

    op: Op
    group: str
    warps: int


def sites(kernel: Kernel) -> Iterator[Site]:
    """All ops with their groups; outside of groups that is "main"."""
    yield from _sites(kernel.body, "main", kernel.attrs.get("num_warps", WARPGROUP))


def _sites(block: Block, group: str, warps: int) -> Iterator[Site]:
    for op in block.ops:
        yield Site(op, group, warps)
        if op.name == "warp_groups":
            for name, n, inner in zip(op.attrs["names"], op.attrs["warps"], op.blocks, strict=True):
                yield from _sites(inner, name, n)
        else:
            for inner in op.blocks:
                yield from _sites(inner, group, warps)


def plan_rings(kernel: Kernel) -> dict[Value, RingPlan]:
    """The plan of every ring of the kernel, in order of creation."""
    rings = [op.result for op in walk(kernel.body) if op.name == "aref.new"]
    found = list(sites(kernel))
    defs = definitions(kernel.body)
    return {ring: _plan(ring, found, defs, kernel.body) for ring in rings}


def _plan(ring: Value, found: list[Site], defs: Mapping[Value, Op], body: Block) -> RingPlan:
    ring_type = ring.type
    assert isinstance(ring_type, ArefType)
    puts = [s for s in found if s.op.name == "aref.put" and s.op.args[0] is ring]
    gets = [s for s in found if s.op.name == "aref.get" and s.op.args[0] is ring]
    groups = {s.group for s in puts}
    if len(groups) != 1 or (len(puts) > 1 and LOAD in groups):
        raise UnsupportedError("U503", f"a ring with {len(puts)} put sites", help="put it at one place")
    put = puts[0]
    uses = [[u for g in gets for u in uses_of(g.op.results[i], body)] for i in range(len(ring_type.payload))]
    # A compute group that pipelines its loop puts at several places, and stores.
    sources = [defs.get(v) if len(puts) == 1 else None for v in put.op.args[1:]]
    tiles, tma = _layouts(ring_type.payload, sources, uses)
    copied = all(_along(s) is not None for s in sources)
    readers: dict[str, Reader] = {}
    for g in gets:
        mine = [u for r in g.op.results for u in uses_of(r, body)]
        wgmma = all(dot_axes(u) is not None for u in mine) and readers.get(g.group) != "warp"
        readers[g.group] = "wgmma" if wgmma else "warp"
    warps = {g.group: g.warps for g in gets}
    empty = sum(arrivals(kind, warps[group]) for group, kind in readers.items())
    full = 1 if tma else put.warps << LANE_BITS if copied else put.warps
    size = max((attr(s, "cluster") for s in sources if s is not None and s.name == "load"), default=1)
    return RingPlan(ring_type.depth or 1, tiles, tma, full, empty * size, readers, copied, size)


def _along(source: Op | None) -> int | None:
    """The axis along which cp.async copies what a put takes; None if it does not."""
    return attr(source, "along") if source is not None and source.name == "gather" else None


def arrivals(kind: Reader, warps: int) -> int:
    """How often a consumer group arrives on an empty barrier per slot."""
    return max(1, warps // WARPGROUP) if kind == "wgmma" else warps


def _layouts(
    payload: tuple[TileType, ...], sources: list[Op | None], uses: list[list[Use]]
) -> tuple[tuple[SmemTile, ...], bool]:
    """Layouts for TMA where all tiles can be copied and read that way, else for ordinary stores."""
    tma = [_tma_layout(s, t, u) for s, t, u in zip(sources, payload, uses, strict=True)]
    if all(tma):
        return tuple(t for t in tma if t), True
    along = [_along(s) for s in sources]
    if None not in along:
        return tuple(smem_tile(t, a) for t, a in zip(payload, along, strict=True) if a is not None), False
    return tuple(_stored_layout(t, u) for t, u in zip(payload, uses, strict=True)), False


def _tma_layout(source: Op | None, tile: TileType, uses: list[Use]) -> SmemTile | None:
    if source is None or source.name != "load" or attr(source, "pad") != 0 or attr(source, "threads"):
        return None
    inner = tma_inner(source.args[0], tile.shape)
    if inner is None:
        return None
    layout = smem_tile(tile, inner)
    return layout if all(_readable(layout, u) for u in uses) else None


def tma_inner(tensor: Value, shape: tuple[int, ...]) -> int | None:
    """The contiguous dimension if TMA can copy tiles of this shape of the tensor, else None."""
    t = tensor.type
    assert isinstance(t, TensorType)
    if t.contiguous is None or not t.aligned or not 1 <= t.rank <= MAX_RANK:
        return None
    return t.contiguous if shape[t.contiguous] * t.dtype.bytes % 16 == 0 else None


def _stored_layout(tile: TileType, uses: list[Use]) -> SmemTile:
    """Written from registers: k contiguous where a dot needs that, else the last long dimension."""
    wide = [d for d, n in enumerate(tile.shape) if n > 1 and n * tile.dtype.bytes % 16 == 0]
    for inner in (*reversed(wide), *range(len(tile.shape))):
        if tile.shape[inner] * tile.dtype.bytes % 16 == 0:
            layout = smem_tile(tile, inner)
            if all(_readable(layout, u) for u in uses):
                return layout
    raise UnsupportedError(
        "U504",
        f"{tile} cannot lie in shared memory so that its readers can use it",
        help="make its extents multiples of 16 bytes, for dots of 8 rows and a whole k step",
    )


def _readable(layout: SmemTile, use: Use) -> bool:
    axes = dot_axes(use)
    if axes is None:
        return True
    mn, k = axes
    if mn is None or k is None:
        return False
    try:
        operand(layout, mn, k)
    except UnsupportedError:
        return False
    return True


def tensor_map(tensor: Value, tile: SmemTile, arg: int) -> TensorMap:
    """The tensor map for boxes of ``tile`` of the kernel's argument number ``arg``."""
    t = tensor.type
    assert isinstance(t, TensorType)
    dims = map_order(tile)
    return TensorMap(arg, t.dtype, dims, tuple(tile.box[d] for d in dims), tile.swizzle)


def map_order(tile: SmemTile) -> tuple[int, ...]:
    """The tile's dimensions innermost first, as tensor maps and coordinates list them."""
    return (tile.inner, *reversed(tile.outer))
