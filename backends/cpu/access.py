"""How elements are read and written: vectors where they lie side by side, else lane by lane."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from tilec.backends.cpu import loops
from tilec.backends.cpu.lanes import I8, I32, PTR, VOID, Lanes, declare, suffix
from tilec.backends.cpu.loops import Index
from tilec.ir.types import TensorType, TileType


def from_memory(e: Lanes, value: Any, type_: TileType | TensorType) -> Any:
    """Storage type to register type."""
    if type_.dtype.kind == "bool":
        return e.b.icmp_unsigned("!=", value, e.const(I8, 0))
    return value


def to_memory(e: Lanes, value: Any, type_: TileType | TensorType) -> Any:
    """Register type to storage type."""
    return e.b.zext(value, e.vec(I8)) if type_.dtype.kind == "bool" else value


def load(e: Lanes, pointer: Any, element: Any, step: Index) -> Any:
    """Read ``lanes`` elements that lie ``step`` elements apart."""
    align = _align(element)
    if e.lanes == 1 or (isinstance(step, int) and step == 1):
        return e.b.load(pointer, typ=e.vec(element), align=align)
    out = ir.Constant(e.vec(element), ir.Undefined)
    for i in range(e.lanes):
        place = e.b.gep(pointer, [loops.i64(loops.mul(e.b, step, i))], source_etype=element)
        out = e.b.insert_element(out, e.b.load(place, typ=element, align=align), I32(i))
    return out


def store(e: Lanes, pointer: Any, value: Any, step: Index, past_caches: bool = False) -> None:
    """Write ``lanes`` elements ``step`` elements apart.

    ``past_caches``: whole aligned vectors, which go to memory without being read first.
    """
    element = getattr(value.type, "element", value.type)
    align = _align(element)
    if e.lanes == 1 or (isinstance(step, int) and step == 1):
        if past_caches and e.lanes * align == e.target.vector_bytes:
            done = e.b.store(value, pointer, align=e.target.vector_bytes)
            done.set_metadata("nontemporal", e.b.module.add_metadata([I32(1)]))
        else:
            e.b.store(value, pointer, align=align)
        return
    for i in range(e.lanes):
        place = e.b.gep(pointer, [loops.i64(loops.mul(e.b, step, i))], source_etype=element)
        e.b.store(e.b.extract_element(value, I32(i)), place, align=align)


def _align(element: Any) -> int:
    width = {"half": 2, "float": 4, "double": 8}.get(str(element))
    return width or element.width // 8


def prefetch(b: Any, pointer: Any, level: int = 1, write: bool = False) -> None:
    """Bring the cache line at any address closer: into this cache and those behind it."""
    where = declare(b.module, "llvm.prefetch.p0", VOID, [PTR, I32, I32, I32])
    b.call(where, [pointer, I32(int(write)), I32(4 - level), I32(1)])  # 1: data


def masked_load(e: Lanes, pointer: Any, mask: Any, rest: Any) -> Any:
    """Consecutive elements where the mask is set, ``rest`` elsewhere; reads nothing there."""
    name = f"llvm.masked.load.{suffix(rest.type)}.p0"
    return e.call(name, rest.type, pointer, I32(_align(rest.type.element)), mask, rest)


def masked_gather(e: Lanes, addresses: Any, mask: Any, rest: Any) -> Any:
    """Elements at a vector of addresses where the mask is set, ``rest`` elsewhere; reads nothing there."""
    name = f"llvm.masked.gather.{suffix(rest.type)}.v{e.lanes}p0"
    return e.call(name, rest.type, addresses, I32(_align(rest.type.element)), mask, rest)


def masked_store(e: Lanes, pointer: Any, mask: Any, value: Any) -> None:
    """Write consecutive elements where the mask is set."""
    name = f"llvm.masked.store.{suffix(value.type)}.p0"
    e.call(name, VOID, value, pointer, I32(_align(value.type.element)), mask)
