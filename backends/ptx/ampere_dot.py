"""The rule of `dot` by mma.sync: where its operands and its accumulator are, then the products.

A tile in a ring is read by ldmatrix, and so is one in registers after it was written to
staging; the first operand stays in registers where these are the ones that mma.sync takes.
"""

from __future__ import annotations

from tilec.backends.ptx.ampere_mma import Accumulator, Matrices, Packed, Shape, Shared, products
from tilec.backends.ptx.ampere_ring import Slot, SlotView
from tilec.backends.ptx.context import Emitter, Fragment, Rule
from tilec.backends.ptx.hopper_operands import staged_bytes, staged_tile
from tilec.backends.ptx.hopper_stage import Place, write
from tilec.backends.ptx.hopper_views import Dims, identity
from tilec.ir.core import Kernel, Op, definitions, walk
from tilec.ir.ops import attr
from tilec.ir.types import TileType
from tilec.passes.allocate import Request
from tilec.passes.rewrite import is_zero
from tilec.passes.warp_products import is_staged


class Products:
    """The products of a kernel. ``plain`` is the rule for those that mma.sync cannot compute."""

    def __init__(self, kernel: Kernel, plain: Rule) -> None:
        self.plain, self.defs = plain, definitions(kernel.body)

    def rule(self, e: Emitter, op: Op) -> None:
        """The rule of `dot`."""
        if not attr(op, "warps"):
            self.plain(e, op)
            return
        size, a = product_shape(op), op.args[0].type
        assert isinstance(a, TileType) and isinstance(op.result.type, TileType)
        self._stage(e, op)
        left, right = self._left(e, op, size), Matrices(e, self._shared(e, op, 1), False, size)
        fresh = is_zero(op.args[2], self.defs)
        into = e.fresh(op.result.type) if fresh else e.take(op.args[2])
        products(e, size, a.dtype, left, right, Accumulator(e, into, fresh))
        e.bind(op.result, into)

    def _left(self, e: Emitter, op: Op, size: Shape) -> Matrices | Packed:
        bound = e.env[op.args[0]]
        if isinstance(bound, Fragment) and not is_staged(op, 0, e.group.warps):
            return Packed(e, bound)
        return Matrices(e, self._shared(e, op, 0), True, size)

    def _shared(self, e: Emitter, op: Op, index: int) -> Shared:
        """An operand in shared memory: a view of a slot, or the staging that `_stage` has filled."""
        bound = e.env[op.args[index]]
        if isinstance(bound, SlotView):
            return Shared(bound.tile, bound.slot, mn_and_k(bound.dims, index))
        fragment = e.fragment(op.args[index])
        tile = staged_tile(fragment.dtype, fragment.shape, 1 - index)
        return Shared(tile, Slot(e.plan.extra[stage_key(index)].offset, None), mn_and_k((0, 1), index))

    def _stage(self, e: Emitter, op: Op) -> None:
        """Put operands in other registers into shared memory, for all warps to see."""
        wanted = [i for i in (0, 1) if is_staged(op, i, e.group.warps)]
        if not wanted:
            return
        e.sync()
        for i in wanted:
            fragment = e.fragment(op.args[i])
            base = e.make("b32", "add.s32", e.smem(), e.plan.extra[stage_key(i)].offset)
            tile = staged_tile(fragment.dtype, fragment.shape, 1 - i)
            write(e, fragment, Place(tile, base, identity(fragment.shape)))
        e.sync()


def mn_and_k(dims: Dims, index: int) -> tuple[int, int]:
    """The dimensions of a tile that are the rows (or columns) and the depth of a product's operand."""
    mn, k = dims if index == 0 else reversed(dims)
    assert mn is not None and k is not None
    return mn, k


def product_shape(op: Op) -> Shape:
    """The sizes of a dot that warps share."""
    a, b = op.args[0].type, op.args[1].type
    assert isinstance(a, TileType) and isinstance(b, TileType)
    return Shape(a.shape[0], b.shape[1], a.shape[1], *attr(op, "warps"))


def stage_key(index: int) -> str:
    return f"operand {index}"


def staging(kernel: Kernel) -> list[Request]:
    """Buffers for register operands of dots: one for A and one for B."""
    warps, sizes = int(kernel.attrs["num_warps"]), dict[int, int]()
    for op in (o for o in walk(kernel.body) if o.name == "dot" and attr(o, "warps")):
        for i in (i for i in (0, 1) if is_staged(op, i, warps)):
            t = op.args[i].type
            assert isinstance(t, TileType)
            sizes[i] = max(sizes.get(i, 0), staged_bytes(t, 1 - i))
    return [Request(stage_key(i), size, f"dot {stage_key(i)}") for i, size in sizes.items()]
