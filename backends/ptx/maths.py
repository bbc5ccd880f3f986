"""Emit rules of the transcendental functions, computed in f32.

Largest errors against the exact function, before the rounding to the tile's dtype
(ex2.approx and lg2.approx: NVIDIA PTX ISA, "Floating Point Instructions"):

    exp2            2 ulp; results below 2**-126 are 0
    exp             2 + 1.5 |x| ulp; results below 2**-126 are 0
    log2, log       2**-21 absolute for x in (0.5, 2), else 3 ulp
    pow             (4 + 3 |b log2 a|) ulp + |b| 2**-21 relative
    rsqrt           2 ulp
    sin, cos        2**-19 absolute for |x| < 2**15
    tanh            4 ulp
    sigmoid         4 ulp for x > 0, else 4 + 1.5 |x| ulp; results below 2**-126 are 0
    erf             2**-20 absolute

A ``share`` of the elements takes 2**x by a polynomial (`exp2.py`): relative error 1.6e-7, so that 2 ulp
of exp2 become 3, with the same limits; 2**-22 relative holds for both.

float64 has no such instructions: UnsupportedError U131.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import count

from tilec.backends.ptx.arith import Element, dtype_of_operand, rounded
from tilec.backends.ptx.context import Emitter, Rule
from tilec.backends.ptx.exp2 import by_polynomial, exp2
from tilec.ir.core import Op
from tilec.ir.errors import UnsupportedError
from tilec.ir.ptx.module import Float, Reg, f32
from tilec.ir.types import DType

LOG2_E, LN_2 = 1 / math.log(2), math.log(2)
ONE, HALF = f32(1.0), f32(0.5)
# 2 pi in three parts of which the first two have trailing zeros, so that n * part is exact.
TWO_PI = (6.28125, 0.0019350051879882812, 3.0199159819567529e-07)
# Least squares fits at 400 Chebyshev points: tanh(x) = x + x**3 p(x**2) for x**2 <= 0.36,
# erf(x) = x p(x**2) for x**2 <= 0.49; their errors are below 1e-9.
TANH = (-0.33333334, 0.13333313, -0.053961653, 0.02178911, -0.0084125577, 0.0023735187)
ERF = (1.1283792, -0.37612638, 0.11283785, -0.026865348, 0.0052191243, -0.0008400178, 9.769007738e-05)
# Abramowitz and Stegun, 7.1.26: erf(x) = 1 - t p(t) exp(-x**2), t = 1 / (1 + 0.3275911 x).
ERF_TAIL = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
ERF_SCALE = 0.3275911


class F32:
    """Short names for f32 instructions."""

    def __init__(self, e: Emitter, polynomial: bool = False) -> None:
        self.e, self.by_polynomial = e, polynomial

    def __call__(self, opcode: str, *args: Reg | Float) -> Reg:
        return self.e.make("f32", opcode, *args)

    def mul(self, a: Reg | Float, b: Reg | Float) -> Reg:
        return self("mul.rn.f32", a, b)

    def fma(self, a: Reg | Float, b: Reg | Float, c: Reg | Float) -> Reg:
        return self("fma.rn.f32", a, b, c)

    def ex2(self, a: Reg) -> Reg:
        return exp2(self, a) if self.by_polynomial else self("ex2.approx.ftz.f32", a)

    def test(self, opcode: str, *args: Reg | Float) -> Reg:
        return self.e.make("pred", opcode, *args)

    def select(self, cond: Reg, a: Reg | Float, b: Reg | Float) -> Reg:
        return self("selp.f32", a, b, cond)

    def polynomial(self, x: Reg, coefficients: Sequence[float]) -> Reg:
        """Horner's rule, lowest coefficient first."""
        *rest, last = coefficients
        total: Reg | Float = f32(last)
        for c in reversed(rest):
            total = self.fma(total, x, f32(c))
        assert isinstance(total, Reg)
        return total

    def reciprocal(self, x: Reg) -> Reg:
        """Within 1 ulp, and of numbers of at least 1, since results below 2**-126 become 0."""
        return self("rcp.approx.ftz.f32", x)


def _exp(f: F32, x: Reg) -> Reg:
    return f.ex2(f.mul(x, f32(LOG2_E)))


