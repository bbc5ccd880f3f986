"""Whole kernels of one group: emulated PTX against the interpreter, resources by ptxas."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cpu_kit import Body, assert_same, kernel, load_all, samples, store_all
from ptx_kit import assembled, both, compiled

from tilec.backends.artifact import Artifact
from tilec.ir.errors import ResourceError, UnsupportedError
from tilec.ir.types import bool_, dtype_of, float16, float32, int32
from tilec.runtime.emulator import launch

GOLDEN = Path(__file__).with_name("golden_vector_add.ptx")


def same(args: list[Any], build: Any, grid: tuple[int, ...] = (1,), warps: int = 4) -> None:
    for f, x in zip(*both(args, build, grid, warps), strict=True):
        if isinstance(f, np.ndarray):
            assert_same(f, x)


def near(args: list[Any], build: Any, bound: float, warps: int = 4) -> None:
    found, expected = both(args, build, (1,), warps)
    a, b = found[-1].astype(np.float64), expected[-1].astype(np.float64)
    assert np.all(np.abs(a - b) <= bound * (1 + np.abs(b))), np.abs(a - b).max()


def numbers(shape: tuple[int, ...], dtype: Any = np.float32, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(-8, 8, shape).astype(dtype)


def vector_add(k: Body, a: Any, b: Any, c: Any) -> None:
    at = k.op("mul", k.op("program_id", axis=0), k.number(1024))
    x, y = (k.op("load", t, at, shape=(1024,)) for t in (a, b))
    k.op("store", c, k.op("add", x, y), at)


def test_golden_vector_add() -> None:
    x = np.zeros(5000, np.float32)
    text = compiled(kernel([x, x, x], vector_add)).text
    if os.environ.get("BLESS"):
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8"), "BLESS=1 rewrites the golden file"
    assert text.count("ld.global.v4.f32") == 4 and text.count("st.global.v4.f32") == 2


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.bool_, np.int64])
def test_vector_add_with_a_ragged_end(dtype: Any) -> None:
    a, b = (numbers((2500,), dtype, s) for s in (1, 2))
    build = vector_add
    if dtype is np.bool_:

        def build(k: Body, a: Any, b: Any, c: Any) -> None:
            at = k.op("mul", k.op("program_id", axis=0), k.number(1024))
            x, y = (k.op("load", t, at, shape=(1024,)) for t in (a, b))
            k.op("store", c, k.op("xor", x, y), at)

    same([a, b, np.zeros(2500, dtype)], build, (3,))


@pytest.mark.parametrize("shape", [(3, 100), (64, 64), (1, 4096), (130, 6), (5, 7, 9), (1,), (7,)])
@pytest.mark.parametrize("warps", [1, 4, 8])
def test_copy_of_any_shape(shape: tuple[int, ...], warps: int) -> None:
    x = numbers(shape)
    same([x, np.zeros_like(x)], lambda k, a, b: store_all(k, b, load_all(k, a, shape)), warps=warps)


@pytest.mark.parametrize("offset", [-3, -200, 0, 61, 64, 2**31 - 1, -(2**31)])
def test_offsets_outside(offset: int) -> None:
    def build(k: Body, a: Any, b: Any, at: Any) -> None:
        zero = k.number(0)
        x = k.op("load", a, zero, at, shape=(4, 64), pad=7)
        k.op("store", b, x, zero, zero)
        k.op("store", a, k.op("add", x, x), zero, at)

    x = numbers((4, 64))
    same([x, np.zeros_like(x), ("int32", offset)], build)


@pytest.mark.parametrize("axes", [(1, 0), (0, 1)])
def test_strided_tensors(axes: tuple[int, int]) -> None:
    a = numbers((40, 96)).transpose(axes)[::2]
    b = np.zeros((96, 80), np.float32).transpose(axes)[: a.shape[0], : a.shape[1]]
    same([a, b], lambda k, x, y: store_all(k, y, load_all(k, x, a.shape)))


@pytest.mark.parametrize("kind", ["sum", "max", "argmin"])
@pytest.mark.parametrize("shape", [(64, 64), (3, 1000), (200, 3), (2, 5, 40)])
@pytest.mark.parametrize("warps", [1, 4, 8])
def test_reductions_along_each_axis(shape: tuple[int, ...], kind: str, warps: int) -> None:
    x = numbers(shape)
    outs = [np.zeros(np.delete(shape, a), np.int32 if kind == "argmin" else x.dtype) for a in range(x.ndim)]

    def build(k: Body, a: Any, *results: Any) -> None:
        for axis, out in enumerate(results):
            store_all(k, out, k.op("reduce", load_all(k, a, shape), kind=kind, axis=axis))

    same([x, *outs], build, warps=warps)


@pytest.mark.parametrize("kind", ["argmax", "argmin", "max", "min"])
def test_first_nan_and_first_index_win(kind: str) -> None:
    x = numbers((8, 300))
    x[0, [5, 250]] = x[1, 299] = np.nan
    x[2, [100, 200]], x[3] = 50, 4
    x[4, 7], x[5] = -np.inf, np.inf
    out = np.zeros(8, np.int32 if kind.startswith("arg") else np.float32)
    same(
        [x, out], lambda k, a, b: store_all(k, b, k.op("reduce", load_all(k, a, x.shape), kind=kind, axis=1))
    )


def test_scalar_results_are_uniform() -> None:
    def build(k: Body, a: Any, b: Any) -> None:
        total = k.op("reduce", load_all(k, a, (1000,)), kind="sum", axis=0)
        tile = k.op("broadcast", total, shape=(300,))
        store_all(k, b, k.op("add", tile, k.op("cast", k.op("arange", start=5, stop=305), dtype=float32)))

    same([numbers((1000,)), np.zeros(300, np.float32)], build)


def softmax(k: Body, x: Any, y: Any, n: int = 4096) -> None:
    row, zero = k.op("program_id", axis=0), k.number(0)
    v = k.op("cast", k.op("load", x, row, zero, shape=(1, n), pad=float("-inf")), dtype=float32)

    def spread(s: Any) -> Any:
        return k.op("broadcast", k.op("reshape", s, shape=(1, 1)), shape=(1, n))

    e = k.op("exp", k.op("sub", v, spread(k.op("reduce", v, kind="max", axis=1))))
    out = k.op("div", e, spread(k.op("reduce", e, kind="sum", axis=1)))
    k.op("store", y, k.op("cast", out, dtype=float16), row, zero)


def layer_norm(k: Body, x: Any, w: Any, y: Any, n: int = 4096) -> None:
    row, zero = k.op("program_id", axis=0), k.number(0)
    v = k.op("cast", k.op("load", x, row, zero, shape=(1, n)), dtype=float32)
    count = k.op("broadcast", k.number(float(n), float32), shape=(1,))

    def mean(s: Any) -> Any:
        m = k.op("div", k.op("reduce", s, kind="sum", axis=1), count)
        return k.op("broadcast", k.op("reshape", m, shape=(1, 1)), shape=(1, n))

    d = k.op("sub", v, mean(v))
    scaled = k.op("mul", d, k.op("rsqrt", mean(k.op("mul", d, d))))
    weight = k.op("cast", k.op("load", w, zero, shape=(n,)), dtype=float32)
    out = k.op("mul", scaled, k.op("reshape", weight, shape=(1, n)))
    k.op("store", y, k.op("cast", out, dtype=float16), row, zero)


@pytest.mark.parametrize("warps", [4, 8])
@pytest.mark.parametrize("build", [softmax, layer_norm])
def test_row_kernels_neither_spill_nor_differ(build: Any, warps: int) -> None:
    rows = np.random.default_rng(0).standard_normal((2, 4096)).astype(np.float16)
    args = [rows, rows.copy()] if build is softmax else [rows, rows[1].copy(), rows.copy()]
    near(args, build, 2e-3, warps)
    artifact = compiled(kernel(args, build), warps)
    done = assembled(artifact)
    assert done.spill_stores == done.spill_loads == 0 and done.registers <= 128
    assert "ld.global.v4.b32" in artifact.text and "st.global.v4.b32" in artifact.text


def test_gather_and_scatter_with_mask_and_bounds() -> None:
    def build(k: Body, t: Any, index: Any, y: Any, z: Any) -> None:
        i = load_all(k, index, (50, 3))
        j = k.op("broadcast", k.op("reshape", k.op("arange", start=0, stop=3), shape=(1, 3)), shape=(50, 3))
        mask = k.op("ne", i, k.op("const", dtype=int32, shape=(50, 3), value=2))
        got = k.op("gather", t, i, j, mask, k.op("const", dtype=float32, shape=(50, 3), value=-1))
        store_all(k, y, got)
        k.op("scatter", z, i, j, got, mask)

    index = np.random.default_rng(1).permutation(150).reshape(50, 3).astype(np.int32) - 20
    args = [numbers((100, 3)), index, np.zeros((50, 3), np.float32), np.zeros((90, 3), np.float32)]
    same(args, build)


def test_atomics_count_each_element_once() -> None:
    """A scalar counter gives every program its own number; replicated threads count once."""

    def build(k: Body, counter: Any, seen: Any, bins: Any, x: Any) -> None:
        true = k.op("const", dtype=bool_, shape=(), value=True)
        mine = k.op("atomic", counter, k.number(0), k.number(1), true, kind="add")
        k.op("scatter", seen, mine, k.number(1), true)
        values = load_all(k, x, (40,))
        ones = k.op("const", dtype=int32, shape=(40,), value=1)
        k.op("atomic", bins, values, ones, k.op("const", dtype=bool_, shape=(40,), value=True), kind="add")

    x = np.random.default_rng(0).integers(-1, 6, 40).astype(np.int32)
    same([np.zeros(1, np.int32), np.zeros(5, np.int32), np.zeros(5, np.int32), x], build, (5,))


@pytest.mark.parametrize(
    "shapes", [((6, 10), (4, 15)), ((8, 16), (128,)), ((12,), (3, 1, 4)), ((1, 1), (1,))]
)
def test_reshapes(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    src, dst = shapes
    x = numbers(src)
    same(
        [x, np.zeros(dst, np.float32)],
        lambda k, a, b: store_all(k, b, k.op("reshape", load_all(k, a, src), shape=dst)),
    )


@pytest.mark.parametrize("name", ["float32", "float16", "float8_e4m3", "bool", "int8", "int64", "float64"])
@pytest.mark.parametrize("shape", [(64, 64), (48, 33)])
def test_transposes_through_scratch(shape: tuple[int, int], name: str) -> None:
    x = samples(dtype_of(name), shape[0] * shape[1]).reshape(shape)
    build = lambda k, a, b: store_all(k, b, k.op("permute", load_all(k, a, shape), perm=(1, 0)))  # noqa: E731
    same([x, np.zeros(shape[::-1], x.dtype)], build)


@pytest.mark.parametrize("bounds", [(0, 5, 1), (0, 0, 1), (7, -3, -2), (3, 10, 4), (-5, 5, 3), (5, 0, 1)])
@pytest.mark.parametrize("constant", [True, False])
def test_loops(bounds: tuple[int, int, int], constant: bool) -> None:
    """The two carried tiles change places in each round; the scalar counts."""

    def build(k: Body, x: Any, y: Any, *limits: Any) -> None:
        ends = [k.number(b) for b in bounds] if constant else list(limits)
        a, b = load_all(k, x, (100,)), k.op("const", dtype=float32, shape=(100,), value=1)

        def body(inner: Body, i: Any, p: Any, q: Any, n: Any) -> Any:
            at = inner.op("broadcast", inner.op("cast", i, dtype=float32), shape=(100,))
            return inner.op("add", q, at), p, inner.op("add", n, i)

        p, q, n = k.loop(ends, [a, b, k.number(0)], body)
        total = k.op("broadcast", k.op("cast", n, dtype=float32), shape=(100,))
        store_all(k, y, k.op("add", k.op("sub", p, q), total))

    x = numbers((100,))
    same([x, np.zeros_like(x), *(("int32", b) for b in bounds)], build)


def test_a_start_value_survives_its_loop() -> None:
    def build(k: Body, x: Any, y: Any) -> None:
        a = load_all(k, x, (128,))
        bounds = [k.number(n) for n in (0, 3, 1)]
        b = k.loop(bounds, [a], lambda body, i, c: (body.op("add", c, a),))
        store_all(k, y, k.op("sub", b, a))

    same([numbers((128,)), np.zeros(128, np.float32)], build)


def test_while_and_if() -> None:
    """Collatz steps of a scalar, with a branch that swaps tiles or not."""

    def build(k: Body, x: Any, y: Any, n: Any) -> None:
        def more(b: Body, v: Any, t: Any) -> Any:
            return (b.op("ne", v, b.number(1)),)

        def step(b: Body, v: Any, t: Any) -> Any:
            even = b.op("eq", b.op("mod", v, b.number(2)), b.number(0))
            return b.branch(
                even,
                lambda c: (c.op("floordiv", v, c.number(2)), c.op("add", t, t)),
                lambda c: (c.op("add", c.op("mul", v, c.number(3)), c.number(1)), c.op("neg", t)),
            )

        blocks, start = [], [n, load_all(k, x, (64,))]
        from tilec.ir.core import Value

        for fill in (more, step):
            inner = Body()
            params = [Value(v.type) for v in start]
            inner.op("yield", *fill(inner, *params))
            blocks.append(inner.block(*params))
        _, tile = k.op("while", *start, blocks=tuple(blocks))
        store_all(k, y, tile)

    same([numbers((64,)), np.zeros(64, np.float32), ("int32", 7)], build)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
@pytest.mark.parametrize("shape", [(16, 8, 4), (40, 12, 33)])
def test_products_without_tensor_cores(shape: tuple[int, int, int], dtype: Any) -> None:
    m, k_, n = shape
    a, b, c = numbers((m, k_), dtype), numbers((k_, n), dtype, 1), numbers((m, n), dtype, 2)

    def build(k: Body, x: Any, y: Any, acc: Any, out: Any) -> None:
        start = load_all(k, acc, (m, n))
        bounds = [k.number(v) for v in (0, 2, 1)]
        left, right = load_all(k, x, (m, k_)), load_all(k, y, (k_, n))
        store_all(k, out, k.loop(bounds, [start], lambda body, i, s: (body.op("dot", left, right, s),)))

    same([a, b, c, np.zeros_like(c)], build)


@pytest.mark.parametrize("mode", ["lazy", "random"])
def test_barriers_around_scratch_suffice_in_any_order(mode: Any) -> None:
    """Two reductions through the same scratch, as warps run apart."""

    def build(k: Body, x: Any, y: Any, z: Any) -> None:
        t = load_all(k, x, (2, 2048))
        top = k.op("reduce", t, kind="max", axis=1)
        store_all(k, y, k.op("add", k.op("reduce", k.op("add", t, t), kind="sum", axis=1), top))
        store_all(k, z, k.op("permute", t, perm=(1, 0)))

    x = numbers((2, 2048))
    for seed in range(4):
        args = [x, np.zeros(2, np.float32), np.zeros((2048, 2), np.float32)]
        artifact = compiled(kernel(args, build), 8)
        # Before each write (its readers may lag behind) and before each read.
        assert artifact.text.count("bar.sync") == 2 * 2
        launch(artifact, (1,), args, mode=mode, seed=seed)
        assert np.array_equal(args[1], 2 * x.sum(1) + x.max(1)) and np.array_equal(args[2], x.T)


def test_equal_input_gives_equal_bytes() -> None:
    x = np.zeros((2, 4096), np.float16)
    first, second = (compiled(kernel([x, x], softmax)) for _ in range(2))
    assert isinstance(first, Artifact) and first == second


def test_source_lines_stand_in_the_text() -> None:
    from tilec.ir.core import Kernel
    from tilec.ir.loc import Loc

    made = kernel([np.zeros(64, np.float32)] * 2, lambda k, a, b: store_all(k, b, load_all(k, a, (64,))))
    ops = tuple(op.with_(loc=Loc("model.py", 7 + i, 4)) for i, op in enumerate(made.body.ops))
    body = type(made.body)(made.body.params, ops)
    text = compiled(Kernel(made.name, made.params, body)).text
    assert '.file 1 "model.py"' in text and ".loc 1 8 5" in text


def test_too_much_scratch_names_its_user() -> None:
    def build(k: Body, x: Any, y: Any) -> None:
        store_all(k, y, k.op("permute", load_all(k, x, (256, 256)), perm=(1, 0)))

    x = np.zeros((256, 256), np.float32)
    with pytest.raises(ResourceError, match=r"262144 bytes.*scratch of group main: 262144"):
        compiled(kernel([x, x], build))


def test_too_many_warps() -> None:
    x = np.zeros(64, np.float32)
    with pytest.raises(UnsupportedError, match="U133"):
        compiled(kernel([x, x], lambda k, a, b: store_all(k, b, load_all(k, a, (64,)))), 64)
