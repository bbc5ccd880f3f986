"""Typed accesses of threads to any state space, through the checks of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tilec.ir.ptx.module import Instruction
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.report import fault
from tilec.runtime.emulator.spaces import (
    FLYING,
    GLOBAL_BASE,
    PARAM_WINDOW,
    RANK_SHIFT,
    SHARED_WINDOW,
    UNSET,
    require_aligned,
    typed_index,
)

if TYPE_CHECKING:
    from tilec.runtime.emulator.cta import Cta
    from tilec.runtime.emulator.strand import Strand


def load(s: Strand, space: str, address: Array, size: int, count: int, inst: Instruction) -> Array:
    """Raw unsigned values: shape (n,), or (n, count) for a vector."""
    if space == "global":
        return s.cta.machine.memory.load(address, size, count, inst)
    if space == "shared":
        return _by_rank_load(s, address, size, count, inst)
    if space == "param":
        return _load_param(s, address, size, count, inst)
    out = np.zeros((s.n,) if count == 1 else (s.n, count), np.dtype(f"u{size}"))
    for part, mask, offset in _spaces(address, inst):
        out[mask] = load(s.narrow(mask), part, offset, size, count, inst)
    return out


def store(
    s: Strand, space: str, address: Array, value: Array, size: int, count: int, inst: Instruction
) -> None:
    """Write raw unsigned values of the shape that ``load`` gives."""
    if space == "global":
        s.cta.machine.memory.store(address, value, size, count, inst)
    elif space == "shared":
        _by_rank_store(s, address, value, size, count, inst)
    elif space == "param":
        raise fault("D412", "parameters cannot be written", inst)
    else:
        for part, mask, offset in _spaces(address, inst):
            store(s.narrow(mask), part, offset, value[mask], size, count, inst)


def _spaces(address: Array, inst: Instruction) -> list[tuple[str, Array, Array]]:
    """Generic addresses by the window they lie in."""
    out = []
    shared = (address >= SHARED_WINDOW) & (address < PARAM_WINDOW)
    param = (address >= PARAM_WINDOW) & (address < GLOBAL_BASE)
    rest = ~(shared | param)
    for name, mask, base in (
        ("shared", shared, SHARED_WINDOW),
        ("param", param, PARAM_WINDOW),
        ("global", rest, 0),
    ):
        if mask.any():
            out.append((name, mask, address[mask] - np.uint64(base)))
    return out


def _load_param(s: Strand, address: Array, size: int, count: int, inst: Instruction) -> Array:
    params = s.cta.machine.params
    if (address + np.uint64(size * count) > len(params)).any():
        raise fault("D410", "access outside the parameter space", inst)
    require_aligned(address, size, inst)
    result: Array = params.view(f"u{size}")[typed_index(address, size, count)]
    return result


def ranks(s: Strand, address: Array) -> list[tuple[Cta, Array | None, Array]]:
    """(CTA, mask or None for all, offsets) for shared addresses that may name cluster ranks."""
    rank = address >> np.uint64(RANK_SHIFT)
    if not rank.any():
        return [(s.cta, None, address)]
    offset = address & np.uint64((1 << RANK_SHIFT) - 1)
    out: list[tuple[Cta, Array | None, Array]] = []
    for r in np.unique(rank):
        mask = rank == r
        cta = s.cta if r == 0 else s.cta.machine.cluster_ctas[int(r) - 1]
        out.append((cta, mask, offset[mask]))
    return out


def _by_rank_load(s: Strand, address: Array, size: int, count: int, inst: Instruction) -> Array:
    parts = ranks(s, address)
    if parts[0][1] is None:
        return shared_load(s.cta, parts[0][2], size, count, inst)
    out = np.zeros((s.n,) if count == 1 else (s.n, count), np.dtype(f"u{size}"))
    for cta, mask, offset in parts:
        out[mask] = shared_load(cta, offset, size, count, inst)
    return out


def _by_rank_store(s: Strand, address: Array, value: Array, size: int, count: int, inst: Instruction) -> None:
    for cta, mask, offset in ranks(s, address):
        threads = s.threads if mask is None else s.threads[mask]
        shared_store(cta, offset, value if mask is None else value[mask], size, count, threads, inst)


def shared_load(cta: Cta, offset: Array, size: int, count: int, inst: Instruction) -> Array:
    """A checked generic-proxy read of shared memory."""
    memory = cta.shared
    memory.require(offset, size * count, inst)
    require_aligned(offset, size * count, inst)
    index = typed_index(offset, size, count)
    status = memory.status.view(f"u{size}")[index]
    if status.any():
        report_status(cta, status, inst)
    result: Array = memory.view(size)[index]
    return result


def report_status(cta: Cta, status: Array, inst: Instruction) -> None:
    """E3 or W24 for a read of bytes that are in flight or were never written."""
    flat = np.ascontiguousarray(status).view(np.uint8)
    if (flat & FLYING).any():
        cta.report("E3", "shared memory is read while an asynchronous copy into it is in flight", inst)
    elif (flat & UNSET).any():
        cta.report("W24", "shared memory is read that nothing has written", inst)


def shared_store(cta: Cta, offset: Array, value: Array, size: int, count: int, threads: Array,
                 inst: Instruction) -> None:  # fmt: skip
    """A checked generic-proxy write of shared memory."""
    memory = cta.shared
    memory.require(offset, size * count, inst)
    require_aligned(offset, size * count, inst)
    index = typed_index(offset, size, count)
    status = memory.status.view(f"u{size}")
    granule = (offset >> np.uint64(4)).astype(np.intp)
    if memory.busy and memory.readers[granule].any():
        report_busy(cta, inst)
    memory.view(size)[index] = value
    status[index] = 0
    memory.writer[granule] = threads >> 5
    memory.written[granule] = cta.machine.now
    memory.unfenced = True


def report_busy(cta: Cta, inst: Instruction) -> None:
    cta.report("E4", "shared memory is overwritten while an asynchronous operation may still read it", inst)


def bulk_write(cta: Cta, start: int, data: Array, inst: Instruction, units: Array | None = None) -> None:
    """A write of 16-byte units through the async proxy, at once, permuted by ``units``."""
    memory = cta.shared
    place = memory.granules(start, len(data))
    if memory.busy and memory.readers[place].any():
        report_busy(cta, inst)
    if units is None:
        memory.data[start : start + len(data)] = data
    else:
        memory.data.reshape(-1, 16)[units] = data.reshape(-1, 16)
    memory.status[start : start + len(data)] = 0
    memory.written[place] = -1


def bulk_read(cta: Cta, start: int, size: int, inst: Instruction, units: Array | None = None) -> Array:
    """A read through the async proxy."""
    check_async_read(cta, cta.shared.granules(start, size), inst)
    memory = cta.shared
    if units is None:
        return memory.data[start : start + size].copy()
    result: Array = memory.data.reshape(-1, 16)[units].ravel()
    return result


def check_async_read(cta: Cta, granules: slice | Array, inst: Instruction) -> None:
    """E1 and E3: what the async proxy reads must be fenced and landed."""
    memory = cta.shared
    if memory.unfenced and (memory.written[granules] >= 0).any():
        text = "shared memory written by ordinary stores is read by the async proxy without fence.proxy.async"
        cta.report("E1", text, inst)
    status = memory.status.reshape(-1, 16)[granules]
    if status.any():
        report_status(cta, status, inst)


def claim_read(cta: Cta, granules: slice | Array) -> None:
    """Asynchronous reads of these granules (each named once) have been issued."""
    cta.shared.readers[granules] += 1
    cta.shared.busy += 1


def drop_read(cta: Cta, granules: slice | Array) -> None:
    cta.shared.readers[granules] -= 1
    cta.shared.busy -= 1


def proxy_fence(s: Strand) -> None:
    """fence.proxy.async: covers what these warps wrote, and what is visible to them."""
    memory = s.cta.shared
    if not memory.unfenced:
        return
    own = np.isin(memory.writer, s.warps)
    seen = memory.written < s.cta.synced[s.warps].max()
    memory.written[own | seen] = -1
    memory.unfenced = bool((memory.written >= 0).any())
