"""Floating-point arithmetic and conversions."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from tilec.ir.ptx.module import Instruction
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
    function = _EXTREMES[base]["NaN" in parts] if base in _EXTREMES else _EXACT[base]
    if "xorsign" in parts:
        function = _with_xor_sign(function)
    elif "abs" in parts:
        function = _of_magnitudes(function)
    if type == "f64":
        if mode != "rn":
            raise fault("D404", "directed rounding of f64 is not emulated", inst)
        return simple(function, type, inst, program)
    if type == "f32" and mode == "rn":
        return simple(_adjusted(function, parts), type, inst, program)
    return _narrow(base, function, parts, mode, inst, program)


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

    def compute(*args: Array) -> Array:
        wide = function(*[a.astype(np.float64) for a in (map(flush, args) if "ftz" in parts else args)])
        wide = np.maximum(wide, 0) if "relu" in parts else np.clip(wide, 0, 1) if "sat" in parts else wide
        return round_to(wide, fmt, mode)

    return lanes(compute, type, inst, program)


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
    if type == "f64":
        return simple(lambda a, b, c: a * b + c, type, inst, program)
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


_FLOATS = ("f16", "bf16", "f32", "f64", "tf32")


def convert(inst: Instruction, program: Program) -> Run:
    """cvt in all forms that the table has."""
    parts = mods(inst)
    if parts[0] == "pack":
        raise fault("D404", "cvt.pack is not emulated", inst)
    to, source = parts[-2], parts[-1]
    if to.endswith("x2"):
        return _pack_pair(to, source, parts, inst, program)
    if to not in _FLOATS and source not in _FLOATS:
        return simple(_integer_cast(to, parts), source, inst, program, result=to)
    if source not in _FLOATS:
        return _from_integer(to, source, parts, inst, program)
    return _from_float(to, source, parts, inst, program)


def _integer_cast(to: str, parts: list[str]) -> Function:
    dtype = DTYPE[to]
    if "sat" not in parts:
        return lambda a: np.asarray(a).astype(dtype)
    info = np.iinfo(dtype)

    def run(a: Array) -> Array:
        low = max(int(info.min), int(np.iinfo(a.dtype).min))
        high = min(int(info.max), int(np.iinfo(a.dtype).max))
        return np.clip(a, a.dtype.type(low), a.dtype.type(high)).astype(dtype)

    return run


def _from_integer(to: str, source: str, parts: list[str], inst: Instruction, program: Program) -> Run:
    mode = next((p for p in parts if p in _ROUNDINGS), "rn")
    if to == "f64":
        return simple(lambda a: a.astype(np.float64), source, inst, program, result=to)
    if mode == "rn" and to == "f32":
        return simple(lambda a: a.astype(np.float32), source, inst, program, result=to)
    return simple(lambda a: _encoded(round_to(a.astype(np.float64), to, mode), to), source, inst, program,
                  result=_bits_type(to))  # fmt: skip


def _bits_type(fmt: str) -> str:
    return {16: "b16", 32: "b32"}[FORMATS[fmt].bits]


def _encoded(x: Array, fmt: str) -> Array:
    return encode(np.asarray(x, np.float64), fmt)


def _wide(a: Any, type: str) -> Array:
    """float64 values of a raw or typed source."""
    array = np.atleast_1d(np.asarray(a))
    if type == "bf16":
        return decode(array, "bf16").astype(np.float64)
    return array.astype(np.float64)


def _from_float(to: str, source: str, parts: list[str], inst: Instruction, program: Program) -> Run:
    ftz = "ftz" in parts and source == "f32"
    read: Function = (lambda a: _wide(flush(a), source)) if ftz else lambda a: _wide(a, source)
    if to not in _FLOATS:
        return simple(lambda a: _to_integer(read(a), to, parts), source, inst, program, result=to)
    integral = next((p for p in parts if p in ("rni", "rzi", "rmi", "rpi")), None)
    mode = next((p for p in parts if p in (*_ROUNDINGS, "rna")), "rn")

    def run(a: Array) -> Array:
        x = read(a)
        x = _INTEGRAL[integral](x) if integral else x
        x = np.maximum(x, 0) if "relu" in parts else np.clip(x, 0, 1) if "sat" in parts else x
        return x if to == "f64" else _encoded(round_to(x, to, mode), to)

    return simple(run, source, inst, program, result="f64" if to == "f64" else _bits_type(to))


_INTEGRAL: dict[str, Function] = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


def _to_integer(x: Array, to: str, parts: list[str]) -> Array:
    """Rounded, clamped to the type's range; NaN gives 0."""
    integral = next(p for p in parts if p in _INTEGRAL)
    info = np.iinfo(DTYPE[to])
    y = np.nan_to_num(_INTEGRAL[integral](x), nan=0.0, posinf=np.inf, neginf=-np.inf)
    high, low = y >= float(info.max), y <= float(info.min)
    out = np.where(high | low, 0, y).astype(DTYPE[to])
    return np.where(high, info.max, np.where(low, info.min, out)).astype(DTYPE[to])


def _pack_pair(to: str, source: str, parts: list[str], inst: Instruction, program: Program) -> Run:
    """Two values into one register: the first source becomes the upper half."""
    fmt = to.removesuffix("x2")
    saturate, mode = "satfinite" in parts, "rz" if "rz" in parts else "rn"
    out, half = ("b32", np.uint16) if FORMATS[fmt].bits == 16 else ("b16", np.uint8)
    put = setter(program, inst.operands[0], out, inst)

    def finish(s: Strand, low: Array, high: Array) -> None:
        pair = np.stack([low, high], axis=-1).astype(np.float64)
        pair = np.maximum(pair, 0) if "relu" in parts else pair
        bits = encode(round_to(pair, fmt, mode, saturate), fmt).astype(half)
        put(s, np.ascontiguousarray(bits).view(DTYPE[out])[:, 0])

    if source == "f32":
        high, low = (getter(program, o, "f32", inst) for o in inst.operands[1:3])
        return lambda s: finish(s, per_thread(s, low(s)), per_thread(s, high(s)))
    inner = source.removesuffix("x2")
    raw, part = ("b32", np.uint16) if FORMATS[inner].bits == 16 else ("b16", np.uint8)
    get = getter(program, inst.operands[1], raw, inst)

    def run(s: Strand) -> None:
        both = decode(np.ascontiguousarray(per_thread(s, get(s))).view(part), inner).reshape(-1, 2)
        finish(s, both[:, 0], both[:, 1])

    return run


TABLE: dict[str, Builder] = {
    "fma": fma, "cvt": convert, "testp": test_property,
    **dict.fromkeys(
        ("sqrt", "rcp", "rsqrt", "sin", "cos", "lg2", "ex2", "tanh", "copysign"), arithmetic
    ),
}  # fmt: skip
FLOAT: dict[str, Builder] = {
    **dict.fromkeys(("add", "sub", "mul", "min", "max", "div", "neg", "abs"), arithmetic),
    "mad": fma,
}
