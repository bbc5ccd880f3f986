"""Every function of the language, against numpy, through the interpreter."""

from __future__ import annotations

import enum
import inspect
import math
import operator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilec
import tilec.language as tl
from tilec.ir.types import DTYPES, promote

RNG = np.random.default_rng(7)


def compute(fn: Any, *tiles: np.ndarray, scalars: tuple[Any, ...] = ()) -> np.ndarray:
    """``fn(*tiles, *scalars)`` in a kernel; the whole result as an array."""
    shapes = tuple(t.shape for t in tiles)
    result: list[tuple[Any, tuple[int, ...]]] = []

    def value(tensors: Any) -> Any:
        loaded = [tl.load(t, (0,) * len(s), s) for t, s in zip(tensors, shapes, strict=True)]
        return fn(*loaded, *scalars)

    if len(tiles) == 1:

        @tilec.kernel
        def probe(A):
            out = value((A,))
            result.append((out.dtype, out.shape))

        @tilec.kernel
        def main(A, OUT):
            out = value((A,))
            tl.store(OUT, (0,) * out.ndim, out)
    else:

        @tilec.kernel
        def probe(A, B):
            out = value((A, B))
            result.append((out.dtype, out.shape))

        @tilec.kernel
        def main(A, B, OUT):
            out = value((A, B))
            tl.store(OUT, (0,) * out.ndim, out)

    from tilec.runtime.arrays import tensor_type

    probe.trace([tensor_type(t) for t in tiles])
    dtype, shape = result[0]
    out = np.zeros(shape, dtype.np)
    main[1](*tiles, out, backend="interpreter")
    return out


def floats(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return RNG.uniform(0.1, 3, shape).astype(dtype)


def ints(*shape: int, dtype: Any = np.int32) -> np.ndarray:
    return RNG.integers(-20, 20, shape).astype(dtype)


def same(found: np.ndarray, want: Any, rtol: float = 0.0) -> None:
    want = np.asarray(want)
    assert (found.shape, found.dtype) == (want.shape, want.dtype)
    np.testing.assert_allclose(found.astype(np.float64), want.astype(np.float64), rtol=rtol)


@pytest.mark.parametrize("op", [operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod])
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.int8, np.float32])
def test_arithmetic(op: Any, dtype: Any) -> None:
    a, b = ints(4, 8, dtype=dtype), ints(8, dtype=dtype)
    b[b == 0] = 3
    same(compute(op, a, b), op(a, b))


@pytest.mark.parametrize("op", [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne])
def test_comparisons(op: Any) -> None:
    a, b = ints(4, 8) // 5, ints(4, 1) // 5
    same(compute(op, a, b), op(a, b))
    same(compute(lambda x: op(1, x), a), op(1, a))


@pytest.mark.parametrize("op", [operator.and_, operator.or_, operator.xor, operator.lshift, operator.rshift])
def test_bits(op: Any) -> None:
    a, b = ints(8), abs(ints(8))
    same(compute(op, a, b), op(a, b))


def test_unary() -> None:
    a = ints(8)
    same(compute(operator.neg, a), -a)
    same(compute(operator.pos, a), a)
    same(compute(operator.invert, a), ~a)
    same(compute(abs, a), abs(a))
    same(compute(lambda x: ~(x > 0), a), ~(a > 0))


def test_division_is_true_division() -> None:
    a, b = ints(8), np.arange(1, 9, dtype=np.int32)
    same(compute(operator.truediv, a, b), (a / b).astype(np.float32))
    same(compute(lambda x: x / 2, a), (a / 2).astype(np.float32))
    h = floats(8, dtype=np.float16)
    same(compute(lambda x: 1 / x, h), (1 / h.astype(np.float32)).astype(np.float16))


def test_powers() -> None:
    a, f = ints(8), floats(8)
    same(compute(lambda x: x**3, a), a**3)
    same(compute(lambda x: x**2, f), f * f)
    same(compute(lambda x: x**0.5, f), f**0.5, 1e-6)
    same(compute(lambda x: 2.0**x, f), 2**f, 1e-6)


