"""Bulk copies, with and without tensor maps: loads complete on mbarriers, stores by groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tilec.ir.ptx.module import Instruction
from tilec.runtime.emulator import access, tensormap
from tilec.runtime.emulator.alu import Builder, groups_left, mods
from tilec.runtime.emulator.asyncops import AsyncOp
from tilec.runtime.emulator.bulk import boxes, each, own_place, require_place, require_size, tensor_address
from tilec.runtime.emulator.bulk_store import reduce_in, store, tensor_store
from tilec.runtime.emulator.copies import cp_async
from tilec.runtime.emulator.mbarrier import barrier_at, complete_tx
from tilec.runtime.emulator.numbers import Array, flush
from tilec.runtime.emulator.observe import Box, Range
from tilec.runtime.emulator.operands import address, getter
from tilec.runtime.emulator.program import Program, Run
from tilec.runtime.emulator.report import fault
from tilec.runtime.emulator.tensormap import TensorMap

if TYPE_CHECKING:
    from tilec.runtime.emulator.cta import Cta
    from tilec.runtime.emulator.strand import Strand


def copy(inst: Instruction, program: Program) -> Run:
    """cp and cp.reduce: which copy this is."""
    parts = mods(inst)
    if "bulk" not in parts:
        return cp_async(inst, program)
    if "commit_group" in parts:
        return _commit
    if "wait_group" in parts:
        count, stages = groups_left(inst), 1 if "read" in parts else None
        return lambda s: _wait(s, count, stages, inst)
    if "prefetch" in parts:
        return lambda s: None
    if any(p.startswith("im2col") for p in parts):
        raise fault("D404", "the im2col mode of tensor maps is not emulated", inst)
    to_global = any(p == "bulk_group" for p in parts)
    if "tensor" in parts:
        return tensor_store(inst, program) if to_global else _tensor_load(inst, program)
    if to_global:
        return store(inst, program)
    return reduce_in(inst, program) if "reduce" in parts else _load(inst, program)


def _commit(s: Strand) -> None:
    s.cta.machine.observer.bulk_commit(s)
    for thread in s.threads.tolist():
        if thread in s.cta.bulk:
            s.cta.bulk[thread].commit()


def _wait(s: Strand, pending: int, stages: int | None, inst: Instruction) -> None:
    s.cta.machine.observer.bulk_wait(s, pending, stages is not None, inst)
    for thread in s.threads.tolist():
        if thread in s.cta.bulk:
            s.cta.bulk[thread].wait(pending, stages)


def _targets(cta: Cta, place: int, multicast: int | None, inst: Instruction) -> list[tuple[Cta, int]]:
    owner, offset = cta.peer(place, inst)
    if multicast is None:
        return [(owner, offset)]
    return [(c, offset) for i, c in enumerate(cta.cluster) if multicast >> i & 1]


def _tensor_load(inst: Instruction, program: Program) -> Run:
    to, barrier = address(program, inst.operands[0], inst), address(program, inst.operands[2], inst)
    where, coords = tensor_address(inst, program, 1)
    mask = getter(program, inst.operands[3], "u16", inst) if "multicast::cluster" in mods(inst) else None

    def run(s: Strand) -> None:
        masks = mask(s) if mask else np.zeros(s.n, np.uint16)
        for thread, place, tensor, bar, cast, *at in each(
            s, s.threads, to(s), where(s), barrier(s), masks, *(c(s) for c in coords)
        ):
            m = tensormap.read_map(s, tensor, inst)
            targets = _targets(s.cta, place, cast if mask else None, inst)
            _issue_load(s, thread, m, boxes(m, at, inst), targets, bar, inst)

    return run


def _signalled(owner: Cta, bar_owner: Cta, inst: Instruction) -> Cta:
    """The CTA whose mbarrier a copy to ``owner`` completes on: its own, or with cta_group::2 the
    one of its pair that has the parity of the named mbarrier's CTA."""
    if "cta_group::2" not in mods(inst):
        return owner
    return owner.cluster[owner.rank & ~1 | bar_owner.rank & 1]


def _issue_load(s: Strand, thread: int, m: TensorMap, boxes: list[list[int]], targets: list[tuple[Cta, int]],
                bar: int, inst: Instruction) -> None:  # fmt: skip
    size, cta = m.room * len(boxes), s.cta
    bar_owner, bar_offset = cta.peer(bar, inst)
    ends, told = [], []
    for owner, place in targets:
        require_place(owner, place, size, 128, inst)
        signalled = _signalled(owner, bar_owner, inst)
        told.append(signalled)
        ends.append((owner, place, barrier_at(signalled, signalled.window + bar_offset, inst)))
    landed = cta.machine.observer.copy_in(s, thread, ends, size, Box(m, boxes[0]), m.swizzle, inst)

    def act() -> None:
        data = np.concatenate([_gather(s, m, at, inst) for at in boxes])
        for i, (owner, place) in enumerate(targets):
            units = tensormap.swizzled_units(place, size, m.swizzle) if m.swizzle else None
            access.bulk_write(owner, place, data, units)
            landed(i)
            complete_tx(told[i], told[i].window + bar_offset, m.bytes * len(boxes), inst)

    cta.issue(AsyncOp("a TMA load", [act]))


