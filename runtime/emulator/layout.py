"""Where variables and parameters of a module lie."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable

import numpy as np

from tilec.ir.errors import ResourceError, UnsupportedError
from tilec.ir.ptx.module import (
    TYPE_BYTES,
    Entry,
    Float,
    Function,
    Module,
    Scope,
    Statement,
    Var,
    param_layout,
)
from tilec.runtime.emulator.spaces import GlobalMemory

Addresses = dict[str, tuple[str, int]]
# What sm_90 and sm_100 let a CTA have.
MOST_SHARED = 227 * 1024


def place(module: Module, entry: Entry, memory: GlobalMemory, dynamic: int) -> tuple[Addresses, int]:
    """(space, address) of every variable and parameter, and the bytes of shared memory of a
    CTA: static variables first, then ``dynamic`` bytes for the unsized one."""
    found: Addresses = {name: ("param", at) for name, at in param_layout(entry.params)[0].items()}
    bodies = [entry.body, *(i.body or () for i in module.items if isinstance(i, Function))]
    variables = [i for i in module.items if isinstance(i, Var)]
    variables += [v for body in bodies for v in _inner(body)]
    used = 0
    for var in (v for v in variables if v.space == "shared" and v.count != -1):
        used = _align(used, var)
        found[var.name] = ("shared", used)
        used += _size(var)
    for var in (v for v in variables if v.space == "shared" and v.count == -1):
        used = _align(used, var)
        found[var.name] = ("shared", used)
    if used + dynamic > MOST_SHARED:
        text = f"{used + dynamic} bytes of shared memory, where a CTA can have {MOST_SHARED}"
        raise ResourceError("R420", text, help="check the size of the dynamic part")
    constants = [v for v in variables if v.space in ("global", "const")]
    for var in constants:
        found[var.name] = ("global", memory.add(_size(var) or 1, var.align or 16, var.name))
    for var in constants:
        content = _content(var, found)
        memory.bytes_at(found[var.name][1], len(content))[:] = np.frombuffer(content, np.uint8)
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


def _content(var: Var, addresses: Addresses) -> bytes:
    """The initial bytes; what is not given is zero."""
    width = TYPE_BYTES[var.type]
    parts = [_bytes(v, width, addresses) for v in var.init]
    return b"".join(parts)[: _size(var)].ljust(_size(var), b"\0")


def _bytes(value: int | Float | str, width: int, addresses: Addresses) -> bytes:
    if isinstance(value, str):
        value = _address(value, addresses)
    if isinstance(value, Float):
        return struct.pack("<I" if value.width == 32 else "<Q", value.bits)[:width].ljust(width, b"\0")
    return (value & ((1 << 8 * width) - 1)).to_bytes(width, "little")


def _address(text: str, addresses: Addresses) -> int:
    """``name``, ``name+4`` or ``generic(name)``: the address of a variable."""
    found = re.fullmatch(r"(?:generic\()?([\w$]+)\)?(?:\+(\d+))?", text)
    space, at = addresses.get(found[1], ("", 0)) if found else ("", 0)
    if found is None or space != "global":
        raise UnsupportedError("U421", f"a variable initialised with {text!r} is not emulated")
    return at + int(found[2] or 0)
