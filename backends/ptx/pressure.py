"""How many registers the tiles of a kernel take: an estimate before anything is emitted."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from tilec.backends.ptx.liveness import Deaths, deaths
from tilec.ir.core import Block, Kernel, Op, Value, walk
from tilec.ir.layout import Layout
from tilec.ir.types import TileType

# Their results are other names of registers, or constants that instructions hold.
RENAMES = frozenset({"broadcast", "reshape", "permute", "const"})
PRODUCT = 24  # registers of a thread for the operands of a product that are under way from shared memory
PLENTY = 160  # what may be held at products: the rest of the 255 is for addresses, and what ptxas moves ahead
HEAVY = 64  # from here on ptxas has spilled to fit another program on the SM


def peak_registers(kernel: Kernel, names: Collection[str] = ()) -> int:
    """32-bit registers of a thread that tiles take at most at a time, in the program's order.

    ``names``: only while ops of these names run. The kernel has layouts. Scalars and addresses are
    not counted, nor is what an op other than a product needs within itself.
    """
    copied = {a for op in walk(kernel.body) if op.name == "aref.put" for a in op.args}
    found = _held(kernel.body, _Sizes(deaths(kernel.body), copied), 0)
    return max((n for op, n in found if not names or op.name in names), default=0)


def is_tight(kernel: Kernel) -> bool:
    """Whether products leave few registers for what could be computed ahead of a loop."""
    return peak_registers(kernel, ("dot",)) > PLENTY


def is_heavy(kernel: Kernel) -> bool:
    """Whether the kernel needs so many registers that ptxas may spill for more programs at a time."""
    return peak_registers(kernel) >= HEAVY or any(op.name == "dot" for op in walk(kernel.body))


class _Sizes:
    """Which values die where, and which hold no registers though they are tiles."""

    def __init__(self, dying: Deaths, copied: set[Value]) -> None:
        self.dying, self.copied = dying, copied

    def sum(self, values: Iterable[Value]) -> int:
        return sum(registers(v) for v in values if v not in self.copied)


def _held(block: Block, sizes: _Sizes, outside: int) -> Iterator[tuple[Op, int]]:
    """What is held after each op of a block; ``outside``: by values from around it."""
    held, counted = outside + sizes.sum(block.params), set(block.params)
    for op in block.ops:
        ending = sizes.sum(counted.intersection(sizes.dying.get(op, ())))
        for inner in op.blocks:
            yield from _held(inner, sizes, held - min(ending, sizes.sum(inner.params)))
        if op.name not in RENAMES:
            counted.update(op.results)
        held += sizes.sum(counted.intersection(op.results))
        held -= sizes.sum(counted.intersection(sizes.dying.get(op, ())))
        yield op, held + PRODUCT * (op.name == "dot")


def registers(value: Value) -> int:
    """The registers of a value in each thread; two elements of 16 bits share one."""
    t = value.type
    if not isinstance(t, TileType) or t.space != "reg" or not isinstance(t.layout, Layout):
        return 0
    return -(-t.layout.registers * max(t.dtype.bits, 8) // 32)
