"""Emit rules of ops on tensors in global memory, and of the launch grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from tilec.backends.ptx.arith import dtype_of_operand
from tilec.backends.ptx.context import Emitter, Rule, register_type
from tilec.backends.ptx.coords import both, inside, is_first_holder, is_padding
from tilec.backends.ptx.exchange import load_into, read, stored, write
from tilec.backends.ptx.numeric import constant
from tilec.backends.ptx.shapes import tile_of
from tilec.backends.ptx.tensors import Window, run_along, start_of, torn, vector_width, wide_index
from tilec.backends.ptx.vectors import load_vector, store_vector
from tilec.ir.core import Op
from tilec.ir.errors import UnsupportedError
from tilec.ir.layout import Basis, Layout, pad_shape
from tilec.ir.ops import attr
from tilec.ir.ptx.module import Addr, Int, Reg
from tilec.ir.types import DType, TensorType, int32, uint32
from tilec.passes.layout_rules import VECTOR_BYTES
from tilec.passes.multiples import row_axis

GRID_AXES = "xyz"


def _program_id(e: Emitter, op: Op) -> None:
    e.bind_regs(op.result, [e.make("b32", "mov.u32", Reg(f"%ctaid.{GRID_AXES[op.attrs['axis']]}"))])


def _num_programs(e: Emitter, op: Op) -> None:
    e.bind_regs(op.result, [e.make("b32", "mov.u32", Reg(f"%nctaid.{GRID_AXES[op.attrs['axis']]}"))])


def _dim(e: Emitter, op: Op) -> None:
    e.bind_regs(op.result, [e.tensor(op.args[0]).dims[op.attrs["axis"]]])


def _stride(e: Emitter, op: Op) -> None:
    stride = e.tensor(op.args[0]).strides[op.attrs["axis"]]
    e.bind_regs(op.result, [stride if isinstance(stride, Reg) else e.make("b64", "mov.b64", stride)])


def _section(e: Emitter, op: Op) -> None:
    """The same memory from another address, with another extent; an empty one keeps the address."""
    axis, tensor = op.attrs["axis"], e.tensor(op.args[0])
    start, stop = (wide_index(e, dtype_of_operand(op, i), e.fragment(op.args[i]).reg) for i in (1, 2))
    end = e.make("b64", "cvt.s64.s32", tensor.dims[axis])
    low = e.make("b64", "min.s64", e.make("b64", "max.s64", start, 0), end)
    high = e.make("b64", "min.s64", e.make("b64", "max.s64", stop, low), end)
    first = e.make("b64", "selp.b64", low, 0, e.make("pred", "setp.lt.s64", low, high))
    size, stride = tensor.type.dtype.bytes, tensor.strides[axis]
    step = Int(size * stride.value) if isinstance(stride, Int) else e.make("b64", "mul.lo.s64", stride, size)
    pointer = e.make("b64", "mad.lo.s64", first, step, tensor.pointer)
    extent = e.make("b32", "cvt.u32.u64", e.make("b64", "sub.s64", high, low))
    dims = (*tensor.dims[:axis], extent, *tensor.dims[axis + 1 :])
    e.hold((pointer, extent))
    assert isinstance(op.result.type, TensorType)
    e.bind(op.result, replace(tensor, type=op.result.type, pointer=pointer, dims=dims))


def _window(e: Emitter, op: Op, shape: Sequence[int], layout: Layout, first: int) -> Window:
    offsets = [start_of(e, v, extent) for v, extent in zip(op.args[first:], layout.shape, strict=True)]
    return Window(e, e.tensor(op.args[0]), shape, layout, offsets)


def _load(e: Emitter, op: Op) -> None:
    t = tile_of(op.result)
    into = e.fresh(t)
    window = _window(e, op, t.shape, into.layout, 1)
    pad, coords = attr(op, "pad"), into.layout.register_coords()

    def access(width: int) -> None:
        for i in range(0, len(coords), width):
            regs = into.regs[i : i + width]
            if is_padding(t.shape, coords[i]):
                _fill(e, t.dtype, regs, constant(e, t.dtype, pad))
                continue
            guard = both(e, window.tests(coords[i]))
            where = window.address(coords[i])
            load_vector(
                e, t.dtype, regs, where, guard if isinstance(guard, Reg) else None, pad=attr(op, "pad")
            )

    _tile(e, window, access)
    e.bind(op.result, into)


def _fill(e: Emitter, dtype: DType, regs: Sequence[Reg], value: Reg) -> None:
    for reg in regs:
        e.emit(f"mov.{register_type(dtype)}", reg, value)


def _either(e: Emitter, width: int, torn: Reg | None, access: Callable[[int], None]) -> None:
    """Accesses of ``width`` elements, or one by one where these would be torn; a uniform branch."""
    if torn is None:
        access(width)
        return
    ragged, done = e.label("ragged"), e.label("done")
    e.emit("bra.uni", ragged, pred=torn)
    with e.scope():
        access(width)
    e.emit("bra.uni", done)
    e.place(ragged)
    with e.scope():
        access(1)
    e.place(done)


def _tile(e: Emitter, window: Window, access: Callable[[int], None]) -> None:
    """`_either` for a tile of a tensor."""
    axis, width = vector_width(window.tensor, window.shape, window.layout)

    def forked(n: int) -> None:
        window.fork()
        access(n)

    _either(e, width, torn(e, window.tensor, width, window.offsets[axis]) if width > 1 else None, forked)


def _store(e: Emitter, op: Op) -> None:
    source = e.fragment(op.args[1])
    window = _window(e, op, source.shape, source.layout, 2)
    first = is_first_holder(e, source.layout)
    coords = source.layout.register_coords()

    def access(width: int) -> None:
        for i in range(0, len(coords), width):
            if not is_padding(source.shape, coords[i]):
                guard = both(e, [first, *window.tests(coords[i])])
                regs, only = source.regs[i : i + width], guard if isinstance(guard, Reg) else None
                store_vector(e, source.dtype, regs, window.address(coords[i]), only)

    _tile(e, window, access)


class _Cells:
    """The cells that index tiles name: address and guard of each register's element."""

    def __init__(self, e: Emitter, op: Op, count: int, mask: int, *, once: bool) -> None:
        self.e, self.tensor = e, e.tensor(op.args[0])
        self.indices = [(dtype_of_operand(op, i), e.fragment(op.args[i]).regs) for i in range(1, 1 + count)]
        self.mask = e.fragment(op.args[mask])
        self.first = is_first_holder(e, self.mask.layout) if once else None
        self.coords: list[Basis] = self.mask.layout.register_coords()

    def padding(self, r: int) -> bool:
        """Whether a register holds nothing but padding."""
        return is_padding(self.mask.shape, self.coords[r])

    def cell(self, r: int) -> tuple[Addr, Reg]:
        e, at = self.e, self.tensor.pointer
        ok = inside(e, self.mask.layout, self.mask.shape, self.coords[r])
        tests: list[Reg | None] = [self.mask.regs[r], self.first, ok if isinstance(ok, Reg) else None]
        size = self.tensor.type.dtype.bytes
        for (dtype, regs), dim, stride in zip(
            self.indices, self.tensor.dims, self.tensor.strides, strict=True
        ):
            index, test = _within(e, dtype, regs[r], dim)
            tests.append(test)
            step = (
                Int(size * stride.value)
                if isinstance(stride, Int)
                else e.make("b64", "mul.lo.s64", stride, Int(size))
            )
            at = e.make("b64", "mad.lo.s64", index, step, at)
        guard = both(e, tests)
        assert isinstance(guard, Reg)
        return Addr(at), guard


