"""exp and exp2 as polynomials on vectors, and what other functions share with them."""

from __future__ import annotations

from collections.abc import Sequence
from math import log as _log
from typing import Any

from llvmlite.ir import IntType

from tilec.backends.cpu.lanes import F64, I32, I64, Lanes

# (e**r - 1 - r) / r**2 for |r| <= ln(2) / 2.
_EXP32 = (0.5, 0.16666577756404877, 0.041666556149721146, 0.008363173343241215, 0.0013926175888627768)
_EXP64 = (
    0.49999999999999994, 0.1666666666666684, 0.041666666666646375, 0.008333333333173347,
    0.0013888888905450303, 0.0001984127031200081, 2.480154779054329e-05, 2.755678183772836e-06,
    2.759413723745989e-07, 2.527306049512997e-08, 8.979375596076462e-10,
)  # fmt: skip
# (2**r - 1) / r for |r| <= 1/2: ln 2 in float32, and what makes the largest relative error least (2.9e-9).
_EXP2 = (
    0.6931471824645996, 0.2402264758553489, 0.055503595913245996, 0.009618517671970984,
    0.0013390958054410654, 0.00015324282018666085,
)  # fmt: skip
# ln 2 in two parts, the first with trailing zeros so that n * part is exact.
_LN2_32, LN2_64 = (0.693359375, -2.12194440e-4), (6.93147180369123816490e-01, 1.90821492927058770002e-10)


def poly(e: Lanes, kind: Any, x: Any, coefficients: Sequence[float]) -> Any:
    """Horner's rule, lowest coefficient first."""
    value = e.const(kind, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        value = e.fma(value, x, e.const(kind, c))
    return value


def clamp(e: Lanes, kind: Any, x: Any, low: float, high: float) -> Any:
    """x within [low, high]; NaN stays."""
    x = e.b.select(e.b.fcmp_ordered("<", x, e.const(kind, low)), e.const(kind, low), x)
    return e.b.select(e.b.fcmp_ordered(">", x, e.const(kind, high)), e.const(kind, high), x)


def scale(e: Lanes, kind: Any, value: Any, n: Any) -> Any:
    """value * 2**n for an integral float n, in two steps so that subnormals round right."""
    bits = e.lanes * (64 if kind == F64 else 32)
    if e.target.scalef and bits in (128, 256, 512):
        return _scalef(e, value, n, bits)
    whole, bias, shift = (I64, 1023, 52) if kind == F64 else (I32, 127, 23)
    # NaN makes n meaningless, but value is NaN then.
    finite = e.b.select(e.b.fcmp_ordered("ord", n, n), n, e.const(kind, 0.0))
    exponent = e.b.fptosi(finite, e.vec(whole))
    half = e.b.ashr(exponent, e.const(whole, 1))
    for part in (half, e.b.sub(exponent, half)):
        bits = e.b.shl(e.b.add(part, e.const(whole, bias)), e.const(whole, shift))
        value = e.b.fmul(value, e.b.bitcast(bits, e.vec(kind)))
    return value


def _scalef(e: Lanes, value: Any, n: Any, bits: int) -> Any:
    """The same as one instruction."""
    return _masked(e, "scalef", bits, value, n)


def _masked(e: Lanes, name: str, bits: int, value: Any, operand: Any) -> Any:
    """An AVX-512 instruction on all lanes of ``value``."""
    kind = "pd" if value.type.element == F64 else "ps"
    all_lanes = IntType(max(e.lanes, 8))(-1)
    rounding = [I32(4)] if bits == 512 else []  # 4: as the current mode says
    name = f"llvm.x86.avx512.mask.{name}.{kind}.{bits}"
    return e.call(name, value.type, value, operand, value, all_lanes, *rounding)


def exp(e: Lanes, kind: Any, x: Any) -> Any:
    """e to the x: x = n ln 2 + r, then a polynomial in r."""
    high, low = LN2_64 if kind == F64 else _LN2_32
    x = clamp(e, kind, x, *((-746.0, 710.0) if kind == F64 else (-104.0, 89.0)))
    n = e.intrinsic("rint", e.b.fmul(x, e.const(kind, 1 / _log(2))))
    r = e.fma(n, e.const(kind, -low), e.fma(n, e.const(kind, -high), x))
    return scale(e, kind, _exp_near(e, kind, r), n)


def _exp_near(e: Lanes, kind: Any, r: Any) -> Any:
    tail = poly(e, kind, r, _EXP64 if kind == F64 else _EXP32)
    return e.b.fadd(e.fma(e.b.fmul(r, r), tail, r), e.const(kind, 1.0))


def exp2(e: Lanes, kind: Any, x: Any) -> Any:
    """2 to the x: x = n + r."""
    bits = e.lanes * (64 if kind == F64 else 32)
    if e.target.scalef and bits in (128, 256, 512):
        # Of an infinity vreduce gives 0, and vscalef by an infinite n is right.
        n, r = e.intrinsic("rint", x), _masked(e, "reduce", bits, x, I32(0))
    else:
        x = clamp(e, kind, x, *((-1076.0, 1025.0) if kind == F64 else (-151.0, 129.0)))
        n = e.intrinsic("rint", x)
        r = e.b.fsub(x, n)
    if kind == F64:
        return scale(e, kind, _exp_near(e, kind, e.b.fmul(r, e.const(kind, _log(2)))), n)
    return scale(e, kind, e.fma(r, poly(e, kind, r, _EXP2), e.const(kind, 1.0)), n)
