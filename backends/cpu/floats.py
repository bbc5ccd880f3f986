"""Conversions between dtypes, element by element; each rounds once, to nearest even."""

from __future__ import annotations

from typing import Any

from tilec.backends.cpu.lanes import F16, F32, F64, I8, I16, I32, I64, Lanes, is_small, register, suffix
from tilec.ir.ops.arith import LARGEST
from tilec.ir.types import DType, float32, float64


def widen(e: Lanes, value: Any, dtype: DType) -> Any:
    """A small float as float32, exactly; other dtypes as they are."""
    return _WIDEN[dtype.name](e, value) if is_small(dtype) else value


def narrow(e: Lanes, value: Any, dtype: DType) -> Any:
    """A float32 rounded to a small float; for other dtypes the value as it is."""
    return _NARROW[dtype.name](e, value) if is_small(dtype) else value


def convert(e: Lanes, value: Any, source: DType, to: DType) -> Any:
    """The meaning of `cast` on registers."""
    if source == to:
        return value
    if to.kind == "bool":
        return _nonzero(e, value, source)
    if source.is_float:
        return _float_to_int(e, value, source, to) if to.is_int else _float_to_float(e, value, source, to)
    return _int_to_float(e, value, source, to) if to.is_float else _int_to_int(e, value, source, to)


def saturated(e: Lanes, value: Any, source: DType, to: DType) -> Any:
    """A float as an 8-bit one; too large a number as the largest. NaN stays."""
    wide, limit = widen(e, value, source), LARGEST[to.name]
    for beyond, most in ((">", limit), ("<", -limit)):
        wide = e.b.select(e.b.fcmp_ordered(beyond, wide, e.const(F32, most)), e.const(F32, most), wide)
    return narrow(e, wide, to)


def _nonzero(e: Lanes, value: Any, source: DType) -> Any:
    if not source.is_float:
        return e.b.icmp_unsigned("!=", value, e.const(register(source), 0))
    wide = widen(e, value, source)
    return e.b.fcmp_unordered("!=", wide, e.const(_scalar(wide), 0.0))


def _int_to_int(e: Lanes, value: Any, source: DType, to: DType) -> Any:
    target = e.vec(register(to))
    if to.bits < source.bits:
        return e.b.trunc(value, target)
    if to.bits == source.bits:
        return value
    return (e.b.sext if source.kind == "int" else e.b.zext)(value, target)


def _int_to_float(e: Lanes, value: Any, source: DType, to: DType) -> Any:
    to_fp = e.b.sitofp if source.kind == "int" else e.b.uitofp
    if to.bits >= 32:
        return to_fp(value, e.vec(F64 if to == float64 else F32))
    if source.bits <= 16:  # exact in float32
        return narrow(e, to_fp(value, e.vec(F32)), to)
    number = to_fp(value, e.vec(F64))
    if source.bits == 64:
        number = _wide_int(e, value, source, number)
    return narrow(e, round_to_odd(e, number), to)


def _wide_int(e: Lanes, value: Any, source: DType, direct: Any) -> Any:
    """A 64-bit integer as a float64 with a sticky last bit, exact where float64 is."""
    sixteen = e.const(I64, 16)
    high = (e.b.ashr if source.kind == "int" else e.b.lshr)(value, sixteen)
    low = e.b.and_(value, e.const(I64, 0xFFFF))
    lost = e.b.zext(e.b.icmp_unsigned("!=", low, e.const(I64, 0)), e.vec(I64))
    to_fp = e.b.sitofp if source.kind == "int" else e.b.uitofp
    sticky = e.b.fmul(to_fp(e.b.or_(high, lost), e.vec(F64)), e.const(F64, 65536.0))
    big = e.b.fcmp_ordered(">=", e.intrinsic("fabs", direct), e.const(F64, 2.0**52))
    return e.b.select(big, sticky, direct)


def _float_to_int(e: Lanes, value: Any, source: DType, to: DType) -> Any:
    wide, target = widen(e, value, source), e.vec(register(to))
    kind = "fptosi" if to.kind == "int" else "fptoui"
    return e.call(f"llvm.{kind}.sat.{suffix(target)}.{suffix(wide.type)}", target, wide)


def _float_to_float(e: Lanes, value: Any, source: DType, to: DType) -> Any:
    if to == float64:
        return e.b.fpext(widen(e, value, source), e.vec(F64))
    if source != float64:
        return narrow(e, widen(e, value, source), to)
    if to == float32:
        return e.b.fptrunc(value, e.vec(F32))
    return narrow(e, round_to_odd(e, value), to)


def round_to_odd(e: Lanes, value: Any) -> Any:
    """float64 to float32 such that rounding once more to a small float is rounding once.

    Truncates toward zero and sets the last bit if anything was lost.
    """
    near = e.b.fptrunc(value, e.vec(F32))
    back = e.b.fpext(near, e.vec(F64))
    bits = e.b.bitcast(near, e.vec(I32))
    too_big = e.b.fcmp_ordered(">", e.intrinsic("fabs", back), e.intrinsic("fabs", value))
    toward_zero = e.b.sub(bits, e.b.zext(too_big, e.vec(I32)))
    lost = e.b.fcmp_ordered("!=", back, value)
    odd = e.b.or_(toward_zero, e.b.zext(lost, e.vec(I32)))
    return e.b.bitcast(odd, e.vec(F32))


