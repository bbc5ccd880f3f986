"""mma.sync and ldmatrix: products of one warp on fragments in registers.

Fragments: NVIDIA PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type" and the
like. In units of 16 bytes along the contiguous dimension they are the same for elements of
1, 2 and 4 bytes: four matrices of 8 rows and 16 bytes for 16 x 32 bytes of A, two for 8 x 32
bytes of B, which is what ldmatrix loads. A tile whose other dimension is contiguous is
transposed by ldmatrix, which only 16-bit elements allow.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilec.backends.ptx.ampere_place import Places
from tilec.backends.ptx.ampere_ring import Slot
from tilec.backends.ptx.context import Emitter, Fragment, register_type
from tilec.backends.ptx.hopper_operands import MMA_DTYPES
from tilec.backends.ptx.hopper_smem import SmemTile
from tilec.ir.layout import Basis, Layout, bits_of, pad
from tilec.ir.ptx.module import Reg
from tilec.ir.types import DType

Regs = tuple[Reg, ...]
Coords = tuple[int, int]
ROWS, COLUMNS, PAIR = 16, 8, 16


@dataclass(frozen=True)
class Shape:
    """A product's sizes, and the warps that share it along its rows and columns."""

    m: int
    n: int
    k: int
    down: int
    across: int

    @property
    def rows(self) -> range:
        """First rows of the blocks of a warp (of those of the first warp)."""
        return range(0, self.m, ROWS * self.down)

    @property
    def pairs(self) -> range:
        """First columns of the pairs of blocks of a warp."""
        return range(0, self.n, PAIR * self.across)


@dataclass(frozen=True)
class Shared:
    """An operand in shared memory, of which (mn, k) are ``dims`` of the tile."""

    tile: SmemTile
    slot: Slot
    dims: Coords

    @property
    def k_major(self) -> bool:
        return self.tile.inner == self.dims[1]


def lanes(shared: Shared, left: bool, size: Shape, warps: int) -> Layout:
    """Which row of 16 bytes each lane names in an ldmatrix.x4, and in which blocks each warp.

    The matrices of A go along its rows first, those of B along k.
    """
    mn, k = (pad(shared.tile.shape[d]) for d in shared.dims)
    unit = bits_of(16 // shared.tile.es)
    axes = {(0, 1 << i) if axis else (1 << i, 0) for axis, n in enumerate((mn, k)) for i in range(bits_of(n))}
    inner, outer = (1, 0) if shared.k_major else (0, 1)

    def bit(axis: int, value: int) -> Basis:
        return (0, value) if axis else (value, 0)

    unit_k = 1 << unit if shared.k_major else 8
    within = [bit(inner, 1 << i) for i in range(unit)]
    row = [bit(outer, 1 << i) for i in range(3)]
    blocks = [bit(0, 8), bit(1, unit_k)] if left else [bit(1, unit_k), bit(0, 8)]
    lane = [*row, *(b if b in axes else (0, 0) for b in blocks)]
    mine = [bit(0, ROWS << i) for i in range(bits_of(size.down if left else size.across))]
    before = [] if left else [(0, 0)] * bits_of(size.down)
    warp = [*before, *mine]
    warp += [(0, 0)] * (bits_of(warps) - len(warp))
    taken = {*within, *lane, *warp}
    rest = sorted(b for b in axes if b not in taken)
    return Layout((mn, k), (*within, *rest), tuple(lane), tuple(warp))


class Matrices:
    """ldmatrix of the blocks of an operand in shared memory."""

    def __init__(self, e: Emitter, shared: Shared, left: bool, size: Shape) -> None:
        self.e, self.shared = e, shared
        self.places = Places(e, shared.tile, shared.dims, lanes(shared, left, size, e.group.warps))

    def prepare(self, size: Shape, step: int) -> None:
        """Compute ahead the registers of all addresses."""
        for k in range(0, size.k, step):
            for mn in range(0, self.shared.tile.shape[self.shared.dims[0]], PAIR):
                self.places.register((mn, k))

    def load(self, mn: int, k: int, count: int = 4) -> Regs:
        """Registers of ``count`` matrices, each 8 x 16 bytes, from (mn, k) on."""
        regs = self.e.builder.regs("b32", count)
        turned = "" if self.shared.k_major else ".trans"
        where = self.places.address((mn, k), self.shared.slot)
        self.e.emit(f"ldmatrix.sync.aligned.m8n8.x{count}{turned}.shared.b16", regs, where)
        return regs


class Packed:
    """Operand A of 16 bits in the registers of a fragment, two elements in each of 32 bits."""

    def __init__(self, e: Emitter, fragment: Fragment) -> None:
        coords = fragment.layout.register_coords()
        self.place = {c: i // 2 for i, c in enumerate(coords) if i % 2 == 0}
        pairs = zip(fragment.regs[::2], fragment.regs[1::2], strict=True)
        self.regs = [e.make("b32", "mov.b32", pair) for pair in pairs]

    def load(self, m: int, k: int) -> Regs:
        return tuple(self.regs[self.place[m + r, k + c]] for c in (0, 8) for r in (0, 8))


class Accumulator:
    """The registers of a product's result; ``fresh`` ones start at zero, and hold nothing yet."""

    def __init__(self, e: Emitter, fragment: Fragment, fresh: bool) -> None:
        self.place = dict(zip(fragment.layout.register_coords(), fragment.regs, strict=True))
        kind = register_type(fragment.dtype)
        zero = e.make(kind, f"mov.{kind}", 0.0 if kind == "f32" else 0) if fresh else None
        self.zeros = (zero,) * 4 if zero is not None else None
        self.begun: set[Coords] = set()

    def block(self, m: int, n: int) -> Regs:
        return tuple(self.place[m + r, n + c] for r in (0, 8) for c in (0, 1))

    def before(self, m: int, n: int) -> Regs:
        """What the next product of a block is added to."""
        first = (m, n) not in self.begun
        self.begun.add((m, n))
        return self.zeros if first and self.zeros is not None else self.block(m, n)


def products(
    e: Emitter, size: Shape, dtype: DType, left: Matrices | Packed, right: Matrices, into: Accumulator
) -> None:
    """All products of a warp, one k step after the other."""
    step, opcode = 32 // dtype.bytes, instruction(dtype)
    for k in range(0, size.k, step):
        rows = {m: left.load(m, k) for m in size.rows}
        for n in size.pairs:
            count = 4 if n + PAIR <= size.n else 2
            columns = right.load(n, k, count)
            for half in range(count // 2):
                for m, a in rows.items():
                    at = m, n + COLUMNS * half
                    b = columns[2 * half : 2 * half + 2]
                    before = into.before(*at)
                    e.emit(opcode, into.block(*at), a, b, before)


def instruction(dtype: DType) -> str:
    """mma.sync of 32 bytes of k."""
    name, total = MMA_DTYPES[dtype.name], "s32" if dtype.is_int else "f32"
    return f"mma.sync.aligned.m16n8k{32 // dtype.bytes}.row.col.{total}.{name}.{name}.{total}"