@pytest.mark.parametrize("a", DTYPES.values(), ids=str)
@pytest.mark.parametrize("b", DTYPES.values(), ids=str)
def test_promotion_of_tiles(a: Any, b: Any) -> None:
    if {a.kind, b.kind} == {"bool"} or (a != b and a.bits == b.bits == 8 and a.is_float and b.is_float):
        return
    out = compute(operator.add, np.ones(4, a.np), np.ones(4, b.np))
    assert out.dtype == promote(a, b).np and (out.astype(float) == 2).all()


@pytest.mark.parametrize(
    ("dtype", "number", "want"),
    [
        ("float16", 2, "float16"), ("float16", 1e3, "float16"), ("int8", 3, "int8"), ("uint8", True, "uint8"),
        ("int32", 1.5, "float32"), ("int64", 0.5, "float32"), ("bool", 1, "int32"), ("bool", 1.0, "float32"),
        ("float64", 1, "float64"), ("bfloat16", 0.5, "bfloat16"),
    ],
)  # fmt: skip
def test_a_number_never_widens(dtype: str, number: Any, want: str) -> None:
    x = np.ones(4, DTYPES[dtype].np)
    for value in (number, np.float64(number) if isinstance(number, float) else number):
        out = compute(lambda a: a + value, x)  # noqa: B023
        assert out.dtype == DTYPES[want].np and out.astype(float)[0] == 1 + number
        assert compute(lambda a: value * a, x).dtype == DTYPES[want].np  # noqa: B023


def test_integers_wrap() -> None:
    a = np.array([127, -128], np.int8)
    with np.errstate(over="ignore"):
        same(compute(lambda x: x + 1, a), a + np.int8(1))


MATH: dict[str, Any] = {
    "exp": np.exp, "exp2": np.exp2, "log": np.log, "log2": np.log2, "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x), "sin": np.sin, "cos": np.cos, "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "erf": np.vectorize(math.erf), "floor": np.floor,
    "ceil": np.ceil, "rint": np.rint,
}  # fmt: skip


@pytest.mark.parametrize("name", MATH)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_math(name: str, dtype: Any) -> None:
    x = (floats(16) - 1 if name in ("sin", "tanh", "erf", "rint", "floor") else floats(16)).astype(dtype)
    want = MATH[name](x.astype(np.float64)).astype(dtype)
    same(compute(getattr(tl, name), x), want, {2: 1e-2, 4: 1e-6, 8: 1e-12}[want.itemsize])


def test_choices() -> None:
    a, b = ints(8), ints(8)
    f = np.array([1, np.nan, 3], np.float32)
    g = np.array([2, 0, np.nan], np.float32)
    same(compute(tl.minimum, a, b), np.minimum(a, b))
    np.testing.assert_array_equal(compute(tl.maximum, f, g), np.maximum(f, g))
    np.testing.assert_array_equal(compute(tl.minimum, f, g), np.minimum(f, g))
    same(compute(lambda x: tl.clamp(x, -3, 5), a), np.clip(a, -3, 5))
    same(compute(lambda x, y: tl.where(x > y, x, 0), a, b), np.where(a > b, a, 0).astype(np.int32))
    same(compute(lambda x: tl.where(x > 0, 1.0, 0.0), a), np.where(a > 0, 1, 0).astype(np.float32))
    same(compute(lambda x: tl.where(x[:, None] > 0, x[None, :], 7), a), np.where(a[:, None] > 0, a[None], 7))
    same(compute(lambda x: tl.where(True, x, 7), a), a)


def test_fma_rounds_once() -> None:
    a = np.full(4, 1 + 2.0**-12, np.float32)
    same(compute(lambda x: tl.fma(x, x, -1.0), a), (a.astype(np.float64) ** 2 - 1).astype(np.float32))
    assert (compute(lambda x: x * x - 1.0, a) != compute(lambda x: tl.fma(x, x, -1.0), a)).all()


@pytest.mark.parametrize("name", ["sum", "max", "min", "prod", "argmax", "argmin"])
@pytest.mark.parametrize("axis", [0, 1, -1, None])
@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions(name: str, axis: int | None, keepdims: bool) -> None:
    x = ints(3, 5)
    want = getattr(np, name)(x, axis=axis, keepdims=keepdims).astype(np.int32)
    same(compute(lambda t: getattr(tl, name)(t, axis, keepdims=keepdims), x), want)


