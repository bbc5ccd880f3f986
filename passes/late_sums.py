"""late_sums: a sum over rows that a loop carries stays in parts until the loop is over.

Online softmax keeps `total = total * fade + sum(p, 1)`. In a product's accumulator four threads
hold a row, two neighbours of every eight columns each. The loop can carry what each of them has
summed, and add the four once after its end: no thread waits for another in the loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tilec.ir.core import Block, Kernel, Op, Value, definitions, uses
from tilec.ir.ops import opdef
from tilec.ir.types import TileType, float32
from tilec.passes.layout_rules import POINTWISE
from tilec.passes.rewrite import Emit, constant_of

QUAD, PAIR = 4, 2  # threads that hold a row of an accumulator, and columns of each, side by side
EIGHT = QUAD * PAIR


@dataclass(frozen=True)
class _Sum:
    """Carried value ``index`` of a loop: it is faded (if it is), then the row sum is added to it."""

    index: int
    add: Op
    row: Op
    fading: Op | None
    fade: Value | None


def late_sums(kernel: Kernel) -> Kernel:
    """The kernel with carried row sums of products' tiles in four parts.

    The sum is in another order; fading and adding round once. Only sums that start at zero, and
    that nothing else in the loop reads.
    """
    return kernel.with_(body=_Late(kernel).block(kernel.body))


class _Late:
    def __init__(self, kernel: Kernel) -> None:
        self.defs, self.readers = definitions(kernel.body), uses(kernel.body)

    def block(self, block: Block) -> Block:
        ops: list[Op] = []
        for op in block.ops:
            op = op.with_(blocks=tuple(map(self.block, op.blocks))) if op.blocks else op
            ops += self.loop(op) if op.name == "for" else [op]
        return Block(block.params, tuple(ops))

    def loop(self, op: Op) -> list[Op]:
        before, after = list[Op](), list[Op]()
        for found in filter(None, [self.sum_of(op, i) for i in range(len(op.results))]):
            zero, op, total = _in_parts(op, found)
            before.append(zero)
            after.append(total)
        return [*before, op, *after]

    def sum_of(self, loop: Op, index: int) -> _Sum | None:
        """The sum that a loop carries at a place, if it may be in parts."""
        body = loop.blocks[0]
        param, made = body.params[1 + index], self.defs.get(body.yielded[index])
        starts_at_zero = constant_of(loop.args[3 + index], self.defs) == 0
        if made is None or made.name != "add" or not starts_at_zero or made not in body.ops:
            return None
        for old, new in (made.args, made.args[::-1]):
            row, fading = self.defs.get(new), self.defs.get(old)
            if row is None or not self.is_row_sum(row, body) or not self.read_once(param, new, made.result):
                continue
            if old is param:
                return _Sum(index, made, row, None, None)
            if fading is not None and fading.name == "mul" and param in fading.args and self.read_once(old):
                fade = fading.args[fading.args[0] is param]
                return _Sum(index, made, row, fading, fade)
        return None

    def read_once(self, *values: Value) -> bool:
        return all(len(self.readers.get(v, ())) == 1 for v in values)

    def is_row_sum(self, op: Op, body: Block) -> bool:
        if op.name != "reduce" or op.attrs["kind"] != "sum" or op not in body.ops:
            return False
        t = op.args[0].type
        assert isinstance(t, TileType)
        wide = len(t.shape) == 2 and op.attrs["axis"] == 1 and not t.shape[1] % EIGHT
        return wide and t.dtype == float32 and _of_product(op.args[0], self.defs)


def _of_product(value: Value, defs: Mapping[Value, Op]) -> bool:
    """Whether a tile is made element by element from a product, so that it lies as an accumulator does."""
    op = defs.get(value)
    if op is None:
        return False
    return op.name == "dot" or (
        opdef(op.name).family in POINTWISE and any(_of_product(a, defs) for a in op.args)
    )


def _in_parts(loop: Op, found: _Sum) -> tuple[Op, Op, Op]:
    """What the parts begin as, the loop with the sum in parts, and the op that adds them up."""
    (body,), (rows,) = loop.blocks, found.add.result.type.shape  # type: ignore[union-attr]
    kind = TileType(float32, (rows, QUAD))
    param, result = (
        Value(kind, body.params[1 + found.index].hint),
        Value(kind, loop.results[found.index].hint),
    )
    before, end = Emit(loop), Emit(loop)
    zero = before("const", dtype=float32, shape=kind.shape, value=0.0)
    ops: list[Op] = []
    for op in body.ops:
        emit = Emit(op)
        if op is found.add:
            total = _total(emit, param, found, kind.shape)
            ops += emit.ops
        elif op.name == "yield" and op is body.ops[-1]:
            ops.append(op.with_(args=_put(op.args, found.index, total)))
        elif op is not found.fading and op is not found.row:
            ops.append(op)
    block = Block(_put(body.params, 1 + found.index, param), tuple(ops))
    args, results = _put(loop.args, 3 + found.index, zero), _put(loop.results, found.index, result)
    end("reduce", result, axis=1, kind="sum")
    total_op = end.ops[-1].with_(results=(loop.results[found.index],))
    return before.ops[0], loop.with_(args=args, results=results, blocks=(block,)), total_op


def _total(emit: Emit, param: Value, found: _Sum, shape: tuple[int, ...]) -> Value:
    tile = found.row.args[0]
    rows, columns = tile.type.shape  # type: ignore[union-attr]
    eights = emit("reshape", tile, shape=(rows, columns // EIGHT, QUAD, PAIR))
    pairs = emit("reduce", eights, axis=3, kind="sum", within=True)
    parts = emit("reduce", pairs, axis=1, kind="sum", within=True)
    if found.fade is None:
        return emit("add", param, parts)
    fade = emit("broadcast", emit("reshape", found.fade, shape=(rows, 1)), shape=shape)
    return emit("fma", param, fade, parts)


def _put(values: tuple[Value, ...], index: int, value: Value) -> tuple[Value, ...]:
    return (*values[:index], value, *values[index + 1 :])
