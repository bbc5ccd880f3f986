"""Sections of tensors and TMA: each program makes tensor maps of its own for them, in its workspace.

The map of a section is that of its tensor with another address and another extent
(`tensormap.replace`). The thread that makes it is the one that starts its copies, so fences of
that thread are all that the copies need (PTX ISA, "fence.proxy").
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace

from tilec.backends.artifact import TensorMap
from tilec.backends.ptx.context import MAP_BYTES, Emitter, Rule
from tilec.backends.ptx.hopper_cluster import copied
from tilec.backends.ptx.hopper_plan import RingPlan, tensor_map
from tilec.backends.ptx.hopper_ring import only_thread
from tilec.backends.ptx.hopper_smem import SmemTile
from tilec.backends.ptx.hopper_store import StorePlan
from tilec.ir.core import Kernel, Op, Value, definitions, walk
from tilec.ir.ptx.module import Addr, Reg

# What coordinates into an empty section are moved by: a map has no extent of 0.
FAR = 1 << 30


@dataclass(frozen=True)
class Sections:
    """For each op `section` the tiles that TMA copies from or to it, each with its place in the workspace."""

    tiles: Mapping[Op, tuple[tuple[SmemTile, int], ...]]

    @property
    def workspace(self) -> int:
        """Bytes of tensor maps of one program."""
        return MAP_BYTES * sum(map(len, self.tiles.values()))


def plan_sections(
    kernel: Kernel, rings: Mapping[Value, RingPlan], stores: Mapping[Op, StorePlan]
) -> Sections:
    """The maps of all sections: of the loads that rings take by TMA, and of the stores by TMA."""
    defs, found = definitions(kernel.body), dict[Op, list[SmemTile]]()
    copies = [(op.args[0], plan.part) for op, plan in stores.items()]
    for put in (op for op in walk(kernel.body) if op.name == "aref.put" and rings[op.args[0]].tma):
        loads = (defs[value] for value in put.args[1:])
        pairs = zip(loads, rings[put.args[0]].tiles, strict=True)
        copies += [(load.args[0], copied(load, tile)) for load, tile in pairs]
    for tensor, tile in copies:
        op = defs.get(tensor)
        if op is not None and tile not in found.setdefault(op, []):
            found[op].append(tile)
    places = iter(range(0, MAP_BYTES * sum(map(len, found.values())), MAP_BYTES))
    return Sections({op: tuple((tile, next(places)) for tile in tiles) for op, tiles in found.items()})


def section(e: Emitter, op: Op, sections: Sections, plain: Rule, alone: bool) -> None:
    """The rule of `section`: what ``plain`` does, and the tensor maps."""
    plain(e, op)
    tiles = sections.tiles.get(op, ())
    if not tiles:
        return
    axis, bound = op.attrs["axis"], e.tensor(op.result)
    empty = e.make("pred", "setp.eq.s32", bound.dims[axis], 0)
    shift = e.make("b32", "selp.b32", FAR, 0, empty)
    extent = e.make("b32", "max.s32", bound.dims[axis], 1)
    homes = [_home(e, place, sections.workspace) for _, place in tiles]
    e.hold((shift, *homes))
    with nullcontext() if alone else only_thread(e, 0):
        maps = {_make(e, op, t, home, extent): home for (t, _), home in zip(tiles, homes, strict=True)}
    moved = tuple(shift if d == axis else None for d in range(len(bound.dims)))
    e.bind(op.result, replace(bound, maps=maps, shift=moved))


def _home(e: Emitter, place: int, size: int) -> Reg:
    """The generic address of a map of this program."""
    first: Reg = e.cached("workspace", lambda: _workspace(e, size))
    return e.make("b64", "add.s64", first, place) if place else first


def _workspace(e: Emitter, size: int) -> Reg:
    """The generic address of this program's workspace: programs are counted along the grid's axes."""
    number = e.make("b32", "mov.u32", Reg("%ctaid.z"))
    for axis in "yx":
        parts = (e.make("b32", "mov.u32", Reg(f"%{name}.{axis}")) for name in ("nctaid", "ctaid"))
        number = e.make("b32", "mad.lo.u32", number, *parts)
    start = e.make("b64", "ld.param.u64", Addr(e.workspace_param()))
    return e.make("b64", "mad.wide.u32", number, size, start)


def _make(e: Emitter, op: Op, tile: SmemTile, home: Reg, extent: Reg) -> TensorMap:
    """Write the map for boxes of ``tile``; gives what it is a map of."""
    bound = e.tensor(op.result)
    recipe = tensor_map(op.result, tile, bound.arg)
    source, to = e.map_param(recipe), e.make("b64", "cvta.to.global.u64", home)
    for at in range(0, MAP_BYTES, 16):
        pair = e.reg("b64"), e.reg("b64")
        e.emit("ld.param.v2.b64", pair, Addr(source, at))
        e.emit("st.global.v2.b64", Addr(to, at), pair)
    address = e.make("b64", "cvta.global.u64", bound.pointer)
    e.emit("tensormap.replace.tile.global_address.global.b1024.b64", Addr(to), address)
    place = recipe.dims.index(op.attrs["axis"])
    e.emit("tensormap.replace.tile.global_dim.global.b1024.b32", Addr(to), place, extent)
    e.emit("fence.proxy.tensormap::generic.release.gpu")
    e.emit("fence.proxy.tensormap::generic.acquire.gpu", Addr(home), MAP_BYTES)
    return recipe
