"""Types: dtypes, tensors in memory, tiles, and asynchronous references."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import ml_dtypes
import numpy as np

from tilec.ir.errors import TilecTypeError, UnsupportedError

Kind = Literal["bool", "int", "uint", "float"]


@dataclass(frozen=True)
class DType:
    """A scalar type. ``exponent`` and ``mantissa`` are bit counts of floats."""

    name: str
    kind: Kind
    bits: int
    exponent: int = 0
    mantissa: int = 0

    def __str__(self) -> str:
        return self.name

    @property
    def is_float(self) -> bool:
        return self.kind == "float"

    @property
    def is_int(self) -> bool:
        return self.kind in ("int", "uint")

    @property
    def bytes(self) -> int:
        """Bytes of one element in memory; bool takes one."""
        return max(self.bits, 8) // 8

    @property
    def np(self) -> np.dtype[Any]:
        """The numpy dtype that holds a value of this type."""
        found: np.dtype[Any] = np.dtype(_NUMPY[self.name])
        return found


bool_ = DType("bool", "bool", 1)
int8, int16, int32, int64 = (DType(f"int{b}", "int", b) for b in (8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (DType(f"uint{b}", "uint", b) for b in (8, 16, 32, 64))
float16 = DType("float16", "float", 16, 5, 10)
bfloat16 = DType("bfloat16", "float", 16, 8, 7)
float32 = DType("float32", "float", 32, 8, 23)
float64 = DType("float64", "float", 64, 11, 52)
float8_e4m3 = DType("float8_e4m3", "float", 8, 4, 3)
float8_e5m2 = DType("float8_e5m2", "float", 8, 5, 2)

DTYPES: dict[str, DType] = {
    d.name: d
    for d in (
        bool_, int8, int16, int32, int64, uint8, uint16, uint32, uint64,
        float16, bfloat16, float32, float64, float8_e4m3, float8_e5m2,
    )
}  # fmt: skip

_ALIASES = {
    "i1": "bool", "f16": "float16", "bf16": "bfloat16", "f32": "float32", "f64": "float64",
    "e4m3": "float8_e4m3", "e5m2": "float8_e5m2", "float8_e4m3fn": "float8_e4m3",
    **{f"i{b}": f"int{b}" for b in (8, 16, 32, 64)},
    **{f"u{b}": f"uint{b}" for b in (8, 16, 32, 64)},
}  # fmt: skip

_NUMPY: dict[str, Any] = {
    **{n: n for n in DTYPES if not n.startswith(("bfloat", "float8"))},
    "bfloat16": ml_dtypes.bfloat16,
    "float8_e4m3": ml_dtypes.float8_e4m3fn,
    "float8_e5m2": ml_dtypes.float8_e5m2,
}


def dtype_of(what: object) -> DType:
    """The DType named by a DType, a name or alias ("f16"), or a numpy dtype."""
    if isinstance(what, DType):
        return what
    name = what if isinstance(what, str) else np.dtype(what).name  # type: ignore[call-overload]
    found = DTYPES.get(_ALIASES.get(name, name))
    if found is None:
        raise UnsupportedError("U101", f"no dtype named {name!r}", help=f"use one of {', '.join(DTYPES)}")
    return found


def promote(a: DType, b: DType) -> DType:
    """The common dtype of two tiles, by JAX's lattice (Array API where it speaks).

    Integers never widen floats; mixed 16-bit floats meet in float32; mixed
    signedness meets in the next wider signed type.
    """
    if a == b:
        return a
    if a.kind == "bool":
        return b
    if b.kind == "bool":
        return a
    if a.is_float != b.is_float:
        return a if a.is_float else b
    if a.is_float:
        return _promote_floats(a, b)
    if a.kind == b.kind:
        return a if a.bits > b.bits else b
    signed, unsigned = (a, b) if a.kind == "int" else (b, a)
    if signed.bits > unsigned.bits:
        return signed
    if unsigned.bits == 64:
        return float32
    return DTYPES[f"int{unsigned.bits * 2}"]


def _promote_floats(a: DType, b: DType) -> DType:
    if a.bits == b.bits == 8:
        raise TilecTypeError(
            "T102", f"{a} and {b} have no common dtype", help="convert one side with x.to(dtype)"
        )
    if a.bits == b.bits:
        return float32
    return a if a.bits > b.bits else b


Space = Literal["reg", "smem", "tmem"]


@dataclass(frozen=True)
class TensorType:
    """A tensor argument in global memory.

    ``contiguous`` is the dimension with stride 1 (None: no such dimension);
    ``aligned`` says that the base address and all other strides are multiples
    of 16 bytes, which TMA needs; ``divisible`` that the extent of the contiguous
    dimension is one too, so that 16 bytes lie in the tensor as a whole or not at
    all. All are facts of the specialisation.
    """

    dtype: DType
    rank: int
    contiguous: int | None = None
    aligned: bool = True
    divisible: bool = False

    def __str__(self) -> str:
        order = "?" if self.contiguous is None else str(self.contiguous)
        flag = ("" if self.aligned else ", unaligned") + (", divisible" if self.divisible else "")
        return f"tensor<{self.dtype}, {self.rank}, contiguous={order}{flag}>"


@dataclass(frozen=True)
class TileType:
    """A tile: static shape (rank 0 is a scalar), dtype, memory space, layout."""

    dtype: DType
    shape: tuple[int, ...] = ()
    space: Space = "reg"
    layout: Any = field(default=None)

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def bytes(self) -> int:
        return self.size * self.dtype.bytes

    def with_(self, **changes: Any) -> TileType:
        return replace(self, **changes)

    def __str__(self) -> str:
        dims = "".join(f"{d}x" for d in self.shape)
        space = "" if self.space == "reg" else f", {self.space}"
        layout = "" if self.layout is None else f", {self.layout}"
        return f"tile<{dims}{self.dtype}{space}{layout}>"


@dataclass(frozen=True)
class ArefType:
    """A ring of slots; each slot holds one tile per payload entry.

    ``depth`` is None until the scheduler has chosen it.
    """

    payload: tuple[TileType, ...]
    depth: int | None = None

    @property
    def slot_bytes(self) -> int:
        return sum(t.bytes for t in self.payload)

    def __str__(self) -> str:
        depth = () if self.depth is None else (f"depth={self.depth}",)
        return f"aref<{', '.join((*map(str, self.payload), *depth))}>"


Type = TensorType | TileType | ArefType


def scalar(dtype: DType) -> TileType:
    return TileType(dtype, ())


def broadcast_shapes(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """numpy's broadcasting rule, or a TypeError that names the shapes."""
    try:
        return tuple(int(n) for n in np.broadcast_shapes(*shapes))
    except ValueError:
        text = " and ".join(str(s) for s in shapes)
        raise TilecTypeError(
            "T101",
            f"shapes {text} do not broadcast",
            help="align them with x[:, None], reshape or broadcast_to",
        ) from None
