"""Straight-line code on one vector of elements: types, constants, intrinsics, splats.

In a register a bool is an i1, float16 a half, and bfloat16 and the 8-bit floats
are their bits (i16, i8), so that loads, stores and selects never change a NaN.
In memory a bool takes a byte.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir

from tilec.backends.cpu.target import CpuTarget
from tilec.ir.types import DType

I1, I8, I16, I32, I64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))
F16, F32, F64 = ir.HalfType(), ir.FloatType(), ir.DoubleType()
PTR = ir.PointerType()
VOID = ir.VoidType()

_FLOATS: dict[str, Any] = {
    "float16": F16, "bfloat16": I16, "float32": F32, "float64": F64,
    "float8_e4m3": I8, "float8_e5m2": I8,
}  # fmt: skip


class Literal(ir.Constant):  # type: ignore[misc]
    """A constant given as LLVM text, for what llvmlite cannot spell."""

    def __init__(self, type_: Any, text: str) -> None:
        self.type, self.constant = type_, text

    def get_reference(self) -> str:
        return str(self.constant)

    def _to_string(self) -> str:
        return f"{self.type} {self.constant}"


def register(dtype: DType) -> Any:
    """The LLVM type of one element in a register."""
    return _FLOATS[dtype.name] if dtype.is_float else ir.IntType(dtype.bits)


def storage(dtype: DType) -> Any:
    """The LLVM type of one element in memory."""
    return I8 if dtype.kind == "bool" else register(dtype)


def is_small(dtype: DType) -> bool:
    """Floats that are computed in float32 and rounded once per op."""
    return dtype.is_float and dtype.bits < 32


def scalar_constant(type_: Any, value: Any) -> Any:
    """A constant of an LLVM scalar type."""
    if type_ in (F16, F32, F64):
        return Literal(type_, _float_text(type_, value))
    return ir.Constant(type_, int(value) & ((1 << type_.width) - 1) if type_.width > 1 else bool(value))


def _float_text(type_: Any, value: Any) -> str:
    """LLVM writes halves as their bits, and floats as the bits of the double."""
    if type_ == F16:
        return f"0xH{int(np.float16(value).view(np.uint16)):04X}"
    double = float(np.float32(value)) if type_ == F32 else float(value)
    return f"0x{struct.unpack('<Q', struct.pack('<d', double))[0]:016X}"


def element_constant(dtype: DType, value: Any) -> Any:
    """A constant of a dtype, in its register type."""
    element = np.asarray(np.full((), value)).astype(dtype.np)
    if dtype.kind == "bool":
        return scalar_constant(I1, bool(element))
    if register(dtype) in (F16, F32, F64):
        return scalar_constant(register(dtype), element[()])
    return scalar_constant(register(dtype), int(element.view(f"u{dtype.bytes}")))


@dataclass
class Lanes:
    """A builder together with how many elements each value holds (1: plain scalars)."""

    b: Any
    lanes: int
    target: CpuTarget

    def vec(self, scalar: Any) -> Any:
        """The type of ``lanes`` elements of a scalar type."""
        return scalar if self.lanes == 1 else ir.VectorType(scalar, self.lanes)

    def splat_constant(self, constant: Any) -> Any:
        if self.lanes == 1:
            return constant
        return Literal(self.vec(constant.type), f"splat ({constant})")

    def const(self, scalar: Any, value: Any) -> Any:
        """The same constant in all lanes."""
        return self.splat_constant(scalar_constant(scalar, value))

    def splat(self, value: Any) -> Any:
        """A scalar value in all lanes."""
        if self.lanes == 1:
            return value
        if isinstance(value, ir.Constant):
            return self.splat_constant(value)
        undef = ir.Constant(self.vec(value.type), ir.Undefined)
        one = self.b.insert_element(undef, value, I32(0))
        zeros = ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes)
        return self.b.shuffle_vector(one, undef, zeros)

    def iota(self, scalar: Any) -> Any:
        """0, 1, 2, ... over the lanes."""
        if self.lanes == 1:
            return scalar(0)
        return ir.Constant(self.vec(scalar), list(range(self.lanes)))

    def call(self, name: str, result: Any, *args: Any) -> Any:
        """Call an intrinsic that is overloaded on the type of its first operand (and result)."""
        function = declare(self.b.module, name, result, [a.type for a in args])
        return self.b.call(function, args)

    def intrinsic(self, name: str, *args: Any) -> Any:
        """``llvm.name`` whose operands and result have one type."""
        return self.call(f"llvm.{name}.{suffix(args[0].type)}", args[0].type, *args)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """a * b + c, fused where the host has it in one instruction."""
        if self.target.fma:
            return self.intrinsic("fma", a, b, c)
        return self.b.fadd(self.b.fmul(a, b), c)

    def per_lane(self, fn: Callable[..., Any], *args: Any) -> Any:
        """Apply a function on scalars lane by lane."""
        if self.lanes == 1:
            return fn(*args)
        out = None
        for i in range(self.lanes):
            one = fn(*(self.b.extract_element(a, I32(i)) for a in args))
            start = ir.Constant(self.vec(one.type), ir.Undefined) if out is None else out
            out = self.b.insert_element(start, one, I32(i))
        return out

    def halves(self, value: Any, combine: Callable[[Lanes, Any, Any], Any]) -> Any:
        """Combine all lanes of a vector into one scalar, by halving (lanes: a power of two)."""
        lanes = self.lanes
        while lanes > 1:
            lanes //= 2
            low, high = (
                self.b.shuffle_vector(value, value, ir.Constant(ir.VectorType(I32, lanes), list(index)))
                for index in (range(lanes), range(lanes, 2 * lanes))
            )
            value = combine(Lanes(self.b, lanes, self.target), low, high)
        return self.b.extract_element(value, I32(0)) if self.lanes > 1 else value


def suffix(type_: Any) -> str:
    """How an intrinsic's name spells a type."""
    if isinstance(type_, ir.VectorType):
        return f"v{type_.count}{suffix(type_.element)}"
    return {F16: "f16", F32: "f32", F64: "f64"}.get(type_) or f"i{type_.width}"


def declare(module: Any, name: str, result: Any, args: Sequence[Any]) -> Any:
    """The declaration of an external function or intrinsic in the module."""
    if name in module.globals:
        return module.globals[name]
    return ir.Function(module, ir.FunctionType(result, args), name)
