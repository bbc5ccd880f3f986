"""Emit rules of ops that make and reshape tiles."""

from __future__ import annotations

from tilec.backends.ptx.context import Emitter, Rule
from tilec.backends.ptx.coords import thread_coord
from tilec.backends.ptx.exchange import converted, through_scratch
from tilec.backends.ptx.numeric import constant
from tilec.ir.core import Op, Value
from tilec.ir.layout import Layout, register_map
from tilec.ir.ptx.module import Int, Reg
from tilec.ir.types import TileType
from tilec.passes.layout_rules import relabels, reshaped


def tile_of(value: Value) -> TileType:
    assert isinstance(value.type, TileType)
    return value.type


def _const(e: Emitter, op: Op) -> None:
    t = tile_of(op.result)
    reg = constant(e, t.dtype, op.attrs["value"])
    e.bind_regs(op.result, (reg,) * e.layout(t).registers)


def _arange(e: Emitter, op: Op) -> None:
    layout = e.layout(tile_of(op.result))
    at = thread_coord(e, layout, 0)
    start = op.attrs["start"]
    e.bind_regs(op.result, [_offset(e, at, start + c) for (c,) in layout.register_coords()])


def _offset(e: Emitter, at: Reg | None, offset: int) -> Reg:
    if at is None:
        return e.make("b32", "mov.b32", Int(offset))
    return e.make("b32", "add.s32", at, Int(offset))


def _broadcast(e: Emitter, op: Op) -> None:
    source, layout = e.fragment(op.args[0]), e.layout(tile_of(op.result))
    if not source.shape:
        e.bind_regs(op.result, source.regs * layout.registers)
        return
    place = dict(zip(source.layout.register_coords(), source.regs, strict=True))
    stretched = [n == 1 for n in source.shape]
    regs = []
    for coords in layout.register_coords():
        regs.append(place[tuple(0 if s else c for s, c in zip(stretched, coords, strict=True))])
    e.bind_regs(op.result, regs)


def _reshape(e: Emitter, op: Op) -> None:
    source, t = e.fragment(op.args[0]), tile_of(op.result)
    layout = e.layout(t)
    if not source.shape or not t.shape:
        e.bind_regs(op.result, _reshape_single(e, source.regs, source.layout, layout))
        return
    if relabels(source.shape, t.shape, source.layout):
        renamed = register_map(reshaped(source.shape, t.shape, source.layout), layout)
        if renamed is not None:
            e.bind_regs(op.result, [source.regs[r] for r in renamed])
            return
    e.bind_regs(op.result, through_scratch(e, source, source.shape, layout, t.shape))


def _reshape_single(e: Emitter, regs: tuple[Reg, ...], source: Layout, layout: Layout) -> tuple[Reg, ...]:
    """Between a scalar and a tile of one element (of which padding may follow)."""
    return (regs[0],) * layout.registers


def _permute(e: Emitter, op: Op) -> None:
    source = e.fragment(op.args[0])
    layout = e.layout(tile_of(op.result))
    renamed = register_map(source.layout.permute(op.attrs["perm"]), layout)
    assert renamed is not None
    e.bind_regs(op.result, [source.regs[r] for r in renamed])


def _convert(e: Emitter, op: Op) -> None:
    e.bind_regs(op.result, converted(e, e.fragment(op.args[0]), e.layout(tile_of(op.result))))


RULES: dict[str, Rule] = {
    "const": _const,
    "arange": _arange,
    "broadcast": _broadcast,
    "reshape": _reshape,
    "permute": _permute,
    "convert_layout": _convert,
}
