"""tcgen05.mma, cp, shift, commit and fence: what one thread issues to the tensor core.

The operations of a CTA (or pair) act in the order of issue. The manual promises that for some
pairs only; compilers rely on it for all (CUTLASS copies new scale factors behind the products
that read the old ones), and the hardware has one queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tilec.ir.ptx.module import Addr, Instruction, Int, Operand, Vec
from tilec.runtime.emulator import tmem, tmem_access
from tilec.runtime.emulator.alu import Builder, mods
from tilec.runtime.emulator.asyncops import AsyncOp
from tilec.runtime.emulator.mbarrier import arrive
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.operands import Get, address, getter, per_thread
from tilec.runtime.emulator.program import Program, Run
from tilec.runtime.emulator.report import fault
from tilec.runtime.emulator.spaces import SHARED_WINDOW
from tilec.runtime.emulator.tcgen05_desc import decode_product, decode_shared
from tilec.runtime.emulator.tcgen05_mma import Issue, Multiply
from tilec.runtime.emulator.tcgen05_operand import Matrix, contained
from tilec.runtime.emulator.tensor_watch import Cells
from tilec.runtime.emulator.tmem import group_of, split

if TYPE_CHECKING:
    from tilec.runtime.emulator.cta import Cta
    from tilec.runtime.emulator.strand import Strand


class Pipe:
    """What a CTA has issued: every operation acts after those before it."""

    def __init__(self) -> None:
        self.waiting: deque[Callable[[], None]] = deque()
        self.issued = self.done = 0

    def add(self, cta: Cta, text: str, act: Callable[[], None]) -> None:
        self.waiting.append(act)
        self.issued += 1
        number = self.issued

        def up_to_here() -> None:
            while self.done < number:
                self.done += 1
                self.waiting.popleft()()

        cta.issue(AsyncOp(text, [up_to_here]))


def _pipe(s: Strand, inst: Instruction) -> Pipe:
    """The queue of the CTA, or of the pair."""
    memory = group_of(s.cta, inst)[0].tensor
    memory.pipe = memory.pipe or Pipe()
    found: Pipe = memory.pipe
    return found


def _values(s: Strand, gets: list[Get]) -> list[list[int]]:
    """For each thread, the integer values of some operands."""
    columns = [per_thread(s, g(s)).tolist() for g in gets]
    return [list(row) for row in zip(*columns, strict=True)]


def mma(inst: Instruction, program: Program) -> Run:
    """tcgen05.mma and mma.ws: every thread that executes it issues a product."""
    if "ashift" in mods(inst):
        raise fault("D404", "tcgen05.mma with .ashift is not emulated", inst)
    d, a, b, idesc, *rest = inst.operands
    in_tensor = isinstance(a, Addr)
    gets = [
        address(program, d, inst),
        address(program, a, inst) if in_tensor else getter(program, a, "u64", inst),
        getter(program, b, "u64", inst),
        getter(program, idesc, "u32", inst),
        *(address(program, o, inst) for o in rest if isinstance(o, Addr)),
    ]
    off = _mask(inst, program, rest)
    flag, shift = _enable(rest), _immediate(rest)
    enable = getter(program, flag, "pred", inst)
    zeros = getter(program, rest[-1], "u64", inst) if ".ws." in inst.opcode and rest[-1] is not flag else None

    def run(s: Strand) -> None:
        masks, keep = off(s), per_thread(s, enable(s))
        if zeros is not None and (per_thread(s, zeros(s)) >> np.uint64(39) & np.uint64(1)).any():
            raise fault("D404", "zero-column masks are not emulated", inst)
        for i, (to, left, right, bits, *scales) in enumerate(_values(s, gets)):
            issue = Issue(
                group_of(s.cta, inst), decode_product(bits, inst), to, left, in_tensor, right,
                (scales[0], scales[1]) if scales else (0, 0), bool(keep[i]), shift, masks[i],
            )  # fmt: skip
            product = Multiply(issue, inst)
            _start(s, i, product.shared, (product.reads(), product.writes()), product.act, inst)

    return run


def _start(s: Strand, i: int, shared: list[Matrix], cells: tuple[list[Cells], list[Cells]],
           act: Callable[[], None], inst: Instruction) -> None:  # fmt: skip
    """Issue an operation of the i-th thread of the strand. ``cells`` are what it reads and writes."""
    reads = [(m.cta, m.operand) for m in shared]
    s.cta.machine.tensor.issue(s, int(s.threads[i]), reads, *cells, inst)
    _pipe(s, inst).add(s.cta, f"{inst.opcode.split('.cta')[0]} of PTX line {inst.line}", act)


def _enable(rest: list[Operand]) -> Operand:
    """enable-input-d: the first operand that is no vector and no address."""
    return next(o for o in rest if not isinstance(o, (Vec, Addr)))


def _immediate(rest: list[Operand]) -> int:
    """scale-input-d: an immediate after the predicate."""
    last = rest[-1]
    return last.value if isinstance(last, Int) and last is not _enable(rest) else 0


def _mask(inst: Instruction, program: Program, rest: list[Operand]) -> Callable[[Strand], Any]:
    """disable-output-lane: for each thread, which lanes of the CTAs are not written."""
    vector = next((o for o in rest if isinstance(o, Vec)), None)
    if vector is None:
        return lambda s: [None] * s.n
    if len(vector.items) != (8 if ".cta_group::2" in inst.opcode else 4):
        raise fault("D405", f"{len(vector.items)} words of disabled lanes", inst)
    gets = [getter(program, o, "u32", inst) for o in vector.items]

    def run(s: Strand) -> Array:
        words = np.stack([per_thread(s, g(s)) for g in gets], axis=1)
        bits = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=1, bitorder="little")
        return np.asarray(bits != 0)

    return run


_COPIES = {
    "128x256b": (128, 2, (0,)), "128x128b": (128, 1, (0,)), "32x128b": (32, 1, (0, 32, 64, 96)),
    "64x128b": (64, 1, (0, 64)), "4x256b": (4, 2, (0,)),
}  # fmt: skip


def copy(inst: Instruction, program: Program) -> Run:
    """tcgen05.cp: rows of 16 or 32 bytes of shared memory, as a K-major matrix, to lanes."""
    parts = mods(inst)
    rows, units, copies = _COPIES[parts[2]]
    bits = 4 if "b4x16_p64" in parts else 6 if "b6x16_p32" in parts else 0
    where, desc = address(program, inst.operands[0], inst), getter(program, inst.operands[1], "u64", inst)
    row = np.arange(rows)
    lane = 32 * row if parts[2] == "4x256b" else row
    if "warpx2::01_23" in parts:
        lane, copies = row % 32 + row // 32 * 64, (0, 32)

    def run(s: Strand) -> None:
        for i, (place, d) in enumerate(_values(s, [where, desc])):
            first, column = split(place)
            if first + int(lane.max()) + copies[-1] >= tmem.LANES:
                raise fault("E19", f"the copy reaches beyond lane 127 from lane {first}", inst)
            ctas, span = group_of(s.cta, inst), np.arange(4 * units) + column
            source = decode_shared(d, inst)
            reads = [Matrix(c, source, rows, 1, True, inst, half=units == 1) for c in ctas]
            for c in ctas:
                c.tensor.require(span, inst)
            lanes = (lane + first + np.array(copies)[:, None]).ravel()[:, None]

            def act(reads: list[Matrix] = reads, span: Array = span, first: int = first) -> None:
                for m in reads:
                    raw = m.raw()
                    data = np.ascontiguousarray(contained(raw, bits) if bits else raw).view(np.uint32)
                    for step in copies:
                        m.cta.tensor.cells[(lane + first + step)[:, None], span] = data

            _start(s, i, reads, ([], [(c, lanes, span) for c in ctas]), act, inst)

    return run


def shift(inst: Instruction, program: Program) -> Run:
    """tcgen05.shift: 31 lanes of 32 bytes take what the next lane has."""
    where = address(program, inst.operands[0], inst)

    def run(s: Strand) -> None:
        for i, (place,) in enumerate(_values(s, [where])):
            lane, column = split(place)
            if lane % 32 or lane >= tmem.LANES:
                raise fault("E19", f"tcgen05.shift at lane {lane}, which is no multiple of 32", inst)
            ctas = group_of(s.cta, inst)
            span = np.arange(column, column + 8)
            for c in ctas:
                c.tensor.require(span, inst)
            cells = [(c, np.arange(lane, lane + 32)[:, None], span) for c in ctas]

            def act(ctas: list[Cta] = ctas, lane: int = lane, column: int = column) -> None:
                for c in ctas:
                    part = c.tensor.cells[lane : lane + 32, column : column + 8]
                    part[:-1] = part[1:].copy()

            _start(s, i, [], (cells, [(c, at[:-1], to) for c, at, to in cells]), act, inst)

    return run


def commit(inst: Instruction, program: Program) -> Run:
    """tcgen05.commit: an arrival on an mbarrier when all that the thread issued has acted."""
    where = address(program, inst.operands[0], inst)
    generic = "shared::cluster" not in mods(inst)
    mask = getter(program, inst.operands[1], "u16", inst) if len(inst.operands) > 1 else None

    def run(s: Strand) -> None:
        masks = per_thread(s, mask(s)).tolist() if mask else [0] * s.n
        for i, (place,) in enumerate(_values(s, [where])):
            place -= SHARED_WINDOW if generic else 0
            cta, offset = s.cta.peer(place, inst)
            targets = [c for n, c in enumerate(s.cta.cluster) if masks[i] >> n & 1] if mask else [cta]
            release = s.cta.machine.tensor.commit(s, int(s.threads[i]), inst)

            def act(targets: list[Cta] = targets, offset: int = offset, release: Any = release) -> None:
                for c in targets:
                    arrive(c, c.window + offset, 1, inst, release)

            _pipe(s, inst).add(s.cta, f"tcgen05.commit of PTX line {inst.line}", act)

    return run


def tcgen05(inst: Instruction, program: Program) -> Run:
    """All tcgen05 instructions, by the word after "tcgen05"."""
    kind = mods(inst)[0]
    if kind.startswith("fence"):
        return lambda s: s.cta.machine.tensor.fence(s, "after" in kind, inst)
    return _KINDS[kind](inst, program)


_KINDS: dict[str, Builder] = {
    "alloc": tmem.alloc, "dealloc": tmem.dealloc, "relinquish_alloc_permit": tmem.relinquish,
    "ld": tmem_access.load, "st": tmem_access.store, "wait::ld": tmem_access.wait,
    "wait::st": tmem_access.wait, "mma": mma, "cp": copy, "shift": shift, "commit": commit,
}  # fmt: skip
TABLE: dict[str, Builder] = {"tcgen05": tcgen05}
