"""Elements of 16 and 8 bits several to a 32-bit register, as products take them and loops carry them.

Four elements of 8 bits that lie as a product's result does are joined as `hopper_wgmma.packed` needs
them before it exchanges them with other threads: two neighbours of one row, and the two eight columns on.
"""

from __future__ import annotations

from tilec.backends.ptx.context import Emitter, Fragment
from tilec.backends.ptx.numeric import join_bytes
from tilec.ir.ptx.module import Reg

QUAD = ((0, 1, 4, 5), (2, 3, 6, 7))  # of eight registers: two rows of two times two columns
ROW = (8, 0)


def as_result(fragment: Fragment) -> bool:
    """Whether 8-bit elements lie in the layout of a product's result."""
    return fragment.dtype.bits == 8 and fragment.layout.reg[1:2] == (ROW,)


def together(fragment: Fragment) -> list[tuple[int, ...]]:
    """The numbers of the registers that share a word, word by word; none if elements are as large."""
    count, per = len(fragment.regs), 32 // fragment.dtype.bits
    if not fragment.shape or per not in (2, 4) or count % per:
        return []
    if as_result(fragment):
        return [tuple(first + n for n in four) for first in range(0, count, 8) for four in QUAD]
    return [tuple(range(first, first + per)) for first in range(0, count, per)]


def joined(e: Emitter, fragment: Fragment) -> tuple[Reg, ...]:
    """The elements of a tile in words; () for others, which stay as they are."""
    return fragment.words or tuple(
        _join(e, tuple(fragment.regs[n] for n in numbers)) for numbers in together(fragment)
    )


def _join(e: Emitter, regs: tuple[Reg, ...]) -> Reg:
    return e.make("b32", "mov.b32", regs) if len(regs) == 2 else join_bytes(e, regs)


def spread(e: Emitter, fragment: Fragment) -> None:
    """Write the registers of a fragment from its words."""
    for word, numbers in zip(fragment.words, together(fragment), strict=True):
        regs = tuple(fragment.regs[n] for n in numbers)
        if len(regs) == 2:
            e.emit("mov.b32", regs, word)
            continue
        halves = e.reg("b16"), e.reg("b16")
        e.emit("mov.b32", halves, word)
        for n, reg in enumerate(regs):
            half = halves[n // 2]
            e.emit(*(("shr.u16", reg, half, 8) if n % 2 else ("and.b16", reg, half, 0xFF)))
