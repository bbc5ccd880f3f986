"""Clusters: TMA copies a share of a tile into the shared memory of all programs of a cluster.

Each program copies its share of the rows, and each of its barriers counts the bytes of all shares.
A slot may be filled again when the readers of all programs have read it, so readers arrive on
the barriers of all of them (PTX ISA, "cp.async.bulk.tensor", multicast).
"""

from __future__ import annotations

from tilec.backends.ptx.context import Emitter
from tilec.backends.ptx.hopper_smem import SmemTile
from tilec.ir.core import Kernel, Op
from tilec.ir.ops import attr
from tilec.ir.ptx.module import Addr, Reg


def extents(kernel: Kernel, name: str = "cluster") -> tuple[int, int, int]:
    """Programs of a cluster along each axis of the grid: of "cluster", or of the "pairs" that would pay."""
    axis, size = kernel.attrs.get(name, (0, 1))
    x, y, z = (size if a == axis else 1 for a in range(3))
    return x, y, z


def rank(e: Emitter) -> Reg:
    """The program's number in its cluster."""
    return e.cached("rank", lambda: e.make("b32", "mov.u32", Reg("%cluster_ctarank")))  # type: ignore[no-any-return]


def meet(e: Emitter) -> None:
    """A barrier of all threads of the cluster."""
    e.emit("barrier.cluster.arrive.release")
    e.emit("barrier.cluster.wait.acquire")


def arrive(e: Emitter, where: Addr, thread: Reg, pred: Reg) -> None:
    """Each thread for which ``pred`` holds arrives on the barrier of the program of its number."""
    own = e.make("b32", "add.s32", where.base, where.offset)
    remote = e.make("b32", "mapa.shared::cluster.u32", own, thread)
    e.emit("mbarrier.arrive.release.cluster.shared::cluster.b64", Reg("_"), Addr(remote), pred=pred)


def copied(load: Op, tile: SmemTile) -> SmemTile:
    """What one program copies of a load's tile."""
    return share(tile, attr(load, "cluster"))[0] if attr(load, "cluster") > 1 else tile


def share(tile: SmemTile, size: int) -> tuple[SmemTile, int]:
    """One of ``size`` parts of a tile, and the dimension that is cut: the outermost long one."""
    cut = next(d for d in tile.outer if tile.shape[d] > 1)
    shape = tuple(n // size if d == cut else n for d, n in enumerate(tile.shape))
    return SmemTile(shape, tile.inner, tile.es, tile.span, tile.swizzle), cut


def own_share(
    e: Emitter, tile: SmemTile, size: int, base: Reg, at: tuple[Reg, ...]
) -> tuple[SmemTile, Reg, tuple[Reg, ...]]:
    """The part of a tile that this program copies: its layout, its place in memory, its coordinates."""
    part, cut = share(tile, size)
    rows = tile.row(tuple(part.shape[d] if d == cut else 0 for d in range(len(tile.shape))))
    base = e.make("b32", "mad.lo.s32", rank(e), rows * tile.span, base)
    moved = e.make("b32", "mad.lo.s32", rank(e), part.shape[cut], at[cut])
    return part, base, (*at[:cut], moved, *at[cut + 1 :])
