"""How layouts travel through single ops: anchors, results from operands, operands from results."""

from __future__ import annotations

from tilec.ir.core import Op, Value
from tilec.ir.layout import Layout, blocked, mma, pad_shape, wgmma, wgmma_a16
from tilec.ir.ops import attr, opdef
from tilec.ir.types import DType, TensorType, TileType

VECTOR_BYTES = 16
SEGMENT_BYTES = 16
SMALL = 1024
POINTWISE = frozenset({"elementwise1", "elementwise2", "elementwise3", "compare", "cast"})
SHAPES = frozenset({"broadcast", "reshape", "permute"})


def is_tile(value: Value) -> bool:
    """Whether a value is spread over the registers of a group: a register tile of rank > 0."""
    t = value.type
    return isinstance(t, TileType) and t.space == "reg" and bool(t.shape)


def tile_type(value: Value) -> TileType:
    assert isinstance(value.type, TileType)
    return value.type


def is_pointwise(op: Op) -> bool:
    return opdef(op.name).family in POINTWISE


def spread(shape: tuple[int, ...], dtype: DType, axis: int, warps: int, *, wide: bool = True) -> Layout:
    """A blocked layout whose vectors are at most 16 bytes and leave no thread without elements."""
    size = 1
    for n in pad_shape(shape):
        size *= n
    vector = VECTOR_BYTES // dtype.bytes if wide else 1
    while vector > 1 and vector * 32 * warps > size:
        vector //= 2
    return blocked(shape, axis, vector, warps)


def on_tensor_cores(op: Op, warps: int) -> bool:
    """Whether a dot fits wgmma: dtypes, whole warpgroups, and multiples of its shape
    (NVIDIA PTX ISA, "wgmma.mma_async"). Others are computed by multiply-add."""
    if attr(op, "warps") is not None:
        return False
    a, b, acc = (tile_type(v) for v in op.args)
    (m, k), n = a.shape, b.shape[1]
    exact = a.dtype.name == "float32" and attr(op, "precision") == "ieee"
    if acc.dtype.name not in MMA_ACCUMULATORS.get(a.dtype.name, ()) or exact or warps % 4:
        return False
    return _rows_split(m, warps // 4) and n % column_step(a.dtype, n) == 0 and k * a.dtype.bytes % 32 == 0


def column_step(dtype: DType, n: int) -> int:
    """What the columns of a product on tensor cores are a multiple of."""
    return 16 if dtype.is_int and n > 32 else 8


def product_layout(op: Op, warps: int) -> Layout | None:
    """The layout of a dot's result on the tensor cores; None where multiply-add computes it."""
    m, n = tile_type(op.result).shape
    if attr(op, "warps"):
        return mma(m, n, attr(op, "warps"), warps)
    return wgmma(m, n, warps) if on_tensor_cores(op, warps) else None


def may_stay(op: Op) -> bool:
    """Whether a dot on the tensor cores can read operand A from registers: 16 bits, for wgmma float8 too."""
    dtype = tile_type(op.args[0]).dtype
    return dtype.bits == 16 or (dtype.is_float and dtype.bits == 8 and attr(op, "warps") is None)


def left_layout(op: Op, warps: int) -> Layout:
    """The layout in which operand A of a dot on the tensor cores may stay in registers: an accumulator's.

    Of 8-bit operands wgmma wants other columns in each thread of a quad; the backend exchanges them.
    """
    m, k = tile_type(op.args[0]).shape
    if attr(op, "warps"):
        return mma(m, k, (attr(op, "warps")[0], 1), warps)
    return wgmma_a16(m, k, warps)


def _rows_split(m: int, groups: int) -> bool:
    """Whether blocks of 64 rows split evenly over warpgroups, or equal groups of these repeat them."""
    blocks = m // 64
    return m % 64 == 0 and (blocks % groups == 0 or groups % blocks == 0)


# dtype of the operands -> dtypes of the accumulator that wgmma has and keeps in 32-bit registers.
MMA_ACCUMULATORS = {
    "float16": ("float32",), "bfloat16": ("float32",), "float32": ("float32",),
    "float8_e4m3": ("float32",), "float8_e5m2": ("float32",), "int8": ("int32",), "uint8": ("int32",),
}  # fmt: skip


def default(t: TileType, warps: int) -> Layout:
    """For a tile that nothing else decides."""
    return spread(t.shape, t.dtype, len(t.shape) - 1, warps, wide=False)


def memory_anchor(tensor: TensorType, t: TileType, warps: int) -> Layout:
    """The layout in which a tile of a tensor is best loaded or stored."""
    axis = len(t.shape) - 1 if tensor.contiguous is None else tensor.contiguous
    wide = tensor.contiguous is not None and tensor.aligned
    return spread(t.shape, t.dtype, axis, warps, wide=wide)


def coalesces(tensor: TensorType, t: TileType, layout: Layout) -> bool:
    """Whether a warp touches memory in segments of at least `SEGMENT_BYTES`, or the tile is small."""
    if tensor.contiguous is None or t.size <= SMALL:
        return True
    axis, run = tensor.contiguous, 1
    held = {b[axis] for b in (*layout.reg, *layout.lane)}
    while run in held:
        run *= 2
    return run * t.dtype.bytes >= SEGMENT_BYTES or run == layout.shape[axis]


def relabels(src: tuple[int, ...], dst: tuple[int, ...], layout: Layout) -> bool:
    """Whether a reshape of a tile in ``layout`` only renames coordinates (no data moves).

    True where it adds or removes axes of extent 1, and where all extents are powers of two.
    """
    if layout.shape == src and pad_shape(dst) == dst:
        return True
    unit_axes = all(p == 1 for n, p in zip(src, layout.shape, strict=True) if n == 1)
    return unit_axes and [n for n in src if n != 1] == [n for n in dst if n != 1]


def reshaped(src: tuple[int, ...], dst: tuple[int, ...], layout: Layout) -> Layout:
    """The layout after a reshape that `relabels`."""
    extents = iter(p for n, p in zip(src, layout.shape, strict=True) if n != 1)
    if layout.shape == src and pad_shape(dst) == dst:
        return layout.reshape(dst)
    return layout.reshape(tuple(1 if n == 1 else next(extents) for n in dst))


def broadcast_source(src: tuple[int, ...], layout: Layout) -> Layout:
    """The layout of the operand that a broadcast to ``layout`` needs."""
    for axis, n in enumerate(src):
        if n == 1:
            layout = layout.project(axis)
    return layout


def inverse(perm: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(perm)), key=lambda i: perm[i]))


def result_layout(op: Op, operand: Layout) -> Layout | None:
    """The result's layout of a shape op or reduction of an operand in a layout (None: free)."""
    src = tile_type(op.args[0]).shape
    if op.name == "permute":
        return operand.permute(op.attrs["perm"])
    if op.name == "reshape" and relabels(src, op.attrs["shape"], operand):
        return reshaped(src, op.attrs["shape"], operand)
    if op.name == "reduce":
        return operand.drop(op.attrs["axis"])
    return None


def operand_layout(op: Op, arg: Value, result: Layout) -> Layout | None:
    """The layout that an operand of a pointwise or shape op needs for a result in ``result``.

    None where any layout will do, because the op moves the data.
    """
    t = tile_type(arg)
    if op.name == "broadcast":
        return broadcast_source(t.shape, result)
    if op.name == "permute":
        return result.permute(inverse(op.attrs["perm"]))
    if op.name == "reshape":
        dst = tuple(op.attrs["shape"])
        return reshaped(dst, t.shape, result) if relabels(dst, t.shape, result) else None
    return result
