"""Bulk stores and reductions: from shared memory to global memory, or to a CTA of the cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from tilec.ir.ptx.module import Instruction
from tilec.runtime.emulator import access, tensormap
from tilec.runtime.emulator.alu import mods
from tilec.runtime.emulator.asyncops import AsyncOp
from tilec.runtime.emulator.bulk import boxes, each, own_place, require_place, require_size, tensor_address
from tilec.runtime.emulator.mbarrier import barrier_at, complete_tx
from tilec.runtime.emulator.numbers import Array, decode, encode, flush, round_to
from tilec.runtime.emulator.observe import Box, Range
from tilec.runtime.emulator.operands import DTYPE, address, getter, per_thread
from tilec.runtime.emulator.program import Program, Run
from tilec.runtime.emulator.report import fault
from tilec.runtime.emulator.tensormap import TensorMap

if TYPE_CHECKING:
    from tilec.runtime.emulator.strand import Strand

Reduce = Callable[[Array, Array], Array]

_FUNCTIONS: dict[str, Callable[[Array, Array], Array]] = {
    "add": lambda a, b: a + b, "min": np.fmin, "max": np.fmax, "and": lambda a, b: a & b,
    "or": lambda a, b: a | b, "xor": lambda a, b: a ^ b,
    "inc": lambda a, b: np.where(a >= b, 0 * a, a + np.ones_like(a)),
    "dec": lambda a, b: np.where((a == 0) | (a > b), b, a - np.ones_like(a)),
}  # fmt: skip
_BITWISE = ("and", "or", "xor")
_ELEMENT_TYPES = {
    "UINT8": "u8", "UINT16": "u16", "UINT32": "u32", "INT32": "s32", "UINT64": "u64", "INT64": "s64",
    "FLOAT16": "f16", "FLOAT32": "f32", "FLOAT32_FTZ": "f32", "FLOAT64": "f64", "BFLOAT16": "bf16",
}  # fmt: skip


def _reduction(operation: str, type: str, ftz: bool = False) -> Reduce:
    """Old and new raw elements to the result's. Source of the flush of f32 sums: PTX ISA manual,
    "cp.reduce.async.bulk"."""
    function = _FUNCTIONS[operation]
    if operation in _BITWISE:
        return function
    if type in ("f16", "bf16"):
        return lambda a, b: encode(round_to(function(_wide(a, type), _wide(b, type)), type), type)
    dtype = DTYPE[type]
    if ftz:
        return lambda a, b: flush(function(flush(a.view(dtype)), flush(b.view(dtype)))).view(a.dtype)
    return lambda a, b: function(a.view(dtype), b.view(dtype)).astype(dtype).view(a.dtype)


def _wide(raw: Array, type: str) -> Array:
    return decode(np.ascontiguousarray(raw), type).astype(np.float64)


def _operation(inst: Instruction) -> str:
    """The reduction's name, "" for a plain store."""
    parts = mods(inst)
    return next((p for p in parts if p in _FUNCTIONS), "") if "reduce" in parts else ""


def tensor_store(inst: Instruction, program: Program) -> Run:
    """cp.async.bulk.tensor and cp.reduce.async.bulk.tensor to global memory."""
    source = address(program, inst.operands[1], inst)
    where, coords = tensor_address(inst, program, 0)
    operation = _operation(inst)

    def run(s: Strand) -> None:
        issued: set[tuple[int, ...]] = set()
        for thread, place, tensor, *at in each(s, s.threads, source(s), where(s), *(c(s) for c in coords)):
            same = (thread >> 5, place, tensor, *at)
            if not operation and same in issued:
                continue  # Another lane of the warp has issued it: CUTLASS lets all lanes do so.
            issued.add(same)
            m = tensormap.read_map(s, tensor, inst)
            if m.padded:
                raise fault("D404", f"stores to tensors of {m.name} are not emulated", inst)
            found, offset = boxes(m, at, inst), own_place(s.cta, place, inst)
            size = m.bytes * len(found)
            units = tensormap.swizzled_units(offset, size, m.swizzle) if m.swizzle else None
            reduce = _element_reduction(m, operation, inst) if operation else None

            def write(data: Array, m: TensorMap = m, found: list[list[int]] = found,
                      reduce: Reduce | None = reduce) -> None:  # fmt: skip
                for box, part in zip(found, np.split(data, len(found)), strict=True):
                    _scatter(s, m, box, part, reduce, inst)

            require_place(s.cta, offset, size, 128, inst)
            s.cta.machine.observer.copy_out(s, thread, offset, size, Box(m, found[0]), inst)
            _issue(s, thread, offset, size, units, write, inst)

    return run


def _element_reduction(m: TensorMap, operation: str, inst: Instruction) -> Reduce:
    name = m.name
    if name not in _ELEMENT_TYPES:
        raise fault("D404", f"reductions of {name} tensors are not emulated", inst)
    return _reduction(operation, _ELEMENT_TYPES[name], name.endswith("FTZ"))


