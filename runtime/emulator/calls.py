"""The functions that CUDA kernels call and no PTX defines: vprintf and __assertfail."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from tilec.ir.ptx.module import Args, Instruction, Sym
from tilec.runtime.emulator import access
from tilec.runtime.emulator.alu import Builder
from tilec.runtime.emulator.operands import setter, symbol_address
from tilec.runtime.emulator.program import Program, Run
from tilec.runtime.emulator.report import fault

if TYPE_CHECKING:
    from tilec.runtime.emulator.strand import Strand

_FIELD = re.compile(r"%(?P<flags>[-+ #0]*\d*(?:\.\d+)?)(?:hh|h|ll|l|z|j|t)?(?P<kind>[diuoxXcsfFeEgGaAp%])")
_LONG = re.compile(r"%[-+ #0]*\d*(?:\.\d+)?(?:ll|l|z|j|t)")
_LONGEST = 4096


def call(inst: Instruction, program: Program) -> Run:
    """A call of one of these functions; all others are replaced by their bodies."""
    name = next(o.name for o in inst.operands if isinstance(o, Sym))
    lists = [o.items for o in inst.operands if isinstance(o, Args)]
    arguments = lists[-1] if lists else ()
    places = [symbol_address(program, a, inst) for a in arguments if isinstance(a, Sym)]
    if len(places) != {"vprintf": 2, "__assertfail": 5}[name]:
        raise fault("D417", f"{name} with {len(places)} arguments", inst)
    result = lists[0][0] if len(lists) == 2 and lists[0] else None
    if name == "__assertfail":
        return lambda s: _assert(s, places, inst)
    put = None
    if result is not None and not isinstance(result, Sym):
        put = setter(program, result, "b32", inst)

    def run(s: Strand) -> None:
        for one in _threads(s):
            text = _string(one, _word(one, "local", places[0], 8, inst), inst)
            s.cta.machine.printed.append(_format(one, text, _word(one, "local", places[1], 8, inst), inst))
        if put is not None:
            put(s, np.uint32(0))

    return run


def _threads(s: Strand) -> Iterator[Strand]:
    for i in range(s.n):
        yield s.narrow(np.arange(s.n) == i)


def _word(one: Strand, space: str, place: int, size: int, inst: Instruction) -> int:
    return int(access.fetch(one, space, np.array([place], np.uint64), size, 1, inst)[0])


def _string(one: Strand, place: int, inst: Instruction) -> str:
    out = bytearray()
    while len(out) < _LONGEST and (byte := _word(one, "generic", place + len(out), 1, inst)):
        out.append(byte)
    return out.decode("utf-8", "replace")


def _format(one: Strand, text: str, place: int, inst: Instruction) -> str:
    """C's formatting; arguments lie one after the other, aligned to their sizes."""
    at = place

    def value(found: re.Match[str]) -> str:
        nonlocal at
        kind, flags = found["kind"], found["flags"]
        if kind == "%":
            return "%"
        size = 8 if kind in "fFeEgGaAsp" or _LONG.match(found[0]) else 4
        at = -(-at // size) * size
        raw = _word(one, "generic", at, size, inst).to_bytes(size, "little")
        at += size
        return _one(kind, flags, raw, one, inst)

    return _FIELD.sub(value, text)


def _one(kind: str, flags: str, raw: bytes, one: Strand, inst: Instruction) -> str:
    if kind in "fFeEgG":
        return f"%{flags}{kind}" % struct.unpack("<d", raw)
    if kind in "aA":
        return float(struct.unpack("<d", raw)[0]).hex()
    number = int.from_bytes(raw, "little", signed=kind in "di")
    if kind == "s":
        return f"%{flags}s" % _string(one, number, inst)
    if kind == "c":
        return f"%{flags}c" % (number & 255)
    return hex(number) if kind == "p" else f"%{flags}{kind}" % number


def _assert(s: Strand, places: list[int], inst: Instruction) -> None:
    one = next(_threads(s))
    message, file = (_string(one, _word(one, "local", p, 8, inst), inst) for p in places[:2])
    line = _word(one, "local", places[2], 4, inst)
    raise fault("D414", f"the assertion {message!r} of {file}:{line} failed", inst)


TABLE: dict[str, Builder] = {"call": call}
