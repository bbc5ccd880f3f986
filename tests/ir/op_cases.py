"""For every op of the table sample instances, and kernels that run one op on its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tilec.ir.core import Block, Kernel, Op, Value
from tilec.ir.errors import TilecError
from tilec.ir.loc import UNKNOWN
from tilec.ir.ops import OPS, make, result_types
from tilec.ir.ops.memory import ATOMICS
from tilec.ir.ops.shape import REDUCTIONS
from tilec.ir.types import (
    DTYPES,
    DType,
    TensorType,
    TileType,
    Type,
    bool_,
    float16,
    float32,
    int8,
    int32,
    int64,
)

SHAPE = (4, 8)


@dataclass(frozen=True)
class Case:
    """One op with operand types and attributes, without blocks."""

    op: str
    types: tuple[Type, ...] = ()
    attrs: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        words = [self.op, *(_word(t) for t in self.types), *(_word(v) for v in self.attrs.values())]
        return "-".join(words)


def _word(x: object) -> str:
    return "".join(c for c in str(x) if c.isalnum() or c in "_x")


def tiles(dtype: DType, n: int, shape: tuple[int, ...] = SHAPE) -> tuple[Type, ...]:
    return (TileType(dtype, shape),) * n


def accepted(case: Case) -> bool:
    """Whether the type rule takes the case."""
    try:
        result_types(case.op, case.types, case.attrs, (), UNKNOWN)
    except TilecError:
        return False
    return True


def _elementwise() -> Iterator[Case]:
    for row in OPS.values():
        if row.family in ("elementwise1", "elementwise2", "elementwise3", "compare") and row.name != "where":
            for dtype in DTYPES.values():
                yield Case(row.name, tiles(dtype, len(row.operands)))
    for dtype in DTYPES.values():
        yield Case("where", (TileType(bool_, SHAPE), *tiles(dtype, 2)))
        for to in DTYPES.values():
            yield Case("cast", tiles(dtype, 1), {"dtype": to})
            yield Case("cast", tiles(dtype, 1), {"dtype": to, "saturate": True})
            yield Case("bitcast", tiles(dtype, 1), {"dtype": to})


def _shapes() -> Iterator[Case]:
    for dtype in DTYPES.values():
        yield Case("const", (), {"dtype": dtype, "shape": SHAPE, "value": 1})
        for kind in REDUCTIONS:
            for axis in range(2):
                yield Case("reduce", tiles(dtype, 1), {"kind": kind, "axis": axis})
        for acc in (float32, int32, dtype):
            a, b = TileType(dtype, (4, 16)), TileType(dtype, (16, 8))
            yield Case("dot", (a, b, TileType(acc, (4, 8))))
    yield Case("const", (), {"dtype": float32, "shape": (), "value": float("-inf")})
    yield Case("arange", (), {"start": -3, "stop": 5})
    yield Case("broadcast", tiles(float16, 1, ()), {"shape": SHAPE})
    yield Case("broadcast", tiles(float16, 1, (4, 1)), {"shape": SHAPE})
    yield Case("reshape", tiles(int8, 1), {"shape": (2, 2, 8)})
    yield Case("permute", tiles(int8, 1), {"perm": (1, 0)})
    yield Case("permute", tiles(int64, 1, (2, 3, 4)), {"perm": (2, 0, 1)})


def _memory() -> Iterator[Case]:
    index, mask = TileType(int32, SHAPE), TileType(bool_, SHAPE)
    for axis in range(3):
        yield Case("program_id", (), {"axis": axis})
        yield Case("num_programs", (), {"axis": axis})
    for dtype in DTYPES.values():
        tensor, value = TensorType(dtype, 2, 1), TileType(dtype, SHAPE)
        yield Case("load", (tensor, TileType(int32), TileType(int64)), {"shape": SHAPE})
        yield Case("store", (tensor, value, TileType(int32), TileType(int64)))
        yield Case("gather", (tensor, index, index, mask, value))
        yield Case("scatter", (tensor, index, index, value, mask))
        for kind in ATOMICS:
            yield Case("atomic", (tensor, index, index, value, mask), {"kind": kind})
    for axis in range(2):
        yield Case("dim", (TensorType(float16, 2, 1),), {"axis": axis})
        yield Case("stride", (TensorType(float16, 2, 1),), {"axis": axis})
    yield Case("assume", (TileType(bool_),))


def all_cases() -> list[Case]:
    """Cases of every op without blocks or rings, refused ones included."""
    return [*_elementwise(), *_shapes(), *_memory()]


def good_cases() -> list[Case]:
    return [c for c in all_cases() if accepted(c)]


def kernel_of(case: Case) -> Kernel:
    """A TILE kernel whose parameters are the operands, then one tensor per result.

    Tiles come in as tensors of their shape (scalars as scalars); results leave as
    tensors of their shape, scalars as tensors of one element.
    """
    params: list[Value] = []
    ops: list[Op] = []

    def emit(name: str, *args: Value, **attrs: Any) -> Op:
        ops.append(make(name, args, **attrs))
        return ops[-1]

    def zeros(n: int) -> list[Value]:
        return [emit("const", dtype=int32, shape=(), value=0).result for _ in range(n)]

    def param(t: Type, name: str) -> Value:
        params.append(Value(t, name))
        return params[-1]

    def operand(i: int, t: Type) -> Value:
        if not isinstance(t, TileType) or not t.shape:
            return param(t, f"x{i}")
        rank = len(t.shape)
        tensor = param(TensorType(t.dtype, rank, rank - 1), f"X{i}")
        return emit("load", tensor, *zeros(rank), shape=t.shape).result

    op = emit(case.op, *(operand(i, t) for i, t in enumerate(case.types)), **case.attrs)
    for i, result in enumerate(op.results):
        assert isinstance(result.type, TileType)
        shape = result.type.shape or (1,)
        flat = result if result.type.shape else emit("reshape", result, shape=shape).result
        out = param(TensorType(result.type.dtype, len(shape), len(shape) - 1), f"Y{i}")
        emit("store", out, flat, *zeros(len(shape)))
    emit("yield")
    return Kernel(case.op.replace(".", "_"), tuple(params), Block((), tuple(ops)))