def _scalar(value: Any) -> Any:
    return getattr(value.type, "element", value.type)


def _widen_half(e: Lanes, value: Any) -> Any:
    return e.b.fpext(value, e.vec(F32))


def _narrow_half(e: Lanes, value: Any) -> Any:
    return e.b.fptrunc(value, e.vec(F16))


def _widen_bfloat(e: Lanes, value: Any) -> Any:
    bits = e.b.shl(e.b.zext(value, e.vec(I32)), e.const(I32, 16))
    return e.b.bitcast(bits, e.vec(F32))


def _narrow_bfloat(e: Lanes, value: Any) -> Any:
    bits = e.b.bitcast(value, e.vec(I32))
    sixteen = e.const(I32, 16)
    last = e.b.and_(e.b.lshr(bits, sixteen), e.const(I32, 1))
    rounded = e.b.lshr(e.b.add(e.b.add(bits, e.const(I32, 0x7FFF)), last), sixteen)
    quiet = e.b.or_(e.b.lshr(bits, sixteen), e.const(I32, 0x40))
    nan = e.b.fcmp_unordered("uno", value, value)
    return e.b.trunc(e.b.select(nan, quiet, rounded), e.vec(I16))


def _widen_e5m2(e: Lanes, value: Any) -> Any:
    bits = e.b.shl(e.b.zext(value, e.vec(I16)), e.const(I16, 8))
    return e.b.fpext(e.b.bitcast(bits, e.vec(F16)), e.vec(F32))


def _widen_e4m3(e: Lanes, value: Any) -> Any:
    wide = e.b.zext(value, e.vec(I16))
    magnitude = e.b.and_(wide, e.const(I16, 0x7F))
    sign = e.b.shl(e.b.and_(wide, e.const(I16, 0x80)), e.const(I16, 8))
    # As half the exponent's bias is larger by 8.
    half = e.b.bitcast(e.b.or_(e.b.shl(magnitude, e.const(I16, 7)), sign), e.vec(F16))
    number = e.b.fmul(e.b.fpext(half, e.vec(F32)), e.const(F32, 256.0))
    nan = e.b.icmp_unsigned("==", magnitude, e.const(I16, 0x7F))
    return e.b.select(nan, e.const(F32, float("nan")), number)


def _narrow_float8(e: Lanes, value: Any, exponent: int, mantissa: int, last: float, over: int) -> Any:
    """Round to 8 bits. ``last`` is the first magnitude that overflows, to the bits ``over``."""
    drop, bias = 23 - mantissa, 2 ** (exponent - 1) - 1
    bits = e.b.bitcast(value, e.vec(I32))
    size = e.b.and_(bits, e.const(I32, 0x7FFFFFFF))
    tie = e.b.and_(e.b.lshr(size, e.const(I32, drop)), e.const(I32, 1))
    up = e.b.add(e.b.add(size, e.const(I32, (1 << (drop - 1)) - 1)), tie)
    normal = e.b.sub(e.b.lshr(up, e.const(I32, drop)), e.const(I32, (127 - bias) << mantissa))
    # Adding 2**p makes the adder round to multiples of the smallest subnormal.
    magic = 2.0 ** (23 - (bias - 1 + mantissa))
    magnitude = e.intrinsic("fabs", value)
    moved = e.b.bitcast(e.b.fadd(magnitude, e.const(F32, magic)), e.vec(I32))
    subnormal = e.b.sub(moved, e.b.bitcast(e.const(F32, magic), e.vec(I32)))
    is_tiny = e.b.fcmp_ordered("<", magnitude, e.const(F32, 2.0 ** (1 - bias)))
    out = e.b.select(is_tiny, subnormal, normal)
    out = e.b.select(e.b.fcmp_ordered(">=", magnitude, e.const(F32, last)), e.const(I32, over), out)
    out = e.b.select(e.b.fcmp_unordered("uno", value, value), e.const(I32, 0x7F), out)
    sign = e.b.and_(e.b.lshr(bits, e.const(I32, 24)), e.const(I32, 0x80))
    return e.b.trunc(e.b.or_(out, sign), e.vec(I8))


def _narrow_e4m3(e: Lanes, value: Any) -> Any:
    # 464 lies half-way between 448 and NaN's place and rounds to the even 448.
    after_464 = 464.0 + 2.0**-15
    return _narrow_float8(e, value, 4, 3, after_464, 0x7F)


def _narrow_e5m2(e: Lanes, value: Any) -> Any:
    return _narrow_float8(e, value, 5, 2, 61440.0, 0x7C)


_WIDEN = {
    "float16": _widen_half, "bfloat16": _widen_bfloat,
    "float8_e4m3": _widen_e4m3, "float8_e5m2": _widen_e5m2,
}  # fmt: skip
_NARROW = {
    "float16": _narrow_half, "bfloat16": _narrow_bfloat,
    "float8_e4m3": _narrow_e4m3, "float8_e5m2": _narrow_e5m2,
}  # fmt: skip
