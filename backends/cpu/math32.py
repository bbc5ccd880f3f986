"""Functions of float32 as polynomials on vectors of float32, with at most 2 ulp of error.

Coefficients are those of least relative error (Lawson's weights), rounded to float32 from the lowest
on, each time fitting the rest again.
"""

from __future__ import annotations

from collections.abc import Callable
from math import pi
from typing import Any

from tilec.backends.cpu.exponential import clamp, poly, scale
from tilec.backends.cpu.lanes import F32, I32, Lanes, suffix

# (log(1 + f) - f) / f**2, and that of log2 with 1 / ln 2 in two parts, for sqrt(1/2) <= 1 + f <= sqrt(2).
_LOG = (
    -0.5, 0.3333333134651184, -0.2500081956386566, 0.2000124156475067, -0.166234090924263,
    0.14201581478118896, -0.1315961331129074, 0.12762197852134705, -0.0763639509677887,
)  # fmt: skip
_LOG2 = (
    -0.7213473320007324, 0.4808981716632843, -0.3606984317302704, 0.2885737717151642, -0.2395811825990677,
    0.20444843173027039, -0.19119136035442352, 0.18721657991409302, -0.11096131801605225,
)  # fmt: skip
_INV_LN2 = (1.4426950216293335, 1.925963033500011e-08)
# ln 2 in two parts, the first with trailing zeros so that n * part is exact.
_LN2 = (0.693359375, -0.00021219444005469057)
# (sin(x) - x) / x**3 and (cos(x) - 1 + x**2 / 2) / x**4 in x**2, for |x| <= 0.83: pi / 4 and what rounding
# the number of quarter turns of an angle below FAR_ANGLE adds.
_SIN = (-0.16666649281978607, 0.008331838063895702, -0.00019473339489195496)
_COS = (0.04166663810610771, -0.00138869509100914, 2.4392233171965927e-05)
_HALF_PI = (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15)
FAR_ANGLE = 2.0**20
# Adding it rounds a number below 2**22 to an integer, which is then the low bits.
_MAGIC = 1.5 * 2.0**23
# (e**r - 1 - r) / r**2 for |r| <= ln(2) / 2; (tanh(x) - x) / x**3 in x**2 for |x| <= 0.35.
_EXPM1 = (0.5, 0.1666654497385025, 0.04166640341281891, 0.008366397581994534, 0.001394064980559051)
_TANH = (-0.33333322405815125, 0.1333240568637848, -0.05372963845729828, 0.019448110833764076)


def _split(e: Lanes, x: Any) -> tuple[Any, Any]:
    """(n, f) with x = 2**n (1 + f), sqrt(1/2) <= 1 + f < sqrt(2), for a positive normal x."""
    bits = e.b.bitcast(x, e.vec(I32))
    # Adding 1 - sqrt(1/2) in bits moves mantissas above sqrt(2) to the next exponent.
    moved = e.b.add(bits, e.const(I32, 0x3F800000 - 0x3F3504F3))
    n = e.b.sub(e.b.ashr(moved, e.const(I32, 23)), e.const(I32, 127))
    m = e.b.bitcast(e.b.sub(bits, e.b.shl(n, e.const(I32, 23))), e.vec(F32))
    return e.b.sitofp(n, e.vec(F32)), e.b.fsub(m, e.const(F32, 1.0))


def _log(e: Lanes, x: Any, more: float = 0.0) -> Any:
    """log of x * 2**-more; ``more`` is a small integer."""
    n, f = _split(e, x)
    n = e.b.fsub(n, e.const(F32, more)) if more else n
    near = e.fma(f, e.b.fmul(f, poly(e, F32, f, _LOG)), f)
    return e.fma(n, e.const(F32, _LN2[0]), e.fma(n, e.const(F32, _LN2[1]), near))


def _log2(e: Lanes, x: Any, more: float = 0.0) -> Any:
    """log2 of x * 2**-more."""
    n, f = _split(e, x)
    n = e.b.fsub(n, e.const(F32, more)) if more else n
    rest = e.fma(f, poly(e, F32, f, _LOG2), e.const(F32, _INV_LN2[1]))
    return e.b.fadd(n, e.fma(f, e.const(F32, _INV_LN2[0]), e.b.fmul(f, rest)))


def _logarithm(fn: Callable[..., Any]) -> Callable[[Lanes, Any], Any]:
    """A logarithm of any x: in one piece for normal ones, patched where there are others."""

    def unusual(e: Lanes, x: Any) -> Any:
        b, zero, inf = e.b, e.const(F32, 0.0), e.const(F32, float("inf"))
        value = fn(e, b.fmul(x, e.const(F32, 2.0**23)), 23.0)  # Subnormals become normal.
        value = b.select(b.fcmp_ordered("==", x, zero), e.const(F32, float("-inf")), value)
        value = b.select(b.fcmp_unordered("<", x, zero), e.const(F32, float("nan")), value)
        return b.select(b.fcmp_ordered("==", x, inf), inf, value)

    def emit(e: Lanes, x: Any) -> Any:
        bits, first = e.b.bitcast(x, e.vec(I32)), 0x00800000
        beyond = e.b.sub(bits, e.const(I32, first))  # As unsigned, beyond those of normal numbers.
        where = e.b.icmp_unsigned(">=", beyond, e.const(I32, 0x7F800000 - first))
        return rarely(e, where, fn(e, x), lambda: unusual(e, x))

    return emit