def test_reduction_dtypes() -> None:
    b = np.array([True, False, True])
    small = np.full(200, 100, np.int8)
    same(compute(tl.sum, b), np.int32(2))
    same(compute(tl.sum, small), np.int32(20_000))
    same(compute(tl.sum, small.view(np.uint8)), np.uint32(20_000))
    half = np.full(4096, 1, np.float16)
    same(compute(tl.sum, half), np.float16(4096))
    same(compute(lambda t: tl.any(t > 2), np.array([1, 2], np.int32)), np.bool_(False))
    same(compute(tl.all, np.array([1, 2], np.int32)), np.bool_(True))
    same(compute(tl.xor_sum, np.array([5, 3, 9], np.int32)), np.int32(5 ^ 3 ^ 9))
    assert np.isnan(compute(tl.max, np.array([1, np.nan, 2], np.float32)))


def test_shapes() -> None:
    x = ints(2, 3, 4)
    same(compute(lambda t: tl.reshape(t, (6, 4)), x), x.reshape(6, 4))
    same(compute(lambda t: t.reshape(4, -1), x), x.reshape(4, 6))
    same(compute(lambda t: t.reshape((24,)), x), x.reshape(24))
    same(compute(lambda t: tl.reshape(t, 24), x), x.reshape(24))
    same(compute(lambda t: tl.permute(t, (2, 0, 1)), x), x.transpose(2, 0, 1))
    same(compute(lambda t: tl.permute(t, 0, 2, 1), x), x.transpose(0, 2, 1))
    same(compute(lambda t: t.T, x[0]), x[0].T)
    same(compute(tl.trans, x[0]), x[0].T)
    same(compute(lambda t: tl.expand_dims(t, -1), x), x[..., None])
    same(compute(lambda t: tl.broadcast_to(t, (5, 2, 3, 4)), x), np.broadcast_to(x, (5, 2, 3, 4)))
    same(compute(lambda t: t[None, ..., None], x), x[None, ..., None])
    same(compute(lambda t: t[:, None], x), x[:, None])
    same(compute(lambda t: t[...], x), x)


def test_casts() -> None:
    f = np.array([1.5, -1.5, 1e20, np.nan, -3e9, 2.5], np.float32)
    same(compute(lambda t: t.to(tl.int32), f), np.array([1, -1, 2**31 - 1, 0, -(2**31), 2], np.int32))
    same(
        compute(lambda t: tl.cast(t, "f16"), np.array([2049, 1e9], np.float32)),
        np.array([2048, np.inf], np.float16),
    )
    same(compute(lambda t: t.bitcast("i32"), f[:3]), f[:3].view(np.int32))
    same(compute(lambda t: t.to(tl.bool_), np.array([0, 2], np.int32)), np.array([False, True]))
    most = compute(lambda t: t.to("e4m3", saturate=True).to(tl.float32), f[2:])
    same(most, np.array([448, np.nan, -448, 2.5], np.float32))
    same(
        compute(lambda t: t.to("e4m3"), np.array([1.06], np.float32)),
        np.array([1.0], ml_dtypes.float8_e4m3fn),
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, ml_dtypes.bfloat16])
def test_dot(dtype: Any) -> None:
    a, b = ints(4, 8, dtype=dtype), ints(8, 3, dtype=dtype)
    wide = np.int32 if dtype is np.int8 else np.float64 if dtype is np.float64 else np.float32
    want = a.astype(wide) @ b.astype(wide)
    same(compute(tl.dot, a, b), want)
    same(compute(operator.matmul, a, b), want)
    same(compute(lambda x, y: tl.dot(x, y, tl.full((4, 3), 5, DTYPES[want.dtype.name])), a, b), want + 5)


