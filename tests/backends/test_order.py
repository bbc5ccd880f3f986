"""Accesses of one instance to global memory keep their order, whatever threads make them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tilec
import tilec.language as tl
from tilec.backends.ptx.order import Order

N = 64


@tilec.kernel
def written_then_read(X: tl.Tensor, Y: tl.Tensor, n: tl.int32):
    a = tl.load(X, (0, 0), (64, 64))
    tl.store(X, (0, 0), tl.trans(a))
    tl.store(Y, (0, 0), tl.load(X, (0, 1), (64, 32)))


@tilec.kernel
def halves_exchanged(X: tl.Tensor, Y: tl.Tensor, n: tl.int32):
    left, right = tl.load(X, (0, 0), (64, 32)), tl.load(X, (0, 1), (64, 32))
    tl.store(X, (0, 0), right)
    tl.store(X, (0, 1), left)


@tilec.kernel
def shifted_in_a_loop(X: tl.Tensor, Y: tl.Tensor, n: tl.int32):
    for i in tl.range(n):
        tl.store(X, (0, i + 1), tl.load(X, (0, i), (64, 1)) + 1.0)


@tilec.kernel
def one_way_of_two(X: tl.Tensor, Y: tl.Tensor, n: tl.int32):
    if n > 3:
        tl.store(X, (0, 0), tl.load(X, (0, 1), (64, 32)))
    else:
        tl.store(X, (0, 0), tl.load(Y, (0, 1), (64, 32)))
    tl.store(Y, (0, 0), tl.load(X, (1, 0), (8, 64)))


@tilec.kernel
def counted(X: tl.Tensor, Y: tl.Tensor, n: tl.int32):
    tl.atomic_add(X, (tl.arange(64), tl.full((64,), 1, tl.int32)), 1.0)
    tl.store(Y, (0, 0), tl.load(X, (0, 0), (64, 8)))


@tilec.kernel
def one_row(X: tl.Tensor, Y: tl.Tensor, n: tl.int32):
    x = tl.load(X, (0, 0), (1, 8))
    tl.store(Y, (0, 0), x / tl.sum(x))


KERNELS = [written_then_read, halves_exchanged, shifted_in_a_loop, one_way_of_two, counted, one_row]


def arrays() -> tuple[np.ndarray, np.ndarray]:
    x = np.arange(N * N, dtype=np.float32).reshape(N, N)
    return x, x[::-1] * 2


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.__name__)
@pytest.mark.parametrize("n", [2, 4])
def test_as_the_interpreter(kernel: tilec.Kernel, n: int) -> None:
    one, other = arrays(), arrays()
    kernel[1](*one, n, backend="interpreter")
    kernel[1](*other, n, backend="emulator")
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def count(kernel: tilec.Kernel) -> int:
    return kernel.compile(("f32[2]", "f32[2]", "i32"), target="sm_90a").asm["ptx"].count("bar.sync")


def test_no_barrier_where_each_thread_keeps_to_its_own() -> None:
    @tilec.kernel
    def in_place(X: tl.Tensor, Y: tl.Tensor, n: tl.int32):
        x = tl.load(X, (0, 0), (64, 64))
        tl.store(X, (0, 0), x + tl.load(Y, (0, 0), (64, 64)))
        tl.store(Y, (0, 0), x)

    assert count(in_place) == 0


def test_without_barriers_the_emulator_objects(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TILEC_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(Order, "before", lambda self, op: False)

    @tilec.kernel
    def exchanged(X: tl.Tensor, Y: tl.Tensor, n: tl.int32):
        left, right = tl.load(X, (0, 0), (64, 32)), tl.load(X, (0, 1), (64, 32))
        tl.store(X, (0, 0), right)
        tl.store(X, (0, 1), left)
        tl.store(Y, (0, 0), tl.load(X, (0, 0), (8, 64)))

    with pytest.raises(tilec.TilecError, match="E27"):
        exchanged[1](*arrays(), 1, backend="emulator")
