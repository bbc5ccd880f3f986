"""Build small TILE kernels, run them on the CPU and in the interpreter, compare."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tilec.backends.cpu import CpuTarget, compile_kernel
from tilec.ir.core import Block, Kernel, Value
from tilec.ir.interp import interpret
from tilec.ir.ops import make
from tilec.ir.types import DType, TileType, dtype_of, int32, scalar
from tilec.runtime.arrays import tensor_type
from tilec.runtime.cpu import Loaded, load

Array = np.ndarray[Any, Any]


class Body:
    """Collects ops; `op` gives the result (or the tuple of results)."""

    def __init__(self) -> None:
        self.ops: list[Any] = []

    def op(self, name: str, *args: Value, **attrs: Any) -> Any:
        node = make(name, args, **attrs)
        self.ops.append(node)
        return node.results[0] if len(node.results) == 1 else node.results

    def number(self, value: Any, dtype: DType = int32) -> Value:
        return self.op("const", dtype=dtype, shape=(), value=value)

    def block(self, *params: Value) -> Block:
        return Block(params, tuple(self.ops))

    def loop(self, bounds: Sequence[Value], initial: Sequence[Value], build: Callable[..., Any]) -> Any:
        """for over (start, stop, step); build(body, i, *carried) gives the next values."""
        inner = Body()
        params = [Value(bounds[0].type), *(Value(v.type) for v in initial)]
        inner.op("yield", *build(inner, *params))
        return self.op("for", *bounds, *initial, blocks=(inner.block(*params),))

    def branch(self, cond: Value, then: Callable[..., Any], other: Callable[..., Any]) -> Any:
        blocks = []
        for build in (then, other):
            inner = Body()
            inner.op("yield", *build(inner))
            blocks.append(inner.block())
        return self.op("if", cond, blocks=tuple(blocks))


def kernel(args: Sequence[Any], build: Callable[..., Any]) -> Kernel:
    """A kernel whose parameters fit these arguments (arrays, or (dtype, number))."""
    params = [
        Value(tensor_type(a) if isinstance(a, np.ndarray) else scalar(dtype_of(a[0])), f"x{i}")
        for i, a in enumerate(args)
    ]
    body = Body()
    build(body, *params)
    body.op("yield")
    return Kernel("test", tuple(params), body.block())


def values(args: Sequence[Any]) -> list[Any]:
    return [a if isinstance(a, np.ndarray) else a[1] for a in args]


def compiled(args: Sequence[Any], build: Callable[..., Any], target: CpuTarget | None = None) -> Loaded:
    return load(compile_kernel(kernel(args, build), target))


def both(
    args: Sequence[Any],
    build: Callable[..., Any],
    grid: Sequence[int] = (1,),
    threads: int = 1,
    target: CpuTarget | None = None,
) -> tuple[list[Any], list[Any]]:
    """The arguments after a run on the CPU, and after the interpreter."""
    return next(runs([args], build, grid, threads, target))


def runs(
    calls: Sequence[Sequence[Any]],
    build: Callable[..., Any],
    grid: Sequence[int] = (1,),
    threads: int = 1,
    target: CpuTarget | None = None,
) -> Iterator[tuple[list[Any], list[Any]]]:
    """`both` for several lists of arguments of the same types, compiled once."""
    made = kernel(calls[0], build)
    code = load(compile_kernel(made, target))
    for args in calls:
        found, expected = _copies(args), _copies(args)
        code.launch(grid, values(found), threads)
        interpret(made, grid, values(expected))
        yield found, expected


def _copies(args: Sequence[Any]) -> list[Any]:
    return [twin(a) if isinstance(a, np.ndarray) else a for a in args]


def twin(a: Array) -> Array:
    """A copy with the same strides, in a copy of all the memory around it (its ``base``)."""
    owner = a if a.base is None else a.base
    assert isinstance(owner, np.ndarray)
    memory = owner.ravel(order="K").view(np.uint8).copy()
    offset = a.ctypes.data - owner.ctypes.data
    return np.ndarray(a.shape, a.dtype, memory, offset, a.strides)


def load_all(body: Body, t: Value, shape: Sequence[int]) -> Value:
    """The tile at the origin."""
    zero = body.number(0)
    return body.op("load", t, *[zero] * len(shape), shape=tuple(shape))


def store_all(body: Body, t: Value, value: Value) -> None:
    assert isinstance(value.type, TileType)
    zero = body.number(0)
    body.op("store", t, value, *[zero] * len(value.type.shape))


def bits(x: Array) -> Array:
    return np.ascontiguousarray(x).view(f"u{x.dtype.itemsize}")


def assert_same(found: Array, expected: Array) -> None:
    """Bit-equal; all NaNs are alike."""
    assert found.dtype == expected.dtype and found.shape == expected.shape
    same = bits(found) == bits(expected)
    if dtype_of(found.dtype).is_float:
        same |= np.isnan(found.astype(np.float64)) & np.isnan(expected.astype(np.float64))
    where = np.argwhere(~same)
    assert same.all(), f"{len(where)} differ, first at {where[0]}: {found[~same][:4]} {expected[~same][:4]}"


def samples(dtype: DType, n: int, seed: int = 0) -> Array:
    """n values: the special ones first, then random bits and small numbers, shuffled."""
    rng = np.random.default_rng(seed)
    if dtype.kind == "bool":
        return rng.integers(0, 2, n).astype(bool)
    raw = rng.integers(0, 256, (n, dtype.bytes), np.uint8).reshape(-1).view(dtype.np)[:n].copy()
    raw[::3] = (rng.standard_normal(n) * 8).astype(dtype.np)[::3]
    special = [0, 1, 2, 3]
    if dtype.is_float:
        special += [-0.0, -1.5, 0.5, 2.5, float("nan"), float("inf"), -float("inf"), 1e-7, 1e30, 465, 60000]
    else:
        info = np.iinfo(dtype.np)
        special += [info.min, info.max, info.max - 1, info.min + 1]
    with np.errstate(all="ignore"):
        raw[: len(special)] = np.array(special, np.float64 if dtype.is_float else None).astype(dtype.np)
    return rng.permutation(raw)
