"""First operands of products in registers are packed before any product that may run beside them.

ptxas (13.5) packs 16-bit numbers where a product takes them. If another product was issued before, it
calls the packing a write to an operand while a product runs, and serializes both (C7513). Packed much
earlier, where they are made, they are serialized too. So it is done right before the first of the
products that run together. What loops carry is carried packed (`control.py`).
"""

from __future__ import annotations

from collections.abc import Iterator

from tilec.ir.core import Block, Op, Value, walk
from tilec.ir.types import TileType
from tilec.passes.schedule.modulo_body import is_product


def packed_ahead(body: Block) -> dict[Op, tuple[Value, ...]]:
    """For products the first operands, of those that are issued while they may run, to pack before them."""
    found: dict[Op, tuple[Value, ...]] = {}
    for block in (body, *(b for op in walk(body) for b in op.blocks)):
        found.update(_ahead(block))
    return found


def _ahead(block: Block) -> Iterator[tuple[Op, tuple[Value, ...]]]:
    first: Op | None = None
    late, wanted = set[Value](), list[Value]()
    for op in block.ops:
        if op.name == "dot.wait" and op.attrs["pending"] == 0 and first is not None:
            yield first, tuple(wanted)
            first, late, wanted = None, set(), []
        if is_product(op):
            first = first or op
            wanted += [op.args[0]] if _fits(op.args[0]) and op.args[0] not in late else []
        late |= set(op.results) if first is not None else set()
    if first is not None:
        yield first, tuple(wanted)


def _fits(value: Value) -> bool:
    t = value.type
    if not isinstance(t, TileType) or t.space != "reg" or not t.shape:
        return False
    return t.dtype.bits == 16 and t.dtype.is_float
