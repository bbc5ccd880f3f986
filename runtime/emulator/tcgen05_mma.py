"""One tcgen05.mma: which lanes hold its rows, and the product itself.

Source of the layouts: NVIDIA's PTX ISA manual, "Data Path Layout Organization" (layouts A to G);
CUTLASS include/cute/atom/mma_traits_sm100_frag.hpp.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tilec.ir.ptx.module import Instruction
from tilec.runtime.emulator import exact, tensorcore
from tilec.runtime.emulator.numbers import Array, decode, encode
from tilec.runtime.emulator.report import fault
from tilec.runtime.emulator.tcgen05_desc import Product, decode_shared
from tilec.runtime.emulator.tcgen05_operand import Matrix, from_tensor, numbers, scale_factors, width
from tilec.runtime.emulator.tensor_watch import Cells
from tilec.runtime.emulator.tmem import LANES, split

if TYPE_CHECKING:
    from tilec.runtime.emulator.cta import Cta


@dataclass(frozen=True)
class Issue:
    """The operands of one product. ``left`` is a descriptor or, with ``in_tensor``, an address;
    ``off`` are the lanes of all ``ctas`` that are not written (None: all are)."""

    ctas: list[Cta]
    product: Product
    to: int
    left: int
    in_tensor: bool
    right: int
    scales: tuple[int, int]
    keep: bool
    shift: int
    off: Array | None


@dataclass(frozen=True)
class Block:
    """Rows ``row`` and columns [first, first + count) of a CTA's D lie in ``lanes``, from the
    first column of D on."""

    lanes: Array
    first: int
    count: int


def blocks(p: Product, pair: bool, weights: bool, base: int) -> list[Block]:
    """The parts of D in one CTA; row i of A is lane i of each part."""
    rows = p.m // 2 if pair else p.m
    if rows == 64 and not pair and not weights:
        row = np.arange(64)
        return [Block(row % 16 + 32 * (row // 16) + base, 0, p.n)]
    parts = LANES // rows
    width_ = p.n // parts
    return [Block(np.arange(rows) + rows * i, width_ * i, width_) for i in range(parts)]


class Multiply:
    """Checks a product at its issue; ``act`` does it."""

    def __init__(self, issue: Issue, inst: Instruction) -> None:
        self.issue, self.inst = issue, inst
        p, pair = issue.product, len(issue.ctas) == 2
        lane, self.column = split(issue.to)
        half = p.m == 64 and not pair and ".ws." not in inst.opcode
        if lane not in ((0, 16) if half else (0,)):
            raise fault("E19", f"D begins at lane {lane} of tensor memory", inst)
        self.blocks = blocks(p, pair, ".ws." in inst.opcode, lane)
        for c in issue.ctas:
            c.tensor.require(np.arange(self.blocks[0].count) + self.column, inst)
        rows = len(self.blocks[0].lanes)
        self.right = [self._matrix(c, issue.right, p.n // len(issue.ctas), 1) for c in issue.ctas]
        self.left = [] if issue.in_tensor else [self._matrix(c, issue.left, rows, 0) for c in issue.ctas]
        self._check_tensor_operands()

    @property
    def shared(self) -> list[Matrix]:
        """What it reads of shared memory."""
        return [*self.left, *self.right]

    def writes(self) -> list[Cells]:
        """The cells of D."""
        width_ = np.arange(self.blocks[0].count) + self.column
        lanes = np.concatenate([b.lanes for b in self.blocks])[:, None]
        return [(c, lanes, width_) for c in self.issue.ctas]

    def reads(self) -> list[Cells]:
        """The cells of D, A and the scale factors that it reads."""
        issue, p = self.issue, self.issue.product
        found = self.writes() if issue.keep else []
        lanes = np.concatenate([b.lanes for b in self.blocks])[:, None]
        for c in issue.ctas:
            if issue.in_tensor:
                found.append((c, lanes, np.arange(8) + split(issue.left)[1]))
            if p.scales:
                every = np.arange(LANES)[:, None]
                found += [(c, every, span) for span in self._scale_columns()]
        return found

    def _scale_columns(self) -> list[Array]:
        rows = zip(self._scaled(), self.issue.scales, strict=True)
        return [np.arange(-(-n // 32)) + split(at)[1] for n, at in rows]

    def _matrix(self, cta: Cta, bits: int, rows: int, which: int) -> Matrix:
        p = self.issue.product
        size = width(p.types[1 + which])
        return Matrix(cta, decode_shared(bits, self.inst), rows, size, not p.turned[which], self.inst)

    def _check_tensor_operands(self) -> None:
        issue, p = self.issue, self.issue.product
        spans = []
        if issue.in_tensor:
            lane, column = split(issue.left)
            if p.turned[0]:
                raise fault("D405", "A in tensor memory must be K-major", self.inst)
            if lane != split(issue.to)[0]:
                raise fault("E19", f"A begins at lane {lane} of tensor memory, D at another", self.inst)
            spans.append(np.arange(8) + column)
        if p.scales:
            spans += self._scale_columns()
        for c in issue.ctas:
            for span in spans:
                c.tensor.require(span, self.inst)

    def _scaled(self) -> tuple[int, int]:
        """Rows of A, and columns of B, that a block has scale factors for."""
        return len(self.blocks[0].lanes), self.blocks[0].count

    def act(self) -> None:
        p = self.issue.product
        right = np.concatenate([numbers(m.raw(), p.types[2], p.k) for m in self.right])
        for i, cta in enumerate(self.issue.ctas):
            left = None if self.issue.in_tensor else numbers(self.left[i].raw(), p.types[1], p.k)
            off = None if self.issue.off is None else self.issue.off[LANES * i : LANES * i + LANES]
            for block in self.blocks:
                self._block(cta, block, left, right[block.first : block.first + block.count], off)

    def _block(self, cta: Cta, block: Block, left: Array | None, right: Array, off: Array | None) -> None:
        issue, cells = self.issue, cta.tensor.cells
        p, columns = issue.product, slice(self.column, self.column + block.count)
        if left is None:
            left = from_tensor(cells, block.lanes, split(issue.left)[1], p)
        held = _read(cells[block.lanes, columns], p.types[0])
        start = held * 2.0**-issue.shift if issue.shift else held
        start = start.astype(held.dtype) if issue.keep else np.zeros_like(held)
        total = self._product(cta, block, p.sign * left, right, start)
        lanes = block.lanes if off is None else block.lanes[~off[block.lanes]]
        rows = slice(None) if off is None else ~off[block.lanes]
        cells[lanes, columns] = _write(total[rows], p.types[0])

    def _product(self, cta: Cta, block: Block, left: Array, right: Array, start: Array) -> Array:
        p, program, cells = self.issue.product, cta.machine.program, cta.tensor.cells
        if not p.scales:
            multiply = tensorcore.multiplier(program, "tcgen05", p.types, p.k, self.inst, p.saturate)
            return multiply(left, right.T, start)
        out = np.empty_like(start)
        quarter = block.lanes // 32
        m, n = self._scaled()
        for q in np.unique(quarter).tolist():
            mine = quarter == q
            a = scale_factors(cells, q, split(self.issue.scales[0])[1], m, p, p.ids[0])[mine]
            b = scale_factors(cells, q, split(self.issue.scales[1])[1], n, p, p.ids[1])
            if program.exact:
                out[mine] = exact.scaled(left[mine], right.T, start[mine], (a, b), p.types)
            else:
                out[mine] = left[mine] * a @ (right * b).T + start[mine]
        return out


def _read(cells: Array, type: str) -> Array:
    """Accumulators as numbers: 16-bit ones are in the lower half of their word."""
    if type == "f16":
        return decode(cells.astype(np.uint16), "f16")
    return np.ascontiguousarray(cells).view(np.int32 if type == "s32" else np.float32)


def _write(total: Array, type: str) -> Array:
    if type == "f16":
        return encode(total.astype(np.float16).astype(np.float64), "f16").astype(np.uint32)
    return np.ascontiguousarray(total).view(np.uint32)
