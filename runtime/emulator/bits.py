"""Integer instructions that are not element by element of one type: carries, packed halves, 24-bit
products, masks, byte permutations with a mode, 128-bit moves, lop3 with a predicate."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tilec.ir.ptx.module import Instruction, Operand, Pair, Reg, Vec
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.operands import DTYPE, Get, Put, getter, per_thread, setter
from tilec.runtime.emulator.program import WIDE, Program, Run

if TYPE_CHECKING:
    from tilec.runtime.emulator.strand import Strand

Function = Callable[..., Any]
CARRY = Reg("the carry")


def _gets(inst: Instruction, program: Program, *types: str) -> list[Get]:
    return [getter(program, o, t, inst) for o, t in zip(inst.operands[1:], types, strict=True)]


def _apply(inst: Instruction, program: Program, result: str, types: tuple[str, ...],
           function: Function) -> Run:  # fmt: skip
    put, gets = setter(program, inst.operands[0], result, inst), _gets(inst, program, *types)
    return lambda s: put(s, function(*[per_thread(s, g(s)) for g in gets]))


def _carry(program: Program, inst: Instruction) -> tuple[Get, Put]:
    """The condition code CC.CF of each thread."""
    program.declared[CARRY.name] = "pred"
    return getter(program, CARRY, "pred", inst), setter(program, CARRY, "pred", inst)


def extended(inst: Instruction, program: Program) -> Run:
    """add, sub and mad with .cc, and addc, subc, madc: the carry in and out."""
    parts = inst.opcode.split(".")
    type = "u64" if parts[-1].endswith("64") else "u32"
    takes, gives, product = parts[0].endswith("c"), "cc" in parts, parts[0].startswith("mad")
    gets = _gets(inst, program, *(type,) * (3 if product else 2))
    put, (read, write) = setter(program, inst.operands[0], type, inst), _carry(program, inst)
    signed = parts[-1][0] == "s"

    def run(s: Strand) -> None:
        values = [per_thread(s, g(s)) for g in gets]
        if product:
            values = [_half_product(values[0], values[1], parts[1] == "hi", signed), values[2]]
        carry = per_thread(s, read(s)) if takes else np.zeros(s.n, bool)
        total, out = _with_carry(values[0], values[1], carry, parts[0].startswith("sub"))
        put(s, total)
        if gives:
            write(s, out)

    return run


def _with_carry(a: Array, b: Array, carry: Array, subtracts: bool) -> tuple[Array, Array]:
    """a + b + carry, or a - b - borrow, and the carry (borrow) out."""
    one = carry.astype(a.dtype)
    if subtracts:
        return a - b - one, (a < b) | ((a == b) & carry)
    first = a + b
    total = first + one
    return total, (first < a) | (total < first)


def _half_product(a: Array, b: Array, high: bool, signed: bool) -> Array:
    if not high:
        return a * b
    bits = a.dtype.itemsize * 8
    kind = np.dtype(f"{'i' if signed else 'u'}{a.dtype.itemsize}")
    products = [int(x) * int(y) >> bits for x, y in zip(a.view(kind), b.view(kind), strict=True)]
    return np.array([p & ((1 << bits) - 1) for p in products], a.dtype)


def _halves(function: Function, dtype: str) -> Function:
    """A function of 16-bit integers, on both halves of 32-bit words."""

    def run(*words: Array) -> Array:
        parts = [np.ascontiguousarray(w).view(dtype) for w in words]
        return np.ascontiguousarray(function(*parts).astype(dtype)).view(np.uint32)

    return run


_PACKED: dict[str, Function] = {
    "add": lambda a, b: a + b,
    "min": np.minimum,
    "max": np.maximum,
}


def packed(inst: Instruction, program: Program) -> Run:
    """add, min and max of u16x2 and s16x2; min.relu and max.relu."""
    parts = inst.opcode.split(".")
    function, type = _PACKED[parts[0]], parts[-1]
    if "relu" in parts:
        plain = function
        function = lambda a, b: np.maximum(plain(a, b), 0)  # noqa: E731
    if type == "s32":
        return _apply(inst, program, type, (type, type), function)
    dtype = "i2" if type[0] == "s" else "u2"
    return _apply(inst, program, "b32", ("b32", "b32"), _halves(function, dtype))


def multiply24(inst: Instruction, program: Program) -> Run:
    """mul24 and mad24: .lo the lowest 32 bits of the 48-bit product, .hi bits 16 to 47."""
    parts = inst.opcode.split(".")
    type, high, saturates = parts[-1], "hi" in parts, "sat" in parts

    def run(a: Array, b: Array, c: Any = 0) -> Array:
        wide = [_low24(x, type[0] == "s") for x in (a, b)]
        product = wide[0] * wide[1]
        part = product >> 16 if high else product
        total = part.astype(np.int64) + np.asarray(c).astype(np.int64)
        total = np.clip(total, -(2**31), 2**31 - 1) if saturates else total
        return total.astype(np.uint64).astype(np.uint32).view(DTYPE[type])

    count = 2 if parts[0] == "mul24" else 3
    return _apply(inst, program, type, (type,) * count, run)


def _low24(a: Array, signed: bool) -> Array:
    low = a.astype(np.int64) & 0xFFFFFF
    return np.where(low & 0x800000, low - 0x1000000, low) if signed else low


def saturated_high(inst: Instruction, program: Program) -> Run:
    """mad.hi.sat.s32."""

    def run(a: Array, b: Array, c: Array) -> Array:
        high = a.astype(np.int64) * b.astype(np.int64) >> 32
        return np.asarray(np.clip(high + c, -(2**31), 2**31 - 1), np.int32)

    return _apply(inst, program, "s32", ("s32",) * 3, run)


def _mask(a: Array, b: Array, clamps: bool) -> Array:
    """bmsk: b ones from bit a."""
    start, count = (np.minimum(x, 32) if clamps else x & np.uint32(31) for x in (a, b))
    wide = ((np.uint64(1) << count.astype(np.uint64)) - np.uint64(1)) << start.astype(np.uint64)
    return wide.astype(np.uint32)


def _extend(a: Array, n: Array, clamps: bool, signed: bool) -> Array:
    """szext: the lowest n bits, sign- or zero-extended."""
    count = np.minimum(n, 32) if clamps else n & np.uint32(31)
    ones = ((np.uint64(1) << count.astype(np.uint64)) - np.uint64(1)).astype(np.uint32)
    raw = a.view(np.uint32) & ones
    if signed:
        top = (raw >> (np.maximum(count, 1) - 1)) & 1
        raw = np.where((count > 0) & (top == 1), raw | ~ones, raw)
    return raw.astype(np.uint32).view(a.dtype)


def masks(inst: Instruction, program: Program) -> Run:
    """bmsk, szext and fns."""
    parts = inst.opcode.split(".")
    if parts[0] == "fns":
        return _apply(inst, program, "b32", ("b32", "b32", "s32"), _nth_set)
    clamps, type = parts[1] == "clamp", parts[-1]
    if parts[0] == "bmsk":
        return _apply(inst, program, "b32", ("u32", "u32"), lambda a, b: _mask(a, b, clamps))
    signed = type == "s32"
    return _apply(inst, program, type, (type, "u32"), lambda a, n: _extend(a, n, clamps, signed))


def _nth_set(mask: Array, base: Array, offset: Array) -> Array:
    """fns: the offset-th set bit from base on, upwards if positive, else downwards."""
    rows = zip(mask.tolist(), base.tolist(), offset.tolist(), strict=True)
    return np.array([_find(*row) for row in rows], np.uint32)


def _find(mask: int, base: int, offset: int) -> int:
    if base > 31:
        return 0xFFFFFFFF
    if offset == 0:
        return base if mask >> base & 1 else 0xFFFFFFFF
    order = range(base, 32) if offset > 0 else range(base, -1, -1)
    found = [i for i in order if mask >> i & 1]
    return found[abs(offset) - 1] if len(found) >= abs(offset) else 0xFFFFFFFF


# The bytes of the result, lowest first, for each value of the selector.
_PERMUTE: dict[str, Callable[[int], tuple[int, ...]]] = {
    "f4e": lambda n: (n, n + 1, n + 2, n + 3),
    "b4e": lambda n: (n, (n - 1) % 8, (n - 2) % 8, (n - 3) % 8),
    "rc8": lambda n: (n,) * 4,
    "ecl": lambda n: tuple(max(i, n) for i in range(4)),
    "ecr": lambda n: tuple(min(i, n) for i in range(4)),
    "rc16": lambda n: (2 * (n & 1), 2 * (n & 1) + 1) * 2,
}


def permute_mode(inst: Instruction, program: Program) -> Run:
    """prmt.b32 with a mode: which bytes of (a, b), by the lowest two bits of c."""
    choose = np.array([_PERMUTE[inst.opcode.split(".")[2]](n) for n in range(4)])

    def run(a: Array, b: Array, c: Array) -> Array:
        both = np.stack([a, b], axis=1).view(np.uint8)
        picked = np.take_along_axis(both, choose[c & 3], axis=1)
        return np.ascontiguousarray(picked).view(np.uint32)[:, 0]

    return _apply(inst, program, "b32", ("b32",) * 3, run)


def logic_with_predicate(inst: Instruction, program: Program, function: Function) -> Run:
    """lop3.and and lop3.or: also whether the result is not zero, combined with a predicate."""
    to = inst.operands[0]
    first, second = (to.first, to.second) if isinstance(to, Pair) else (to, Reg("_"))
    put, put_other = setter(program, first, "b32", inst), setter(program, second, "pred", inst)
    gets = _gets(inst, program, "b32", "b32", "b32", "b32", "pred")
    combine = np.logical_and if ".and." in inst.opcode else np.logical_or

    def run(s: Strand) -> None:
        *words, table, q = (g(s) for g in gets)
        found = per_thread(s, function(*words, table))
        put(s, found)
        put_other(s, combine(found != 0, q))

    return run


def move128(inst: Instruction, program: Program) -> Run:
    """mov.b128: a register, or a pair of 64-bit ones, low first."""
    to, source = inst.operands
    if isinstance(to, Vec):
        low, high = (setter(program, o, "b64", inst) for o in _two(to))
        get = getter(program, source, "b128", inst)

        def unpack(s: Strand) -> None:
            value = per_thread(s, get(s))
            low(s, value["low"])
            high(s, value["high"])

        return unpack
    put = setter(program, to, "b128", inst)
    if not isinstance(source, Vec):
        whole = getter(program, source, "b128", inst)
        return lambda s: put(s, whole(s))
    parts = [getter(program, o, "b64", inst) for o in _two(source)]
    return lambda s: put(s, wide(*[per_thread(s, g(s)) for g in parts]))


def _two(vector: Vec) -> tuple[Operand, ...]:
    return vector.items if len(vector.items) == 2 else (Reg("_"), Reg("_"))


def wide(low: Array, high: Array) -> Array:
    """128-bit values."""
    out = np.empty(len(low), WIDE)
    out["low"], out["high"] = low, high
    return out