def rarely(e: Lanes, where: Any, usual: Any, other: Callable[[], Any]) -> Any:
    """``usual``, but ``other()`` where the condition holds; computed only if it does somewhere."""
    some = where if e.lanes == 1 else e.call(f"llvm.vector.reduce.or.v{e.lanes}i1", where.type.element, where)
    before = e.b.block
    with e.b.if_then(some, likely=False):
        patched = e.b.select(where, other(), usual)
        inside = e.b.block
    out = e.b.phi(usual.type)
    out.add_incoming(usual, before)
    out.add_incoming(patched, inside)
    return out


def _reduced(e: Lanes, x: Any) -> tuple[Any, Any]:
    """(quarter turns in the low bits, r): x = turns * pi / 2 + r, for 0 <= x < FAR_ANGLE.

    The first product is subtracted exactly, for what is left is below 1 and both are multiples of
    2**-24 or more; the others round once each.
    """
    b, magic = e.b, e.const(F32, _MAGIC)
    rounded = e.fma(x, e.const(F32, 2 / pi), magic)
    n, r = b.fsub(rounded, magic), x
    for part in _HALF_PI:
        r = _fused(e, n, e.const(F32, -part), r)
    return b.bitcast(rounded, e.vec(I32)), r


def _fused(e: Lanes, a: Any, b: Any, c: Any) -> Any:
    """a * b + c rounded once, on any host."""
    return e.call(f"llvm.fma.{suffix(a.type)}", a.type, a, b, c)


def _turn(e: Lanes, x: Any, quarter: int) -> Any:
    """sin(x) or, with a quarter, cos(x) for |x| < FAR_ANGLE; sines take their sign from x."""
    b, bits = e.b, e.vec(I32)
    turns, r = _reduced(e, e.intrinsic("fabs", x))
    z = b.fmul(r, r)
    sine = e.fma(b.fmul(r, z), poly(e, F32, z, _SIN), r)
    cosine = e.fma(z, poly(e, F32, z, (-0.5, *_COS)), e.const(F32, 1.0))
    odd = b.icmp_unsigned("!=", b.and_(turns, e.const(I32, 1)), e.const(I32, 0))
    value = b.select(odd, *((sine, cosine) if quarter else (cosine, sine)))
    turned = b.add(turns, e.const(I32, 1)) if quarter else turns
    flip = b.shl(turned, e.const(I32, 30))
    flip = flip if quarter else b.xor(flip, b.bitcast(x, bits))
    sign = b.and_(flip, e.const(I32, -(2**31)))
    return b.bitcast(b.xor(b.bitcast(value, bits), sign), e.vec(F32))


def _circular(name: str, quarter: int) -> Callable[[Lanes, Any], Any]:
    def emit(e: Lanes, x: Any) -> Any:
        # As integers NaN and infinities are beyond all angles.
        size = e.b.and_(e.b.bitcast(x, e.vec(I32)), e.const(I32, 0x7FFFFFFF))
        far = e.b.icmp_unsigned(">=", size, e.b.bitcast(e.const(F32, FAR_ANGLE), e.vec(I32)))
        return rarely(e, far, _turn(e, x, quarter), lambda: e.intrinsic(name, x))

    return emit


def tanh(e: Lanes, x: Any) -> Any:
    """m / (m + 2), m = exp(2 |x|) - 1 = 2**n (e**r - 1) + 2**n - 1; near 0 x + x**3 times a polynomial."""
    b, one, size = e.b, e.const(F32, 1.0), e.intrinsic("fabs", x)
    far = clamp(e, F32, size, 0.0, 10.0)
    n = e.intrinsic("rint", b.fmul(far, e.const(F32, 2 * _INV_LN2[0])))
    r = e.fma(n, e.const(F32, -_LN2[1]), e.fma(n, e.const(F32, -_LN2[0]), b.fadd(far, far)))
    grown = e.fma(b.fmul(r, r), poly(e, F32, r, _EXPM1), r)
    power = scale(e, F32, one, n)
    more = e.fma(power, grown, b.fsub(power, one))
    large = b.fdiv(more, b.fadd(more, e.const(F32, 2.0)))
    z = b.fmul(size, size)
    small = e.fma(b.fmul(size, z), poly(e, F32, z, _TANH), size)
    value = b.select(b.fcmp_ordered("<", size, e.const(F32, 0.35)), small, large)
    return e.intrinsic("copysign", value, x)


log, log2 = _logarithm(_log), _logarithm(_log2)
sin, cos = _circular("sin", 0), _circular("cos", 1)
