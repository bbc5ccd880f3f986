"""Floating-point arithmetic and conversions."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from tilec.ir.ptx.module import Instruction
from tilec.runtime.emulator import double
from tilec.runtime.emulator.alu import Builder, mods, simple
from tilec.runtime.emulator.numbers import FORMATS, Array, decode, encode, flush, fma32, round_to, sum_odd
from tilec.runtime.emulator.operands import DTYPE, getter, per_thread, setter
from tilec.runtime.emulator.program import Program, Run
from tilec.runtime.emulator.report import fault

if TYPE_CHECKING:
    from tilec.runtime.emulator.strand import Strand

Function = Callable[..., Any]


def _lesser(a: Array, b: Array) -> Array:
    """Minimum that takes -0 for less than +0, NaN if either is."""
    return np.where((a == b) & np.signbit(a), a, np.minimum(a, b))


def _greater(a: Array, b: Array) -> Array:
    return np.where((a == b) & np.signbit(a), b, np.maximum(a, b))


def _extreme(nan: Function) -> dict[bool, Function]:
    """For .NaN and without it, which prefers a number over NaN, of two or three operands."""

    def prefer_numbers(a: Array, b: Array) -> Array:
        return np.where(np.isnan(a), b, np.where(np.isnan(b), a, nan(a, b)))

    return {
        True: lambda *args: reduce(nan, args),
        False: lambda *args: reduce(prefer_numbers, args),
    }


_EXACT: dict[str, Function] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "abs": np.abs,
    "neg": lambda a: -a,
    "sqrt": np.sqrt,
    "rcp": lambda a: 1 / a,
    "rsqrt": lambda a: 1 / np.sqrt(a),
    "sin": np.sin,
    "cos": np.cos,
    "lg2": np.log2,
    "ex2": np.exp2,
    "tanh": np.tanh,
    "copysign": lambda a, b: np.copysign(b, a),
}
_EXTREMES = {"min": _extreme(_lesser), "max": _extreme(_greater)}
_ROUNDINGS = ("rn", "rz", "rm", "rp")


def arithmetic(inst: Instruction, program: Program) -> Run:
    """add sub mul div min max abs neg and the special functions, of one float type."""
    base, parts = inst.opcode.split(".")[0], mods(inst)
    type = parts[-1]
    mode = next((p for p in parts if p in _ROUNDINGS), "rn")
    if "f32" in parts[:-1]:
        return _mixed(base, mode, inst, program)
    function = _EXTREMES[base]["NaN" in parts] if base in _EXTREMES else _EXACT[base]
    if "xorsign" in parts:
        function = _with_xor_sign(function)
    elif "abs" in parts:
        function = _of_magnitudes(function)
    if type == "f64":
        function = function if mode == "rn" else double.directed(base, mode, function)
        return simple(_coarse(function) if "approx" in parts else function, type, inst, program)
    if type == "f32" and mode == "rn":
        return simple(_adjusted(function, parts), type, inst, program)
    return _narrow(base, function, parts, mode, inst, program)


def _coarse(function: Function) -> Function:
    """rcp.approx and rsqrt.approx of f64: the lower word of the result is zero."""

    def run(a: Array) -> Array:
        bits = np.atleast_1d(np.asarray(function(a), np.float64)).view(np.uint64)
        return (bits & np.uint64(0xFFFFFFFF00000000)).view(np.float64)

    return run


def _mixed(base: str, mode: str, inst: Instruction, program: Program) -> Run:
    """add, sub and fma of f32 whose factors or first term are f16 or bf16."""
    fmt = mods(inst)[-1]
    narrow = len(inst.operands) - 2
    gets = [getter(program, o, "b16", inst) for o in inst.operands[1 : 1 + narrow]]
    put, last = (
        setter(program, inst.operands[0], "f32", inst),
        getter(program, inst.operands[-1], "f32", inst),
    )

    def run(s: Strand) -> None:
        parts = [decode(np.ascontiguousarray(per_thread(s, g(s))), fmt).astype(np.float64) for g in gets]
        term = per_thread(s, last(s)).astype(np.float64)
        first = parts[0] if narrow == 1 else parts[0] * parts[1]
        found = round_to(sum_odd(first, -term if base == "sub" else term), "f32", mode)
        put(s, (np.where(np.isnan(found), 0, np.clip(found, 0, 1)) if "sat" in mods(inst) else found))

    return run


def _of_magnitudes(function: Function) -> Function:
    return lambda *args: function(*map(np.abs, args))


def _with_xor_sign(function: Function) -> Function:
    def run(a: Array, b: Array) -> Array:
        sign = np.where(np.signbit(a) ^ np.signbit(b), -1.0, 1.0).astype(np.float32)
        found = function(np.abs(a), np.abs(b))
        return np.where(np.isnan(found), found, np.copysign(found, sign))

    return run


def _adjusted(function: Function, parts: list[str]) -> Function:
    """float32 with .ftz and .sat."""
    if "ftz" in parts:
        inner = function
        function = lambda *args: flush(inner(*[flush(a) for a in args]))  # noqa: E731
    if "sat" in parts:
        unclamped = function
        function = lambda *args: np.where(np.isnan(r := unclamped(*args)), 0, np.clip(r, 0, 1))  # noqa: E731
    return function


def _narrow(base: str, function: Function, parts: list[str], mode: str, inst: Instruction,
            program: Program) -> Run:  # fmt: skip
    """16-bit types (packed or not), and f32 with directed rounding: through float64."""
    type = parts[-1]
    fmt = type.removesuffix("x2")

    function = _for_rounding(base, mode, function)

    def compute(*args: Array) -> Array:
        args = tuple(_flushed(a, fmt) for a in args) if "ftz" in parts else args
        wide = function(*[a.astype(np.float64) for a in args])
        wide = np.maximum(wide, 0) if "relu" in parts else _clamped(wide) if "sat" in parts else wide
        found = round_to(wide, fmt, mode)
        return _flushed(found, fmt) if "ftz" in parts else found

    return lanes(compute, type, inst, program)


def _clamped(x: Array) -> Array:
    return np.where(np.isnan(x), 0, np.clip(x, 0, 1))


def _flushed(x: Array, fmt: str) -> Array:
    """Subnormals of a format become zeros of the same sign."""
    return np.where(np.abs(x) < 2.0 ** (1 - FORMATS[fmt].bias), np.copysign(x.dtype.type(0), x), x)


def _for_rounding(base: str, mode: str, function: Function) -> Function:
    """A float64 function whose result can be rounded once more: exact, rounded to odd, or in the
    same direction."""
    if mode == "rn" or base not in ("add", "sub", "div", "rcp", "sqrt"):
        return function
    if base in ("add", "sub"):
        return lambda a, b: sum_odd(a, -b if base == "sub" else b)
    return double.directed(base, mode, function)


def lanes(compute: Function, type: str, inst: Instruction, program: Program) -> Run:
    """A Run that decodes 16- or 32-bit sources (both parts if packed), computes and encodes."""
    fmt, parts = type.removesuffix("x2"), 2 if type.endswith("x2") else 1
    raw, part = f"b{FORMATS[fmt].bits * parts}", np.dtype(f"u{FORMATS[fmt].bits // 8}")
    gets = [getter(program, o, raw, inst) for o in inst.operands[1:]]
    put = setter(program, inst.operands[0], raw, inst)

    def run(s: Strand) -> None:
        args = [np.ascontiguousarray(per_thread(s, g(s))).view(part) for g in gets]
        bits = encode(np.asarray(compute(*[decode(a, fmt) for a in args]), np.float64), fmt)
        put(s, bits.astype(part).view(DTYPE[raw]))

    return run


def fma(inst: Instruction, program: Program) -> Run:
    """fma and mad of floats: one rounding."""
    parts = mods(inst)
    type = parts[-1]
    mode = next((p for p in parts if p in _ROUNDINGS), "rn")
    if "f32" in parts[:-1]:
        return _mixed("fma", mode, inst, program)
    if "oob" in parts:
        raise fault("D404", "fma with .oob is not emulated", inst)
    if type == "f64":
        exact = double.fused(mode)
        return simple(exact, type, inst, program)
    if type == "f32" and mode == "rn":
        return simple(_adjusted(fma32, parts), type, inst, program)

    def compute(a: Array, b: Array, c: Array) -> Array:
        exact = sum_odd(a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64))
        exact = np.maximum(exact, 0) if "relu" in parts else exact
        return round_to(exact, type.removesuffix("x2"), mode)

    return lanes(compute, type, inst, program)


def test_property(inst: Instruction, program: Program) -> Run:
    tests: dict[str, Function] = {
        "finite": np.isfinite,
        "infinite": np.isinf,
        "number": lambda a: ~np.isnan(a),
        "notanumber": np.isnan,
        "normal": lambda a: np.isfinite(a) & (np.abs(a) >= np.finfo(a.dtype).tiny),
        "subnormal": lambda a: (a != 0) & (np.abs(a) < np.finfo(a.dtype).tiny),
    }
    return simple(tests[mods(inst)[0]], mods(inst)[1], inst, program, result="pred")


TABLE: dict[str, Builder] = {
    "fma": fma, "testp": test_property,
    **dict.fromkeys(
        ("sqrt", "rcp", "rsqrt", "sin", "cos", "lg2", "ex2", "tanh", "copysign"), arithmetic
    ),
}  # fmt: skip
FLOAT: dict[str, Builder] = {
    **dict.fromkeys(("add", "sub", "mul", "min", "max", "div", "neg", "abs"), arithmetic),
    "mad": fma,
}
