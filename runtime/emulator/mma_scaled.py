"""mma.sync with block scaling (sm_120a): factors come from one lane, or two, of each four.

Source: NVIDIA's PTX ISA manual, "Block Scaling for mma.sync"; which lane of a pair has which row:
CUTLASS include/cute/atom/mma_traits_sm120.hpp.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tilec.ir.ptx.module import Instruction, Operand, Vec
from tilec.runtime.emulator import exact, fragments, tensorcore
from tilec.runtime.emulator import mma as plain
from tilec.runtime.emulator.alu import Builder, mods
from tilec.runtime.emulator.mma import Fragment, Target, numbers, tile
from tilec.runtime.emulator.numbers import Array, decode
from tilec.runtime.emulator.operands import getter, per_thread
from tilec.runtime.emulator.program import Program, Run
from tilec.runtime.emulator.report import fault

if TYPE_CHECKING:
    from tilec.runtime.emulator.strand import Strand


class _Factors:
    """The factors of A (m, count) or B (n, count), from a register of each lane and its selector."""

    def __init__(self, data: Operand, selector: Operand, of_a: bool, count: int, type: str,
                 program: Program, inst: Instruction) -> None:  # fmt: skip
        items = selector.items if isinstance(selector, Vec) else ()
        if len(items) != 2:
            raise fault("D405", "a selector is {byte, thread}", inst)
        held = data.items if isinstance(data, Vec) else (data,)
        if len(held) != 1:
            raise fault("D405", "the factors of a lane are one register", inst)
        self.data = getter(program, held[0], "b32", inst)
        self.byte, self.thread = (getter(program, i, "u16", inst) for i in items)
        self.of_a, self.count, self.type, self.inst = of_a, count, type, inst

    def read(self, s: Strand, w: int) -> Array:
        """Those of warp ``w`` of a strand."""
        words = per_thread(s, self.data(s))[32 * w : 32 * w + 32]
        byte, thread = (int(per_thread(s, g(s))[32 * w]) for g in (self.byte, self.thread))
        if byte % self.count or byte > 3 or thread > (1 if self.of_a else 3):
            raise fault("D415", f"a selector {{{byte}, {thread}}} for {self.count} factors", self.inst)
        group = np.arange(8)
        lanes = (
            np.concatenate([4 * group + 2 * thread + i for i in (0, 1)]) if self.of_a else 4 * group + thread
        )
        raw = np.ascontiguousarray(words[lanes]).view(np.uint8).reshape(-1, 4)[:, byte : byte + self.count]
        return decode(raw, self.type).astype(np.float64)


def mma(inst: Instruction, program: Program) -> Run:
    """mma.sync, with or without .block_scale."""
    return _scaled(inst, program) if "block_scale" in mods(inst) else plain.mma(inst, program)


def _scaled(inst: Instruction, program: Program) -> Run:
    parts, (m, n, k) = mods(inst), tensorcore.shape_of(inst)
    a_type, b_type, scale = parts[-4], parts[-3], parts[-1]
    count = next((int(p[11]) for p in parts if p.startswith("scale_vec::")), 2 if k == 64 else 1)
    d, a, b, c, *extra = inst.operands
    gets = [Fragment(o, t, program, inst) for o, t in ((a, a_type), (b, b_type), (c, "f32"))]
    out = Target(d, "f32", program, inst)
    maps = fragments.warp(m, n, k, 4 if k == 64 else 8)
    factors = [_Factors(extra[2 * i], extra[2 * i + 1], i == 0, count, scale, program, inst) for i in (0, 1)]
    if [len(g.gets) for g in gets] != [4, 2, 4] or len(out.puts) != 4:
        raise fault("D405", "a block-scaled mma has 4, 4, 2 and 4 registers", inst)

    def run(s: Strand) -> None:
        held = [g.read(s) for g in gets]
        done = []
        for w in range(s.n // 32):
            x, y, z = (np.ascontiguousarray(h[:, 32 * w : 32 * w + 32]) for h in held)
            left, right = tile(_values(x, a_type, k), maps[0]), tile(_values(y, b_type, k), maps[1])
            scales = [np.repeat(f.read(s, w), k // count, axis=1) for f in factors]
            start = tile(z.view(np.float32), maps[2])
            if program.exact:
                total = exact.scaled(left, right, start, (scales[0], scales[1]), ("f32", a_type, b_type))
            else:
                total = ((left * scales[0]) @ (right * scales[1].T) + start).astype(np.float32)
            done.append(np.ascontiguousarray(total[maps[2]]).view(np.uint32))
        out.write(s, np.concatenate(done, axis=1))

    return run


def _values(words: Array, type: str, k: int) -> Array:
    """Elements of A or B: packed 4-bit ones where k is 64, else in bytes."""
    if k == 64:
        return decode(tensorcore.unpack(words, "u4"), type)
    return numbers(words, type)


TABLE: dict[str, Builder] = {"mma": mma}
