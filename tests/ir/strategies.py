"""Random well-typed TILE kernels for properties of passes and backends.

`kernels()` draws a kernel that takes the tensors A (int32), F (float32), both read
only, P (int32) and Q (float32), both written, and a scalar n from 0 to 3. It runs
on the grid `GRID`; instance i writes only the rows of its own stripe, so instances
may run in any order. `arguments` gives the arrays.

By default every op rounds exactly as IEEE says, so that all backends must agree to
the bit (float sums are left out, and so is NaN's sign).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tilec.ir.core import Block, Kernel, Op, Value
from tilec.ir.loc import Loc
from tilec.ir.ops import make
from tilec.ir.types import DType, TensorType, TileType, bool_, float16, float32, int8, int32, scalar

GRID = (2,)
ROWS, COLS = 4, 8

BINARY = {
    "int": ("add", "sub", "mul", "floordiv", "mod", "minimum", "maximum", "and", "or", "xor", "shl", "shr"),
    "float": ("add", "sub", "mul", "div", "minimum", "maximum"),
    "bool": ("and", "or", "xor"),
}
UNARY = {
    "int": ("neg", "not", "abs"),
    "float": ("neg", "abs", "floor", "ceil", "rint", "sqrt"),
    "bool": ("not",),
}
COMPARE = ("lt", "le", "gt", "ge", "eq", "ne")
REDUCE = {"int": ("sum", "max", "min", "xor_sum", "argmax"), "float": ("max", "min"), "bool": ("any", "all")}
DTYPES = (int32, float32, bool_, int8, float16)


def arguments(seed: int = 0) -> list[Any]:
    """Fresh arguments: A, F, P, Q and n. P and Q start filled, so that a missing store shows."""
    rng = np.random.default_rng(seed)
    a = rng.integers(-9, 10, (ROWS + 1, COLS + 3), np.int32)
    f = rng.standard_normal((ROWS + 1, COLS + 3)).astype(np.float32)
    shape = (ROWS * GRID[0], COLS + 2)
    return [a, f, np.full(shape, -1, np.int32), np.full(shape, -1, np.float32), int(rng.integers(0, 4))]


@dataclass
class Writer:
    """Draws statements into the innermost open block."""

    draw: st.DrawFn
    budget: int
    ops: list[Op] = field(default_factory=list)
    tiles: list[Value] = field(default_factory=list)
    scalars: list[Value] = field(default_factory=list)
    tensors: dict[str, Value] = field(default_factory=dict)
    line: int = 0

    def op(self, name: str, *args: Value, blocks: tuple[Block, ...] = (), **attrs: Any) -> Op:
        self.line += 1
        self.ops.append(make(name, args, blocks=blocks, loc=Loc("random.py", self.line), **attrs))
        return self.ops[-1]

    def value(self, name: str, *args: Value, **attrs: Any) -> Value:
        return self.op(name, *args, **attrs).result

    def number(self, value: int) -> Value:
        return self.value("const", dtype=int32, shape=(), value=value)

    def pick(self, what: Any) -> Any:
        return self.draw(st.sampled_from(what))

    def a_scalar(self) -> Value:
        if self.draw(st.booleans()):
            return self.number(self.draw(st.integers(-3, 5)))
        return self.pick(self.scalars)

    def a_tile(self, dtype: DType | None = None) -> Value:
        """A tile of the kernel's shape, converted if none has the dtype."""
        found = [t for t in self.tiles if dtype in (None, t.type.dtype)]  # type: ignore[union-attr]
        return self.pick(found) if found else self.value("cast", self.pick(self.tiles), dtype=dtype)

    def same_pair(self) -> tuple[Value, Value, str]:
        """Two tiles of one dtype, and its kind."""
        a = self.a_tile()
        return a, self.a_tile(a.type.dtype), a.type.dtype.kind  # type: ignore[union-attr]

    # Statements.

    def statements(self, most: int) -> None:
        for _ in range(self.draw(st.integers(1, most))):
            if self.budget <= 0:
                return
            self.budget -= 1
            getattr(self, self.pick(STATEMENTS))()

    def binary(self) -> None:
        a, b, kind = self.same_pair()
        self.tiles.append(self.value(self.pick(BINARY[kind]), a, b))

    def unary(self) -> None:
        a = self.a_tile()
        self.tiles.append(self.value(self.pick(UNARY[a.type.dtype.kind]), a))  # type: ignore[union-attr]

    def compare(self) -> None:
        a, b, kind = self.same_pair()
        self.tiles.append(self.value(self.pick(COMPARE[4:] if kind == "bool" else COMPARE), a, b))

    def select(self) -> None:
        a, b, _ = self.same_pair()
        self.tiles.append(self.value("where", self.a_tile(bool_), a, b))

    def cast(self) -> None:
        self.tiles.append(self.value("cast", self.a_tile(), dtype=self.pick(DTYPES)))

    def fill(self) -> None:
        if self.draw(st.booleans()):
            self.tiles.append(self.value("broadcast", self.a_scalar(), shape=(ROWS, COLS)))
        else:
            value = self.draw(st.integers(-4, 4))
            self.tiles.append(
                self.value("const", dtype=self.pick(DTYPES[:2]), shape=(ROWS, COLS), value=value)
            )

    def reduce(self) -> None:
        """Along one axis, and back to the full shape."""
        a, axis = self.a_tile(), self.draw(st.integers(0, 1))
        kind = self.pick(REDUCE[a.type.dtype.kind])  # type: ignore[union-attr]
        line = self.value("reduce", a, kind=kind, axis=axis)
        shape = (1, COLS) if axis == 0 else (ROWS, 1)
        column = self.value("reshape", line, shape=shape)
        self.tiles.append(self.value("broadcast", column, shape=(ROWS, COLS)))

    def turn(self) -> None:
        """Reshape and permute, to the kernel's shape again."""
        a = self.value("reshape", self.a_tile(), shape=(COLS, ROWS))
        self.tiles.append(self.value("permute", a, perm=(1, 0)))

    def load(self) -> None:
        tensor = self.tensors[self.pick("AF")]
        pad = self.draw(st.integers(-1, 1))
        self.tiles.append(
            self.value("load", tensor, self.a_scalar(), self.a_scalar(), shape=(ROWS, COLS), pad=pad)
        )

    def store(self) -> None:
        name = self.pick("PQ")
        value = self.a_tile(int32 if name == "P" else float32)
        self.op("store", self.tensors[name], value, self.tensors["stripe"], self.a_scalar())

    def scalar(self) -> None:
        self.scalars.append(
            self.value(self.pick(("add", "sub", "mul", "minimum")), self.a_scalar(), self.a_scalar())
        )

    def block(self, params: list[Value], results: list[DType]) -> Block:
        """A block of drawn statements that yields tiles of the dtypes; what it defines stays inside."""
        outer = self.ops, list(self.tiles), list(self.scalars)
        self.ops = []
        self.tiles += [p for p in params if p.type != scalar(int32)]
        self.scalars += [p for p in params if p.type == scalar(int32)]
        self.statements(4)
        self.op("yield", *[self.a_tile(dtype) for dtype in results])
        block = Block(tuple(params), tuple(self.ops))
        self.ops, self.tiles, self.scalars = outer
        return block

    def loop(self) -> None:
        init = [self.a_tile() for _ in range(self.draw(st.integers(0, 2)))]
        stop = self.tensors["n"] if self.draw(st.booleans()) else self.number(self.draw(st.integers(0, 3)))
        bounds = self.number(0), stop, self.number(self.draw(st.integers(1, 2)))
        params = [Value(scalar(int32), "i"), *(Value(v.type, "carried") for v in init)]
        body = self.block(params, [v.type.dtype for v in init])  # type: ignore[union-attr]
        self.tiles += self.op("for", *bounds, *init, blocks=(body,)).results

    def branch(self) -> None:
        cond = self.value(self.pick(COMPARE), self.a_scalar(), self.a_scalar())
        dtypes = [self.pick(DTYPES) for _ in range(self.draw(st.integers(0, 2)))]
        blocks = self.block([], dtypes), self.block([], dtypes)
        self.tiles += self.op("if", cond, blocks=blocks).results


