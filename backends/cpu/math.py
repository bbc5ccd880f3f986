"""Functions of one variable as polynomials on vectors.

Bounds against the exact value (tests/backends/test_cpu_math.py measures them):
float32: exp, exp2, log, log2, sin, cos, tanh, erf 2 ulp; pow as libm.
float64: the same, 2 ulp; sin and cos of angles from 2**20 on, and pow, as libm, lane by lane.
Coefficients were fitted at Chebyshev nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log as _log
from math import pi
from typing import Any

from tilec.backends.cpu import exponential, math64
from tilec.backends.cpu.exponential import clamp, poly
from tilec.backends.cpu.lanes import F32, F64, I64, Lanes, register
from tilec.ir.types import DType, float64

# erf(x) / x in x**2 for |x| <= 1, and erf(t + 2.5) for |t| <= 1.5.
_ERF_SMALL = (
    1.1283791670954935, -0.3761263890280737, 0.11283791658529845, -0.026866169048939632,
    0.0052239671849196164, -0.0008547933472387388, 0.00012046256483316617, -1.4794981069054969e-05,
    1.5306089648663069e-06, -1.0468449070536428e-07,
)  # fmt: skip
_ERF_LARGE = (
    0.9995930479825548, 0.0021782842467481566, -0.005445710573607391, 0.008350089013377497,
    -0.008622375152230416, 0.006117353406978154, -0.002798489455289718, 0.0005423868668037818,
    0.0002606671300597108, -0.00025022803107130895, 7.880852373223852e-05, 5.050901451197754e-06,
    -1.4090096832789197e-05, 4.7731618300007286e-06, 1.9000684824098195e-07, -6.920234570611429e-07,
    1.7480119498572567e-07, 3.810874598586724e-08, -2.2556751916309732e-08, -4.3785908428730344e-10,
    1.0788579385319443e-09,
)  # fmt: skip
_ATANH = tuple(1.0 / n for n in range(1, 17, 2))
_SIN = (1.0, -1 / 6, 1 / 120, -1 / 5040, 1 / 362880, -1 / 39916800, 1 / 6227020800)
_COS = (1.0, -1 / 2, 1 / 24, -1 / 720, 1 / 40320, -1 / 3628800, 1 / 479001600)
_HALF_PI = (pi / 2, 6.123233995736766e-17)


def exp(e: Lanes, t: DType, x: Any) -> Any:
    """e to the x."""
    return exponential.exp(e, register(t), x)


def exp2(e: Lanes, t: DType, x: Any) -> Any:
    """2 to the x."""
    return exponential.exp2(e, register(t), x)


def _in_double(
    fn: Callable[[Lanes, Any], Any], double: Callable[[Lanes, Any], Any]
) -> Callable[[Lanes, DType, Any], Any]:
    """A float32 function computed in float64 by ``fn`` and rounded; ``double``: that of float64."""

    def emit(e: Lanes, t: DType, x: Any) -> Any:
        if t == float64:
            return double(e, x)
        return e.b.fptrunc(fn(e, e.b.fpext(x, e.vec(F64))), e.vec(F32))

    return emit


def _ln(e: Lanes, x: Any) -> tuple[Any, Any]:
    """(n, log(m)) with x = m * 2**n and m around 1; x positive and normal in float64."""
    bits = e.b.bitcast(x, e.vec(I64))
    # Adding 1 - sqrt(1/2) in bits moves mantissas above sqrt(2) to the next exponent.
    moved = e.b.add(bits, e.const(I64, 0x3FF0000000000000 - 0x3FE6A09E667F3BCD))
    n = e.b.sub(e.b.ashr(moved, e.const(I64, 52)), e.const(I64, 1023))
    m = e.b.bitcast(e.b.sub(bits, e.b.shl(n, e.const(I64, 52))), e.vec(F64))
    one = e.const(F64, 1.0)
    s = e.b.fdiv(e.b.fsub(m, one), e.b.fadd(m, one))
    series = poly(e, F64, e.b.fmul(s, s), _ATANH)
    log_m = e.b.fmul(e.b.fmul(s, e.const(F64, 2.0)), series)
    return e.b.sitofp(n, e.vec(F64)), log_m


def _log_edges(e: Lanes, x: Any, value: Any) -> Any:
    zero, inf = e.const(F64, 0.0), e.const(F64, float("inf"))
    value = e.b.select(e.b.fcmp_ordered("==", x, zero), e.const(F64, float("-inf")), value)
    value = e.b.select(e.b.fcmp_unordered("<", x, zero), e.const(F64, float("nan")), value)
    return e.b.select(e.b.fcmp_ordered("==", x, inf), inf, value)


def _log_double(e: Lanes, x: Any) -> Any:
    n, log_m = _ln(e, x)
    return _log_edges(e, x, e.fma(n, e.const(F64, _log(2)), log_m))


def _log2_double(e: Lanes, x: Any) -> Any:
    n, log_m = _ln(e, x)
    return _log_edges(e, x, e.fma(log_m, e.const(F64, 1 / _log(2)), n))


def _tanh_double(e: Lanes, x: Any) -> Any:
    one, two = e.const(F64, 1.0), e.const(F64, 2.0)
    near = clamp(e, F64, x, -20.0, 20.0)
    power = exponential.exp(e, F64, e.b.fmul(near, two))
    value = e.b.fdiv(e.b.fsub(power, one), e.b.fadd(power, one))
    cube = e.b.fmul(e.b.fmul(x, x), e.b.fmul(x, e.const(F64, -1 / 3)))
    tiny = e.b.fcmp_ordered("<", e.intrinsic("fabs", x), e.const(F64, 1e-3))
    # x itself where nothing is added keeps the sign of zero.
    small = e.b.select(e.b.fcmp_ordered("==", x, e.const(F64, 0.0)), x, e.b.fadd(x, cube))
    return e.b.select(tiny, small, value)


def _erf_single(e: Lanes, x: Any) -> Any:
    """Below 1 as x + x * small, beyond as 0.9996 + small: rounding of the small part hardly counts."""
    size = e.intrinsic("fabs", x)
    near = (_ERF_SMALL[0] - 1.0, *_ERF_SMALL[1:])
    small = e.fma(x, poly(e, F32, e.b.fmul(x, x), near), x)
    t = e.b.fsub(clamp(e, F32, size, 0.0, 4.0), e.const(F32, 2.5))
    large = e.intrinsic("copysign", poly(e, F32, t, _ERF_LARGE), x)
    value = e.b.select(e.b.fcmp_ordered("<", size, e.const(F32, 1.0)), small, large)
    beyond = e.b.fcmp_ordered(">", size, e.const(F32, 3.95))
    return e.b.select(beyond, e.intrinsic("copysign", e.const(F32, 1.0), x), value)


def _turn(e: Lanes, x: Any, quarter: int) -> Any:
    """sin(x + quarter * pi/2) for |x| < 2**30: reduce to |r| <= pi/4, pick a polynomial."""
    n = e.intrinsic("rint", e.b.fmul(x, e.const(F64, 2 / pi)))
    r = e.fma(n, e.const(F64, -_HALF_PI[1]), e.intrinsic("fma", n, e.const(F64, -_HALF_PI[0]), x))
    square = e.b.fmul(r, r)
    sine, cosine = e.b.fmul(r, poly(e, F64, square, _SIN)), poly(e, F64, square, _COS)
    where = e.b.add(e.call(f"llvm.fptosi.sat.{_i64(e)}.{_f64(e)}", e.vec(I64), n), e.const(I64, quarter))
    odd = e.b.icmp_unsigned("!=", e.b.and_(where, e.const(I64, 1)), e.const(I64, 0))
    flip = e.b.icmp_unsigned("!=", e.b.and_(where, e.const(I64, 2)), e.const(I64, 0))
    value = e.b.select(odd, cosine, sine)
    return e.b.select(flip, e.b.fneg(value), value)


def _i64(e: Lanes) -> str:
    return "i64" if e.lanes == 1 else f"v{e.lanes}i64"


def _f64(e: Lanes) -> str:
    return "f64" if e.lanes == 1 else f"v{e.lanes}f64"


def _circular(name: str, quarter: int) -> Callable[[Lanes, DType, Any], Any]:
    def double(e: Lanes, x: Any) -> Any:
        near = math64.turn(e, x, quarter)
        if quarter == 0:
            near = e.b.select(e.b.fcmp_ordered("==", x, e.const(F64, 0.0)), x, near)
        far = e.b.fcmp_ordered(">=", e.intrinsic("fabs", x), e.const(F64, math64.FAR_ANGLE))
        return _rarely(e, far, near, lambda: e.intrinsic(name, x))

    def emit(e: Lanes, t: DType, x: Any) -> Any:
        if t == float64:
            return double(e, x)
        near = e.b.fptrunc(_turn(e, e.b.fpext(x, e.vec(F64)), quarter), e.vec(F32))
        if quarter == 0:
            near = e.b.select(e.b.fcmp_ordered("==", x, e.const(F32, 0.0)), x, near)
        far = e.b.fcmp_ordered(">=", e.intrinsic("fabs", x), e.const(F32, 2.0**30))
        return _rarely(e, far, near, lambda: e.intrinsic(name, x))

    return emit


def _rarely(e: Lanes, where: Any, usual: Any, other: Callable[[], Any]) -> Any:
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


log = _in_double(_log_double, lambda e, x: _log_edges(e, x, math64.log(e, x)))
log2 = _in_double(_log2_double, lambda e, x: _log_edges(e, x, math64.log2(e, x)))
tanh = _in_double(_tanh_double, math64.tanh)
sin = _circular("sin", 0)
cos = _circular("cos", 1)


def erf(e: Lanes, t: DType, x: Any) -> Any:
    """The error function."""
    return math64.erf(e, x) if t == float64 else _erf_single(e, x)


def pow(e: Lanes, t: DType, a: Any, b: Any) -> Any:
    """a to the power b, as libm."""
    return e.intrinsic("pow", a, b)
