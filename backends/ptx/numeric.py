"""Single elements: constants, widening to the type of computation, and rounding back.

float16, bfloat16 and the 8-bit floats are computed in f32 and rounded once. 8- and
16-bit integers are computed in 32 bits and extended again.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import Any

import numpy as np

from tilec.backends.ptx.context import Emitter, register_type
from tilec.ir.ptx.module import Float, Int, Operand, Reg, f32
from tilec.ir.types import DType, float8_e4m3, float64

# |x| from which rounding leaves the 8-bit range: above 464 e4m3 has only NaN, from 61440 e5m2 infinity.
E4M3_LIMIT, E5M2_LIMIT = 464.0, 61440.0


def compute_type(dtype: DType) -> str:
    """The PTX type in which arithmetic of a dtype is done: f32, f64, s32, u32, s64 or u64."""
    if dtype.is_float:
        return "f64" if dtype.bits == 64 else "f32"
    return f"{'s' if dtype.kind == 'int' else 'u'}{max(dtype.bits, 32)}"


def bits(dtype: DType) -> str:
    """The untyped PTX type of the registers of ``compute_type``."""
    return register_type(dtype) if not dtype.is_float else compute_type(dtype)


def immediate(dtype: DType, value: Any) -> Operand:
    """A number as an operand for a register of the dtype."""
    number = np.asarray(value).astype(dtype.np)
    if dtype.kind == "bool":
        return Int(-1 if number else 0)
    if not dtype.is_float:
        return Int(int(number))
    raw = int(number.reshape(1).view(f"uint{dtype.bits}")[0])
    return Float(raw, dtype.bits) if dtype.bits >= 32 else Int(raw)


def constant(e: Emitter, dtype: DType, value: Any) -> Reg:
    """A register that holds a number; not to be written."""
    operand = immediate(dtype, value)
    kind = register_type(dtype)
    return e.cached(("constant", dtype, operand), lambda: e.make(kind, f"mov.{kind}", operand))  # type: ignore[no-any-return]


def widen(e: Emitter, dtype: DType, x: Reg) -> Reg:
    """An element in its type of computation."""
    if dtype.name == "float16":
        return e.make("f32", "cvt.f32.f16", x)
    if dtype.name == "bfloat16":
        return e.make("f32", "cvt.f32.bf16", x)
    if dtype.is_float and dtype.bits == 8:
        return _widen8(e, dtype, x)
    return x


def _widen8(e: Emitter, dtype: DType, x: Reg) -> Reg:
    pair = e.make("b32", f"cvt.rn.f16x2.{_FP8[dtype.name]}x2", x)
    half = e.make("b16", "cvt.u16.u32", pair)
    return e.make("f32", "cvt.f32.f16", half)


_FP8 = {"float8_e4m3": "e4m3", "float8_e5m2": "e5m2"}


def narrow(e: Emitter, dtype: DType, x: Reg) -> Reg:
    """The inverse of `widen`: rounds floats, extends integers to their canonical form."""
    if dtype.is_float:
        return _round(e, dtype, x)
    if dtype.bits < 32 and dtype.kind != "bool":
        return e.make("b32", f"cvt.{'s' if dtype.kind == 'int' else 'u'}32.{_small(dtype)}", x)
    return x


def _small(dtype: DType) -> str:
    return f"{'s' if dtype.kind == 'int' else 'u'}{dtype.bits}"


def _round(e: Emitter, dtype: DType, x: Reg) -> Reg:
    if dtype.name == "float16":
        return e.make("b16", "cvt.rn.f16.f32", x)
    if dtype.name == "bfloat16":
        return e.make("b16", "cvt.rn.bf16.f32", x)
    return _round8(e, dtype, x) if dtype.bits == 8 else x


def short(e: Emitter, dtype: DType, x: Reg) -> Reg:
    """An f32 register as an 8-bit float; too large a number as the largest."""
    near = e.make("b16", _to_pair(dtype), f32(0.0), x)
    e.shortened[near] = dtype, x
    return near


def _to_pair(dtype: DType) -> str:
    return f"cvt.rn.satfinite.{_FP8[dtype.name]}x2.f32"


def _round8(e: Emitter, dtype: DType, x: Reg) -> Reg:
    """The instruction saturates; beyond the range the result has to be NaN (e4m3) or infinity."""
    size = e.make("f32", "abs.f32", x)
    if dtype == float8_e4m3:
        beyond = e.make("pred", "setp.gt.f32", size, f32(E4M3_LIMIT))
        return short(e, dtype, e.make("f32", "selp.f32", f32(nan), x, beyond))
    near = e.make("b16", _to_pair(dtype), f32(0.0), x)
    beyond = e.make("pred", "setp.ge.f32", size, f32(E5M2_LIMIT))
    infinity = e.make("b16", "or.b16", e.make("b16", "and.b16", near, 0x80), 0x7C)
    return e.make("b16", "selp.b16", infinity, near, beyond)


def join_bytes(e: Emitter, parts: Sequence[Reg]) -> Reg:
    """Four bytes, each in the low bits of a register, in one; those that were just rounded two at a time."""
    short_ones = [e.shortened[r] for r in parts if r in e.shortened]
    if len(short_ones) == len(parts) and len({dtype for dtype, _ in short_ones}) == 1:
        (dtype, *_), kept = zip(*short_ones, strict=True)
        pairs = (e.make("b16", _to_pair(dtype), kept[i + 1], kept[i]) for i in (0, 2))
        return e.make("b32", "mov.b32", tuple(pairs))
    wide = [e.make("b32", "cvt.u32.u16", r) if r.name.startswith("%rs") else r for r in parts]
    low, high = (e.make("b32", "prmt.b32", wide[i], wide[i + 1], 0x0040) for i in (0, 2))
    return e.make("b32", "prmt.b32", low, high, 0x5410)


def narrow_f64(e: Emitter, dtype: DType, x: Reg) -> Reg:
    """A float64 rounded once to another float dtype."""
    direct = {"float32": ("f32", "cvt.rn.f32.f64"), "float16": ("b16", "cvt.rn.f16.f64"),
              "bfloat16": ("b16", "cvt.rn.bf16.f64")}  # fmt: skip
    if dtype == float64:
        return x
    if dtype.name in direct:
        kind, opcode = direct[dtype.name]
        return e.make(kind, opcode, x)
    return _round8(e, dtype, to_odd(e, x))


def to_odd(e: Emitter, x: Reg) -> Reg:
    """A float64 as float32, truncated, the last bit set if it was not exact: a later rounding
    to fewer bits is then right."""
    near = e.make("f32", "cvt.rz.f32.f64", x)
    back = e.make("f64", "cvt.f64.f32", near)
    inexact = e.make("pred", "setp.ne.f64", back, x)
    raw = e.make("b32", "mov.b32", near)
    odd = e.make("b32", "or.b32", raw, 1)
    return e.make("f32", "mov.b32", e.make("b32", "selp.b32", odd, raw, inexact))
