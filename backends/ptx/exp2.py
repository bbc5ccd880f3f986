"""2**x without the special function unit: a polynomial on the FMA pipe.

x = n + f with n = floor(x), by an addition that rounds down to whole numbers: the sum's lowest bits are
n + 127, and shifted they are 2**n. 2**f on [0, 1] is a polynomial of degree 5 with 2**0 = 1.

Largest error 1.6e-7 relative, that of f included; NaN for NaN; infinity from 128 on; as of
ex2.approx.ftz, what is below 2**-126 is 0. Twelve instructions: 9 on the FMA pipe, 3 on the ALU.
"""

from __future__ import annotations

from typing import Protocol

from tilec.backends.ptx.context import Emitter
from tilec.ir.ptx.module import Float, Reg, f32

# Least relative error on [0, 1] at 2000 Chebyshev points (8.3e-8), rounded to float32 and moved by last
# places so that the error of the rounded evaluation is least.
COEFFICIENTS = (1.0, 0.6931512951850891, 0.24016447365283966, 0.05579990893602371, 0.009017030708491802,
                0.001867129816673696)  # fmt: skip
WHOLE = f32(2.0**23 + 2.0**22 + 127)  # numbers of this size have no fraction; the exponent's bias with it
LEAST, MOST = f32(-127.0), f32(128.0)
MANTISSA = 23
SIXTEEN = 16


class Arithmetic(Protocol):
    """What the polynomial needs of `maths.F32`."""

    e: Emitter

    def __call__(self, opcode: str, *args: Reg | Float) -> Reg: ...

    def mul(self, a: Reg | Float, b: Reg | Float) -> Reg: ...

    def polynomial(self, x: Reg, coefficients: tuple[float, ...]) -> Reg: ...


def exp2(f: Arithmetic, x: Reg) -> Reg:
    """2**x of an f32 register."""
    x = f("min.NaN.f32", f("max.NaN.f32", x, LEAST), MOST)
    shifted = f("add.rm.f32", x, WHOLE)
    fraction = f("sub.rn.f32", x, f("sub.rn.f32", shifted, WHOLE))
    exponent = f.e.make("b32", "shl.b32", f.e.make("b32", "mov.b32", shifted), MANTISSA)
    return f.mul(f.polynomial(fraction, COEFFICIENTS), f.e.make("f32", "mov.b32", exponent))


def by_polynomial(number: int, share: int) -> bool:
    """Whether element ``number`` of a thread is one of the ``share`` in 16, evenly spread."""
    return number * share % SIXTEEN < share
