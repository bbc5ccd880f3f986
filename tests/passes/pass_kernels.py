"""A builder for kernels in tests: one method per op, blocks as Python functions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tilec.ir.core import Block, Kernel, Op, Value
from tilec.ir.loc import Loc
from tilec.ir.ops import make
from tilec.ir.types import DType, TensorType, TileType, float16, float32, int32


class Builder:
    """Collects ops; control-flow methods call back with the values of the block."""

    def __init__(self) -> None:
        self.stack: list[list[Op]] = [[]]
        self.params: list[Value] = []
        self.lines = itertools.count(1)

    def tensor(self, name: str, dtype: DType = float16, rank: int = 2, **facts: Any) -> Value:
        facts.setdefault("contiguous", rank - 1)
        self.params.append(Value(TensorType(dtype, rank, **facts), name))
        return self.params[-1]

    def scalar(self, name: str, dtype: DType = int32) -> Value:
        self.params.append(Value(TileType(dtype), name))
        return self.params[-1]

    def op(self, name: str, *args: Value, blocks: Sequence[Block] = (), hint: str = "", **attrs: Any) -> Op:
        loc = Loc("test.py", next(self.lines))
        node = make(name, args, blocks=blocks, loc=loc, hints=(hint,) if hint else (), **attrs)
        self.stack[-1].append(node)
        return node

    def __call__(self, name: str, *args: Value, **attrs: Any) -> Value:
        return self.op(name, *args, **attrs).result

    def const(self, value: Any, dtype: DType = int32, shape: tuple[int, ...] = ()) -> Value:
        return self("const", dtype=dtype, shape=shape, value=value)

    def block(self, params: Sequence[Value], fill: Callable[..., Any]) -> Block:
        self.stack.append([])
        out = fill(*params)
        values = () if out is None else out if isinstance(out, tuple) else (out,)
        self.op("yield", *values)
        return Block(tuple(params), tuple(self.stack.pop()))

    def loop(
        self, start: Any, stop: Value, fill: Callable[..., Any], *init: Value, step: Any = 1, **attrs: Any
    ) -> tuple[Value, ...]:
        bounds = [self.const(b) if isinstance(b, int) else b for b in (start, stop, step)]
        params = [Value(bounds[0].type, "i"), *(Value(v.type, v.hint) for v in init)]
        return self.op("for", *bounds, *init, blocks=[self.block(params, fill)], **attrs).results

    def branch(self, cond: Value, then: Callable[[], Any], other: Callable[[], Any]) -> tuple[Value, ...]:
        return self.op("if", cond, blocks=[self.block((), then), self.block((), other)]).results

    def repeat(
        self, init: Sequence[Value], cond: Callable[..., Any], body: Callable[..., Any]
    ) -> tuple[Value, ...]:
        blocks = [self.block([Value(v.type) for v in init], f) for f in (cond, body)]
        return self.op("while", *init, blocks=blocks).results

    def kernel(self, name: str = "k") -> Kernel:
        self.op("yield")
        return Kernel(name, tuple(self.params), Block((), tuple(self.stack[0])))


def gemm_tile(
    b: Builder, A: Value, B: Value, C: Value, m: Value, n: Value, bm: int, bn: int, bk: int, **loop: Any
) -> None:
    """C tile (m, n) = A @ B, offsets in elements, the K loop inside."""
    k_extent = b("dim", A, axis=1)
    acc = b.const(0.0, float32, (bm, bn))

    def body(k: Value, acc: Value) -> Value:
        a = b("load", A, m, k, shape=(bm, bk), hint="a")
        w = b("load", B, k, n, shape=(bk, bn), hint="b")
        return b("dot", a, w, acc, hint="acc")

    (total,) = b.loop(0, k_extent, body, acc, step=bk, **loop)
    b.op("store", C, b("cast", total, dtype=float16), m, n)


def gemm(bm: int = 64, bn: int = 16, bk: int = 16, **loop: Any) -> Kernel:
    b = Builder()
    A, B, C = b.tensor("A"), b.tensor("B"), b.tensor("C")
    m = b("mul", b("program_id", axis=0), b.const(bm))
    n = b("mul", b("program_id", axis=1), b.const(bn))
    gemm_tile(b, A, B, C, m, n, bm, bn, bk, **loop)
    return b.kernel("gemm")


def cdiv(b: Builder, x: Value, n: int) -> Value:
    return b("floordiv", b("add", x, b.const(n - 1)), b.const(n))


def persistent_gemm(bm: int = 64, bn: int = 16, bk: int = 16) -> Kernel:
    b = Builder()
    A, B, C = b.tensor("A"), b.tensor("B"), b.tensor("C")
    columns = cdiv(b, b("dim", C, axis=1), bn)
    tiles = b("mul", cdiv(b, b("dim", C, axis=0), bm), columns)

    def tile(t: Value) -> None:
        m = b("mul", b("floordiv", t, columns), b.const(bm))
        n = b("mul", b("mod", t, columns), b.const(bn))
        gemm_tile(b, A, B, C, m, n, bm, bn, bk)

    b.loop(b("program_id", axis=0), tiles, tile, step=b("num_programs", axis=0))
    return b.kernel("persistent_gemm")


def guarded_gemm(bm: int = 64, bn: int = 16, bk: int = 16) -> Kernel:
    """A GEMM under a run-time condition on the grid index."""
    b = Builder()
    A, B, C, limit = b.tensor("A"), b.tensor("B"), b.tensor("C"), b.scalar("limit")
    m = b("mul", b("program_id", axis=0), b.const(bm))
    n = b("mul", b("program_id", axis=1), b.const(bn))
    b.branch(b("lt", n, limit), lambda: gemm_tile(b, A, B, C, m, n, bm, bn, bk), lambda: None)
    return b.kernel("guarded_gemm")


def row(b: Builder, x: Value, shape: tuple[int, int]) -> Value:
    """A column vector spread over a tile."""
    return b("broadcast", b("reshape", x, shape=(shape[0], 1)), shape=shape)


def attention_step(
    b: Builder, q: Value, K: Value, V: Value, start: Value, first_row: Value | None, state: tuple[Value, ...]
) -> tuple[Value, ...]:
    """One block of keys of an online softmax; ``first_row`` turns the causal mask on."""
    o, l, m = state
    bm, d = q.type.shape  # type: ignore[union-attr]
    bn = 16
    zero = b.const(0)
    k = b("load", K, start, zero, shape=(bn, d), hint="k")
    s = b("dot", q, b("permute", k, perm=(1, 0)), b.const(0.0, float32, (bm, bn)), hint="s")
    if first_row is not None:
        rows = b("broadcast", b("reshape", _offsets(b, bm, first_row), shape=(bm, 1)), shape=(bm, bn))
        cols = b("broadcast", b("reshape", _offsets(b, bn, start), shape=(1, bn)), shape=(bm, bn))
        s = b("where", b("ge", rows, cols), s, b.const(-1e30, float32, (bm, bn)))
    top = b("maximum", m, b("reduce", s, kind="max", axis=1))
    p = b("exp2", b("sub", s, row(b, top, (bm, bn))))
    scale = b("exp2", b("sub", m, top))
    l = b("add", b("mul", l, scale), b("reduce", p, kind="sum", axis=1))
    o = b("mul", o, row(b, scale, (bm, d)))
    v = b("load", V, start, zero, shape=(bn, d), hint="v")
    o = b("dot", b("cast", p, dtype=float16), v, o, hint="o")
    return o, l, top


def _offsets(b: Builder, n: int, first: Value) -> Value:
    return b("add", b("arange", start=0, stop=n), b("broadcast", first, shape=(n,)))


def attention(causal: bool = False, loops: int = 1, bm: int = 64, d: int = 16) -> Kernel:
    """One head: Q, K, V, O are (rows, d). With two loops the second is the masked diagonal."""
    b = Builder()
    Q, K, V, O = (b.tensor(n) for n in "QKVO")
    first = b("mul", b("program_id", axis=0), b.const(bm))
    q = b("load", Q, first, b.const(0), shape=(bm, d), hint="q")
    state = (
        b.const(0.0, float32, (bm, d)),
        b.const(0.0, float32, (bm,)),
        b.const(-1e30, float32, (bm,)),
    )
    end = b("add", first, b.const(bm)) if causal else b("dim", K, axis=0)
    spans = [(b.const(0), end)] if loops == 1 else [(b.const(0), first), (first, end)]
    for i, (low, high) in enumerate(spans):
        mask = first if causal and i == len(spans) - 1 else None
        state = b.loop(
            low, high, lambda j, *s, mask=mask: attention_step(b, q, K, V, j, mask, s), *state, step=16
        )
    o, l, _ = state
    b.op("store", O, b("cast", b("div", o, row(b, l, (bm, d))), dtype=float16), first, b.const(0))
    return b.kernel("attention")


def numpy_attention(q: Any, k: Any, v: Any, causal: bool) -> Any:
    """The formula in float64; the kernels use 2 as the base."""
    scores = q.astype(float) @ k.T.astype(float)
    if causal:
        scores = np.where(np.tri(*scores.shape, dtype=bool), scores, -np.inf)
    weights = np.exp2(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True) @ v.astype(float)


def halves(seed: int, *shapes: tuple[int, int]) -> list[Any]:
    """Random float16 arrays."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(np.float16) for shape in shapes]
