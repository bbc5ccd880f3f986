"""cvt in all its forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tilec.ir.ptx.module import Instruction
from tilec.runtime.emulator.alu import Builder, mods, simple
from tilec.runtime.emulator.numbers import FORMATS, Array, decode, encode, flush, round_to
from tilec.runtime.emulator.operands import DTYPE, Get, getter, per_thread, setter
from tilec.runtime.emulator.program import Program, Run
from tilec.runtime.emulator.report import fault

if TYPE_CHECKING:
    from tilec.runtime.emulator.strand import Strand

Function = Callable[..., Any]
_FLOATS = ("f16", "bf16", "f32", "f64", "tf32")
_ROUNDINGS = ("rn", "rz", "rm", "rp")
_INTEGRAL: dict[str, Function] = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


def convert(inst: Instruction, program: Program) -> Run:
    parts = mods(inst)
    if parts[0] == "pack":
        return _pack_integers(inst, program)
    if parts[-1].endswith("x4") or parts[-2].endswith("x4") or "scaled::n2::ue8m0" in parts:
        raise fault("D404", "conversions to four values or with scales are not emulated", inst)
    to, source = parts[-2], parts[-1]
    if to.endswith("x2"):
        return _to_pair(to, source, parts, inst, program)
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
    if mode == "rn" and to in ("f32", "f64"):
        dtype = np.dtype(DTYPE[to])
        return simple(lambda a: np.asarray(a).astype(dtype), source, inst, program, result=to)
    if to == "f64":
        return simple(lambda a: _integer_double(a, mode), source, inst, program, result=to)
    return simple(lambda a: _encoded(round_to(_sticky(a), to, mode), to), source, inst, program,
                  result=_bits_type(to))  # fmt: skip


def _sticky(a: Any) -> Array:
    """Integers as float64, rounded to odd: another rounding then gives the right result."""
    array = np.atleast_1d(np.asarray(a))
    if array.dtype.itemsize < 8:
        return array.astype(np.float64)
    return np.array([_odd(v) for v in array.tolist()])


def _odd(value: int) -> float:
    extra = max(abs(value).bit_length() - 53, 0)
    kept, lost = abs(value) >> extra, abs(value) & ((1 << extra) - 1)
    magnitude = float((kept | (lost != 0)) << extra)
    return -magnitude if value < 0 else magnitude


def _integer_double(a: Any, mode: str) -> Array:
    """64-bit integers as float64 with directed rounding."""
    out = []
    for value in np.atleast_1d(np.asarray(a)).tolist():
        near = float(value)
        up = mode == "rp" or (mode == "rz" and value < 0)
        if up and int(near) < value:
            near = float(np.nextafter(near, np.inf))
        elif not up and int(near) > value:
            near = float(np.nextafter(near, -np.inf))
        out.append(near)
    return np.array(out)


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
        wide = source == "f64" or to.endswith("64")
        return simple(lambda a: _to_integer(read(a), to, parts, wide), source, inst, program, result=to)
    integral = next((p for p in parts if p in _INTEGRAL), None)
    mode = next((p for p in parts if p in (*_ROUNDINGS, "rna")), "rn")

    def run(a: Array) -> Array:
        x = read(a)
        x = _INTEGRAL[integral](x) if integral else x
        x = _relu(x) if "relu" in parts else _unit(x) if "sat" in parts else x
        if to == "f64":
            return x
        found = round_to(x, to, mode, "satfinite" in parts)
        if "ftz" in parts and to == "f32":
            found = np.where(np.abs(found) < 2.0**-126, np.copysign(0.0, found), found)
        return _encoded(found, to)

    return simple(run, source, inst, program, result="f64" if to == "f64" else _bits_type(to))


def _relu(x: Array) -> Array:
    return np.where(np.isnan(x), x, np.maximum(x, 0.0))


def _unit(x: Array) -> Array:
    """.sat of floats: to [0, 1]; NaN gives 0."""
    return np.where(np.isnan(x), 0.0, np.clip(x, 0, 1))


def _to_integer(x: Array, to: str, parts: list[str], wide: bool) -> Array:
    """Rounded, clamped to the type's range. NaN gives 0, or with ``wide`` the highest bit alone."""
    integral = next(p for p in parts if p in _INTEGRAL)
    info = np.iinfo(DTYPE[to])
    y = _INTEGRAL[integral](np.where(np.isnan(x), 0.0, x))
    high, low = y >= float(info.max), y <= float(info.min)
    out = np.where(high | low, 0, y).astype(DTYPE[to])
    out = np.where(high, info.max, np.where(low, info.min, out)).astype(DTYPE[to])
    if not wide:
        return out
    alone = np.array(1 << (info.bits - 1), np.uint64).astype(f"u{info.bits // 8}").view(DTYPE[to])
    return np.where(np.isnan(x), alone, out).astype(DTYPE[to])