def _log(f: F32, x: Reg) -> Reg:
    return f.mul(f("lg2.approx.f32", x), f32(LN_2))


def _sigmoid(f: F32, x: Reg) -> Reg:
    return f.reciprocal(f("add.rn.f32", f.ex2(f.mul(x, f32(-LOG2_E))), ONE))


def _circular(name: str) -> Element:
    def element(f: F32, x: Reg) -> Reg:
        n = f("cvt.rni.f32.f32", f.mul(x, f32(0.5 / math.pi)))
        turns = f("neg.f32", n)
        for part in TWO_PI:
            x = f.fma(turns, f32(part), x)
        return f(f"{name}.approx.f32", x)

    return element


def _tanh(f: F32, x: Reg) -> Reg:
    size = f("abs.f32", x)
    grown = f("add.rn.f32", f.ex2(f.mul(size, f32(2 * LOG2_E))), ONE)
    large = f("copysign.f32", x, f.fma(f32(-2.0), f.reciprocal(grown), ONE))
    square = f.mul(x, x)
    small = f.fma(f.mul(f.polynomial(square, TANH), square), x, x)
    return f.select(f.test("setp.ge.f32", size, f32(0.6)), large, small)


def _erf(f: F32, x: Reg) -> Reg:
    size = f("abs.f32", x)
    square = f.mul(x, x)
    t = f.reciprocal(f.fma(size, f32(ERF_SCALE), ONE))
    tail = f.mul(f.mul(f.polynomial(t, ERF_TAIL), t), f.ex2(f.mul(square, f32(-LOG2_E))))
    large = f("copysign.f32", x, f("sub.rn.f32", ONE, tail))
    small = f.mul(x, f.polynomial(square, ERF))
    # "Not small" rather than "large", so that NaN takes the polynomial and stays NaN.
    return f.select(f.test("setp.ge.f32", size, f32(0.7)), large, small)


def _pow(f: F32, a: Reg, b: Reg) -> Reg:
    """|a| to the b by exp2 and log2; then the sign, negative bases, and the cases that give 1."""
    size = f.ex2(f.mul(b, f("lg2.approx.f32", f("abs.f32", a))))
    whole = f.test("setp.eq.f32", f("cvt.rni.f32.f32", b), b)
    half = f.mul(b, HALF)
    odd = f.test("setp.ne.and.f32", f("cvt.rni.f32.f32", half), half, whole)
    size = f.select(f.test("setp.eq.f32", f("abs.f32", a), ONE), ONE, size)
    signed = f.select(odd, f("copysign.f32", a, size), size)
    defined = f.test("setp.geu.or.f32", a, f32(0.0), whole)
    defined = f.test("setp.eq.or.f32", a, f32(-math.inf), defined)
    result = f.select(defined, signed, f32(math.nan))
    result = f.select(f.test("setp.nan.f32", b, b), f("add.rn.f32", a, b), result)
    result = f.select(f.test("setp.eq.f32", a, ONE), ONE, result)
    return f.select(f.test("setp.eq.f32", b, f32(0.0)), ONE, result)


def _rule(element: Element) -> Rule:
    def rule(e: Emitter, op: Op) -> None:
        if dtype_of_operand(op).bits == 64:
            raise UnsupportedError(
                "U131",
                f"{op.name} of float64 has no GPU instruction",
                help="compute it in float32: x.to(tl.float32)",
            )
        share, number = op.attrs.get("share", 0), count()

        def computed(e: Emitter, dtype: DType, *regs: Reg) -> Reg:
            return element(F32(e, by_polynomial(next(number), share)), *regs)

        rounded(computed)(e, op)

    return rule


RULES: dict[str, Rule] = {
    "exp": _rule(_exp),
    "exp2": _rule(lambda f, x: f.ex2(x)),
    "log": _rule(_log),
    "log2": _rule(lambda f, x: f("lg2.approx.f32", x)),
    "rsqrt": _rule(lambda f, x: f("rsqrt.approx.f32", x)),
    "sin": _rule(_circular("sin")),
    "cos": _rule(_circular("cos")),
    "tanh": _rule(_tanh),
    "sigmoid": _rule(_sigmoid),
    "erf": _rule(_erf),
    "pow": _rule(_pow),
}