def test_dot_dtypes() -> None:
    a, b = ints(4, 8, dtype=np.float16), ints(8, 3, dtype=np.float16)
    want = a.astype(np.float32) @ b.astype(np.float32)
    same(compute(lambda x, y: tl.dot(x, y, out_dtype="f16"), a, b), want.astype(np.float16))
    acc = lambda x, y: tl.dot(x, y, tl.zeros((4, 3), tl.float32), out_dtype=tl.float16)  # noqa: E731
    same(compute(acc, a, b), want.astype(np.float16))
    f = floats(4, 4)
    tf32 = compute(lambda x, y: tl.dot(x, y, input_precision="tf32"), f, f)
    assert 1e-7 < np.abs(tf32 / compute(tl.dot, f, f) - 1).max() < 1e-2


def test_create() -> None:
    @tilec.kernel
    def k(T, U, S):
        tl.store(T, (0, 0), tl.zeros((2, 4), tl.int32) + tl.arange(3, 7))
        tl.store(U, (0,), tl.full(3, 0.25, "f16"))
        tl.store(S, (0,), tl.full((3,), tl.num_programs(0) + 4, tl.float32))

    t, u, s = np.zeros((2, 4), np.int32), np.zeros(3, np.float16), np.zeros(3, np.float32)
    k[1](t, u, s, backend="interpreter")
    assert t.tolist() == [[3, 4, 5, 6]] * 2 and u.tolist() == [0.25] * 3 and s.tolist() == [5] * 3


@pytest.mark.parametrize("at", [(0, 0), (1, 2), (-1, 0), (3, 3)])
def test_load_and_store_by_index_and_offset(at: tuple[int, int]) -> None:
    @tilec.kernel
    def k(X, Y, Z, i: int, j: int):
        tl.store(Y, (i, j), tl.load(X, (i, j), (4, 2), pad=-1) + 1)
        tl.store(Z, value=tl.load(X, offset=(i, j), shape=(4, 2)), offset=(i, j))

    x = np.arange(54, dtype=np.int32).reshape(9, 6) + 10
    y, z = np.zeros_like(x), np.zeros_like(x)
    k[1](x, y, z, *at, backend="interpreter")
    rows, cols = (slice(max(p * n, 0), max(p * n + n, 0)) for p, n in zip(at, (4, 2), strict=True))
    want = np.zeros_like(x)
    want[rows, cols] = x[rows, cols] + 1
    same(y, want)
    rows, cols = (slice(max(p, 0), max(p + n, 0)) for p, n in zip(at, (4, 2), strict=True))
    want = np.zeros_like(x)
    want[rows, cols] = x[rows, cols]
    same(z, want)


def test_pad() -> None:
    @tilec.kernel
    def k(X, Y):
        tl.store(Y, (0,), tl.load(X, (0,), (4,), pad=-float("inf")))

    y = np.zeros(4, np.float32)
    k[1](np.ones(2, np.float32), y, backend="interpreter")
    assert y.tolist() == [1, 1, -np.inf, -np.inf]


def test_tensor_facts_and_strides() -> None:
    @tilec.kernel
    def k(X, OUT):
        rows, cols = X.shape
        tl.scatter(OUT, 0, rows)
        tl.scatter(OUT, 1, cols)
        tl.scatter(OUT, 2, X.stride[0].to(tl.int32))
        tl.scatter(OUT, 3, X.stride[-1].to(tl.int32))
        tl.static_assert(X.ndim == 2 and X.dtype == tl.float32 and len(X.shape) == 2)
        tl.store(OUT, (1,), tl.load(X, (0, 1), (4, 1)).reshape(4).to(tl.int32))

    out = np.zeros(8, np.int32)
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    k[1](x.T[::2], out, backend="interpreter")
    assert out.tolist() == [3, 4, 2, 6, 6, 8, 10, 0]


def test_gather_and_scatter() -> None:
    @tilec.kernel
    def k(X, I, OUT):
        i = tl.load(I, (0,), (4,))
        tl.store(
            OUT,
            (0, 0),
            tl.gather(X, (i[:, None], tl.arange(0, 3)[None, :]), mask=(i != 1)[:, None], other=-5),
        )
        tl.scatter(OUT, (4, tl.arange(0, 3)), 9, mask=tl.arange(0, 3) > 0)

    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    out = np.zeros((5, 3), np.float32)
    k[1](x, np.array([2, 1, -1, 4], np.int32), out, backend="interpreter")
    assert out.tolist() == [[6, 7, 8], [-5] * 3, [-5] * 3, [-5] * 3, [0, 9, 9]]


