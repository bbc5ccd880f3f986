"""Functions of float64 as polynomials on vectors, with at most 2 ulp of error.

Coefficients were fitted at Chebyshev nodes in 40 digits (mpmath.chebyfit). The reductions are those
of fdlibm (Sun Microsystems, 1993), told in its comments.
"""

from __future__ import annotations

from math import pi
from typing import Any

from tilec.backends.cpu.exponential import LN2_64, clamp, exp, poly
from tilec.backends.cpu.lanes import F64, I64, Lanes

# (log((1 + s) / (1 - s)) - 2 s) / s**3 in s**2, for |s| <= 0.1716.
_LOG = (
    0.666666666666667, 0.39999999999899033, 0.28571428626190487, 0.22222211099711295,
    0.18182891680439733, 0.15331636699545695, 0.1461749869387011,
)  # fmt: skip
# (tanh(x) - x) / x**3 in x**2, for |x| <= 0.55.
_TANH = (
    -0.3333333333333333, 0.13333333333332714, -0.053968253967434016, 0.021869488493666944,
    -0.008863234397814355, 0.003592110378689024, -0.001455661830100716, 0.0005889360520074057,
    -0.0002346347410887237, 8.511313685577672e-05, -2.060276537636634e-05,
)  # fmt: skip
# (sin(x) - x) / x**3 and (cos(x) - 1 + x**2 / 2) / x**4 in x**2, for |x| <= pi / 4.
_SIN = (
    -0.16666666666666666, 0.008333333333330948, -0.0001984126983675712, 2.755731610179909e-06,
    -2.5051131688000297e-08, 1.5918117983848815e-10,
)  # fmt: skip
_COS = (
    0.041666666666666664, -0.0013888888888887398, 2.4801587298764778e-05, -2.7557317271258515e-07,
    2.0876146170183976e-09, -1.1382625349447592e-11,
)  # fmt: skip
# erf(x) / x - 1 in x**2, for |x| <= 1; erfc(x) * exp(x**2) in (x - 3) / (x + 3), for 1 <= x <= 6.
_ERF_NEAR = (
    0.1283791670955126, -0.3761263890318375, 0.11283791670954879, -0.026866170645076792,
    0.0052239776248180145, -0.000854832698083379, 0.0001205533111164271, -1.4925595266831182e-05,
    1.6461000484121368e-06, -1.6350312701054695e-07, 1.4659775274047436e-08, -1.1372848856791674e-09,
    5.957176147748911e-11,
)  # fmt: skip
_ERF_FAR = (
    0.17900115118138996, -0.3262335600430372, 0.24560380171233492, -0.1501159365007782,
    0.07166583719746851, -0.024392499318975098, 0.00426913635708598, 0.0007077464686451442,
    -0.000597062496810073, 4.525431536146908e-05, 6.406276099408952e-05, -1.2845568719286168e-05,
    -8.009358623496082e-06, 2.0131060455845663e-06, 1.2739658097436112e-06, 2.2743601128667357e-09,
)  # fmt: skip
# pi / 2 and 1 / ln 2 in parts; all but the last of a sum are short, so that products with them are exact.
_HALF_PI = (1.5707963267341256, 6.077100506303966e-11, 2.0222662487111665e-21, 8.478427660348229e-32)
_INV_LN2 = (1.4426946640014648, 3.768874985636099e-07)
# Below this angle the number of quarter turns has so few bits that its products with the parts are exact.
FAR_ANGLE = 2.0**20


def _ln_parts(e: Lanes, x: Any) -> tuple[Any, Any, Any, Any]:
    """(n, f, f**2 / 2, s (f**2 / 2 + R)): x = 2**n (1 + f), log(1 + f) = f - f**2 / 2 + the last."""
    b = e.b
    tiny = b.fcmp_ordered("<", x, e.const(F64, 2.0**-1022))
    x = b.select(tiny, b.fmul(x, e.const(F64, 2.0**54)), x)
    bits = b.bitcast(x, e.vec(I64))
    # Adding 1 - sqrt(1/2) in bits moves mantissas above sqrt(2) to the next exponent.
    moved = b.add(bits, e.const(I64, 0x3FF0000000000000 - 0x3FE6A09E667F3BCD))
    n = b.sub(b.ashr(moved, e.const(I64, 52)), e.const(I64, 1023))
    f = b.fsub(b.bitcast(b.sub(bits, b.shl(n, e.const(I64, 52))), e.vec(F64)), e.const(F64, 1.0))
    half = b.fmul(b.fmul(f, e.const(F64, 0.5)), f)
    s = b.fdiv(f, b.fadd(f, e.const(F64, 2.0)))
    z = b.fmul(s, s)
    rest = b.fmul(s, e.fma(z, poly(e, F64, z, _LOG), half))
    n = b.sub(n, b.select(tiny, e.const(I64, 54), e.const(I64, 0)))
    return b.sitofp(n, e.vec(F64)), f, half, rest


def log(e: Lanes, x: Any) -> Any:
    """The natural logarithm of a positive finite x."""
    n, f, half, rest = _ln_parts(e, x)
    high, low = (e.const(F64, v) for v in LN2_64)
    small = e.b.fsub(e.b.fsub(half, e.fma(n, low, rest)), f)
    return e.b.fsub(e.b.fmul(n, high), small)


