"""Emit rules of the elementwise ops: registers in, a register out.

`ELEMENTWISE` maps an op to rule(lanes, dtype, operands...). Small floats reach a
rule as float32 with dtype float32; `apply` widens before and rounds once after.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tilec.backends.cpu import math
from tilec.backends.cpu.floats import narrow, round_to_odd, widen
from tilec.backends.cpu.lanes import F64, I32, I64, Lanes, is_small, register
from tilec.ir.types import DType, float32, float64

Rule = Callable[..., Any]
ELEMENTWISE: dict[str, Rule] = {}


def rule(name: str) -> Callable[[Rule], Rule]:
    """Register the emit rule of an elementwise op."""

    def wrap(fn: Rule) -> Rule:
        ELEMENTWISE[name] = fn
        return fn

    return wrap


def apply(e: Lanes, name: str, dtype: DType, result: DType, *values: Any) -> Any:
    """Emit an elementwise op on operands of ``dtype``."""
    if name == "fma":
        return _fma(e, dtype, *values)
    if not is_small(dtype):
        return ELEMENTWISE[name](e, dtype, *values)
    out = ELEMENTWISE[name](e, float32, *(widen(e, v, dtype) for v in values))
    return narrow(e, out, dtype) if result.is_float else out


def _either(int_name: str, float_name: str) -> Rule:
    def emit(e: Lanes, t: DType, a: Any, b: Any) -> Any:
        return getattr(e.b, float_name if t.is_float else int_name)(a, b)

    return emit


for _name, _ints, _floats in (
    ("add", "add", "fadd"), ("sub", "sub", "fsub"), ("mul", "mul", "fmul"), ("div", "", "fdiv"),
    ("and", "and_", ""), ("or", "or_", ""), ("xor", "xor", ""),
):  # fmt: skip
    ELEMENTWISE[_name] = _either(_ints, _floats)


def _comparison(sign: str) -> Rule:
    def emit(e: Lanes, t: DType, a: Any, b: Any) -> Any:
        if t.is_float:
            return (e.b.fcmp_unordered if sign == "!=" else e.b.fcmp_ordered)(sign, a, b)
        return (e.b.icmp_signed if t.kind == "int" else e.b.icmp_unsigned)(sign, a, b)

    return emit


for _name, _sign in (("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">="), ("eq", "=="), ("ne", "!=")):
    ELEMENTWISE[_name] = _comparison(_sign)


def _extremum(sign: str) -> Rule:
    def emit(e: Lanes, t: DType, a: Any, b: Any) -> Any:
        if not t.is_float:
            return e.b.select(_comparison(sign)(e, t, a, b), a, b)
        # This gives b if either is NaN; a NaN in a must win.
        return e.b.select(e.b.fcmp_unordered("uno", a, a), a, _better(e, sign, t, a, b))

    return emit


_WIDTH = {128: "", 256: ".256", 512: ".512"}


def _better(e: Lanes, sign: str, t: DType, a: Any, b: Any) -> Any:
    """a if it compares so, else b. On x86 as its instruction: LLVM would merge a select with others."""
    bits = e.lanes * t.bits
    if not e.target.x86 or bits not in _WIDTH:
        return e.b.select(_comparison(sign)(e, t, a, b), a, b)
    family = {128: "sse2" if t == float64 else "sse", 256: "avx", 512: "avx512"}[bits]
    rounding = [I32(4)] if bits == 512 else []  # 4: as the current mode says
    kind = f"{'max' if sign == '>' else 'min'}.p{'d' if t == float64 else 's'}"
    return e.call(f"llvm.x86.{family}.{kind}{_WIDTH[bits]}", a.type, a, b, *rounding)


ELEMENTWISE["maximum"] = _extremum(">")
ELEMENTWISE["minimum"] = _extremum("<")


def _unary_intrinsic(name: str) -> Rule:
    def emit(e: Lanes, t: DType, a: Any) -> Any:
        return e.intrinsic(name, a)

    return emit


for _name in ("sqrt", "floor", "ceil", "rint"):
    ELEMENTWISE[_name] = _unary_intrinsic(_name)
for _name in ("exp", "exp2", "log", "log2", "sin", "cos", "tanh", "erf", "pow"):
    ELEMENTWISE[_name] = getattr(math, _name)


@rule("neg")
def _neg(e: Lanes, t: DType, a: Any) -> Any:
    return e.b.fneg(a) if t.is_float else e.b.sub(e.const(register(t), 0), a)


@rule("not")
def _not(e: Lanes, t: DType, a: Any) -> Any:
    return e.b.xor(a, e.const(register(t), -1 if t.bits > 1 else True))


@rule("abs")
def _abs(e: Lanes, t: DType, a: Any) -> Any:
    if t.is_float:
        return e.intrinsic("fabs", a)
    if t.kind == "uint":
        return a
    zero = e.const(register(t), 0)
    return e.b.select(e.b.icmp_signed("<", a, zero), e.b.sub(zero, a), a)


@rule("rsqrt")
def _rsqrt(e: Lanes, t: DType, a: Any) -> Any:
    return e.b.fdiv(e.const(register(t), 1.0), e.intrinsic("sqrt", a))


@rule("sigmoid")
def _sigmoid(e: Lanes, t: DType, a: Any) -> Any:
    one = e.const(register(t), 1.0)
    return e.b.fdiv(one, e.b.fadd(one, math.exp(e, t, e.b.fneg(a))))


@rule("shl")
def _shl(e: Lanes, t: DType, a: Any, b: Any) -> Any:
    zero, wide = e.const(register(t), 0), _too_wide(e, t, b)
    return e.b.select(wide, zero, e.b.shl(a, e.b.select(wide, zero, b)))


@rule("shr")
def _shr(e: Lanes, t: DType, a: Any, b: Any) -> Any:
    zero, wide = e.const(register(t), 0), _too_wide(e, t, b)
    if t.kind == "int":
        return e.b.ashr(a, e.b.select(wide, e.const(register(t), t.bits - 1), b))
    return e.b.select(wide, zero, e.b.lshr(a, e.b.select(wide, zero, b)))


def _too_wide(e: Lanes, t: DType, b: Any) -> Any:
    # Read as unsigned, a negative shift is a large one.
    return e.b.icmp_unsigned(">=", b, e.const(register(t), t.bits))


@rule("floordiv")
def _floordiv(e: Lanes, t: DType, a: Any, b: Any) -> Any:
    if t.is_float:
        return e.intrinsic("floor", e.b.fdiv(a, b))
    return _divide(e, t, a, b)[0]


@rule("mod")
def _mod(e: Lanes, t: DType, a: Any, b: Any) -> Any:
    return _float_mod(e, t, a, b) if t.is_float else _divide(e, t, a, b)[1]


def _divide(e: Lanes, t: DType, a: Any, b: Any) -> tuple[Any, Any]:
    """Floor quotient and remainder; both 0 where b is 0. Never traps."""
    kind = register(t)
    zero, one, minus = e.const(kind, 0), e.const(kind, 1), e.const(kind, -1)
    is_zero = e.b.icmp_unsigned("==", b, zero)
    if t.kind == "uint":
        safe = e.b.select(is_zero, one, b)
        quotient, rest = e.b.udiv(a, safe), e.b.urem(a, safe)
    else:
        # The lowest integer by -1 would trap: negate instead.
        negate = e.b.icmp_unsigned("==", b, minus)
        safe = e.b.select(e.b.or_(is_zero, negate), one, b)
        quotient, rest = e.b.sdiv(a, safe), e.b.srem(a, safe)
        quotient = e.b.select(negate, e.b.sub(zero, a), quotient)
        differs = e.b.icmp_signed("<", e.b.xor(rest, safe), zero)
        down = e.b.and_(e.b.icmp_unsigned("!=", rest, zero), differs)
        quotient = e.b.select(down, e.b.sub(quotient, one), quotient)
        rest = e.b.select(down, e.b.add(rest, safe), rest)
    return e.b.select(is_zero, zero, quotient), e.b.select(is_zero, zero, rest)


def _float_mod(e: Lanes, t: DType, a: Any, b: Any) -> Any:
    zero = e.const(register(t), 0.0)
    rest = e.b.frem(a, b)
    opposite = e.b.xor(e.b.fcmp_ordered("<", b, zero), e.b.fcmp_ordered("<", rest, zero))
    moved = e.b.select(opposite, e.b.fadd(rest, b), rest)
    signed_zero = e.intrinsic("copysign", zero, b)
    is_zero = e.b.and_(e.b.fcmp_ordered("==", rest, zero), e.b.fcmp_ordered("!=", b, zero))
    return e.b.select(is_zero, signed_zero, moved)


@rule("fma")
def _fma(e: Lanes, t: DType, a: Any, b: Any, c: Any) -> Any:
    if t == float64:
        return e.b.fadd(e.b.fmul(a, b), c)
    if not is_small(t):
        return e.intrinsic("fma", a, b, c)
    a, b, c = (e.b.fpext(widen(e, v, t), e.vec(F64)) for v in (a, b, c))
    # The product is exact in float64.
    return narrow(e, round_to_odd(e, _sum_to_odd(e, e.b.fmul(a, b), c)), t)


def _sum_to_odd(e: Lanes, a: Any, b: Any) -> Any:
    """a + b of float64, rounded to odd: Knuth's two-sum gives what nearest rounding lost."""
    total = e.b.fadd(a, b)
    part = e.b.fsub(total, a)
    rest = e.b.fadd(e.b.fsub(a, e.b.fsub(total, part)), e.b.fsub(b, part))
    word, one, zero = e.vec(I64), e.const(I64, 1), e.const(F64, 0.0)
    bits = e.b.bitcast(total, word)
    lost = e.b.fcmp_ordered("!=", rest, zero)
    even = e.b.icmp_unsigned("==", e.b.and_(bits, one), e.const(I64, 0))
    away = e.b.icmp_signed(">=", e.b.xor(bits, e.b.bitcast(rest, word)), e.const(I64, 0))
    moved = e.b.add(bits, e.b.select(away, one, e.const(I64, -1)))
    return e.b.bitcast(e.b.select(e.b.and_(lost, even), moved, bits), e.vec(F64))
