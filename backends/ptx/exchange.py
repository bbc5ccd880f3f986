"""Moving elements between the threads of a group, through its scratch memory."""

from __future__ import annotations

from collections.abc import Sequence

from tilec.backends.ptx.context import Emitter, Fragment, register_type
from tilec.backends.ptx.coords import both, dot, inside, is_first_holder, linear, row_major
from tilec.backends.ptx.numeric import constant
from tilec.ir.layout import Layout, pad_shape, register_map
from tilec.ir.ptx.module import Addr, Int, Reg
from tilec.ir.types import DType, int32


def converted(e: Emitter, source: Fragment, layout: Layout) -> tuple[Reg, ...]:
    """The registers of a tile in another layout: renamed if no element changes its thread."""
    renamed = register_map(source.layout, layout)
    if renamed is not None:
        return tuple(source.regs[r] for r in renamed)
    return through_scratch(e, source, pad_shape(source.shape), layout, pad_shape(source.shape))


def through_scratch(
    e: Emitter, source: Fragment, from_shape: Sequence[int], layout: Layout, to_shape: Sequence[int]
) -> tuple[Reg, ...]:
    """Write a tile row-major under one shape, read it row-major under another of equal size.

    The first barrier waits for readers of what was in the scratch before.
    """
    e.sync()
    write(e, source.dtype, source.layout, from_shape, source.regs, e.scratch())
    e.sync()
    return read(e, source.dtype, layout, to_shape, e.scratch())


def write(
    e: Emitter, dtype: DType, layout: Layout, shape: Sequence[int], regs: Sequence[Reg], offset: int
) -> None:
    """Store the elements that lie in ``shape``, each by the first thread that holds it."""
    strides, size = row_major(shape), dtype.bytes
    base = address(e, layout, [s * size for s in strides])
    first = is_first_holder(e, layout)
    for reg, coords in zip(regs, layout.register_coords(), strict=True):
        ok = inside(e, layout, shape, coords)
        if ok is False:
            continue
        guard = both(e, [first, ok if isinstance(ok, Reg) else None])
        where = Addr(base, offset + dot(coords, strides) * size)
        value, suffix = stored(e, dtype, reg)
        e.emit(f"st.shared.{suffix}", where, value, pred=guard if isinstance(guard, Reg) else None)


def read(e: Emitter, dtype: DType, layout: Layout, shape: Sequence[int], offset: int) -> tuple[Reg, ...]:
    """Load a tile; elements outside of ``shape`` are 0."""
    strides, size = row_major(shape), dtype.bytes
    base = address(e, layout, [s * size for s in strides])
    regs = []
    for coords in layout.register_coords():
        ok = inside(e, layout, shape, coords)
        if ok is False:
            regs.append(constant(e, dtype, 0))
            continue
        guard = ok if isinstance(ok, Reg) else None
        regs.append(load(e, dtype, "ld.shared", Addr(base, offset + dot(coords, strides) * size), guard))
    return tuple(regs)


def address(e: Emitter, layout: Layout, strides: Sequence[int]) -> Reg:
    """The shared-memory address of the thread's first element; strides in bytes."""
    part = linear(e, layout, strides)
    return e.smem() if part is None else e.make("b32", "add.s32", e.smem(), part)


def memory_type(dtype: DType) -> str:
    """The type of a load or store of one element."""
    if dtype.kind == "bool":
        return "u8"
    if dtype.is_float:
        return {64: "f64", 32: "f32", 16: "b16", 8: "b8"}[dtype.bits]
    return f"{'s' if dtype.kind == 'int' else 'u'}{dtype.bits}" if dtype.bits < 32 else f"b{dtype.bits}"


def stored(e: Emitter, dtype: DType, reg: Reg) -> tuple[Reg, str]:
    """A register and the type suffix with which a store writes an element."""
    if dtype.kind == "bool":
        return e.make("b32", "selp.b32", Int(1), Int(0), reg), "b8"
    suffix = memory_type(dtype)
    return reg, f"b{dtype.bits}" if suffix[0] in "su" else suffix


def load(e: Emitter, dtype: DType, opcode: str, where: Addr, guard: Reg | None) -> Reg:
    """One element from memory; 0 where ``guard`` is false."""
    into = e.reg(register_type(dtype))
    load_into(e, dtype, into, opcode, where, guard)
    return into


def load_into(
    e: Emitter, dtype: DType, into: Reg, opcode: str, where: Addr, guard: Reg | None, other: Reg | None = None
) -> None:
    """Set a register to an element in memory, or where ``guard`` is false to ``other`` (None: 0)."""
    kind = "b32" if dtype.kind == "bool" else register_type(dtype)
    cell = e.reg(kind) if dtype.kind == "bool" else into
    if guard is not None:
        e.emit(f"mov.{kind}", cell, _other(e, dtype, other))
    e.emit(f"{opcode}.{memory_type(dtype)}", cell, where, pred=guard)
    if dtype.kind == "bool":
        e.emit("setp.ne.s32", into, cell, Int(0))


def _other(e: Emitter, dtype: DType, other: Reg | None) -> Reg | Int:
    if other is None:
        return constant(e, int32 if dtype.kind == "bool" else dtype, 0)
    return e.make("b32", "selp.b32", Int(1), Int(0), other) if dtype.kind == "bool" else other
