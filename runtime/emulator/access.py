"""Typed accesses of threads to any state space, through the checks of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tilec.ir.ptx.module import Instruction
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.report import fault
from tilec.runtime.emulator.spaces import (
    GLOBAL_BASE,
    LOCAL_WINDOW,
    PARAM_WINDOW,
    RANK_SHIFT,
    SHARED_WINDOW,
    WINDOW_SIZE,
    require_aligned,
    typed_index,
)

if TYPE_CHECKING:
    from tilec.runtime.emulator.cta import Cta
    from tilec.runtime.emulator.strand import Strand


def load(s: Strand, space: str, address: Array, size: int, count: int, inst: Instruction) -> Array:
    """An ordinary read. Raw unsigned values: shape (n,), or (n, count) for a vector."""
    found = fetch(s, space, address, size, count, inst)
    if space != "local":
        s.cta.machine.observer.read(s, space, address, size * count, inst)
    return found


def store(
    s: Strand, space: str, address: Array, value: Array, size: int, count: int, inst: Instruction
) -> None:
    """An ordinary write of raw unsigned values, of the shape that ``load`` gives."""
    parts = targets(s, space, address, size, count, inst)
    if space != "local":
        s.cta.machine.observer.write(
            s, space, address, size * count, inst, unchanged=lambda: _equal(parts, value)
        )
    _assign(parts, value)


def fetch(s: Strand, space: str, address: Array, size: int, count: int, inst: Instruction) -> Array:
    """``load`` that no checker sees."""
    if space == "global":
        return s.cta.machine.memory.load(address, size, count, inst)
    if space == "shared":
        return _by_rank_load(s, address, size, count, inst)
    if space == "param":
        return _load_param(s, address, size, count, inst)
    if space == "local":
        result: Array = s.cta.local.view(f"u{size}")[_local(s, address, size, count, inst)]
        return result
    out = np.zeros((s.n,) if count == 1 else (s.n, count), np.dtype(f"u{size}"))
    for part, mask, offset in spaces(address):
        out[mask] = fetch(s.narrow(mask), part, offset, size, count, inst)
    return out


def put(
    s: Strand, space: str, address: Array, value: Array, size: int, count: int, inst: Instruction
) -> None:
    """``store`` that no checker sees."""
    _assign(targets(s, space, address, size, count, inst), value)


Target = tuple[Array, Array, Array | None]


def targets(s: Strand, space: str, address: Array, size: int, count: int, inst: Instruction) -> list[Target]:
    """(memory, indices, mask of the addresses or None for all) of a legal write."""
    if space == "global":
        memory = s.cta.machine.memory
        index = memory.index(address, size, count, inst)
        memory.note(index, size, writes=True)
        return [(memory.data.view(f"u{size}"), index, None)]
    if space == "shared":
        return [
            (cta.shared.view(size), shared_index(cta, offset, size, count, inst), mask)
            for cta, mask, offset in ranks(s, address, inst)
        ]
    if space == "local":
        return [(s.cta.local.view(f"u{size}"), _local(s, address, size, count, inst), None)]
    if space == "param":
        raise fault("D412", "parameters cannot be written", inst)
    found: list[Target] = []
    for part, mask, offset in spaces(address):
        for view, index, inner in targets(s.narrow(mask), part, offset, size, count, inst):
            found.append((view, index, mask if inner is None else np.flatnonzero(mask)[inner]))
    return found


def _assign(parts: list[Target], value: Array) -> None:
    for view, index, mask in parts:
        view[index] = value if mask is None else value[mask]


def _equal(parts: list[Target], value: Array) -> Array:
    """For which addresses memory holds the value already."""
    same = np.zeros(len(value), bool)
    for view, index, mask in parts:
        equal = view[index] == (value if mask is None else value[mask])
        same[slice(None) if mask is None else mask] = equal if equal.ndim == 1 else equal.all(axis=1)
    return same


def spaces(address: Array) -> list[tuple[str, Array, Array]]:
    """Generic addresses by the window they lie in: (space, mask, addresses there)."""
    out = []
    shared = (address >= SHARED_WINDOW) & (address < PARAM_WINDOW)
    param = (address >= PARAM_WINDOW) & (address < LOCAL_WINDOW)
    local = (address >= LOCAL_WINDOW) & (address < GLOBAL_BASE)
    rest = ~(shared | param | local)
    for name, mask, base in (
        ("shared", shared, SHARED_WINDOW),
        ("param", param, PARAM_WINDOW),
        ("local", local, LOCAL_WINDOW),
        ("global", rest, 0),
    ):
        if mask.any():
            out.append((name, mask, address[mask] - np.uint64(base)))
    return out


def _local(s: Strand, address: Array, size: int, count: int, inst: Instruction) -> Array:
    """Indices into the local memory of all threads."""
    frame = s.cta.program.frame
    bad = address + np.uint64(size * count) > frame
    if bad.any():
        text = f"{size * count}-byte access to local address {int(address[bad][0]):#x} of {frame} bytes"
        raise fault("D410", text, inst)
    require_aligned(address, size, inst)
    return typed_index(s.threads.astype(np.uint64) * np.uint64(s.cta.stack) + address, size, count)


def _load_param(s: Strand, address: Array, size: int, count: int, inst: Instruction) -> Array:
    params = s.cta.machine.params
    if (address + np.uint64(size * count) > len(params)).any():
        raise fault("D410", "access outside the parameter space", inst)
    require_aligned(address, size, inst)
    result: Array = params.view(f"u{size}")[typed_index(address, size, count)]
    return result


def ranks(s: Strand, address: Array, inst: Instruction) -> list[tuple[Cta, Array | None, Array]]:
    """(CTA, mask or None for all, offsets) for shared addresses, by the ranks they name."""
    rank = address >> np.uint64(RANK_SHIFT)
    offset = address & np.uint64(WINDOW_SIZE - 1)
    first = int(rank[0])
    if (rank == first).all():
        return [(s.cta if first == s.cta.rank else s.cta.peer(int(address[0]), inst)[0], None, offset)]
    out: list[tuple[Cta, Array | None, Array]] = []
    for r in np.unique(rank):
        mask = rank == r
        cta, _ = s.cta.peer(int(r) << RANK_SHIFT, inst)
        out.append((cta, mask, offset[mask]))
    return out


def _by_rank_load(s: Strand, address: Array, size: int, count: int, inst: Instruction) -> Array:
    parts = ranks(s, address, inst)
    if parts[0][1] is None:
        return shared_load(parts[0][0], parts[0][2], size, count, inst)
    out = np.zeros((s.n,) if count == 1 else (s.n, count), np.dtype(f"u{size}"))
    for cta, mask, offset in parts:
        out[mask] = shared_load(cta, offset, size, count, inst)
    return out


def shared_load(cta: Cta, offset: Array, size: int, count: int, inst: Instruction) -> Array:
    """A read of shared memory, inside and aligned."""
    result: Array = cta.shared.view(size)[shared_index(cta, offset, size, count, inst)]
    return result


def shared_index(cta: Cta, offset: Array, size: int, count: int, inst: Instruction) -> Array:
    """Indices into shared memory of legal accesses."""
    cta.shared.require(offset, size * count, inst)
    require_aligned(offset, size * count, inst)
    return typed_index(offset, size, count)


def bulk_write(cta: Cta, start: int, data: Array, units: Array | None = None) -> None:
    """A write of 16-byte units, permuted by ``units``."""
    memory = cta.shared
    if units is None:
        memory.data[start : start + len(data)] = data
    else:
        memory.data.reshape(-1, 16)[units] = data.reshape(-1, 16)


def bulk_read(cta: Cta, start: int, size: int, units: Array | None = None) -> Array:
    """A read of 16-byte units, permuted by ``units``."""
    memory = cta.shared
    if units is None:
        return memory.data[start : start + size].copy()
    result: Array = memory.data.reshape(-1, 16)[units].ravel()
    return result
