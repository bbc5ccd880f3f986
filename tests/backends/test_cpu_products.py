"""Products on the CPU: packed operands, batches of a loop, ragged edges, narrow integers."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from cpu_kit import assert_same, both

import tilec
import tilec.language as tl
from tilec.backends.cpu import CpuTarget
from tilec.ir.types import float32, int8, int32

U32 = 2.0**-24


@tilec.kernel
def gemm(A: tl.Tensor, B: tl.Tensor, C: tl.Tensor, total: tl.constexpr, BM: tl.constexpr[int],
         BN: tl.constexpr[int], BK: tl.constexpr[int]):  # fmt: skip
    m, n = tl.program_id(0), tl.program_id(1)
    acc = tl.zeros((BM, BN), total)
    for k in tl.range(tl.cdiv(A.shape[1], BK)):
        acc = tl.dot(tl.load(A, (m, k), (BM, BK)), tl.load(B, (k, n), (BK, BN)), acc)
    tl.store(C, (m, n), acc.to(C.dtype))


@tilec.kernel
def project(X: tl.Tensor, W: tl.Tensor, Y: tl.Tensor, BM: tl.constexpr[int], BK: tl.constexpr[int],
            N: tl.constexpr[int]):  # fmt: skip
    """The same right operand for every block of rows of a persistent program."""
    w = tl.load(W, (0, 0), (N, BK))
    for m in tl.range(tl.cdiv(X.shape[0], BM)):
        x = tl.load(X, (m, 0), (BM, BK))
        tl.store(Y, (m, 0), tl.dot(x, tl.trans(w)))


def numbers(shape: tuple[int, int], dtype: Any, order: str, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    whole = np.issubdtype(np.dtype(dtype), np.integer) if dtype is not ml_dtypes.bfloat16 else False
    values = rng.integers(-128, 128, shape) if whole else rng.standard_normal(shape)
    return np.asarray(values).astype(dtype).copy(order=order)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.int8], ids=["f32", "bf16", "int8"])
@pytest.mark.parametrize("orders", ["CC", "CF", "FC"])
def test_ragged_products_in_every_order(dtype: Any, orders: str) -> None:
    m, n, k = 61, 75, 83
    a, b = numbers((m, k), dtype, orders[0], 0), numbers((k, n), dtype, orders[1], 1)
    whole = dtype is np.int8
    c = np.full((m, n), 7, np.int32 if whole else np.float32)
    total = tl.int32 if whole else tl.float32
    gemm[(2, 2)](a, b, c, total=total, BM=40, BN=48, BK=16)
    if whole:
        np.testing.assert_array_equal(c, a.astype(np.int64) @ b.astype(np.int64))
        return
    wide = a.astype(np.float64), b.astype(np.float64)
    assert (np.abs(c - wide[0] @ wide[1]) <= k * U32 * (np.abs(wide[0]) @ np.abs(wide[1]))).all()


def test_int8_sums_wrap_like_int32() -> None:
    k = 140_000  # -128 * -128 * k exceeds int32
    a, b = np.full((1, k), -128, np.int8), np.full((k, 3), -128, np.int8)
    c = np.zeros((1, 3), np.int32)
    gemm[(1, 1)](a, b, c, total=tl.int32, BM=2, BN=3, BK=1001)
    assert c.tolist() == [[np.int64(128 * 128 * k).astype(np.int32)] * 3]


def test_infinities_beyond_the_edge_do_not_count() -> None:
    """A tensor's padding is zero on both sides of k, and rows that no store needs may be anything."""
    a, b = np.ones((5, 7), np.float32), np.ones((7, 9), np.float32)
    a[0, 0], b[0, 1] = np.inf, np.nan
    c = np.zeros((5, 9), np.float32)
    gemm[(1, 1)](a, b, c, total=tl.float32, BM=16, BN=16, BK=4)
    with np.errstate(invalid="ignore"):
        expected = a.astype(np.float64) @ b.astype(np.float64)
    np.testing.assert_array_equal(c, expected.astype(np.float32))


@pytest.mark.parametrize(
    "target", [CpuTarget(32, True), CpuTarget(16, False), CpuTarget(64, True, registers=32)]
)
@pytest.mark.parametrize("dtype", [float32, int8], ids=str)
def test_every_width_of_vectors_means_the_same(target: CpuTarget, dtype: Any) -> None:
    a, b = numbers((9, 21), dtype.np, "C", 0), numbers((21, 37), dtype.np, "C", 1)
    if dtype == float32:
        a, b = np.round(a * 4), np.round(b * 4)  # Sums of whole numbers are exact in any order.
    out = int32 if dtype == int8 else float32

    def build(body: Any, c: Any, x: Any, y: Any) -> None:
        zero = body.number(0)
        tiles = [body.op("load", t, zero, zero, shape=s) for t, s in ((x, (9, 21)), (y, (21, 37)))]
        acc = body.op("const", dtype=out, shape=(9, 37), value=3)
        body.op("store", c, body.op("dot", *tiles, acc, precision="ieee"), zero, zero)

    found, expected = both([np.zeros((9, 37), out.np), a, b], build, target=target)
    assert_same(found[0], expected[0])


def test_an_operand_from_before_the_loop_is_packed_once() -> None:
    x, w = numbers((50, 33), np.float32, "C", 0), numbers((20, 33), np.float32, "C", 1)
    y = np.zeros((50, 20), np.float32)
    project[(1,)](x, w, y, BM=8, BK=33, N=20)
    expected = x.astype(np.float64) @ w.T.astype(np.float64)
    assert (np.abs(y - expected) <= 33 * U32 * (np.abs(x) @ np.abs(w.T))).all()
    types = ("f32[2]", "f32[2]", "f32[2]")
    once = project.compile(types, target="cpu", BM=8, BK=33, N=20).asm["llvm"]
    assert once.count("shufflevector") > 0  # W is transposed, and in front of the loop:
    assert once.index("shufflevector") < once.index("head:")


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_do_not_change_a_bit(threads: int) -> None:
    a, b = numbers((100, 64), np.float32, "C", 0), numbers((64, 90), np.float32, "C", 1)
    c, d = np.zeros((100, 90), np.float32), np.zeros((100, 90), np.float32)
    meta = {"total": tl.float32, "BM": 16, "BN": 32, "BK": 16}
    gemm[(7, 3)](a, b, c, **meta, num_threads=1)
    gemm[(7, 3)](a, b, d, **meta, num_threads=threads)
    assert c.tobytes() == d.tobytes()