ATOMIC: dict[str, Any] = {
    "add": np.add, "max": np.maximum, "min": np.minimum, "and": np.bitwise_and, "or": np.bitwise_or,
    "xor": np.bitwise_xor, "xchg": lambda a, b: b,
}  # fmt: skip


@pytest.mark.parametrize("name", ATOMIC)
def test_atomics(name: str) -> None:
    update = getattr(tl, f"atomic_{name}")

    @tilec.kernel
    def k(X, OLD):
        i = tl.arange(0, 4)
        tl.store(OLD, (0,), update(X, (i,), i * 3, mask=i < 3))

    x = np.array([5, 6, 2, 8], np.int32)
    want = [int(ATOMIC[name](int(x[i]), 3 * i)) for i in range(3)] + [8]
    old = np.zeros(4, np.int32)
    k[1](x, old, backend="interpreter")
    assert x.tolist() == want and old.tolist() == [5, 6, 2, 0]


def test_cdiv() -> None:
    assert [tl.cdiv(a, 4) for a in (0, 1, 4, 5, -3)] == [0, 1, 1, 2, 0]

    @tilec.kernel
    def k(OUT, n: int):
        tl.scatter(OUT, 0, tl.cdiv(n, 4))
        tl.scatter(OUT, 1, tl.cdiv(n.to(tl.uint32), 4).to(tl.int32))

    for n in (0, 1, 4, 5, 2**31 - 1):
        out = np.zeros(2, np.int32)
        k[1](out, n, backend="interpreter")
        assert out.tolist() == [-(-n // 4)] * 2


def test_scalars_at_launch() -> None:
    @tilec.kernel
    def k(OUT, n: int, x: float, flag: bool, wide: tl.int64, small: tl.uint8, free):
        tl.static_assert((n.dtype, x.dtype, flag.dtype) == (tl.int32, tl.float32, tl.bool_))
        tl.static_assert((wide.dtype, small.dtype, free.dtype) == (tl.int64, tl.uint8, tl.float32))
        y = x + n if flag else x - free
        tl.store(OUT, (0,), tl.full((1,), y, tl.float32))

    out = np.zeros(1, np.float32)
    for flag, want in ((True, 3.5), (False, 0.25)):
        k[1](out, 3, 0.5, flag, 2**40, 255, 0.25, backend="interpreter")
        assert out[0] == want


def test_assume_is_checked_by_the_interpreter() -> None:
    @tilec.kernel
    def k(OUT, n: int):
        tl.assume(n % 4 == 0)
        tl.store(OUT, (0,), tl.full((1,), n, tl.int32))

    out = np.zeros(1, np.int32)
    k[1](out, 8, backend="interpreter")
    with pytest.raises(tilec.TilecError, match="assumption"):
        k[1](out, 9, backend="interpreter")


def test_static_print(capsys: pytest.CaptureFixture[str]) -> None:
    @tilec.kernel
    def k(X, N: tl.constexpr[int] = 4):
        tl.static_print("tile", tl.load(X, (0,), (N,)), N)

    k.trace(["f32[1]"])
    assert capsys.readouterr().out == "tile <tile<4xfloat32>> 4\n"


def test_loop_constraints_are_recorded() -> None:
    from tilec.ir import walk

    @tilec.kernel
    def k(X, n: int):
        for i in tl.range(n, stages=3, specialize=False, unroll=2):
            tl.store(X, (i,), tl.zeros((4,), tl.float32))

    (loop,) = [op for op in walk(k.trace(["f32[1]", "i32"]).body) if op.name == "for"]
    assert (loop.attrs["stages"], loop.attrs["specialize"], loop.attrs["unroll"]) == (3, False, 2)


def test_constants_are_part_of_the_specialisation() -> None:
    @tilec.kernel
    def k(X, V: tl.constexpr):
        tl.store(X, (0,), tl.full((1,), V, tl.float32))

    a, b, c = k.trace(["f32[1]"], V=1), k.trace(["f32[1]"], V=1.0), k.trace(["f32[1]"], V=1)
    assert a is c and a is not b
    assert k.trace(["f32[1]"], V=0.0) is not k.trace(["f32[1]"], V=-0.0)


def test_signatures() -> None:
    from tilec.ir.types import TensorType

    @tilec.kernel
    def k(X: tl.Tensor["f16", 2], n: int):  # noqa: F821, UP037
        pass

    def types(*signature: Any) -> list[Any]:
        return [p.type for p in k.trace(signature).params]

    dense = TensorType(tl.float16, 2, 1, True)
    assert (
        types(tl.Tensor["f16", 2], "i32")[0] == types("f16[2]", tl.int32)[0] == types(dense, int)[0] == dense
    )
    assert types("f16[2, contiguous=0, unaligned]", "i32")[0] == TensorType(tl.float16, 2, 0, False)
    assert types("f16[2,contiguous=none]", "i32")[0] == TensorType(tl.float16, 2, None, True)
    assert types("f16[2, divisible]", "i32")[0] == TensorType(tl.float16, 2, 1, True, True)


def test_functions_are_documented_and_typed() -> None:
    for name in tl.__all__:
        thing = getattr(tl, name)
        if inspect.isfunction(thing):
            assert thing.__doc__, name
            notes = inspect.signature(thing)
            assert notes.return_annotation is not notes.empty, name
            assert all(p.annotation is not p.empty for p in notes.parameters.values()), name


def test_every_row_of_the_table_exists() -> None:
    from tilec.language.later import INSTEAD

    for name, instead in INSTEAD.items():
        assert instead
        with pytest.raises(tilec.errors.UnsupportedError, match=name):
            getattr(tl, name)(1)


def test_import_is_light() -> None:
    import subprocess
    import sys

    code = "import tilec, sys; print(sorted({'llvmlite', 'z3', 'click', 'rich'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_threads_share_a_kernel() -> None:
    import threading

    @tilec.kernel
    def k(X, N: tl.constexpr[int]):
        for i in tl.range(N):
            tl.store(X, (i,), tl.full((1,), i * N, tl.int32))

    results = [np.zeros(8, np.int32) for _ in range(8)]
    work = [threading.Thread(target=lambda r=r, n=n: k[1](r, n % 4 + 1, backend="interpreter"))
            for n, r in enumerate(results)]  # fmt: skip
    for t in work:
        t.start()
    for t in work:
        t.join()
    for n, r in enumerate(results):
        count = n % 4 + 1
        assert r.tolist() == [i * count for i in range(count)] + [0] * (8 - count)


def test_python_sum_of_a_list_of_tiles() -> None:
    a = ints(8)
    same(compute(lambda x: sum([x, x + 1, x * 2], x), a), a + a + (a + 1) + a * 2)
    same(compute(lambda x: sum(x + i for i in range(3)), a), 3 * a + 3)


class Level(enum.IntEnum):
    HIGH = 3


def test_numbers_of_derived_classes_are_numbers() -> None:
    out = np.zeros(2, np.int32)

    @tilec.kernel
    def keep(OUT: tl.Tensor, a: int, b):
        tl.scatter(OUT, 0, a)
        tl.scatter(OUT, 1, b)

    keep[1](out, Level.HIGH, Level.HIGH, backend="interpreter")
    assert out.tolist() == [3, 3]


@pytest.mark.parametrize("backend", ["interpreter", "cpu", "emulator"])
def test_arrays_of_rank_0(backend: str) -> None:
    @tilec.kernel
    def times(S: tl.Tensor, X: tl.Tensor):
        tl.store(X, (0,), tl.load(X, (0,), (4,)) * tl.load(S, (), ()))
        tl.store(S, (), tl.full((), 7, S.dtype))

    s, x = np.array(2.5, np.float32), np.arange(4, dtype=np.float32)
    times[1](s, x, backend=backend)
    same(x, np.arange(4, dtype=np.float32) * np.float32(2.5))
    assert s == 7