def _to_pair(to: str, source: str, parts: list[str], inst: Instruction, program: Program) -> Run:
    """Two values into one register: the first source becomes the upper part."""
    fmt = to.removesuffix("x2")
    read = _pair_source(source, inst, program)
    round_ = _rounder(fmt, parts, inst, program)
    out = "b32" if fmt in ("f16", "bf16") else "b8" if fmt == "e2m1" else "b16"
    put, step = setter(program, inst.operands[0], out, inst), 4 if fmt == "e2m1" else {"b32": 16}.get(out, 8)

    def run(s: Strand) -> None:
        codes = round_(s, read(s)).astype(np.uint32)
        put(s, (codes[:, 0] | codes[:, 1] << np.uint32(step)).astype(DTYPE[out]))

    return run


def _pair_source(source: str, inst: Instruction, program: Program) -> Callable[[Strand], Array]:
    """(threads, 2) float64 values, lower part first."""
    if source == "f32":
        high, low = (getter(program, o, "f32", inst) for o in inst.operands[1:3])
        return lambda s: np.stack([per_thread(s, low(s)), per_thread(s, high(s))], axis=1).astype(np.float64)
    inner = source.removesuffix("x2")
    raw = "b32" if inner in ("f16", "bf16") else "b8" if inner == "e2m1" else "b16"
    get = getter(program, inst.operands[1], raw, inst)
    return lambda s: _both(per_thread(s, get(s)), inner).astype(np.float64)


def _both(words: Array, fmt: str) -> Array:
    if fmt == "e2m1":
        return np.stack([decode(words & 15, fmt), decode(words >> 4, fmt)], axis=1)
    part = np.uint16 if fmt in ("f16", "bf16") else np.uint8
    return decode(np.ascontiguousarray(words).view(part), fmt).reshape(-1, 2)


def _rounder(
    fmt: str, parts: list[str], inst: Instruction, program: Program
) -> Callable[[Strand, Array], Array]:
    """Values (threads, 2) to the codes of a format."""
    saturate, relu = "satfinite" in parts, "relu" in parts
    mode = next(p for p in parts if p in (*_ROUNDINGS, "rs"))
    if fmt == "ue8m0":
        return lambda s, x: exponents(x, mode == "rp", saturate)
    if mode == "rs":
        return _stochastic(fmt, saturate, relu, getter(program, inst.operands[3], "b32", inst))
    return lambda s, x: encode(round_to(_relu(x) if relu else x, fmt, mode, saturate), fmt)


def exponents(x: Array, up: bool, saturate: bool) -> Array:
    """ue8m0 codes of magnitudes, rounded to a power of two. Beyond 2^127: NaN, or with
    ``saturate`` 2^127."""
    magnitude = np.where(np.isfinite(x), np.abs(x), 1.0)
    fraction, exponent = np.frexp(magnitude)
    code = exponent - 1 + 127 + np.where(up & (fraction > 0.5), 1, 0)
    code = np.where(magnitude == 0, 0, np.maximum(code, 0))
    top = 254 if saturate else 255
    code = np.where(np.isinf(x), top, np.minimum(code, top))
    return np.where(np.isnan(x), 255, code)


def _stochastic(fmt: str, saturate: bool, relu: bool, bits: Get) -> Callable[[Strand, Array], Array]:
    """.rs to f16 or bf16: random bits are added to those that are dropped."""
    drop = 23 - FORMATS[fmt].mantissa

    def run(s: Strand, x: Array) -> Array:
        words = np.ascontiguousarray(per_thread(s, bits(s))).view(np.uint16).reshape(-1, 2)
        least = 2.0 ** (1 - FORMATS[fmt].bias)
        value = _relu(x) if relu else x
        quantum = np.ldexp(1.0, np.frexp(np.maximum(np.abs(value), least))[1] - 1 - FORMATS[fmt].mantissa)
        random = (words & ((1 << drop) - 1)).astype(np.float64) * 2.0**-drop
        moved = np.trunc(np.abs(value) / quantum + random) * quantum
        finite = np.where(np.isfinite(value), np.copysign(moved, value), value)
        return encode(round_to(finite, fmt, "rz", saturate), fmt)

    return run


def _pack_integers(inst: Instruction, program: Program) -> Run:
    """cvt.pack: two integers, saturated to few bits, below the lower bits of a third."""
    type = mods(inst)[2]
    size, signed = int(type[1:]), type[0] == "s"
    low, high = (-(1 << (size - 1)), (1 << (size - 1)) - 1) if signed else (0, (1 << size) - 1)
    a, b = (getter(program, o, "s32", inst) for o in inst.operands[1:3])
    c = getter(program, inst.operands[3], "b32", inst) if len(inst.operands) > 3 else None
    put = setter(program, inst.operands[0], "b32", inst)

    def run(s: Strand) -> None:
        first, second = (np.clip(per_thread(s, g(s)).astype(np.int64), low, high) for g in (a, b))
        mask = (1 << size) - 1
        packed = (first & mask) << size | (second & mask)
        if c is not None:
            packed = packed | per_thread(s, c(s)).astype(np.int64) << (2 * size)
        put(s, (packed & 0xFFFFFFFF).astype(np.uint32))

    return run


TABLE: dict[str, Builder] = {"cvt": convert}