def log2(e: Lanes, x: Any) -> Any:
    """The logarithm to base 2 of a positive finite x."""
    b = e.b
    n, f, half, rest = _ln_parts(e, x)
    high_inverse, low_inverse = (e.const(F64, v) for v in _INV_LN2)
    short = b.and_(b.bitcast(b.fsub(f, half), e.vec(I64)), e.const(I64, -(2**32)))
    high = b.bitcast(short, e.vec(F64))
    low = b.fadd(b.fsub(b.fsub(f, high), half), rest)
    main = b.fmul(high, high_inverse)
    little = b.fadd(b.fmul(b.fadd(low, high), low_inverse), b.fmul(low, high_inverse))
    total = b.fadd(n, main)
    return b.fadd(total, b.fadd(little, b.fadd(b.fsub(n, total), main)))


def tanh(e: Lanes, x: Any) -> Any:
    """The hyperbolic tangent: an odd polynomial near 0, beyond 1 - 2 / (exp(2 |x|) + 1)."""
    b, size = e.b, e.intrinsic("fabs", x)
    square = b.fmul(x, x)
    near = e.fma(b.fmul(x, square), poly(e, F64, square, _TANH), x)
    twice = b.fmul(clamp(e, F64, size, 0.0, 20.0), e.const(F64, 2.0))
    rest = b.fdiv(e.const(F64, 2.0), b.fadd(exp(e, F64, twice), e.const(F64, 1.0)))
    far = e.intrinsic("copysign", b.fsub(e.const(F64, 1.0), rest), x)
    near = b.select(b.fcmp_ordered("==", x, e.const(F64, 0.0)), x, near)  # The sum loses a sign.
    return b.select(b.fcmp_ordered("<", size, e.const(F64, 0.55)), near, far)


def erf(e: Lanes, x: Any) -> Any:
    """The error function: x + x times a polynomial up to 1, beyond 1 - exp(-x**2) times another."""
    b, size = e.b, e.intrinsic("fabs", x)
    near = e.fma(x, poly(e, F64, b.fmul(x, x), _ERF_NEAR), x)
    far = clamp(e, F64, size, 1.0, 6.0)
    three = e.const(F64, 3.0)
    u = b.fdiv(b.fsub(far, three), b.fadd(far, three))
    tail = b.fmul(exp(e, F64, b.fneg(b.fmul(far, far))), poly(e, F64, u, _ERF_FAR))
    large = e.intrinsic("copysign", b.fsub(e.const(F64, 1.0), tail), x)
    return b.select(b.fcmp_unordered("<", size, e.const(F64, 1.0)), near, large)


def _two_sum(e: Lanes, a: Any, b: Any) -> tuple[Any, Any]:
    """a + b rounded, and what rounding lost (Knuth)."""
    total = e.b.fadd(a, b)
    part = e.b.fsub(total, a)
    return total, e.b.fadd(e.b.fsub(a, e.b.fsub(total, part)), e.b.fsub(b, part))


def turn(e: Lanes, x: Any, quarter: int) -> Any:
    """sin(x + quarter * pi/2) for |x| < FAR_ANGLE: reduce to |r + low| <= pi/4, pick a polynomial."""
    b = e.b
    n = e.intrinsic("rint", b.fmul(x, e.const(F64, 2 / pi)))
    parts = [b.fmul(n, e.const(F64, -p)) for p in _HALF_PI]
    r, lost = _two_sum(e, b.fadd(x, parts[0]), parts[1])
    r, more = _two_sum(e, r, parts[2])
    r, low = _two_sum(e, r, b.fadd(b.fadd(lost, more), parts[3]))
    z = b.fmul(r, r)
    value = b.select(_bit(e, n, quarter, 1), _cosine(e, r, low, z), _sine(e, r, low, z))
    return b.select(_bit(e, n, quarter, 2), b.fneg(value), value)


def _bit(e: Lanes, n: Any, quarter: int, bit: int) -> Any:
    """Whether the number of quarter turns has a bit; any answer for NaN and infinities."""
    kinds = ("i64", "f64") if e.lanes == 1 else (f"v{e.lanes}i64", f"v{e.lanes}f64")
    whole = e.call(f"llvm.fptosi.sat.{kinds[0]}.{kinds[1]}", e.vec(I64), n)
    found = e.b.and_(e.b.add(whole, e.const(I64, quarter)), e.const(I64, bit))
    return e.b.icmp_unsigned("!=", found, e.const(I64, 0))


def _sine(e: Lanes, r: Any, low: Any, z: Any) -> Any:
    """sin(r + low) = r + (low + r z P(z) - low z / 2)."""
    rest = e.fma(e.b.fmul(r, z), poly(e, F64, z, _SIN), low)
    return e.b.fadd(r, e.fma(e.b.fmul(low, z), e.const(F64, -0.5), rest))


def _cosine(e: Lanes, r: Any, low: Any, z: Any) -> Any:
    """cos(r + low) = 1 - z / 2 + (z**2 P(z) - r low), with what 1 - z / 2 lost."""
    b, one = e.b, e.const(F64, 1.0)
    half = b.fmul(z, e.const(F64, 0.5))
    main = b.fsub(one, half)
    lost = b.fsub(b.fsub(one, main), half)
    rest = b.fsub(b.fmul(b.fmul(z, z), poly(e, F64, z, _COS)), b.fmul(r, low))
    return b.fadd(main, b.fadd(lost, rest))
