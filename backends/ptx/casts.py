"""Emit rules of `cast` and `bitcast`."""

from __future__ import annotations

from tilec.backends.ptx.arith import dtype_of_operand, pointwise
from tilec.backends.ptx.context import Emitter, Rule, register_type
from tilec.backends.ptx.numeric import compute_type, narrow, narrow_f64, short, widen
from tilec.ir.core import Op
from tilec.ir.ptx.module import Int, Reg, f32, f64
from tilec.ir.types import DType, float32


def convert(e: Emitter, src: DType, dst: DType, x: Reg) -> Reg:
    """One element as another dtype, by the rules of `cast`."""
    if src == dst:
        return x
    if dst.kind == "bool":
        return _nonzero(e, src, x)
    if src.kind == "bool":
        return _from_bool(e, dst, x)
    if src.is_float:
        return _from_float(e, src, dst, x)
    return _int_to_float(e, src, dst, x) if dst.is_float else _int_to_int(e, src, dst, x)


def _nonzero(e: Emitter, src: DType, x: Reg) -> Reg:
    t = compute_type(src)
    if src.is_float:
        zero = f64(0.0) if src.bits == 64 else f32(0.0)
        return e.make("pred", f"setp.neu.{t}", widen(e, src, x), zero)
    return e.make("pred", f"setp.ne.{t}", x, Int(0))


def _from_bool(e: Emitter, dst: DType, x: Reg) -> Reg:
    kind = register_type(dst)
    if not dst.is_float:
        return e.make(kind, f"selp.{kind}", Int(1), Int(0), x)
    one = e.make("f32", "selp.f32", f32(1.0), f32(0.0), x)
    return convert(e, float32, dst, one)


def _from_float(e: Emitter, src: DType, dst: DType, x: Reg) -> Reg:
    wide = widen(e, src, x)
    if dst.is_int:
        return _float_to_int(e, compute_type(src), dst, wide)
    if src.bits == 64:
        return narrow_f64(e, dst, wide)
    return e.make("f64", "cvt.f64.f32", wide) if dst.bits == 64 else narrow(e, dst, wide)


def _float_to_int(e: Emitter, source: str, dst: DType, x: Reg) -> Reg:
    """cvt saturates, also to 8 and 16 bits; NaN has to become 0."""
    kind = register_type(dst)
    target = f"{'s' if dst.kind == 'int' else 'u'}{max(dst.bits, 32)}"
    found = e.make(kind, f"cvt.rzi.{target}.{source}", x)
    if dst.bits < 32:
        low, high = (
            (-(1 << dst.bits - 1), (1 << dst.bits - 1) - 1) if dst.kind == "int" else (0, (1 << dst.bits) - 1)
        )
        found = e.make(kind, f"min.{target}", e.make(kind, f"max.{target}", found, Int(low)), Int(high))
    unordered = e.make("pred", f"setp.nan.{source}", x, x)
    return e.make(kind, f"selp.{kind}", Int(0), found, unordered)


def _int_to_float(e: Emitter, src: DType, dst: DType, x: Reg) -> Reg:
    t = compute_type(src)
    if dst.bits == 8:
        # Every integer up to 53 bits is a float64; beyond, the 8-bit floats overflow anyway.
        return narrow_f64(e, dst, e.make("f64", f"cvt.rn.f64.{t}", x))
    name = {"float16": "f16", "bfloat16": "bf16", "float32": "f32", "float64": "f64"}[dst.name]
    return e.make(register_type(dst), f"cvt.rn.{name}.{t}", x)


def _int_to_int(e: Emitter, src: DType, dst: DType, x: Reg) -> Reg:
    if src.bits < 64 and dst.bits == 64:
        return e.make("b64", f"cvt.{compute_type(dst)}.{compute_type(src)}", x)
    if src.bits == 64 and dst.bits < 64:
        x = e.make("b32", "cvt.u32.u64", x)
    return narrow(e, dst, x)


def _cast(e: Emitter, op: Op) -> None:
    src, dst = dtype_of_operand(op), op.attrs["dtype"]
    if op.attrs.get("saturate"):
        pointwise(e, op, lambda x: short(e, dst, widen(e, src, x)))
    else:
        pointwise(e, op, lambda x: convert(e, src, dst, x))


def recast(e: Emitter, src: DType, dst: DType, x: Reg) -> Reg:
    """The same bits as another dtype of equal width."""
    if register_type(src) == register_type(dst):
        return x if src.is_float or dst.is_float else narrow(e, dst, x)
    if src.bits >= 32:
        return e.make(register_type(dst), f"mov.b{src.bits}", x)
    if src.is_float:
        raw = e.make("b32", "cvt.u32.u16", x)
        return narrow(e, dst, raw)
    return _low_bits(e, dst, x)


def _low_bits(e: Emitter, dst: DType, x: Reg) -> Reg:
    """An extended small integer as the bits of a float, upper bits zero."""
    return e.make("b16", "cvt.u16.u32", e.make("b32", "and.b32", x, Int((1 << dst.bits) - 1)))


def _bitcast(e: Emitter, op: Op) -> None:
    src, dst = dtype_of_operand(op), op.attrs["dtype"]
    pointwise(e, op, lambda x: recast(e, src, dst, x))


RULES: dict[str, Rule] = {"cast": _cast, "bitcast": _bitcast}
