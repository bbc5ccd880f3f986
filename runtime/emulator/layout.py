"""Where variables and parameters of a module lie."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from tilec.ir.errors import UnsupportedError
from tilec.ir.ptx.module import TYPE_BYTES, Entry, Float, Module, Scope, Statement, Var, param_layout
from tilec.runtime.emulator.spaces import GlobalMemory

Addresses = dict[str, tuple[str, int]]


def place(module: Module, entry: Entry, memory: GlobalMemory, dynamic: int) -> tuple[Addresses, int]:
    """(space, address) of every variable and parameter, and the bytes of shared memory of a
    CTA: static variables first, then ``dynamic`` bytes for the unsized one."""
    found: Addresses = {name: ("param", at) for name, at in param_layout(entry.params)[0].items()}
    variables = [*(i for i in module.items if isinstance(i, Var)), *_inner(entry.body)]
    used = 0
    for var in (v for v in variables if v.space == "shared" and v.count != -1):
        used = _align(used, var)
        found[var.name] = ("shared", used)
        used += _size(var)
    for var in (v for v in variables if v.space == "shared" and v.count == -1):
        used = _align(used, var)
        found[var.name] = ("shared", used)
    for var in (v for v in variables if v.space in ("global", "const")):
        found[var.name] = ("global", memory.add(_content(var), var.align or 16, var.name))
    if any(v.space == "local" for v in variables):
        raise UnsupportedError("U421", "local memory is not emulated", help="run this kernel on a GPU")
    return found, used + dynamic


def _inner(body: Iterable[Statement]) -> list[Var]:
    out: list[Var] = []
    for s in body:
        if isinstance(s, Var):
            out.append(s)
        elif isinstance(s, Scope):
            out += _inner(s.body)
    return out


def _align(at: int, var: Var) -> int:
    align = max(var.align, TYPE_BYTES[var.type])
    return -(-at // align) * align


def _size(var: Var) -> int:
    return TYPE_BYTES[var.type] * (1 if var.count is None else max(var.count, 0))


def _content(var: Var) -> bytes:
    width = TYPE_BYTES[var.type]
    parts = [_bytes(v, width) for v in var.init]
    return b"".join(parts).ljust(max(_size(var), 1), b"\0")


def _bytes(value: int | Float | str, width: int) -> bytes:
    if isinstance(value, str):
        raise UnsupportedError("U421", f"a variable initialised with {value!r} is not emulated")
    if isinstance(value, Float):
        return struct.pack("<I" if value.width == 32 else "<Q", value.bits)
    return (value & ((1 << 8 * width) - 1)).to_bytes(width, "little")
