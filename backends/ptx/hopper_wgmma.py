"""Tile products on the tensor cores of Hopper (wgmma).

A product of M x N x K is, for each block of 64 rows that a warpgroup owns, a chain of
m64nNk(32 bytes) instructions over k. Operand B is read from shared memory, A from shared
memory or from registers in the accumulator's layout. All instructions of a dot are one
commit group, so that `dot.wait {pending}` counts dots.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tilec.backends.ptx.context import Emitter, Fragment
from tilec.backends.ptx.hopper_operands import M_BLOCK, MMA_DTYPES, REGISTER_FILE, WARPGROUP
from tilec.backends.ptx.hopper_smem import Operand, k_step
from tilec.backends.ptx.words import as_result, joined
from tilec.ir.errors import ResourceError
from tilec.ir.layout import pad
from tilec.ir.ptx.builder import Value as PtxValue
from tilec.ir.ptx.module import Reg
from tilec.ir.types import DType

MAX_N = 256
MAX_ACCUMULATOR = 224
# What ptxas needs beside the accumulator of a wgmma: descriptors, addresses, loop state.
BESIDE_ACCUMULATOR = 32


@dataclass(frozen=True)
class Shape:
    """Sizes of a product. Each of ``groups`` warpgroups has ``blocks`` of 64 rows,
    ``pitch`` rows apart (see `layout.wgmma`); with too few rows some repeat others' work."""

    m: int
    n: int
    k: int
    groups: int

    @property
    def blocks(self) -> int:
        return max(1, self.m // self.pitch)

    @property
    def pitch(self) -> int:
        return M_BLOCK * self.groups

    @property
    def distinct(self) -> int:
        """Warpgroups with rows of their own."""
        return min(self.groups, self.m // M_BLOCK)


@dataclass(frozen=True)
class Shared:
    """An operand in shared memory: (start address >> 4) - ``first`` (b32), and how to find its blocks."""

    start: Reg
    operand: Operand
    first: int = 0

    def descriptor(self, e: Emitter, mn: int, k: int) -> Reg:
        """The matrix descriptor of the block at (mn, k)."""
        word, offset = self.operand.constant, self.first + (self.operand.offset(mn, k) >> 4)
        low = e.make("b32", "add.s32", self.start, (word & 0xFFFFFFFF) + offset)
        high = e.cached(("high", word >> 32), lambda: e.make("b32", "mov.b32", word >> 32))
        return e.make("b64", "mov.b64", (low, high))


@dataclass(frozen=True)
class Packed:
    """Operand A in 32-bit registers, four for each k step, k steps of a row block in a row."""

    regs: tuple[Reg, ...]
    steps: int

    def registers(self, block: int, step: int) -> tuple[Reg, ...]:
        first = 4 * (block * self.steps + step)
        return self.regs[first : first + 4]


def shared_operand(e: Emitter, start: Reg, operand: Operand, row_groups: int, first: int = 0) -> Shared:
    """An operand that starts at ``start`` + ``first`` (address >> 4); ``row_groups`` warpgroups start at
    different rows of it."""
    if row_groups > 1:
        pitch = operand.offset(M_BLOCK, 0) >> 4
        start = e.make("b32", "mad.lo.s32", warpgroup(e, row_groups), pitch, start)
    return Shared(start, operand, first)


def warpgroup(e: Emitter, distinct: int) -> Reg:
    """The warpgroup's number in its group, modulo ``distinct``."""
    return e.cached(("warpgroup", distinct), lambda: _warpgroup(e, distinct))  # type: ignore[no-any-return]


def _warpgroup(e: Emitter, distinct: int) -> Reg:
    number = e.make("b32", "shr.u32", e.warp(), WARPGROUP.bit_length() - 1)
    number = (
        e.make("b32", "and.b32", number, distinct - 1) if distinct * WARPGROUP < e.group.warps else number
    )
    # All lanes have the same number; the shuffle tells the assembler so.
    return e.make("b32", "shfl.sync.idx.b32", number, 0, 31, -1)


def packed(e: Emitter, fragment: Fragment) -> Packed:
    """Operand A from a fragment in the layout `wgmma_a16` or `wgmma_a8`, or of 8 bits in an accumulator's.

    What a loop carries in words is taken as it is: joined here, ptxas (13.5) takes the joining for a
    write to an operand while another product runs, and serializes both (C7513).
    """
    words = joined(e, fragment)
    if as_result(fragment):
        words = tuple(_from_quad(e, word) for word in words)
    return Packed(words, len(words) // (4 * _row_blocks(fragment)))


def _from_quad(e: Emitter, own: Reg) -> Reg:
    """Columns 4t to 4t + 3 of 16, for thread t of a quad, which holds 2t, 2t + 1, 2t + 8 and 2t + 9.

    These columns are those of the threads 2(t mod 2) and the next, the lower or upper ones of each.
    """
    first, upper = quad(e)
    second = e.cached("second of quad", lambda: e.make("b32", "add.s32", first, 1))
    parts = [e.make("b32", "shfl.sync.idx.b32", own, lane, 31, -1) for lane in (first, second)]
    return e.make("b32", "prmt.b32", *parts, upper)


def quad(e: Emitter) -> tuple[Reg, Reg]:
    """The first lane that `_from_quad` reads, and the selector of the bytes that it takes."""
    return e.cached("quad", lambda: _quad(e))  # type: ignore[no-any-return]


def _quad(e: Emitter) -> tuple[Reg, Reg]:
    lane = e.lane()
    odd = e.make("b32", "and.b32", lane, 1)
    first = e.make("b32", "mad.lo.s32", odd, 2, e.make("b32", "and.b32", lane, 28))
    upper = e.make("pred", "setp.ne.s32", e.make("b32", "and.b32", lane, 2), 0)
    return first, e.make("b32", "selp.b32", 0x7632, 0x5410, upper)


def _row_blocks(fragment: Fragment) -> int:
    return 1 << sum(1 for b in fragment.layout.reg if b[0] >= M_BLOCK)


def products(
    e: Emitter, size: Shape, dtype: DType, left: Shared | Packed, right: Shared, into: Fragment, fresh: bool
) -> None:
    """Issue all instructions of a dot as one commit group; ``fresh`` ignores what ``into`` holds."""
    _check_registers(e, size)
    e.emit("wgmma.fence.sync.aligned")
    step = k_step(dtype.bytes)
    width = max(pad(size.n), 8) // 2
    for block in range(size.blocks):
        for n in range(0, size.n, MAX_N):
            columns = min(MAX_N, size.n - n)
            first = block * width + n // 2
            regs = into.regs[first : first + columns // 2]
            issue = _issuer(e, dtype, columns, regs, left, right)
            for i in range(size.k // step):
                a = _left(e, left, size, block, i, step)
                issue(a, right.descriptor(e, n, i * step), scale(e, not (fresh and i == 0)))
    e.emit("wgmma.commit_group.sync.aligned")


def _check_registers(e: Emitter, size: Shape) -> None:
    """All threads of a group share the register file: more warps have fewer registers each."""
    needed = size.blocks * size.n // 2
    if needed > min(MAX_ACCUMULATOR, REGISTER_FILE // e.group.threads - BESIDE_ACCUMULATOR):
        raise ResourceError(
            "R501",
            f"the accumulator of a {size.m} x {size.n} product takes {needed} registers of a thread",
            help="use smaller tiles" + (", or num_warps=8" if e.group.warps < 8 else ""),
        )


def _left(e: Emitter, left: Shared | Packed, size: Shape, block: int, i: int, step: int) -> PtxValue:
    if isinstance(left, Packed):
        return left.registers(block, i)
    return left.descriptor(e, block * size.pitch, i * step)


def scale(e: Emitter, keep: bool) -> Reg:
    """The predicate of an instruction: whether it adds to the accumulator."""
    return e.cached(("scale", keep), lambda: e.make("pred", "mov.pred", int(keep)))  # type: ignore[no-any-return]


def _issuer(
    e: Emitter, dtype: DType, n: int, regs: tuple[Reg, ...], left: Shared | Packed, right: Shared
) -> Callable[[PtxValue, Reg, Reg], None]:
    """A function that emits one instruction for given A, B and scale."""
    name = MMA_DTYPES[dtype.name]
    to = "s32" if dtype.is_int else "f32"
    opcode = f"wgmma.mma_async.sync.aligned.m64n{n}k{k_step(dtype.bytes)}.{to}.{name}.{name}"
    flags = _flags(dtype, left, right)

    def issue(a: PtxValue, b: Reg, keep: Reg) -> None:
        e.emit(opcode, regs, a, b, keep, *flags)

    return issue


def _flags(dtype: DType, left: Shared | Packed, right: Shared) -> tuple[int, ...]:
    """Signs of A and B, and for 16-bit operands in shared memory whether k is not contiguous."""
    if dtype.is_int:
        return ()
    if dtype.bits != 16:
        return 1, 1
    transposed = (int(not s.operand.k_major) for s in (left, right) if isinstance(s, Shared))
    return 1, 1, *transposed
