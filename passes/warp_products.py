"""Products of single warps (mma.sync): which dots they can compute, and how warps share one.

Sources: NVIDIA PTX ISA, "Matrix Fragments for mma.m16n8k8", "... m16n8k16", "... m16n8k32".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tilec.ir.core import Block, Kernel, Op, Value, definitions, frozen, walk
from tilec.ir.ops import attr
from tilec.ir.types import TileType
from tilec.passes.allocate import TILE_ALIGN, scratch_sizes
from tilec.passes.async_rules import source_of, why_not_wgmma
from tilec.passes.layout_rules import MMA_ACCUMULATORS, left_layout
from tilec.passes.layouts import assign_layouts
from tilec.passes.rewrite import where

ROWS, COLUMNS, K_BYTES = 16, 8, 32
ACCUMULATORS = 128
CROWDED = 200  # registers for a product's result: of 255, addresses and operands need the rest
PAIR = 2 * COLUMNS  # columns that one ldmatrix of operand B brings


@dataclass(frozen=True)
class Sizes:
    """A product's extents."""

    m: int
    n: int
    k: int


def why_not_mma(dot: Op, float8: bool) -> str | None:
    """A product that mma.sync can do; ``float8``: the target multiplies 8-bit floats."""
    a, _, acc = (_tile(v) for v in dot.args)
    total = MMA_ACCUMULATORS.get(a.dtype.name)
    if total is None or (a.dtype.name.startswith("float8") and not float8):
        return f"the target multiplies no {a.dtype}"
    if a.dtype.name == "float32" and attr(dot, "precision") != "tf32":
        return 'a float32 product is exact unless input_precision="tf32"'
    if acc.dtype.name not in total:
        return f"it accumulates in {acc.dtype}, not {total[0]}"
    size, step = sizes(dot), K_BYTES // a.dtype.bytes
    if size.m % ROWS or size.n % COLUMNS or size.k % step:
        shape = f"{size.m}x{size.n}x{size.k}"
        return f"{shape}: it needs rows in {ROWS}s, columns in {COLUMNS}s, and a depth in {step}s"
    return None


def needs_warps(kernel: Kernel, float8: bool) -> bool:
    """Whether a TILE kernel has a product that mma.sync can do and wgmma cannot."""
    dots = [op for op in walk(kernel.body) if op.name == "dot"]
    return any(why_not_mma(d, float8) is None and why_not_wgmma(d) is not None for d in dots)


def are_shared(kernel: Kernel) -> bool:
    """Whether `share_products` has seen the dots of a SCHEDULED kernel."""
    return any(op.name == "dot" and attr(op, "warps") is not None for op in walk(kernel.body))


def sizes(dot: Op) -> Sizes:
    a, b = (_tile(v) for v in dot.args[:2])
    return Sizes(a.shape[0], b.shape[1], a.shape[1])


def share_products(kernel: Kernel, float8: bool) -> Kernel:
    """The SCHEDULED kernel in which each dot says how the warps share it, or that none can."""
    warps, whole = int(kernel.attrs["num_warps"]), needs_whole_rows(kernel)

    def rewrite(block: Block) -> Block:
        return Block(block.params, tuple(share(op) for op in block.ops))

    def share(op: Op) -> Op:
        if op.name != "dot":
            return op.with_(blocks=tuple(rewrite(b) for b in op.blocks)) if op.blocks else op
        grid = warp_grid(sizes(op), warps, whole) if why_not_mma(op, float8) is None else ()
        return op.with_(attrs=frozen(**{**op.attrs, "warps": grid}))

    return kernel.with_(body=rewrite(kernel.body))


def needs_whole_rows(kernel: Kernel) -> bool:
    """Whether warps must hold whole rows of products: a product's result, or what is made from it, is
    another product's first operand, or is reduced along its rows."""
    defs = definitions(kernel.body)
    for op in walk(kernel.body):
        source = source_of(op.args[0], defs) if op.name == "dot" else None
        if source is not None and source.name not in ("load", "aref.get"):
            return True
        if op.name == "reduce" and op.attrs["axis"] == 1 and len(_tile(op.args[0]).shape) == 2:
            return True
    return False


def warp_grid(size: Sizes, warps: int, whole: bool) -> tuple[int, int]:
    """(rows, columns) of warps: most of them busy, then the fewest loads of operands, then rows first.

    ``whole``: a warp should hold whole rows, if that leaves none without rows of its own.
    """
    down = _powers(size.m // ROWS, warps)
    across = [1] if (whole and warps in down) or size.n % PAIR else _powers(size.n // PAIR, warps)
    grids = [(d, c) for d in down for c in across if d * c <= warps]
    return max(grids, key=lambda g: (g[0] * g[1], -(size.m // g[0] + size.n // g[1]), g[0]))


def _powers(blocks: int, most: int) -> list[int]:
    """The powers of two that divide a number of blocks."""
    return [1 << i for i in range(most.bit_length()) if blocks % (1 << i) == 0]


def product_warps(kernel: Kernel) -> int | None:
    """4 warps if the results of one block's products take at most `ACCUMULATORS` registers of a thread,
    else 8: with more a thread has too few registers. None without products."""
    most = most_results(kernel)
    return (4 if most <= ACCUMULATORS * 32 * 4 else 8) if most else None


def most_results(kernel: Kernel) -> int:
    """Elements of the results of one block's products, at most."""
    found = (sum(_tile(op.result).size for op in b.ops if op.name == "dot") for b in _blocks(kernel.body))
    return max(found, default=0)


def crowded(kernel: Kernel, warps: int) -> Iterator[str]:
    """Notes on products whose result leaves a thread too few registers."""
    for op in walk(kernel.body):
        if op.name == "dot":
            size = _tile(op.result).size // (32 * warps)
            if size > CROWDED:
                yield f"{where(op)}: its result takes {size} of 255 registers: make the tile smaller"


def is_staged(dot: Op, index: int, warps: int) -> bool:
    """Whether an operand lies in registers, but not in those in which mma.sync takes it."""
    t = _tile(dot.args[index])
    direct = index == 0 and t.dtype.bits == 16 and t.layout == left_layout(dot, warps)
    return t.space == "reg" and not direct


def extra_smem(kernel: Kernel) -> int:
    """Shared memory that a SCHEDULED kernel of one group takes beside its rings."""
    placed = assign_layouts(kernel)
    warps = int(placed.attrs["num_warps"])
    dots = [op for op in walk(placed.body) if op.name == "dot" and attr(op, "warps")]
    staged = (
        max((_tile(d.args[i]).bytes for d in dots if is_staged(d, i, warps)), default=0) for i in (0, 1)
    )
    return sum(scratch_sizes(placed).values()) + sum(-(-n // TILE_ALIGN) * TILE_ALIGN for n in staged)


def _blocks(block: Block) -> Iterator[Block]:
    yield block
    for op in block.ops:
        for inner in op.blocks:
            yield from _blocks(inner)


def _tile(value: Value) -> TileType:
    assert isinstance(value.type, TileType)
    return value.type
