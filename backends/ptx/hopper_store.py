"""The epilogue: accumulators to global memory through shared memory and TMA.

The tile is cut into parts of columns that fit the staging buffer; each part is
written by the whole group and copied out by its first thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tilec.backends.ptx.context import Emitter, Fragment
from tilec.backends.ptx.hopper_operands import WARPGROUP
from tilec.backends.ptx.hopper_plan import tma_inner
from tilec.backends.ptx.hopper_ring import only_thread
from tilec.backends.ptx.hopper_smem import SmemTile, smem_tile
from tilec.backends.ptx.hopper_stage import Place, write
from tilec.backends.ptx.hopper_tma import offsets, store_tile
from tilec.backends.ptx.hopper_views import identity
from tilec.ir.core import Kernel, Op, Value, walk
from tilec.ir.layout import Layout, wgmma
from tilec.ir.ops import opdef
from tilec.ir.ptx.module import Reg
from tilec.ir.types import TensorType, TileType, bool_

LEAST_BYTES = 2048


@dataclass(frozen=True)
class StorePlan:
    """How a tile is stored: ``part`` is the layout of a part, ``count`` parts along its inner dimension."""

    part: SmemTile
    count: int

    def halved(self) -> StorePlan | None:
        """The same with parts of half the columns, or None if they would be narrower than the swizzle."""
        extent = self.part.shape[self.part.inner] // 2
        if extent * self.part.es % self.part.span:
            return None
        shape = tuple(extent if d == self.part.inner else n for d, n in enumerate(self.part.shape))
        return StorePlan(SmemTile(shape, self.part.inner, self.part.es, self.part.span, self.part.swizzle),
                         2 * self.count)  # fmt: skip


def staging_key(group: str) -> str:
    """The name of the shared memory that a group's stores pass through."""
    return f"stores of {group}"


def store_plan(op: Op, warps: int) -> StorePlan | None:
    """The plan of a store that TMA can do from an accumulator's layout, else None."""
    tensor, value = op.args[0].type, op.args[1].type
    assert isinstance(tensor, TensorType) and isinstance(value, TileType)
    inner = tma_inner(op.args[0], value.shape) if value.shape else None
    if inner is None or warps % WARPGROUP or value.dtype == bool_ or value.bytes < LEAST_BYTES:
        return None
    if not is_accumulator(value, warps):
        return None
    tile = smem_tile(value, inner)
    return StorePlan(tile, 1) if tile.span >= 32 else None


def only_stored(kernel: Kernel) -> set[Value]:
    """Tensors that the kernel writes by `store` and never reads: TMA may write them at its leisure."""
    used: dict[Value, set[str]] = {}
    for op in walk(kernel.body):
        if opdef(op.name).family == "memory":
            used.setdefault(op.args[0], set()).add(op.name)
    return {tensor for tensor, names in used.items() if names == {"store"}}


def is_accumulator(value: TileType, warps: int) -> bool:
    """Whether a tile lies in registers as a product does, axes of extent 1 apart."""
    long = [axis for axis, n in enumerate(value.shape) if n > 1]
    layout = value.layout
    if len(long) != 2 or not isinstance(layout, Layout):
        return False
    m, n = (value.shape[a] for a in long)
    for axis in reversed([a for a, x in enumerate(value.shape) if x == 1]):
        layout = layout.drop(axis)
    return layout == wgmma(m, n, warps)


def store(e: Emitter, op: Op, plan: StorePlan) -> None:
    """The rule of a `store` with a plan."""
    fragment = e.fragment(op.args[1])
    at = offsets(e, op.args[2:])
    base = e.make("b32", "add.s32", e.smem(), e.plan.extra[staging_key(e.group.name)].offset)
    inner, extent = plan.part.inner, plan.part.shape[plan.part.inner]
    for number, part in enumerate(parts(fragment, inner, extent)):
        # Copies do not keep their order: an earlier store may be to the same place, a part is not.
        with only_thread(e, 0):
            e.emit("cp.async.bulk.wait_group.read" if number else "cp.async.bulk.wait_group", 0)
        e.sync()
        _store_part(e, op, plan.part, part, base, _moved(e, at, inner, number * extent))


def _store_part(e: Emitter, op: Op, tile: SmemTile, part: Fragment, base: Reg, at: tuple[Reg, ...]) -> None:
    write(e, part, Place(tile, base, identity(part.shape)))
    e.emit("fence.proxy.async.shared::cta")
    e.sync()
    with only_thread(e, 0):
        store_tile(e, op.args[0], at, tile, base)
        e.emit("cp.async.bulk.commit_group")


def _moved(e: Emitter, at: tuple[Reg, ...], axis: int, by: int) -> tuple[Reg, ...]:
    if not by:
        return at
    return (*at[:axis], e.make("b32", "add.s32", at[axis], by), *at[axis + 1 :])


def parts(fragment: Fragment, axis: int, extent: int) -> Iterator[Fragment]:
    """The fragment cut along an axis, ``extent`` (a power of two unless it is all) at a time."""
    if extent == fragment.shape[axis]:
        yield fragment
        return
    old = fragment.layout
    shape = tuple(extent if a == axis else n for a, n in enumerate(fragment.shape))
    padded = tuple(extent if a == axis else n for a, n in enumerate(old.shape))
    layout = Layout(padded, tuple(b for b in old.reg if b[axis] < extent), old.lane, old.warp)
    coords = old.register_coords()
    for start in range(0, fragment.shape[axis], extent):
        regs = tuple(
            r for r, c in zip(fragment.regs, coords, strict=True) if c[axis] // extent == start // extent
        )
        yield Fragment(fragment.dtype, shape, layout, regs)


def drain(e: Emitter) -> None:
    """Before the group ends: its copies out of shared memory must be done."""
    with only_thread(e, 0):
        e.emit("cp.async.bulk.wait_group", 0)
