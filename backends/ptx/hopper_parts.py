"""Tiles that threads load into a ring where they are put, a part at a time.

A ring that TMA cannot fill, as of rows that do not begin at multiples of 16 bytes, is filled by the load
group, whose threads have few registers: large tiles go through them in strips.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from tilec.backends.ptx.context import Emitter
from tilec.backends.ptx.hopper_ring import Ring
from tilec.backends.ptx.hopper_smem import SmemTile
from tilec.backends.ptx.hopper_stage import Place, write
from tilec.backends.ptx.hopper_views import identity
from tilec.backends.ptx.strips import clone, strips
from tilec.ir.core import Op, Value
from tilec.ir.layout import Layout
from tilec.ir.ptx.module import Reg
from tilec.ir.types import TileType

WHOLE = 32  # elements in each thread of all tiles of a put that are loaded at once, before the slot is free
STRIP = 32  # elements in each thread that are on their way at a time, if those are more


@dataclass(frozen=True)
class Later:
    """A load that threads do where it is put into a ring; its offsets are values that nothing overwrites."""

    load: Op


def in_parts(put: Op) -> bool:
    """Whether the tiles of a put are too many elements for the registers of a thread."""
    return sum(_layout(v).registers for v in put.args[1:]) > WHOLE


def later(e: Emitter, op: Op) -> Later:
    """The load with offsets that stay in their registers until it is done."""
    kept = [Value(v.type, v.hint) for v in op.args[1:]]
    for value, offset in zip(kept, op.args[1:], strict=True):
        e.bind_regs(value, e.fragment(offset).regs)
        e.hold(e.fragment(offset).regs)
    return Later(op.with_(args=(op.args[0], *kept)))


def fill(e: Emitter, values: Iterable[Value], ring: Ring, slots: Iterable[Reg]) -> None:
    """Store the tiles of a put to their places in a slot."""
    for value, tile, slot in zip(values, ring.plan.tiles, slots, strict=True):
        held = e.env[value]
        if isinstance(held, Later):
            _fill_parts(e, held.load, tile, slot)
        else:
            write(e, e.fragment(value), Place(tile, slot, identity(e.fragment(value).shape)))


def _fill_parts(e: Emitter, load: Op, tile: SmemTile, slot: Reg) -> None:
    whole, shape = _layout(load.result), _shape(load.result)
    for strip in strips(whole, STRIP):
        with e.scope():  # addresses of a strip are not kept for the next one
            part = clone(e, load, strip, {})
            e.run(part)
            found = replace(e.fragment(part.result), shape=shape)
            write(e, found, Place(tile, slot, identity(shape)), tuple(strip.origin(whole)))
            e.release(part.result)
            e.emit("bar.warp.sync", -1)  # ptxas would bring loads of the next strips before these stores


def _layout(value: Value) -> Layout:
    t = value.type
    assert isinstance(t, TileType) and isinstance(t.layout, Layout)
    return t.layout


def _shape(value: Value) -> tuple[int, ...]:
    assert isinstance(value.type, TileType)
    return value.type.shape
