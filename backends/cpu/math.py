"""Functions of floats as polynomials on vectors, each for float32 and float64.

Bounds against the exact value (tests/backends/test_cpu_math.py measures them): 2 ulp for exp, exp2,
log, log2, sin, cos, tanh, erf, and pow of float32. As libm, lane by lane: sin and cos of angles from
2**20 on, and pow of float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tilec.backends.cpu import erf32, exponential, math32, math64
from tilec.backends.cpu.lanes import F32, F64, Lanes, register
from tilec.ir.types import DType, float64

Rule = Callable[[Lanes, Any], Any]


def exp(e: Lanes, t: DType, x: Any) -> Any:
    """e to the x."""
    return exponential.exp(e, register(t), x)


def exp2(e: Lanes, t: DType, x: Any) -> Any:
    """2 to the x."""
    return exponential.exp2(e, register(t), x)


def _by_width(single: Rule, double: Rule) -> Callable[[Lanes, DType, Any], Any]:
    """A rule for float32 and one for float64 as one function."""

    def emit(e: Lanes, t: DType, x: Any) -> Any:
        return (double if t == float64 else single)(e, x)

    return emit


def _log_edges(fn: Rule) -> Rule:
    """A logarithm of positive finite float64 as one of all."""

    def emit(e: Lanes, x: Any) -> Any:
        zero, inf, value = e.const(F64, 0.0), e.const(F64, float("inf")), fn(e, x)
        value = e.b.select(e.b.fcmp_ordered("==", x, zero), e.const(F64, float("-inf")), value)
        value = e.b.select(e.b.fcmp_unordered("<", x, zero), e.const(F64, float("nan")), value)
        return e.b.select(e.b.fcmp_ordered("==", x, inf), inf, value)

    return emit


def _circular(name: str, quarter: int) -> Rule:
    """sin or cos of float64."""

    def emit(e: Lanes, x: Any) -> Any:
        near = math64.turn(e, x, quarter)
        if quarter == 0:
            near = e.b.select(e.b.fcmp_ordered("==", x, e.const(F64, 0.0)), x, near)
        far = e.b.fcmp_ordered(">=", e.intrinsic("fabs", x), e.const(F64, math64.FAR_ANGLE))
        return math32.rarely(e, far, near, lambda: e.intrinsic(name, x))

    return emit


log = _by_width(math32.log, _log_edges(math64.log))
log2 = _by_width(math32.log2, _log_edges(math64.log2))
tanh = _by_width(math32.tanh, math64.tanh)
sin = _by_width(math32.sin, _circular("sin", 0))
cos = _by_width(math32.cos, _circular("cos", 1))
erf = _by_width(erf32.erf, math64.erf)


def pow(e: Lanes, t: DType, a: Any, b: Any) -> Any:
    """a to the power b: float32 through float64, float64 as libm, lane by lane."""
    return e.intrinsic("pow", a, b) if t == float64 else _pow_single(e, a, b)


def _pow_single(e: Lanes, a: Any, b: Any) -> Any:
    """2**(b log2 |a|) in float64, with the sign of an odd power of a negative number.

    libm has the last word where a is zero, or where one of them is infinite or NaN.
    """
    wide, size = e.vec(F64), e.intrinsic("fabs", a)
    base, power = e.b.fpext(size, wide), e.b.fpext(b, wide)
    value = exponential.exp2(e, F64, e.b.fmul(power, math64.log2(e, base)))
    value = _signed_power(e, a, b, e.b.fptrunc(value, e.vec(F32)))
    zero, inf = e.const(F32, 0.0), e.const(F32, float("inf"))
    usual = e.b.and_(e.b.fcmp_ordered(">", size, zero), e.b.fcmp_ordered("<", size, inf))
    usual = e.b.and_(usual, e.b.fcmp_ordered("<", e.intrinsic("fabs", b), inf))
    return math32.rarely(e, e.b.not_(usual), value, lambda: e.intrinsic("pow", a, b))


def _signed_power(e: Lanes, a: Any, b: Any, value: Any) -> Any:
    """|a|**b as a**b: NaN for a negative number and a fraction."""
    half = e.b.fmul(b, e.const(F32, 0.5))
    whole = e.b.fcmp_ordered("==", e.intrinsic("rint", b), b)
    odd = e.b.and_(whole, e.b.fcmp_unordered("!=", e.intrinsic("rint", half), half))
    other = e.b.select(whole, e.b.select(odd, e.b.fneg(value), value), e.const(F32, float("nan")))
    return e.b.select(e.b.fcmp_ordered("<", a, e.const(F32, 0.0)), other, value)
