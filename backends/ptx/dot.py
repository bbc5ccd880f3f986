"""Emit rule of `dot` by multiply-add, for products that the tensor cores cannot compute.

Both operands go to scratch, row-major and padded; a loop over k reads the row and column
elements that a thread needs and updates its accumulators in float32, float64 or integers.
"""

from __future__ import annotations

from tilec.backends.ptx.arith import dtype_of_operand
from tilec.backends.ptx.casts import convert
from tilec.backends.ptx.context import Emitter, Fragment, Rule, register_type
from tilec.backends.ptx.exchange import address, load, write
from tilec.backends.ptx.numeric import bits, compute_type, narrow, widen
from tilec.ir.core import Op
from tilec.ir.layout import pad, pad_shape
from tilec.ir.ops import attr
from tilec.ir.ptx.module import Addr, Int, Reg
from tilec.ir.types import DType

TF32_MASK = 0xFFFFE000


def _dot(e: Emitter, op: Op) -> None:
    a, b = e.fragment(op.args[0]), e.fragment(op.args[1])
    size = a.dtype.bytes
    a_shape, b_shape = pad_shape(a.shape), pad_shape(b.shape)
    second = e.scratch() + size * a_shape[0] * a_shape[1]
    e.sync()
    write(e, a.dtype, a.layout, a_shape, a.regs, e.scratch())
    write(e, b.dtype, b.layout, b_shape, b.regs, second)
    e.sync()
    acc = e.take(op.args[2])
    sums = [_sum_register(e, acc.dtype, r) for r in acc.regs]
    row = e.make("b32", "add.s32", address(e, acc.layout, [a_shape[1] * size, 0]), Int(e.scratch()))
    column = e.make("b32", "add.s32", address(e, acc.layout, [0, size]), Int(second))
    _loop(e, op, acc, sums, row, column)
    e.bind_regs(op.result, [narrow(e, acc.dtype, s) for s in sums])


def _sum_register(e: Emitter, dtype: DType, reg: Reg) -> Reg:
    """A register of the accumulator's type of computation that may be overwritten."""
    wide = widen(e, dtype, reg)
    return wide if wide != reg or register_type(dtype) != bits(dtype) else reg


def _loop(e: Emitter, op: Op, acc: Fragment, sums: list[Reg], row: Reg, column: Reg) -> None:
    """One round for each k: ``row`` and ``column`` point at the thread's elements of A and B."""
    a, b = e.fragment(op.args[0]), e.fragment(op.args[1])
    size, pitch = a.dtype.bytes, pad(b.shape[1]) * a.dtype.bytes
    k, head = e.make("b32", "mov.b32", Int(a.shape[1])), e.label("k")
    e.place(head)
    with e.scope():
        left = {
            m: _operand(e, op, Addr(row, m * pad(a.shape[1]) * size)) for m, _ in acc.layout.register_coords()
        }
        right = {n: _operand(e, op, Addr(column, n * size)) for _, n in acc.layout.register_coords()}
        for total, (m, n) in zip(sums, acc.layout.register_coords(), strict=True):
            _multiply_add(e, acc.dtype, total, left[m], right[n])
        e.emit("add.s32", row, row, Int(size))
        e.emit("add.s32", column, column, Int(pitch))
        e.emit("sub.s32", k, k, Int(1))
        more = e.make("pred", "setp.gt.s32", k, Int(0))
    e.emit("bra.uni", head, pred=more)


def _operand(e: Emitter, op: Op, where: Addr) -> Reg:
    """An element of A or B in the type in which the accumulator is computed."""
    source, acc = dtype_of_operand(op), dtype_of_operand(op, 2)
    x = load(e, source, "ld.shared", where, None)
    if source.name == "float32" and attr(op, "precision") == "tf32":
        raw = e.make("b32", "and.b32", e.make("b32", "mov.b32", x), Int(TF32_MASK))
        x = e.make("f32", "mov.b32", raw)
    return widen(e, acc, convert(e, source, acc, x))


def _multiply_add(e: Emitter, acc: DType, total: Reg, x: Reg, y: Reg) -> None:
    typed = compute_type(acc)
    e.emit(f"fma.rn.{typed}" if acc.is_float else f"mad.lo.{typed}", total, x, y, total)


RULES: dict[str, Rule] = {"dot": _dot}
