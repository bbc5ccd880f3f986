"""Every op of the TILE form against the interpreter, for every dtype."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from cpu_kit import assert_same, both, load_all, samples, store_all

from tilec.backends.cpu import CpuTarget
from tilec.backends.cpu.rules import RULES
from tilec.backends.cpu.tiles import POINTWISE
from tilec.ir.ops import OPS
from tilec.ir.ops.arith import BITS, FLOAT, INTEGER, NUMBER
from tilec.ir.types import DTYPES, DType, bfloat16, bool_, float8_e4m3, float8_e5m2, float16, float32

BINARY = {
    "add": NUMBER, "sub": NUMBER, "mul": NUMBER, "div": FLOAT, "floordiv": NUMBER, "mod": NUMBER,
    "minimum": NUMBER, "maximum": NUMBER, "and": BITS, "or": BITS, "xor": BITS,
    "shl": INTEGER, "shr": INTEGER,
    "lt": NUMBER, "le": NUMBER, "gt": NUMBER, "ge": NUMBER, "eq": (*NUMBER, "bool"), "ne": (*NUMBER, "bool"),
}  # fmt: skip
UNARY = {
    "neg": NUMBER, "not": BITS, "abs": NUMBER, "sqrt": FLOAT, "rsqrt": FLOAT, "floor": FLOAT, "ceil": FLOAT,
    "rint": FLOAT,
}  # fmt: skip
COMPARE = ("lt", "le", "gt", "ge", "eq", "ne")
N = 301  # Vectors and every smaller part.


def dtypes(kinds: tuple[str, ...]) -> list[DType]:
    return [d for d in DTYPES.values() if d.kind in kinds]


def test_every_tile_op_has_an_emit_rule() -> None:
    tile_ops = {name for name, row in OPS.items() if "tile" in row.forms}
    assert tile_ops == set(RULES) | set(POINTWISE)


def elementwise(name: str, inputs: list[Any], result: DType, target: CpuTarget | None = None) -> None:
    shape = inputs[0].shape

    def build(body: Any, out: Any, *tensors: Any) -> None:
        store_all(body, out, body.op(name, *(load_all(body, t, shape) for t in tensors)))

    found, expected = both([np.zeros(shape, result.np), *inputs], build, target=target)
    assert_same(found[0], expected[0])


@pytest.mark.parametrize(("name", "dtype"), [(n, d) for n, k in BINARY.items() for d in dtypes(k)], ids=str)
def test_binary(name: str, dtype: DType) -> None:
    a, b = samples(dtype, N), samples(dtype, N, 1)
    if name in ("shl", "shr") or name in COMPARE:
        b[::2] = (np.arange(N) % (dtype.bits + 2))[::2].astype(dtype.np) if dtype.is_int else a[::2]
    elementwise(name, [a, b], bool_ if name in COMPARE else dtype)


@pytest.mark.parametrize(("name", "dtype"), [(n, d) for n, k in UNARY.items() for d in dtypes(k)], ids=str)
def test_unary(name: str, dtype: DType) -> None:
    elementwise(name, [samples(dtype, N)], dtype)


@pytest.mark.parametrize("dtype", dtypes(FLOAT), ids=str)
def test_fma(dtype: DType) -> None:
    elementwise("fma", [samples(dtype, N, s) for s in range(3)], dtype)


@pytest.mark.parametrize("dtype", list(DTYPES.values()), ids=str)
def test_where(dtype: DType) -> None:
    elementwise("where", [samples(bool_, N), samples(dtype, N), samples(dtype, N, 1)], dtype)


@pytest.mark.parametrize(("source", "to"), list(itertools.product(DTYPES.values(), repeat=2)), ids=str)
def test_cast(source: DType, to: DType) -> None:
    x = samples(source, N)

    def build(body: Any, out: Any, t: Any) -> None:
        store_all(body, out, body.op("cast", load_all(body, t, (N,)), dtype=to))

    found, expected = both([np.zeros(N, to.np), x], build)
    assert_same(found[0], expected[0])


@pytest.mark.parametrize("to", [float8_e4m3, float8_e5m2], ids=str)
@pytest.mark.parametrize("source", [float16, bfloat16, float32], ids=str)
def test_a_cast_that_saturates(source: DType, to: DType) -> None:
    """As the cast of what was cut to the range, on the CPU and in the interpreter; NaN stays."""
    x = samples(source, N)

    def build(body: Any, out: Any, t: Any) -> None:
        store_all(body, out, body.op("cast", load_all(body, t, (N,)), dtype=to, saturate=True))

    found, expected = both([np.zeros(N, to.np), x], build)
    assert_same(found[0], expected[0])
    most = {"float8_e4m3": 448.0, "float8_e5m2": 57344.0}[to.name]
    wide = x.astype(np.float32)
    assert_same(expected[0], np.where(wide > most, most, np.where(wide < -most, -most, wide)).astype(to.np))


@pytest.mark.parametrize(
    ("source", "to"),
    [(a, b) for a, b in itertools.product(DTYPES.values(), repeat=2) if a.bits == b.bits], ids=str,
)  # fmt: skip
def test_bitcast(source: DType, to: DType) -> None:
    def build(body: Any, out: Any, t: Any) -> None:
        store_all(body, out, body.op("bitcast", load_all(body, t, (N,)), dtype=to))

    found, expected = both([np.zeros(N, to.np), samples(source, N)], build)
    assert_same(found[0], expected[0])


@pytest.mark.parametrize("name", ["float16", "float8_e4m3", "float8_e5m2"])
def test_every_narrow_float_widens_and_comes_back(name: str) -> None:
    dtype = DTYPES[name]
    every = np.arange(2**dtype.bits, dtype=f"u{dtype.bytes}").view(dtype.np)

    def build(body: Any, wide: Any, back: Any, t: Any) -> None:
        tile = body.op("cast", load_all(body, t, every.shape), dtype=DTYPES["float32"])
        store_all(body, wide, tile)
        store_all(body, back, body.op("cast", tile, dtype=dtype))

    found, expected = both([np.zeros(every.shape, np.float32), np.zeros_like(every), every], build)
    assert_same(found[0], expected[0])
    assert_same(found[1], expected[1])


@pytest.mark.parametrize("target", [CpuTarget(16, False), CpuTarget(32, True), CpuTarget(64, True)], ids=str)
def test_any_vector_width_gives_the_same(target: CpuTarget) -> None:
    for name in ("float32", "int16", "bfloat16"):
        dtype = DTYPES[name]
        a, b = (samples(dtype, N, seed).reshape(7, 43) for seed in (0, 1))
        elementwise("mul", [a, b], dtype, target)