def _within(e: Emitter, dtype: DType, index: Reg, dim: Reg) -> tuple[Reg, Reg]:
    """An index as 64 bits, right where it lies inside, and whether it does: what is negative is larger than
    any extent, as a number without sign."""
    if dtype.bits == 64:
        return index, e.make("pred", "setp.lt.u64", index, wide_index(e, int32, dim))
    return wide_index(e, uint32, index), e.make("pred", "setp.lt.u32", index, dim)


def _gather(e: Emitter, op: Op) -> None:
    into, other = e.fresh(tile_of(op.result)), e.fragment(op.args[-1])
    cells = _Cells(e, op, len(op.args) - 3, -2, once=False)

    def access(width: int) -> None:
        for r in range(0, len(into.regs), width):
            regs = into.regs[r : r + width]
            if cells.padding(r):
                _fill(e, into.dtype, regs, other.regs[r])
                continue
            where, guard = cells.cell(r)
            if width > 1:
                load_vector(e, into.dtype, regs, where, guard)
            else:
                load_into(e, into.dtype, regs[0], "ld.global", where, guard, other.regs[r])

    axis = row_axis(op, e.defs)
    width = 1 if axis is None else min(run_along(into.layout, axis), VECTOR_BYTES // into.dtype.bytes)
    _either(e, width, torn(e, cells.tensor, width), access)
    e.bind(op.result, into)


def _scatter(e: Emitter, op: Op) -> None:
    value = e.fragment(op.args[-2])
    cells = _Cells(e, op, len(op.args) - 3, -1, once=True)
    for r, reg in enumerate(value.regs):
        if not cells.padding(r):
            where, guard = cells.cell(r)
            cell, suffix = stored(e, value.dtype, reg)
            e.emit(f"st.global.{suffix}", where, cell, pred=guard)


def _atomic_opcode(kind: str, dtype: DType) -> str:
    signed = f"{'s' if dtype.kind == 'int' else 'u'}{dtype.bits}"
    if dtype.is_float and kind == "add" and dtype.bits >= 16:
        return {"float16": "add.noftz.f16", "bfloat16": "add.noftz.bf16"}.get(
            dtype.name, f"add.f{dtype.bits}"
        )
    if dtype.bits in (32, 64) and kind == "xchg":
        return f"exch.b{dtype.bits}"
    if dtype.is_int and dtype.bits in (32, 64):
        typed = {"add": f"u{dtype.bits}", "min": signed, "max": signed}.get(kind, f"b{dtype.bits}")
        return f"{kind}.{typed}"
    raise UnsupportedError(
        "U132",
        f"no GPU instruction for atomic {kind} of {dtype}",
        help="use 32- or 64-bit integers; floats only have add (and, from 32 bits, xchg)",
    )


def _atomic(e: Emitter, op: Op) -> None:
    """Only one holder of an element updates it; the others get the old value through scratch."""
    value, opcode = (
        e.fragment(op.args[-2]),
        _atomic_opcode(op.attrs["kind"], dtype_of_operand(op, len(op.args) - 2)),
    )
    cells = _Cells(e, op, len(op.args) - 3, -1, once=True)
    old = e.fresh(tile_of(op.result))
    zero = constant(e, old.dtype, 0)
    for r, reg in enumerate(old.regs):
        _fill(e, old.dtype, [reg], zero)
        if not cells.padding(r):
            where, guard = cells.cell(r)
            e.emit(f"atom.relaxed.gpu.global.{opcode}", reg, where, value.regs[r], pred=guard)
    regs = old.regs
    if any(old.layout.replicated) and not e.dies(op.result):
        shape = pad_shape(old.shape)
        e.sync()
        write(e, old.dtype, old.layout, shape, old.regs, e.scratch())
        e.sync()
        regs = read(e, old.dtype, old.layout, shape, e.scratch())
    e.bind_regs(op.result, regs)


RULES: dict[str, Rule] = {
    "program_id": _program_id,
    "num_programs": _num_programs,
    "dim": _dim,
    "stride": _stride,
    "section": _section,
    "load": _load,
    "store": _store,
    "gather": _gather,
    "scatter": _scatter,
    "atomic": _atomic,
}
