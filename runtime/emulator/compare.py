"""Comparison and selection."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tilec.ir.ptx.module import Instruction, Pair, Reg
from tilec.runtime.emulator.alu import Builder, mods, simple
from tilec.runtime.emulator.numbers import decode, flush
from tilec.runtime.emulator.operands import DTYPE, Get, getter, per_thread, setter
from tilec.runtime.emulator.program import Program, Run

if TYPE_CHECKING:
    from tilec.runtime.emulator.strand import Strand

Value = Any

_COMBINE: dict[str, Callable[..., Value]] = {
    "and": np.logical_and,
    "or": np.logical_or,
    "xor": np.logical_xor,
}
_COMPARE: dict[str, Callable[..., Value]] = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal, "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal,
}  # fmt: skip


def _compare(name: str) -> Callable[..., Value]:
    if name == "num":
        return lambda a, b: ~(np.isnan(a) | np.isnan(b))
    if name == "nan":
        return lambda a, b: np.isnan(a) | np.isnan(b)
    if name in _COMPARE:
        function = _COMPARE[name]
        if name == "ne":
            return lambda a, b: (a != b) & ~(_nan(a) | _nan(b))
        return function
    ordered = _COMPARE[name[:-1]]
    return lambda a, b: ordered(a, b) | _nan(a) | _nan(b)


def _nan(a: Value) -> Value:
    return np.isnan(a) if np.asarray(a).dtype.kind == "f" else np.zeros(np.shape(a), bool)


def setp(inst: Instruction, program: Program) -> Run:
    """setp with an optional second destination and a combined predicate."""
    parts = mods(inst)
    compare, type = _compare(parts[0]), parts[-1]
    combine = _COMBINE.get(parts[1])
    if type in ("f16x2", "bf16x2"):
        return _packed(compare, combine, inst, program)
    to = inst.operands[0]
    first, second = (to.first, to.second) if isinstance(to, Pair) else (to, Reg("_"))
    put, put_other = setter(program, first, "pred", inst), setter(program, second, "pred", inst)
    a, b = (_comparable(getter(program, o, type, inst), type, parts) for o in inst.operands[1:3])
    c = getter(program, inst.operands[3], "pred", inst) if combine else None

    def run(s: Strand) -> None:
        result = compare(a(s), b(s))
        if combine is None or c is None:
            put(s, result)
            put_other(s, ~result)
        else:
            put(s, combine(result, c(s)))
            put_other(s, combine(~result, c(s)))

    return run


def _packed(compare: Callable[..., Value], combine: Callable[..., Value] | None, inst: Instruction,
            program: Program) -> Run:  # fmt: skip
    """setp of pairs: the lower halves decide the first predicate, the upper ones the second."""
    to = inst.operands[0]
    targets = (to.first, to.second) if isinstance(to, Pair) else (to, Reg("_"))
    puts = [setter(program, o, "pred", inst) for o in targets]
    a, b = (_both(getter(program, o, "b32", inst), mods(inst)[-1]) for o in inst.operands[1:3])
    c = getter(program, inst.operands[3], "pred", inst) if combine else None

    def run(s: Strand) -> None:
        result = compare(a(s), b(s))
        for i, put in enumerate(puts):
            put(s, result[:, i] if combine is None or c is None else combine(result[:, i], c(s)))

    return run


def _both(get: Get, type: str) -> Get:
    """Both halves of a packed operand as float32: (threads, 2)."""
    fmt = type.removesuffix("x2")
    return lambda s: decode(np.ascontiguousarray(per_thread(s, get(s))).view(np.uint16), fmt).reshape(-1, 2)


def _comparable(get: Get, type: str, parts: list[str]) -> Get:
    if type == "bf16":
        return lambda s: decode(per_thread(s, get(s)), "bf16")
    if "ftz" in parts and type == "f32":
        return lambda s: flush(get(s))
    return get


def set_value(inst: Instruction, program: Program) -> Run:
    """set: the comparison as all ones or 1.0, perhaps combined with a predicate."""
    parts = mods(inst)
    compare, combine = _compare(parts[0]), _COMBINE.get(parts[1])
    result, type = parts[-2], parts[-1]
    if type.endswith("x2"):
        return _set_packed(compare, result, inst, program)
    bits = _TRUE.get(result)
    to = f"b{DTYPE[result].itemsize * 8}"
    true = DTYPE[to].type(bits if bits else (1 << DTYPE[to].itemsize * 8) - 1)
    put = setter(program, inst.operands[0], to, inst)
    a, b = (_comparable(getter(program, o, type, inst), type, parts) for o in inst.operands[1:3])
    c = getter(program, inst.operands[3], "pred", inst) if combine else None

    def run(s: Strand) -> None:
        found = compare(a(s), b(s))
        found = found if combine is None or c is None else combine(found, c(s))
        put(s, np.where(found, true, DTYPE[to].type(0)))

    return run


# 1.0 in the float types.
_TRUE = {"f32": 0x3F800000, "f16": 0x3C00, "bf16": 0x3F80, "f16x2": 0x3C00, "bf16x2": 0x3F80}


def _set_packed(compare: Callable[..., Value], result: str, inst: Instruction, program: Program) -> Run:
    """Each half of the result is all ones or 1.0."""
    true = np.uint16(_TRUE.get(result, 0xFFFF))
    put = setter(program, inst.operands[0], "b32", inst)
    a, b = (_both(getter(program, o, "b32", inst), mods(inst)[-1]) for o in inst.operands[1:3])

    def run(s: Strand) -> None:
        halves = np.where(compare(a(s), b(s)), true, np.uint16(0))
        put(s, np.ascontiguousarray(halves).view(np.uint32)[:, 0])

    return run


def selp(inst: Instruction, program: Program) -> Run:
    type = mods(inst)[0]
    return simple(lambda a, b, p: np.where(p, a, b), type, inst, program, sources=(type, type, "pred"))


def slct(inst: Instruction, program: Program) -> Run:
    type, by = mods(inst)[-2], mods(inst)[-1]
    return simple(lambda a, b, c: np.where(c >= 0, a, b), type, inst, program, sources=(type, type, by))


TABLE: dict[str, Builder] = {"setp": setp, "set": set_value, "selp": selp, "slct": slct}