STATEMENTS = (
    "binary", "binary", "unary", "compare", "select", "cast", "fill", "reduce", "turn", "load", "store",
    "scalar", "loop", "branch",
)  # fmt: skip


@st.composite
def kernels(draw: st.DrawFn, size: int = 14) -> Kernel:
    """A kernel with up to ``size`` drawn statements, and a store of its last tiles."""
    w = Writer(draw, size)
    for name, dtype in (("A", int32), ("F", float32), ("P", int32), ("Q", float32)):
        w.tensors[name] = Value(TensorType(dtype, 2, 1), name)
    w.tensors["n"] = Value(TileType(int32), "n")
    params = tuple(w.tensors.values())
    pid = w.value("program_id", axis=0)
    w.tensors["stripe"] = w.value("mul", pid, w.number(ROWS))
    w.scalars += [w.tensors["n"], pid]
    for name in "AF":
        w.tiles.append(w.value("load", w.tensors[name], w.number(0), w.number(0), shape=(ROWS, COLS), pad=0))
    w.statements(size)
    for name, dtype in (("P", int32), ("Q", float32)):
        w.op("store", w.tensors[name], w.a_tile(dtype), w.tensors["stripe"], w.number(0))
    w.op("yield")
    return Kernel("random", params, Block((), tuple(w.ops)))
