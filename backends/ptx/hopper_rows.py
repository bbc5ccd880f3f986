"""A gather of rows into a ring: cp.async of 16 bytes, each from where its indices say."""

from __future__ import annotations

from dataclasses import dataclass

from tilec.backends.ptx.arith import dtype_of_operand
from tilec.backends.ptx.context import Emitter
from tilec.backends.ptx.coords import both, inside, is_first_holder
from tilec.backends.ptx.hopper_smem import SmemTile
from tilec.backends.ptx.hopper_stage import Addresses, Place
from tilec.backends.ptx.hopper_views import identity
from tilec.backends.ptx.tensors import wide_index
from tilec.ir.core import Op
from tilec.ir.errors import InternalError
from tilec.ir.layout import Basis, Layout
from tilec.ir.ops import attr
from tilec.ir.ptx.module import Addr, Int, Reg
from tilec.ir.types import TileType

UNIT = 16  # bytes of a copy


@dataclass(frozen=True)
class Unit:
    """One copy: coordinates of its first element in lane 0 of warp 0, guard, address, bytes that are read."""

    coords: Basis
    guard: Reg | None
    source: Reg
    used: Reg


@dataclass(frozen=True)
class Rows:
    """A gather that is done where it is put into a ring."""

    layout: Layout
    units: tuple[Unit, ...]


def rows(e: Emitter, op: Op) -> Rows:
    """Addresses and sizes of the copies of a gather along the axis of its attribute."""
    t, axis = op.result.type, attr(op, "along")
    assert isinstance(t, TileType)
    layout, step = e.layout(t), UNIT // t.dtype.bytes
    coords = layout.register_coords()
    if any(coords[i + step - 1][axis] - coords[i][axis] != step - 1 for i in range(0, len(coords), step)):
        raise InternalError("X132", f"the rows of {t} are not spread in units of {UNIT} bytes", loc=op.loc)
    first, units = is_first_holder(e, layout), []
    for i in range(0, len(coords), step):
        ok = inside(e, layout, t.shape, coords[i])
        guard = False if ok is False else both(e, [first, ok if isinstance(ok, Reg) else None])
        if guard is not False:
            source, used = _source(e, op, i)
            units.append(Unit(coords[i], guard if isinstance(guard, Reg) else None, source, used))
    e.hold([reg for unit in units for reg in (unit.source, unit.used)])
    return Rows(layout, tuple(units))


def _source(e: Emitter, op: Op, register: int) -> tuple[Reg, Reg]:
    """Where a copy reads, and how many of its bytes: 0 where its element is masked or outside."""
    tensor, at = e.tensor(op.args[0]), e.tensor(op.args[0]).pointer
    size, tests = tensor.type.dtype.bytes, [e.fragment(op.args[-2]).regs[register]]
    left: Reg | Int = Int(UNIT // size)
    for axis, (dim, stride) in enumerate(zip(tensor.dims, tensor.strides, strict=True)):
        index = wide_index(e, dtype_of_operand(op, 1 + axis), e.fragment(op.args[1 + axis]).regs[register])
        end = e.make("b64", "cvt.s64.s32", dim)
        tests.append(e.make("pred", "setp.lt.u64", index, end))
        step = (
            Int(size * stride.value) if isinstance(stride, Int) else e.make("b64", "mul.lo.s64", stride, size)
        )
        at = e.make("b64", "mad.lo.s64", index, step, at)
        if axis == tensor.type.contiguous:
            left = e.make("b64", "min.s64", e.make("b64", "sub.s64", end, index), left)
    ok = both(e, tests)
    assert isinstance(ok, Reg) and isinstance(left, Reg)
    read = e.make("b32", "cvt.u32.u64", e.make("b64", "mul.lo.s64", left, size))
    return e.make("b64", "selp.b64", at, tensor.pointer, ok), e.make("b32", "selp.b32", read, 0, ok)


def copy(e: Emitter, found: Rows, tile: SmemTile, base: Reg) -> None:
    """Start the copies into a tile of shared memory at ``base``."""
    addresses = Addresses(e, Place(tile, base, identity(tile.shape)), found.layout)
    for unit in found.units:
        where = addresses.address(unit.coords)
        e.emit("cp.async.cg.shared.global", where, Addr(unit.source), UNIT, unit.used, pred=unit.guard)
