"""sums_of_products: what is added to an accumulator is accumulated.

`acc += tl.dot(a, b)` asks for a product that starts from zeros, and then for a sum. Hardware has both
in one operation, and a second tile of that size in registers is dear.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from tilec.ir.core import Block, Kernel, Op, Value, definitions, uses, walk
from tilec.ir.types import TileType, float32, float64
from tilec.passes.rewrite import constant_of

Defs = Mapping[Value, Op]


def sums_of_products(kernel: Kernel) -> Kernel:
    """The kernel with acc + dot(a, b, 0) as dot(a, b, acc), where acc is an accumulator.

    A product may be summed in any order, so this is one of its values. The accumulator is a value
    that a loop carries, faded or not, or another product; of anything else the product need not
    wait for it. Not for float8: tensor cores keep fewer bits of such sums than float32 has.
    """
    everywhere, readers = definitions(kernel.body), uses(kernel.body)
    alone = {
        op.result
        for op in walk(kernel.body)
        if _from_zeros(op, everywhere) and len(readers.get(op.result, ())) == 1
    }
    return kernel.with_(body=_block(kernel.body, alone))


def _block(block: Block, alone: Set[Value]) -> Block:
    defs: dict[Value, Op] = {}
    ops: list[Op] = []
    for op in block.ops:
        op = op.with_(blocks=tuple(_block(b, alone) for b in op.blocks)) if op.blocks else op
        op = _accumulated(op, defs, alone, block.params) or op
        defs.update(dict.fromkeys(op.results, op))
        ops.append(op)
    return Block(block.params, tuple(ops))


def _accumulated(op: Op, defs: Defs, alone: Set[Value], carried: Sequence[Value]) -> Op | None:
    if op.name != "add":
        return None
    for acc, product in (op.args, op.args[::-1]):
        if product in alone and product in defs and _accumulates(acc, defs, carried):
            return defs[product].with_(args=(*defs[product].args[:2], acc), results=op.results)
    return None


def _from_zeros(op: Op, defs: Defs) -> bool:
    """Whether an op is a product alone, that is summed in full width."""
    if op.name != "dot" or constant_of(op.args[2], defs) != 0:
        return False
    operand, total = op.args[0].type, op.result.type
    assert isinstance(operand, TileType) and isinstance(total, TileType)
    small = operand.dtype.is_float and operand.dtype.bits == 8
    return not small and (total.dtype.is_int or total.dtype in (float32, float64))


def _accumulates(value: Value, defs: Defs, carried: Sequence[Value]) -> bool:
    op = defs.get(value)
    if op is None or op.name == "dot":
        return op is not None or value in carried
    return op.name == "mul" and any(_accumulates(a, defs, carried) for a in op.args)
