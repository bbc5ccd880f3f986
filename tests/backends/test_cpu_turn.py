"""Products that are turned over, operands that are read where they lie, and masks that hide nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilec
import tilec.language as tl
from tilec.backends.cpu import compile as cpu_compile
from tilec.backends.cpu import host
from tilec.backends.cpu.turn import turn_products
from tilec.bench.kernels import attention, gemm
from tilec.ir.core import Kernel, walk
from tilec.runtime.cpu import load

U32 = 2.0**-24


@tilec.kernel
def chain(Q: tl.Tensor, K: tl.Tensor, V: tl.Tensor, O: tl.Tensor, BN: tl.constexpr[int],
          M: tl.constexpr[int] = 32, D: tl.constexpr[int] = 24):  # fmt: skip
    """Two products a turn; the sum goes on in a second loop."""
    q, acc = tl.load(Q, (0, 0), (M, D)), tl.zeros((M, D), tl.float32)
    for n in tl.range(2):
        s = 0.5 * tl.dot(q, tl.trans(tl.load(K, (n, 0), (BN, D))))
        acc = tl.dot(s, tl.load(V, (n, 0), (BN, D)), acc)
    for n in tl.range(2, tl.cdiv(K.shape[0], BN)):
        s = 0.5 * tl.dot(q, tl.trans(tl.load(K, (n, 0), (BN, D))))
        acc = tl.dot(s, tl.load(V, (n, 0), (BN, D)), 0.75 * acc)
    tl.store(O, (0, 0), acc)


@tilec.kernel
def watched(Q: tl.Tensor, K: tl.Tensor, V: tl.Tensor, O: tl.Tensor, S: tl.Tensor):
    """As a chain, but the scores are stored in the loop."""
    q, acc = tl.load(Q, (0, 0), (32, 24)), tl.zeros((32, 24), tl.float32)
    for n in tl.range(tl.cdiv(K.shape[0], 16)):
        s = tl.dot(q, tl.trans(tl.load(K, (n, 0), (16, 24))))
        tl.store(S, (0, n), s)
        acc = tl.dot(s, tl.load(V, (n, 0), (16, 24)), acc)
    tl.store(O, (0, 0), acc)


@tilec.kernel
def largest(X: tl.Tensor, Y: tl.Tensor, first: tl.int32, limit: tl.int32):
    x = tl.load(X, (0, 0), (4, 64))
    columns = (first + tl.arange(0, 64))[None, :]
    tl.store(Y, (0,), tl.max(tl.where((columns <= limit) & (columns >= 3), x, -1.0), 1))


def numbers(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng([seed, *shape]).standard_normal(shape, np.float32)


def tile_of(kernel: Any, types: tuple[str, ...], **meta: Any) -> Kernel:
    return kernel.compile(types, target="cpu", **meta).stages.tile


def products(kernel: Kernel) -> list[tuple[int, ...]]:
    return [op.result.type.shape for op in walk(kernel.body) if op.name == "dot"]


def test_attention_is_turned_and_a_single_product_is_not() -> None:
    tile = tile_of(attention, ("f32[3]",) * 4, D=64, BM=32, BN=48)
    assert products(tile) == [(32, 48), (32, 64)]
    assert products(turn_products(tile, host())) == [(48, 32), (64, 32)]
    alone = tile_of(gemm, ("f32[2]",) * 3, BM=16, BN=64, BK=16)
    assert turn_products(alone, host()) is alone


def test_a_tile_that_the_loop_wants_as_it_was_is_not_turned() -> None:
    tile = tile_of(watched, ("f32[2]",) * 5)
    assert turn_products(tile, host()) is tile


@pytest.mark.parametrize(("keys", "block"), [(64, 16), (59, 16), (96, 32)])
def test_turned_products_have_the_same_bits(keys: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = numbers(32, 24), numbers(keys, 24, seed=1), numbers(keys, 24, seed=2)
    tile = tile_of(chain, ("f32[2]",) * 4, BN=block)
    assert all(shape[1] == 32 for shape in products(turn_products(tile, host())))
    turned, straight = np.zeros_like(q), np.zeros_like(q)
    load(cpu_compile.compile_kernel(tile)).launch((1,), [q, k, v, turned], 1)
    monkeypatch.setattr(cpu_compile, "turn_products", lambda kernel, target: kernel)
    load(cpu_compile.compile_kernel(tile)).launch((1,), [q, k, v, straight], 1)
    assert turned.any()
    assert turned.tobytes() == straight.tobytes()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("block", "dtype"), [(32, np.float32), (40, np.float32), (32, np.float16)], ids=str)
def test_attention_at_ragged_sizes(causal: bool, block: int, dtype: Any) -> None:
    q, k, v = (numbers(2, 75, 24, seed=i).astype(dtype) for i in range(3))
    o = np.zeros_like(q)
    attention[(-(-75 // block), 2)](q, k, v, o, causal=causal, D=24, BM=block, BN=32)
    s = q.astype(np.float64) @ k.astype(np.float64).transpose(0, 2, 1) / 24**0.5
    s = np.where(np.tril(np.ones((75, 75), bool)) | (not causal), s, -np.inf)
    p = np.exp(s - s.max(2, keepdims=True))
    p /= p.sum(2, keepdims=True)
    bound = (64 * U32 if dtype is np.float32 else 2.0**-9) * (p @ np.abs(v.astype(np.float64)) + 1)
    assert (np.abs(o - p @ v) <= bound).all()


def laid_out(x: np.ndarray[Any, Any], how: str) -> np.ndarray[Any, Any]:
    """The same numbers with rows apart, in one cache set, far apart, backwards, or columns first."""
    rows, columns = x.shape
    pitch = {"apart": columns + 5, "one set": 512, "far": 3 * columns, "backwards": columns}.get(how)
    if pitch is None:
        return np.asfortranarray(x)
    room = np.zeros((rows, pitch), np.float32)[:: -1 if how == "backwards" else 1, :columns]
    room[:] = x
    return room


@pytest.mark.parametrize("how", ["apart", "one set", "far", "backwards", "columns first"])
@pytest.mark.parametrize("keys", [64, 59])
def test_where_an_operand_lies_changes_no_bit(how: str, keys: int) -> None:
    q, k, v = numbers(32, 24), numbers(keys, 24, seed=1), numbers(keys, 24, seed=2)
    straight, moved = np.zeros_like(q), np.zeros_like(q)
    chain[(1,)](q, k, v, straight, BN=16)
    chain[(1,)](q, laid_out(k, how), laid_out(v, how), moved, BN=16)
    assert straight.any()
    assert straight.tobytes() == moved.tobytes()


@pytest.mark.parametrize("first", [0, 3, 40, 2**31 - 64, 2**31 - 60, -(2**31), -5])
@pytest.mark.parametrize("limit", [30, 66, 2**31 - 1, -(2**31)])
def test_masks_hide_what_numpy_hides(first: int, limit: int) -> None:
    x, y = numbers(4, 64), np.zeros(4, np.float32)
    x[2, 63], x[3, 0] = np.nan, 9
    largest[(1,)](x, y, first, limit)
    columns = (first + np.arange(64)).astype(np.int32)  # They wrap, as those of the kernel.
    np.testing.assert_array_equal(y, np.where((columns <= limit) & (columns >= 3), x, -1).max(1))
