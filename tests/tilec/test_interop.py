"""Kernels as operations of PyTorch and JAX; skipped where they are not installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilec
import tilec.language as tl
from tilec.errors import TilecError
from tilec.interop import jax_op, torch_op


@tilec.kernel
def scaled_softmax(X: tl.Tensor, factor: float, Y: tl.Tensor, BN: tl.constexpr[int] = 64):
    row = tl.program_id(0)
    x = tl.load(X, (row, 0), (1, BN), pad=float("-inf")) * factor
    e = tl.exp(x - tl.max(x, 1, keepdims=True))
    tl.store(Y, (row, 0), e / tl.sum(e, 1, keepdims=True))


@tilec.kernel
def ends(X: tl.Tensor, LOW: tl.Tensor, HIGH: tl.Tensor, BN: tl.constexpr[int] = 64):
    row = tl.program_id(0)
    tl.store(LOW, (row,), tl.min(tl.load(X, (row, 0), (1, BN), pad=float("inf")), 1))
    tl.store(HIGH, (row,), tl.max(tl.load(X, (row, 0), (1, BN), pad=float("-inf")), 1))


def expected(x: np.ndarray[Any, Any], factor: float) -> np.ndarray[Any, Any]:
    e = np.exp(x.astype(np.float64) * factor)
    return e / e.sum(1, keepdims=True)


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch", reason="torch is not installed")


@pytest.fixture(scope="module")
def softmax(torch: Any) -> Any:
    return torch_op(
        "tilec_test::softmax",
        scaled_softmax,
        grid=lambda x, f: (x.shape[0],),
        outputs=lambda x, f: torch.empty_like(x),
    )


def test_torch_tensors_are_arguments(torch: Any) -> None:
    x, low, high = torch.arange(60.0).reshape(6, 10).T, torch.empty(10), torch.empty(10)
    ends[10](x, low, high)  # a transposed view
    assert torch.equal(low, x.amin(1)) and torch.equal(high, x.amax(1))


def test_a_torch_op_is_right_and_passes_torchs_own_check(torch: Any, softmax: Any) -> None:
    x = torch.randn(5, 40, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(softmax(x, 0.5).numpy(), expected(x.numpy(), 0.5), rtol=1e-5)
    torch.library.opcheck(softmax, (x, 0.5))


def test_torch_compile_traces_through_it(torch: Any, softmax: Any) -> None:
    @torch.compile(backend="aot_eager", fullgraph=True)
    def model(x: Any) -> Any:
        return softmax(x + 1, 2.0).sum(0)

    x = torch.linspace(-1, 1, 120).reshape(3, 40)
    np.testing.assert_allclose(model(x).numpy(), expected(x.numpy() + 1, 2.0).sum(0), rtol=1e-5)


def test_a_torch_op_with_two_outputs(torch: Any) -> None:
    op = torch_op(
        "tilec_test::ends",
        ends,
        grid=lambda x: (x.shape[0],),
        outputs=lambda x: (x.new_empty(x.shape[0]), x.new_empty(x.shape[0])),
    )
    x = torch.arange(12.0).reshape(3, 4)
    low, high = op(x)
    assert torch.equal(low, x[:, 0]) and torch.equal(high, x[:, 3])
    torch.library.opcheck(op, (x,))


def test_jax_arrays_are_inputs_and_ops_run_under_jit() -> None:
    jax = pytest.importorskip("jax", reason="jax is not installed")
    x = jax.numpy.linspace(-1, 1, 120).reshape(3, 40)
    y = np.empty((3, 40), np.float32)
    scaled_softmax[3](x, 0.5, y)
    np.testing.assert_allclose(y, expected(np.asarray(x), 0.5), rtol=1e-5)
    op = jax_op(
        scaled_softmax,
        grid=lambda x, f: (x.shape[0],),
        outputs=lambda x, f: jax.ShapeDtypeStruct(x.shape, x.dtype),
    )
    np.testing.assert_allclose(op(x, 0.5), y, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(lambda a: op(a, 0.5) + 1)(x), y + 1, rtol=1e-6)


def test_no_parameter_is_left_for_an_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tilec.interop._imported", lambda name: None)
    for make in (
        lambda: torch_op("a::b", ends, None, lambda a, b, c: None),
        lambda: jax_op(ends, None, lambda a, b, c: None),
    ):  # type: ignore[arg-type]
        with pytest.raises(TilecError, match=r"T370.*no output") as caught:
            make()
        assert "X, LOW, HIGH" in caught.value.help


def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(TilecError, match="U320: torch cannot be imported"):
        torch_op("a::b", ends, lambda x: (1,), lambda x: x)
