"""Integer and logic instructions, and moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tilec.ir.ptx.module import Instruction, Int, Operand, Vec
from tilec.runtime.emulator import bits
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.operands import DTYPE, getter, per_thread, setter
from tilec.runtime.emulator.program import Program, Run
from tilec.runtime.emulator.report import fault
from tilec.runtime.emulator.spaces import WINDOW

if TYPE_CHECKING:
    from tilec.runtime.emulator.strand import Strand

Value = Any
Builder = Callable[[Instruction, Program], Run]


def mods(inst: Instruction) -> list[str]:
    """The parts of the opcode after the first."""
    return inst.opcode.split(".")[1:]


def groups_left(inst: Instruction) -> int:
    """How many groups a wait_group leaves under way; no program has more than 2**31."""
    first = inst.operands[0] if inst.operands else None
    return min(max(first.value, 0), 1 << 31) if isinstance(first, Int) else 0


def simple(function: Callable[..., Value], type: str, inst: Instruction, program: Program,
           result: str | None = None, sources: tuple[str, ...] = ()) -> Run:  # fmt: skip
    """A Run that applies ``function`` to all sources (of ``type`` or ``sources``)."""
    put = setter(program, inst.operands[0], result or type, inst)
    types = sources or (type,) * (len(inst.operands) - 1)
    gets = [getter(program, o, t, inst) for o, t in zip(inst.operands[1:], types, strict=True)]
    if len(gets) == 1:
        (a,) = gets
        return lambda s: put(s, function(a(s)))
    if len(gets) == 2:
        a, b = gets
        return lambda s: put(s, function(a(s), b(s)))
    return lambda s: put(s, function(*[g(s) for g in gets]))


def mov(inst: Instruction, program: Program) -> Run:
    to, source = inst.operands
    type = mods(inst)[0]
    if type == "b128":
        return bits.move128(inst, program)
    if isinstance(to, Vec):
        return _unpack(to, source, type, inst, program)
    if isinstance(source, Vec):
        return _pack(to, source, type, inst, program)
    return simple(lambda a: a, type, inst, program)


def _part_type(type: str, count: int, inst: Instruction) -> str:
    part = f"b{int(type[1:]) // count}" if type[1:].isdigit() else ""
    if part not in ("b8", "b16", "b32"):
        raise fault("D405", f"{count} parts of {type}", inst)
    return part


def _pack(to: Operand, source: Vec, type: str, inst: Instruction, program: Program) -> Run:
    part = _part_type(type, len(source.items), inst)
    gets = [getter(program, o, part, inst) for o in source.items]
    put, width = setter(program, to, type, inst), DTYPE[part].itemsize * 8
    wide = DTYPE[type].type

    def run(s: Strand) -> None:
        value = wide(0)
        for i, get in enumerate(gets):
            value = value | (per_thread(s, get(s)).astype(wide) << wide(i * width))
        put(s, value)

    return run


def _unpack(to: Vec, source: Operand, type: str, inst: Instruction, program: Program) -> Run:
    part = _part_type(type, len(to.items), inst)
    puts = [setter(program, o, part, inst) for o in to.items]
    get, width = getter(program, source, type, inst), DTYPE[part].itemsize * 8
    wide, narrow = DTYPE[type].type, DTYPE[part]

    def run(s: Strand) -> None:
        value = per_thread(s, get(s))
        for i, put in enumerate(puts):
            put(s, (value >> wide(i * width)).astype(narrow))

    return run


def _divide(a: Array, b: Array) -> Value:
    """Quotient truncated toward zero; division by zero gives all ones, as on the device."""
    a, b = np.broadcast_arrays(a, b)
    safe = np.where(b == 0, 1, b).astype(a.dtype)
    q = a // safe
    if a.dtype.kind == "i":
        q = q + ((q * safe != a) & ((a < 0) != (safe < 0)))
    return np.where(b == 0, np.array(-1).astype(a.dtype), q).astype(a.dtype)


def _remainder(a: Array, b: Array) -> Value:
    return (a - _divide(a, b) * b).astype(np.result_type(a, b))


def _high(a: Array, b: Array) -> Value:
    """The upper half of the full product."""
    dtype = np.result_type(a, b)
    width = dtype.itemsize * 8
    if width < 64:
        wide = np.dtype(f"{dtype.kind}{dtype.itemsize * 2}")
        return (a.astype(wide) * b.astype(wide) >> wide.type(width)).astype(dtype)
    products = [(int(x) * int(y)) >> 64 for x, y in zip(*np.broadcast_arrays(a, b), strict=True)]
    return np.array([p & (2**64 - 1) for p in products], np.uint64).view(dtype)


_BINARY: dict[str, Callable[..., Value]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "min": np.minimum,
    "max": np.maximum,
    "div": _divide,
    "rem": _remainder,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "not": lambda a: ~a,
    "neg": lambda a: -a,
    "abs": np.abs,
    "cnot": lambda a: (a == 0).astype(a.dtype),
    "sad": lambda a, b, c: np.where(a > b, a - b, b - a) + c,
}


def arithmetic(inst: Instruction, program: Program) -> Run:
    """add sub min max div rem and or xor not neg abs cnot sad, of integers."""
    base, parts = inst.opcode.split(".")[0], mods(inst)
    if "cc" in parts or base in ("addc", "subc"):
        return bits.extended(inst, program)
    if parts[-1] in ("u16x2", "s16x2") or "relu" in parts:
        return bits.packed(inst, program)
    function = _BINARY[base]
    if "sat" in parts:
        return simple(_saturated(function), parts[-1], inst, program)
    return simple(function, parts[-1], inst, program)


def _saturated(function: Callable[..., Value]) -> Callable[..., Value]:
    def run(a: Array, b: Array) -> Value:
        wide = function(np.asarray(a, np.int64), np.asarray(b, np.int64))
        return np.clip(wide, -(2**31), 2**31 - 1).astype(np.int32)

    return run


def multiply(inst: Instruction, program: Program) -> Run:
    """mul and mad of integers: lo, hi, wide."""
    half, type = mods(inst)[0], mods(inst)[-1]
    if "cc" in mods(inst) or inst.opcode.startswith("madc"):
        return bits.extended(inst, program)
    if "sat" in mods(inst):
        return bits.saturated_high(inst, program)
    if half == "wide":
        wide = f"{type[0]}{int(type[1:]) * 2}"
        to = DTYPE[wide].type

        def widen(a: Array, b: Array, c: Value = None) -> Value:
            product = np.asarray(a).astype(to) * np.asarray(b).astype(to)
            return product if c is None else product + c

        types = (type, type) if len(inst.operands) == 3 else (type, type, wide)
        return simple(widen, wide, inst, program, sources=types)
    product = _high if half == "hi" else lambda a, b: a * b
    if len(inst.operands) == 3:
        return simple(product, type, inst, program)
    return simple(lambda a, b, c: product(a, b) + c, type, inst, program)


def shift(inst: Instruction, program: Program) -> Run:
    """shl and shr: amounts beyond the width give 0 (or the sign)."""
    type = mods(inst)[0]
    bits = DTYPE[type].itemsize * 8
    left = inst.opcode.startswith("shl")

    def run(a: Array, n: Array) -> Value:
        a = np.asarray(a)
        amount = np.minimum(n, np.uint32(bits - 1)).astype(a.dtype)
        moved = a << amount if left else a >> amount
        return moved if a.dtype.kind == "i" else np.where(n >= bits, a.dtype.type(0), moved)

    return simple(run, type, inst, program, sources=(type, "u32"))


def funnel(inst: Instruction, program: Program) -> Run:
    """shf.l and shf.r on the pair (high, low)."""
    left, clamp = mods(inst)[0] == "l", mods(inst)[1] == "clamp"

    def run(low: Array, high: Array, n: Array) -> Value:
        pair = np.asarray(low).astype(np.uint64) | (np.asarray(high).astype(np.uint64) << np.uint64(32))
        amount = np.minimum(n, np.uint32(32)) if clamp else n & np.uint32(31)
        wide = np.asarray(amount).astype(np.uint64)
        moved = (pair << wide) >> np.uint64(32) if left else pair >> wide
        return moved.astype(np.uint32)

    return simple(run, "b32", inst, program)


def bit_field(inst: Instruction, program: Program) -> Run:
    """bfe and bfi: position and length are 8-bit."""
    type = mods(inst)[0]
    if inst.opcode.startswith("bfi"):
        return simple(_insert, type, inst, program, sources=(type, type, "u32", "u32"))
    return simple(_extract, type, inst, program, sources=(type, "u32", "u32"))


def _extract(a: Array, position: Array, length: Array) -> Value:
    a = np.asarray(a)
    bits = a.dtype.itemsize * 8
    unsigned = np.dtype(f"u{a.dtype.itemsize}")
    pos, count = np.minimum(position & 255, bits), np.minimum(length & 255, bits)
    raw = a.view(unsigned).astype(np.uint64)
    mask = (np.uint64(1) << count.astype(np.uint64)) - np.uint64(1)
    mask = np.where(count >= 64, np.uint64(2**64 - 1), mask)
    field = np.where(pos >= 64, np.uint64(0), raw >> np.minimum(pos, 63).astype(np.uint64)) & mask
    if a.dtype.kind == "i":
        top = np.minimum(pos.astype(np.int64) + count - 1, bits - 1)
        sign = (raw >> np.maximum(top, 0).astype(np.uint64)) & np.uint64(1)
        field = np.where((count > 0) & (sign == 1), field | ~mask, field)
    return field.astype(unsigned).view(a.dtype)


def _insert(a: Array, b: Array, position: Array, length: Array) -> Value:
    b = np.asarray(b)
    bits = b.dtype.itemsize * 8
    pos, count = np.minimum(position & 255, bits), np.minimum(length & 255, bits)
    mask = np.where(
        count >= 64, np.uint64(2**64 - 1), (np.uint64(1) << count.astype(np.uint64)) - np.uint64(1)
    )
    shift_by = np.minimum(pos, 63).astype(np.uint64)
    mask = np.where(pos >= bits, np.uint64(0), mask << shift_by)
    wide = (b.astype(np.uint64) & ~mask) | ((np.asarray(a).astype(np.uint64) << shift_by) & mask)
    return wide.astype(b.dtype)


def _leading_zeros(a: Array) -> Array:
    a = np.asarray(a)
    bits = a.dtype.itemsize * 8
    out = np.full(a.shape, bits, np.uint32)
    for i in range(bits):
        out = np.where((a >> a.dtype.type(i)) & a.dtype.type(1), np.uint32(bits - 1 - i), out)
    return out


def _reversed_bits(a: Array) -> Array:
    a = np.asarray(a)
    bits = a.dtype.itemsize * 8
    out = np.zeros_like(a)
    for i in range(bits):
        out |= ((a >> a.dtype.type(i)) & a.dtype.type(1)) << a.dtype.type(bits - 1 - i)
    return out


def count_bits(inst: Instruction, program: Program) -> Run:
    """popc, clz, brev, bfind."""
    base, type = inst.opcode.split(".")[0], mods(inst)[-1]
    if base == "brev":
        return simple(_reversed_bits, type, inst, program)
    if base == "popc":
        return simple(lambda a: np.bitwise_count(a).astype(np.uint32), type, inst, program, result="u32")
    if base == "clz":
        return simple(_leading_zeros, type, inst, program, result="u32")
    if "shiftamt" in mods(inst):
        width = np.uint32(DTYPE[type].itemsize * 8 - 1)
        return simple(lambda a: _shift_amount(_find_leading(a), width), type, inst, program, result="u32")
    return simple(_find_leading, type, inst, program, result="u32")


def _shift_amount(position: Array, width: Any) -> Array:
    """bfind.shiftamt: how far to shift the bit that was found to the top."""
    return np.where(position == np.uint32(0xFFFFFFFF), position, width - position).astype(np.uint32)


def _find_leading(a: Array) -> Array:
    a = np.asarray(a)
    unsigned = np.dtype(f"u{a.dtype.itemsize}")
    raw = np.where(a < 0, ~a, a).astype(unsigned) if a.dtype.kind == "i" else a
    zeros = _leading_zeros(raw).astype(np.int64)
    return (a.dtype.itemsize * 8 - 1 - zeros).astype(np.int32).view(np.uint32)


def permute(inst: Instruction, program: Program) -> Run:
    """prmt.b32, default mode: four selectors of 4 bits, bit 3 copies the sign."""
    if len(mods(inst)) > 1:
        return bits.permute_mode(inst, program)

    def run(a: Array, b: Array, c: Array) -> Value:
        pair = np.asarray(a).astype(np.uint64) | (np.asarray(b).astype(np.uint64) << np.uint64(32))
        out = np.zeros(np.broadcast(a, b, c).shape, np.uint64)
        for i in range(4):
            select = np.asarray(c >> np.uint32(4 * i)).astype(np.uint64)
            byte = (pair >> ((select & np.uint64(7)) * np.uint64(8))) & np.uint64(255)
            sign = np.where(byte & np.uint64(128), np.uint64(255), np.uint64(0))
            out |= np.where(select & np.uint64(8), sign, byte) << np.uint64(8 * i)
        return out.astype(np.uint32)

    return simple(run, "b32", inst, program)


def lop3(inst: Instruction, program: Program) -> Run:
    """Any function of three bits, by its truth table."""

    def run(a: Array, b: Array, c: Array, table: Value) -> Value:
        out: Value = np.uint32(0)
        for i in range(8):
            if int(table) >> i & 1:
                out = out | ((a if i & 4 else ~a) & (b if i & 2 else ~b) & (c if i & 1 else ~c))
        return out

    if len(mods(inst)) > 1:
        return bits.logic_with_predicate(inst, program, run)
    return simple(run, "b32", inst, program)


def dot_product(inst: Instruction, program: Program) -> Run:
    """dp4a and dp2a: bytes (and halves) multiplied and summed."""
    parts = inst.opcode.split(".")
    a_type, b_type = parts[-2], parts[-1]

    def run(a: Array, b: Array, c: Array) -> Value:
        a_parts = _split(a, 1 if parts[0] == "dp4a" else 2, a_type)
        b_parts = _split(b, 1, b_type)
        b_parts = b_parts[2:] if parts[1] == "hi" else b_parts
        total = sum(x * y for x, y in zip(a_parts, b_parts, strict=False))
        return (np.asarray(c).astype(np.int64) + total).astype(np.uint32)

    return simple(run, "u32", inst, program)


def _split(a: Array, size: int, type: str) -> list[Array]:
    unsigned, dtype = np.dtype(f"u{size}"), np.dtype(f"{'i' if type[0] == 's' else 'u'}{size}")
    step = size * 8
    return [
        np.asarray(a >> np.uint32(i * step)).astype(unsigned).view(dtype).astype(np.int64)
        for i in range(4 // size)
    ]


def cvta(inst: Instruction, program: Program) -> Run:
    """Between a state space and generic addresses: each space has a window."""
    to = mods(inst)[0] == "to"
    space = mods(inst)[1 if to else 0]
    shift_by = np.uint64(WINDOW[space])

    def run(a: Array) -> Array:
        moved: Array = a - shift_by if to else a + shift_by
        return moved

    return simple(run, "u64", inst, program)


TABLE: dict[str, Builder] = {
    "mov": mov, "cvta": cvta, "shl": shift, "shr": shift, "shf": funnel, "prmt": permute, "lop3": lop3,
    "madc": multiply, **dict.fromkeys(("bfe", "bfi"), bit_field),
    **dict.fromkeys(("popc", "clz", "brev", "bfind"), count_bits),
    **dict.fromkeys(("dp4a", "dp2a"), dot_product), **dict.fromkeys(("bmsk", "szext", "fns"), bits.masks),
    **dict.fromkeys(("mul24", "mad24"), bits.multiply24),
    **dict.fromkeys(("rem", "and", "or", "xor", "not", "cnot", "sad", "addc", "subc"), arithmetic),
}  # fmt: skip
INTEGER: dict[str, Builder] = {
    **dict.fromkeys(("add", "sub", "min", "max", "div", "neg", "abs"), arithmetic),
    "mul": multiply,
    "mad": multiply,
}
