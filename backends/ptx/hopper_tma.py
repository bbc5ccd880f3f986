"""Copies between global and shared memory by tensor maps (TMA)."""

from __future__ import annotations

from dataclasses import dataclass

from tilec.backends.ptx.context import Emitter
from tilec.backends.ptx.hopper_cluster import own_share
from tilec.backends.ptx.hopper_plan import map_order, tensor_map
from tilec.backends.ptx.hopper_smem import Box, SmemTile
from tilec.ir.core import Value
from tilec.ir.ptx.module import Addr, Operand, Reg, Sym

COMPLETE = "mbarrier::complete_tx::bytes"


@dataclass(frozen=True)
class Pending:
    """A load that the copy engine will do where it is put into a ring: tensor and offsets (b32); for so
    many programs that have it in common."""

    tensor: Value
    offsets: tuple[Reg, ...]
    cluster: int = 1


def offsets(e: Emitter, values: tuple[Value, ...]) -> tuple[Reg, ...]:
    """Element offsets as the signed 32-bit coordinates that tensor maps take."""
    return tuple(_narrow(e, e.fragment(v).reg, v) for v in values)


def _narrow(e: Emitter, reg: Reg, value: Value) -> Reg:
    wide = value.type.dtype.bits == 64  # type: ignore[union-attr]
    return e.make("b32", "cvt.u32.u64", reg) if wide else reg


def map_address(e: Emitter, tensor: Value, tile: SmemTile) -> Reg:
    """The generic address of the tensor map of an argument for boxes of ``tile``."""
    bound = e.tensor(tensor)
    found = tensor_map(tensor, tile, bound.arg)
    if bound.maps:
        return bound.maps[found]
    return e.cached(found, lambda: _address(e, e.map_param(found)))  # type: ignore[no-any-return]


def _address(e: Emitter, param: Sym) -> Reg:
    where = e.make("b64", "mov.b64", param)
    return e.make("b64", "cvta.param.u64", where)


def coordinates(e: Emitter, tile: SmemTile, box: Box, at: tuple[Reg, ...]) -> tuple[Operand, ...]:
    """Coordinates of a box, innermost first, for a tile whose first element is ``at``."""
    return tuple(_plus(e, at[d], box.start[d]) for d in map_order(tile))


def _shifted(e: Emitter, tensor: Value, at: tuple[Reg, ...]) -> tuple[Reg, ...]:
    """The coordinates of an element, moved out of an empty section."""
    shift = e.tensor(tensor).shift or (None,) * len(at)
    pairs = zip(at, shift, strict=True)
    return tuple(x if by is None else e.make("b32", "add.s32", x, by) for x, by in pairs)


def _plus(e: Emitter, reg: Reg, offset: int) -> Reg:
    return e.cached(("plus", reg, offset), lambda: e.make("b32", "add.s32", reg, offset)) if offset else reg


def load_tile(e: Emitter, load: Pending, tile: SmemTile, base: Reg, barrier: Addr) -> None:
    """Copy a tile into shared memory at ``base``; its bytes complete on ``barrier``."""
    opcode = f"cp.async.bulk.tensor.{len(tile.shape)}d.shared::cluster.global.{COMPLETE}"
    at, part = _shifted(e, load.tensor, load.offsets), tile
    to_all: tuple[int, ...] = ()
    if load.cluster > 1:
        part, base, at = own_share(e, tile, load.cluster, base, at)
        opcode, to_all = f"{opcode}.multicast::cluster", ((1 << load.cluster) - 1,)
    where = map_address(e, load.tensor, part)
    for box in part.boxes():
        offset = tile.linear(tile.row(box.start), box.start[tile.inner] * tile.es)
        e.emit(opcode, Addr(base, offset), Addr(where, 0, coordinates(e, part, box, at)), barrier, *to_all)


def store_tile(e: Emitter, tensor: Value, at: tuple[Reg, ...], tile: SmemTile, base: Reg) -> None:
    """Copy a tile from shared memory into a tensor; what lies outside is dropped. The caller commits."""
    where, at = map_address(e, tensor, tile), _shifted(e, tensor, at)
    opcode = f"cp.async.bulk.tensor.{len(tile.shape)}d.global.shared::cta.bulk_group"
    for box in tile.boxes():
        coords = coordinates(e, tile, box, at)
        e.emit(opcode, Addr(where, 0, coords), Addr(base, box.offset))