def _scatter(s: Strand, m: TensorMap, at: list[int], data: Array, reduce: Reduce | None,
             inst: Instruction) -> None:  # fmt: skip
    """Write the elements of a box that lie inside of the tensor."""
    memory = s.cta.machine.memory
    offset, inside = tensormap.box_bytes(m, at)
    ok = inside.ravel()
    if not ok.any():
        return
    used = (offset.ravel()[ok] + m.address).astype(np.uint64)
    index = (memory.offsets(used, m.size, inst) // np.uint64(m.size)).astype(np.intp)
    raw = data.view(f"u{m.size}")[ok]
    held = memory.data.view(raw.dtype)
    memory.note(index, m.size, writes=True)
    held[index] = reduce(held[index], raw) if reduce else raw


def _issue(s: Strand, thread: int, place: int, size: int, units: Array | None,
           write: Callable[[Array], None], inst: Instruction) -> None:  # fmt: skip
    """Read shared memory, then write: two stages, so that ``.read`` waits only for the first."""
    cta = s.cta
    held: list[Array] = []
    op = AsyncOp(
        f"the store of PTX line {inst.line}",
        [
            lambda: held.append(access.bulk_read(cta, place, size, units)),
            lambda: write(held.pop()),
        ],
    )
    cta.bulk[thread].add(op)
    cta.issue(op)


def store(inst: Instruction, program: Program) -> Run:
    """cp.async.bulk and cp.reduce.async.bulk from shared to global memory."""
    to, source = (address(program, o, inst) for o in inst.operands[:2])
    amount = getter(program, inst.operands[2], "u32", inst)
    masked = "cp_mask" in mods(inst)
    mask = getter(program, inst.operands[-1], "u16", inst) if masked else None
    reduce = _typed_reduction(inst)

    def run(s: Strand) -> None:
        memory = s.cta.machine.memory
        masks = per_thread(s, mask(s)) if mask else np.full(s.n, 0xFFFF, np.uint16)
        for thread, place, start, size, used in each(s, s.threads, to(s), source(s), amount(s), masks):
            require_size(size, inst)
            start = own_place(s.cta, start, inst)
            require_place(s.cta, start, size, 16, inst)
            memory.offsets(np.array([place], np.uint64), size, inst)

            def write(data: Array, place: int = place, size: int = size, used: int = used) -> None:
                target = memory.touch(place, size, writes=True)
                chosen = np.resize((used >> np.arange(16) & 1).astype(bool), size)
                target[chosen] = (reduce(target, data) if reduce else data)[chosen]

            s.cta.machine.observer.copy_out(s, thread, start, size, Range(None, place, size), inst)
            _issue(s, thread, start, size, None, write, inst)

    return run


def _typed_reduction(inst: Instruction) -> Reduce | None:
    """A reduction of bytes, by the type that the opcode ends with."""
    operation, type = _operation(inst), mods(inst)[-1]
    if not operation:
        return None
    flushes = operation == "add" and type == "f32" and ".global." in inst.opcode
    reduce = _reduction(operation, type, flushes)
    raw = np.dtype(f"u{DTYPE[type].itemsize}")
    return lambda a, b: np.asarray(reduce(a.view(raw), b.view(raw))).view(np.uint8)


def reduce_in(inst: Instruction, program: Program) -> Run:
    """cp.reduce.async.bulk from a CTA's shared memory to that of another, with an mbarrier there."""
    to, source, barrier = (address(program, inst.operands[i], inst) for i in (0, 1, 3))
    amount = getter(program, inst.operands[2], "u32", inst)
    reduce = _typed_reduction(inst)

    def run(s: Strand) -> None:
        for thread, place, start, size, bar in each(s, s.threads, to(s), source(s), amount(s), barrier(s)):
            require_size(size, inst)
            _issue_in(s, thread, (place, own_place(s.cta, start, inst), size, bar), reduce, inst)

    return run


def _issue_in(s: Strand, thread: int, what: tuple[int, int, int, int], reduce: Reduce | None,
              inst: Instruction) -> None:  # fmt: skip
    place, start, size, bar = what
    (owner, offset), (signalled, at) = s.cta.peer(place, inst), s.cta.peer(bar, inst)
    require_place(owner, offset, size, 16, inst)
    require_place(s.cta, start, size, 16, inst)
    watched = barrier_at(signalled, signalled.window + at, inst)
    source = Range(s.cta, start, size)
    landed = s.cta.machine.observer.copy_in(s, thread, [(owner, offset, watched)], size, source, 0, inst)

    def act() -> None:
        data, old = access.bulk_read(s.cta, start, size), access.bulk_read(owner, offset, size)
        access.bulk_write(owner, offset, reduce(old, data) if reduce else data)
        landed(0)
        complete_tx(signalled, signalled.window + at, size, inst)

    s.cta.issue(AsyncOp("a bulk reduction", [act]))
