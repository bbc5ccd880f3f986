"""Matrix products."""

from __future__ import annotations

from typing import Any

from tilec.coerce import as_dtype, cast, const, wrong_kind
from tilec.ir.errors import TilecTypeError, TilecValueError, UnsupportedError
from tilec.ir.types import DType, bool_, float32, float64, int32
from tilec.tile import Tile
from tilec.trace import current


def dot(
    a: Tile, b: Tile, acc: Tile | None = None, *,
    input_precision: str = "ieee", out_dtype: DType | str | None = None,
) -> Tile:  # fmt: skip
    """acc + a @ b for tiles (M, K) and (K, N) of one dtype.

    Accumulates in acc's dtype; without acc in ``out_dtype``, else in float32
    (float64 operands: float64; integers: int32). The result has ``out_dtype`` or
    acc's dtype. ``input_precision="tf32"`` lets float32 operands lose mantissa bits.
    """
    tracer = current("tl.dot")
    for x, name in ((a, "a"), (b, "b")):
        _operand(x, name)
    if a.dtype != b.dtype:
        raise TilecTypeError("T114", f"dot of {a.dtype} by {b.dtype}", help=f"convert: b.to(tl.{a.dtype})")
    if a.shape[1] != b.shape[0]:
        raise TilecTypeError(
            "T113", f"dot of {a.shape} by {b.shape}: the inner extents {a.shape[1]} and {b.shape[0]} differ",
            help="dot takes (M, K) and (K, N); transpose with tl.trans",
        )  # fmt: skip
    precision = _precision(input_precision)
    wanted = None if out_dtype is None else as_dtype(out_dtype, "out_dtype")
    total = _accumulator(a, acc, wanted or _default(a.dtype), (a.shape[0], b.shape[1]))
    (out,) = tracer.emit("dot", [a, b, total], precision=precision)
    return out if wanted is None else cast(out, wanted)


def _operand(x: Any, name: str) -> None:
    if not isinstance(x, Tile):
        raise wrong_kind(x, f"{name} of tl.dot")
    if x.ndim != 2:
        raise TilecTypeError(
            "T330", f"{name} of tl.dot has shape {x.shape}, not rank 2",
            help="use tl.sum(a * b) for vectors, tl.reshape or a loop for batches",
        )  # fmt: skip
    if x.dtype == bool_:
        raise TilecTypeError("T116", "tl.dot is not defined for bool", help="convert with x.to(tl.int8)")


def _precision(name: str) -> str:
    if name not in ("ieee", "tf32"):
        if name in ("tf32x3", "bf16x3", "bf16x6"):
            raise UnsupportedError("U303", f"input_precision={name!r}", help='use "ieee" or "tf32"')
        raise TilecValueError("V309", f"no input_precision {name!r}", help='use "ieee" or "tf32"')
    return name


def _default(dtype: DType) -> DType:
    if dtype.is_int:
        return int32
    return float64 if dtype == float64 else float32


def _accumulator(a: Tile, acc: Any, dtype: DType, shape: tuple[int, int]) -> Tile:
    if acc is None:
        return const(0, dtype, shape)
    if not isinstance(acc, Tile):
        raise wrong_kind(acc, "acc of tl.dot")
    if acc.dtype.is_float != a.dtype.is_float or acc.dtype == bool_:
        raise TilecTypeError(
            "T116", f"tl.dot of {a.dtype} cannot accumulate in {acc.dtype}",
            help=f"start from tl.zeros({shape}, tl.{_default(a.dtype)})",
        )  # fmt: skip
    if acc.shape != shape:
        raise TilecTypeError(
            "T115", f"acc of tl.dot has shape {acc.shape}, the product {shape}",
            help=f"start from tl.zeros({shape}, tl.float32)",
        )  # fmt: skip
    return acc