def _gather(s: Strand, m: TensorMap, at: list[int], inst: Instruction) -> Array:
    """The bytes of a box, zero (or NaN, if the map says so) where it lies outside."""
    memory = s.cta.machine.memory
    offset, inside = tensormap.box_bytes(m, at)
    flat, ok = offset.ravel(), inside.ravel()
    if m.padded:
        return _padded(s, m, flat, ok, inst)
    out = np.full(len(flat), m.outside, np.dtype(f"u{m.size}"))
    if ok.any():
        used = (flat[ok] + m.address).astype(np.uint64)
        low, high = used.min(), used.max()
        memory.offsets(np.array([low, high], np.uint64), m.size, inst)
        start = memory.offsets(np.array([low]), m.size, inst)[0]
        index = ((used - low + start) // np.uint64(m.size)).astype(np.intp)
        memory.note(index, m.size, writes=False)
        out[ok] = memory.data.view(out.dtype)[index]
    return _as_float(out, m.name).view(np.uint8)


def _padded(s: Strand, m: TensorMap, flat: Array, ok: Array, inst: Instruction) -> Array:
    """Groups of elements, each with its padding, which is not initialised."""
    memory = s.cta.machine.memory
    out = np.full((len(flat), m.held), 0xCD, np.uint8)
    out[:, : m.size] = 0
    if ok.any():
        start = memory.offsets((flat[ok] + m.address).astype(np.uint64), m.size, inst).astype(np.intp)
        index = start[:, None] + np.arange(m.size)
        memory.note(index, 1, writes=False)
        out[ok, : m.size] = memory.data[index]
    return out.ravel()


def _as_float(raw: Array, name: str) -> Array:
    """What a load makes of elements: FTZ flushes subnormal numbers, TFLOAT32 rounds to nearest even."""
    if name.endswith("_FTZ"):
        raw = flush(raw.view(np.float32)).view(np.uint32)
    if not name.startswith("TFLOAT32"):
        return raw
    special = raw & 0x7F800000 == 0x7F800000
    return np.where(special, raw, (raw + (raw >> 13 & 1) + 0xFFF) & 0xFFFFE000).astype(np.uint32)


def _load(inst: Instruction, program: Program) -> Run:
    """cp.async.bulk into shared memory, from global memory or a CTA of the cluster."""
    to, source, barrier = (address(program, inst.operands[i], inst) for i in (0, 1, 3))
    amount = getter(program, inst.operands[2], "u32", inst)
    from_shared = ".shared::cluster.shared::cta." in inst.opcode
    mask = getter(program, inst.operands[4], "u16", inst) if "multicast::cluster" in mods(inst) else None

    def run(s: Strand) -> None:
        masks = mask(s) if mask else np.zeros(s.n, np.uint16)
        for thread, place, start, size, bar, cast in each(
            s, s.threads, to(s), source(s), amount(s), barrier(s), masks
        ):
            require_size(size, inst)
            if start % 16:
                raise fault("E17", f"the source {start:#x} of a bulk copy is not a multiple of 16", inst)
            targets = _targets(s.cta, place, cast if mask else None, inst)
            start = own_place(s.cta, start, inst) if from_shared else start
            _issue_bulk(s, thread, start, size, targets, bar, from_shared, inst)

    return run


def _issue_bulk(s: Strand, thread: int, start: int, size: int, targets: list[tuple[Cta, int]], bar: int,
                from_shared: bool, inst: Instruction) -> None:  # fmt: skip
    cta, memory = s.cta, s.cta.machine.memory
    bar_owner, bar_offset = cta.peer(bar, inst)
    ends = []
    for owner, place in targets:
        require_place(owner, place, size, 16, inst)
        signalled = bar_owner if len(targets) == 1 else owner
        ends.append((owner, place, barrier_at(signalled, signalled.window + bar_offset, inst)))
    if not from_shared:
        memory.offsets(np.array([start], np.uint64), size, inst)
    source = Range(cta if from_shared else None, start, size)
    landed = cta.machine.observer.copy_in(s, thread, ends, size, source, 0, inst)

    def act() -> None:
        data = (
            access.bulk_read(cta, start, size)
            if from_shared
            else memory.touch(start, size, writes=False).copy()
        )
        for i, (owner, place) in enumerate(targets):
            access.bulk_write(owner, place, data)
            landed(i)
            signalled = bar_owner if len(targets) == 1 else owner
            complete_tx(signalled, signalled.window + bar_offset, size, inst)

    cta.issue(AsyncOp("a bulk load", [act]))


TABLE: dict[str, Builder] = {"cp": copy}
