"""Accesses of several elements at once: packing into and out of memory words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilec.backends.ptx.context import Emitter, register_type
from tilec.backends.ptx.exchange import load_into, memory_type, stored
from tilec.backends.ptx.numeric import constant
from tilec.ir.ptx.module import Addr, Int, Reg
from tilec.ir.types import DType

WORD = 4


def load_vector(
    e: Emitter,
    dtype: DType,
    into: Sequence[Reg],
    where: Addr,
    guard: Reg | None,
    space: str = "global",
    pad: float = 0,
) -> None:
    """Set registers to consecutive elements, aligned to the size of them all; ``pad`` if not ``guard``."""
    if len(into) == 1:
        other = constant(e, dtype, pad) if guard is not None else None
        load_into(e, dtype, into[0], f"ld.{space}", where, guard, other)
        return
    words, type_ = _cells(e, dtype, into)
    if guard is not None:
        filler = _repeated(dtype, pad, type_) if dtype.bytes < WORD else constant(e, dtype, pad)
        for word in words:
            e.emit(f"mov.{type_}", word, filler)
    many = f".v{len(words)}" if len(words) > 1 else ""
    e.emit(f"ld.{space}{many}.{type_}", tuple(words) if many else words[0], where, pred=guard)
    if words is not into:
        _unpack(e, dtype, words, into)


def _repeated(dtype: DType, number: float, type_: str) -> Int:
    """A word ("b32" or "b16") of equal small elements."""
    element = np.asarray(number).astype(dtype.np).tobytes()
    return Int(int.from_bytes(element * (int(type_[1:]) // 8 // dtype.bytes), "little"))


def _cells(e: Emitter, dtype: DType, into: Sequence[Reg]) -> tuple[Sequence[Reg], str]:
    """The registers that a vector access names: the elements, or words of packed small ones."""
    if dtype.bytes >= WORD:
        return into, register_type(dtype)
    size = dtype.bytes * len(into)
    if size < WORD:
        return [e.reg("b16")], "b16"
    return [e.reg("b32") for _ in range(size // WORD)], "b32"


def _unpack(e: Emitter, dtype: DType, words: Sequence[Reg], into: Sequence[Reg]) -> None:
    if dtype.bytes * len(into) < WORD:
        words = [e.make("b32", "cvt.u32.u16", words[0])]
    per_word = WORD // dtype.bytes
    if dtype.is_float and per_word == 2:
        for word, pair in zip(words, zip(into[::2], into[1::2], strict=True), strict=True):
            e.emit("mov.b32", pair, word)
        return
    for i, reg in enumerate(into):
        word, place = words[i // per_word], i % per_word
        _extract(e, dtype, word, place * dtype.bytes * 8, reg)


def _extract(e: Emitter, dtype: DType, word: Reg, shift: int, into: Reg) -> None:
    width = dtype.bytes * 8
    if dtype.is_float:
        field = e.make("b32", "bfe.u32", word, Int(shift), Int(width))
        e.emit("cvt.u16.u32", into, field)
    elif dtype.kind == "bool":
        e.emit("setp.ne.u32", into, e.make("b32", "bfe.u32", word, Int(shift), Int(width)), Int(0))
    else:
        e.emit(f"bfe.{'s' if dtype.kind == 'int' else 'u'}32", into, word, Int(shift), Int(width))


def store_vector(e: Emitter, dtype: DType, regs: Sequence[Reg], where: Addr, guard: Reg | None) -> None:
    """Write consecutive elements, aligned to the size of them all."""
    if len(regs) == 1:
        value, suffix = stored(e, dtype, regs[0])
        e.emit(f"st.global.{suffix}", where, value, pred=guard)
        return
    if dtype.bytes >= WORD:
        e.emit(f"st.global.v{len(regs)}.{memory_type(dtype)}", where, tuple(regs), pred=guard)
        return
    per_word = WORD // dtype.bytes
    words = [_pack(e, dtype, regs[i : i + per_word]) for i in range(0, len(regs), per_word)]
    many = f".v{len(words)}" if len(words) > 1 else ""
    type_ = "b32" if len(regs) >= per_word else "b16"
    e.emit(f"st.global{many}.{type_}", where, tuple(words) if many else words[0], pred=guard)


def _pack(e: Emitter, dtype: DType, regs: Sequence[Reg]) -> Reg:
    if dtype.is_float and dtype.bits == 16:
        return e.make("b32", "mov.b32", tuple(regs))
    word: Reg | None = None
    for i, reg in enumerate(regs):
        part = _part(e, dtype, reg)
        word = (
            part
            if word is None
            else e.make("b32", "bfi.b32", part, word, Int(i * dtype.bytes * 8), Int(dtype.bytes * 8))
        )
    assert word is not None
    return word


def _part(e: Emitter, dtype: DType, reg: Reg) -> Reg:
    """A small element in the low bits of 32; what stands above is overwritten or not stored."""
    if dtype.kind == "bool":
        return e.make("b32", "selp.b32", Int(1), Int(0), reg)
    return e.make("b32", "cvt.u32.u16", reg) if dtype.is_float else reg
