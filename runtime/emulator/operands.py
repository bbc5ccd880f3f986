"""Operands -> closures that read or write the registers of a strand's threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tilec.ir.ptx.module import Addr, Float, Instruction, Int, Not, Operand, Reg, Sym
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.program import CLASS_DTYPE, CLOCKS, WIDE, Program
from tilec.runtime.emulator.report import fault
from tilec.runtime.emulator.spaces import SHARED_WINDOW

if TYPE_CHECKING:
    from tilec.runtime.emulator.strand import Strand

Get = Callable[["Strand"], Any]
Put = Callable[["Strand", Any], None]

NUMPY: dict[str, Any] = {
    "pred": "bool", "b8": "uint8", "u8": "uint8", "s8": "int8", "b16": "uint16", "u16": "uint16",
    "s16": "int16", "f16": "float16", "bf16": "uint16", "b32": "uint32", "u32": "uint32", "s32": "int32",
    "f32": "float32", "tf32": "uint32", "f16x2": "uint32", "bf16x2": "uint32", "b64": "uint64",
    "u64": "uint64", "s64": "int64", "f64": "float64", "f32x2": "uint64", "b128": WIDE,
    "u16x2": "uint32", "s16x2": "uint32",
}  # fmt: skip
DTYPE = {name: np.dtype(dtype) for name, dtype in NUMPY.items()}


_ADDRESSES = (np.uint64, np.int64, np.uint32, np.int32)


def getter(program: Program, operand: Operand, type: str, inst: Instruction) -> Get:
    """Reads an operand as an array (or scalar) of the numpy dtype of a PTX type. A register
    wider than the type gives its low bits."""
    if isinstance(operand, Int):
        value = _immediate(operand.value, type)
        return lambda s: value
    if isinstance(operand, Float):
        real = DTYPE[type].type(operand.value) if DTYPE[type].kind == "f" else _float_bits(operand, type)
        return lambda s: real
    if isinstance(operand, Not):
        row = program.register(operand.reg, inst)
        return lambda s: ~s.regs[row][s.sel]
    if isinstance(operand, Sym) and operand.name == "WARP_SZ":
        lanes = _immediate(32, type)
        return lambda s: lanes
    if isinstance(operand, Sym) and not program.is_register(operand):
        return _symbol_getter(program, operand, DTYPE[type].type, inst)
    return _register_getter(program, operand, type, inst)


def _symbol_getter(program: Program, sym: Sym, to: Any, inst: Instruction) -> Get:
    """The address of a variable. Those of shared memory differ among the CTAs of a cluster."""
    if to not in _ADDRESSES:
        raise fault("D403", f"{sym.name} is an address, which this operand cannot be", inst)
    place = symbol_address(program, sym, inst)
    mask = 2**64 - 1 if to in _ADDRESSES[:2] else 2**32 - 1
    if program.addresses[sym.name][0] == "shared":
        return lambda s: to(s.cta.window + place & mask)
    fixed = to(place & mask)
    return lambda s: fixed


def _register_getter(program: Program, operand: Operand, type: str, inst: Instruction) -> Get:
    row = program.register(operand, inst)
    held, wanted = np.dtype(CLASS_DTYPE[program.classes[row]]), DTYPE[type]
    _require_class(held, wanted, operand, inst)
    name = operand.name if isinstance(operand, (Reg, Sym)) else ""
    if name in CLOCKS:
        shift, mask = CLOCKS[name], 2 ** (8 * held.itemsize) - 1
        return lambda s: np.full(s.n, s.cta.machine.now >> shift & mask, held).view(wanted)
    if held == wanted:
        return lambda s: s.regs[row][s.sel]
    if held.itemsize == wanted.itemsize:
        return lambda s: s.regs[row][s.sel].view(wanted)
    bits = np.dtype(f"uint{wanted.itemsize * 8}")
    return lambda s: s.regs[row][s.sel].astype(bits).view(wanted)


def setter(program: Program, operand: Operand, type: str, inst: Instruction) -> Put:
    """Writes a destination of a PTX type; a wider register gets the value zero- or
    sign-extended. ``_`` discards."""
    if isinstance(operand, Reg) and operand.name == "_":
        return lambda s, value: None
    row = program.register(operand, inst)
    held, given = np.dtype(CLASS_DTYPE[program.classes[row]]), DTYPE[type]
    _require_class(held, given, operand, inst)
    if held == given:
        return lambda s, value: _store(s, row, value)
    if held.itemsize == given.itemsize:
        return lambda s, value: _store(s, row, np.asarray(value, given).view(held))
    if given.kind == "i":
        wide = np.dtype(f"int{held.itemsize * 8}")
        return lambda s, value: _store(s, row, np.asarray(value, given).astype(wide).view(held))
    bits = np.dtype(f"uint{given.itemsize * 8}")
    return lambda s, value: _store(s, row, np.asarray(value, given).view(bits).astype(held))


def _require_class(held: np.dtype[Any], type: np.dtype[Any], operand: Operand, inst: Instruction) -> None:
    """Predicates and 128-bit registers are for operands of their own type only; others must be as
    wide as the type."""
    if held == type:
        return
    if "b" in (held.kind, type.kind) or "V" in (held.kind, type.kind) or held.itemsize < type.itemsize:
        name = operand.name if isinstance(operand, (Reg, Sym)) else operand
        raise fault("D401", f"register {name} does not fit the type of its operand", inst)


def _store(s: Strand, row: int, value: Any) -> None:
    s.regs[row][s.sel] = value


def _immediate(value: int, type: str) -> Any:
    dtype = DTYPE[type]
    if dtype.kind == "b":
        return np.bool_(value != 0)
    if dtype.kind == "f":
        return dtype.type(value)
    bits = np.array(value & ((1 << dtype.itemsize * 8) - 1), np.dtype(f"uint{dtype.itemsize * 8}"))
    return bits.view(dtype)[()]


def _float_bits(operand: Float, type: str) -> Any:
    if operand.width == 32 and DTYPE[type].itemsize == 4:
        return np.uint32(operand.bits)
    if DTYPE[type].itemsize == 4:
        return np.float32(operand.value).view(np.uint32)
    return np.uint64(operand.bits)


def symbol_address(program: Program, sym: Sym, inst: Instruction) -> int:
    """The address, in its own state space, of a variable or parameter."""
    found = program.addresses.get(sym.name)
    if found is None:
        raise fault("D402", f"{sym.name} names no variable or parameter", inst)
    return found[1] + sym.offset


def address(program: Program, operand: Operand, inst: Instruction) -> Get:
    """The address operand as uint64, one per thread (or one for all if it is a symbol)."""
    if not isinstance(operand, Addr):
        raise fault("D403", "an address was expected", inst)
    offset = np.uint64(operand.offset & (2**64 - 1))
    if isinstance(operand.base, Int):
        fixed = np.uint64(operand.base.value + operand.offset & 2**64 - 1)
        return lambda s: np.full(s.n, fixed)
    if not program.is_register(operand.base):
        base = operand.base
        sym = Sym(base.name, (base.offset if isinstance(base, Sym) else 0) + operand.offset)
        get = _symbol_getter(program, sym, np.uint64, inst)
        return lambda s: np.full(s.n, get(s))
    row = program.register(operand.base, inst)
    if program.classes[row] == "b64":
        return lambda s: s.regs[row][s.sel] + offset
    small = np.uint32(operand.offset & 0xFFFFFFFF)
    return lambda s: (s.regs[row][s.sel] + small).astype(np.uint64)


def shared_address(program: Program, operand: Operand, inst: Instruction) -> Get:
    """An address in shared memory: generic unless the opcode names the space."""
    where = address(program, operand, inst)
    if ".shared" in inst.opcode:
        return where
    window = np.uint64(SHARED_WINDOW)
    return lambda s: where(s) - window


def per_thread(s: Strand, value: Any) -> Array:
    """A value as an array with one element per thread of the strand."""
    if isinstance(value, np.ndarray) and value.shape == (s.n,):
        return value
    return np.broadcast_to(value, (s.n,))
