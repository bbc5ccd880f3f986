"""Kernels and helpers of the Hopper tests: lower, compile, assemble, emulate, compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import tilec
import tilec.language as tl
from tilec.backends.artifact import Artifact
from tilec.backends.ptx import compile_kernel
from tilec.ir.core import Kernel
from tilec.ir.interp import interpret
from tilec.passes import Options, lower
from tilec.runtime import toolchain
from tilec.runtime.arrays import tensor_type
from tilec.runtime.emulator import launch

Array = np.ndarray[Any, Any]
MODES = (("eager", 0), ("lazy", 0), ("random", 1), ("random", 2))


@tilec.kernel
def gemm(A: tl.Tensor, B: tl.Tensor, C: tl.Tensor,
         BM: tl.constexpr[int] = 64, BN: tl.constexpr[int] = 64, BK: tl.constexpr[int] = 64):  # fmt: skip
    m, n = tl.program_id(0), tl.program_id(1)
    acc = tl.zeros((BM, BN), tl.int32 if A.dtype == tl.int8 else tl.float32)
    for k in tl.range(tl.cdiv(A.shape[1], BK)):
        a, b = tl.load(A, (m, k), (BM, BK)), tl.load(B, (k, n), (BK, BN))
        acc = tl.dot(a, b, acc, input_precision="tf32")
    tl.store(C, (m, n), acc.to(C.dtype))


@tilec.kernel
def gelu_gemm(
    A: tl.Tensor, B: tl.Tensor, bias: tl.Tensor, C: tl.Tensor,
    BM: tl.constexpr[int] = 128, BN: tl.constexpr[int] = 256, BK: tl.constexpr[int] = 64,
):  # fmt: skip
    m, n = tl.program_id(0), tl.program_id(1)
    acc = tl.zeros((BM, BN), tl.float32)
    for k in tl.range(tl.cdiv(A.shape[1], BK)):
        acc = tl.dot(tl.load(A, (m, k), (BM, BK)), tl.load(B, (k, n), (BK, BN)), acc)
    x = acc + tl.load(bias, (n,), (BN,)).to(tl.float32)[None, :]
    tl.store(C, (m, n), (0.5 * x * (1.0 + tl.erf(x * 0.5**0.5))).to(C.dtype))


@tilec.kernel
def persistent(
    A: tl.Tensor, B: tl.Tensor, C: tl.Tensor,
    BM: tl.constexpr[int] = 64, BN: tl.constexpr[int] = 64, BK: tl.constexpr[int] = 64,
):  # fmt: skip
    columns = tl.cdiv(C.shape[1], BN)
    for t in tl.range(tl.program_id(0), tl.cdiv(C.shape[0], BM) * columns, tl.num_programs(0)):
        acc = tl.zeros((BM, BN), tl.float32)
        for k in tl.range(tl.cdiv(A.shape[1], BK)):
            a, b = tl.load(A, (t // columns, k), (BM, BK)), tl.load(B, (k, t % columns), (BK, BN))
            acc = tl.dot(a, b, acc)
        tl.store(C, (t // columns, t % columns), acc.to(C.dtype))


@tilec.kernel
def scaled_gemm(A: tl.Tensor, B: tl.Tensor, scale: float, blocks: int, C: tl.Tensor):
    """Scalars that both groups use; the second product of a block is added to the first."""
    m = tl.program_id(0)
    acc = tl.zeros((128, 64), tl.float32)
    for k in tl.range(blocks):
        acc = tl.dot(tl.load(A, (m, k), (128, 64)), tl.load(B, (k, 0), (64, 64)), acc)
    tl.store(C, (m, 0), (acc * scale).to(C.dtype))


@tilec.kernel
def overwritten(A: tl.Tensor, B: tl.Tensor, C: tl.Tensor):
    """Every round stores to the same place: the last one must win."""
    acc = tl.zeros((64, 64), tl.float32)
    for k in tl.range(tl.cdiv(A.shape[1], 64)):
        acc = tl.dot(tl.load(A, (0, k), (64, 64)), tl.load(B, (k, 0), (64, 64)), acc)
        tl.store(C, (0, 0), acc.to(C.dtype))


@tilec.kernel
def accumulate(A: tl.Tensor, B: tl.Tensor, C: tl.Tensor):
    """C is read and written: TMA must not store it."""
    acc = tl.load(C, (0, 0), (64, 64)).to(tl.float32)
    for k in tl.range(tl.cdiv(A.shape[1], 64)):
        acc = tl.dot(tl.load(A, (0, k), (64, 64)), tl.load(B, (k, 0), (64, 64)), acc)
    tl.store(C, (0, 0), acc.to(C.dtype))


@tilec.kernel
def attention(Q: tl.Tensor, K: tl.Tensor, V: tl.Tensor, O: tl.Tensor, causal: tl.constexpr[bool] = False,
              D: tl.constexpr[int] = 64, BM: tl.constexpr[int] = 64, BN: tl.constexpr[int] = 64):  # fmt: skip
    """Heads are in the first dimension; K and V have fewer of them (GQA). Exponents of base 2."""
    block, head = tl.program_id(0), tl.program_id(1)
    kv = head // (Q.shape[0] // K.shape[0])
    rows = block * BM + tl.arange(0, BM)
    q = tl.load(Q, (head, block, 0), (1, BM, D)).reshape(BM, D)
    top, total = tl.full((BM,), -1e30, tl.float32), tl.zeros((BM,), tl.float32)
    acc = tl.zeros((BM, D), tl.float32)
    stop = tl.minimum(K.shape[1], (block + 1) * BM) if causal else K.shape[1]
    for n in tl.range(tl.cdiv(stop, BN)):
        k = tl.load(K, (kv, n, 0), (1, BN, D)).reshape(BN, D)
        s = tl.dot(q, tl.trans(k)) * 0.125
        columns = (n * BN + tl.arange(0, BN))[None, :]
        seen = columns < K.shape[1]
        if causal:
            seen = seen & (columns <= rows[:, None])
        s = tl.where(seen, s, -1e30)
        new = tl.maximum(top, tl.max(s, 1))
        p, fade = tl.exp2(s - new[:, None]), tl.exp2(top - new)
        total = total * fade + tl.sum(p, 1)
        v = tl.load(V, (kv, n, 0), (1, BN, D)).reshape(BN, D)
        acc = tl.dot(p.to(V.dtype), v, acc * fade[:, None])
        top = new
    tl.store(O, (head, block, 0), (acc / total[:, None]).to(O.dtype).reshape(1, BM, D))


def random_array(shape: Sequence[int], dtype: Any = np.float16, seed: int = 0) -> Array:
    rng = np.random.default_rng([seed, *shape])
    if np.dtype(dtype).kind == "i":
        return rng.integers(-8, 8, shape).astype(dtype)
    return rng.standard_normal(shape).astype(np.float32).astype(dtype)


def types(*specs: Any) -> tuple[Any, ...]:
    """Signature of aligned, row-major tensors: ("f16", 2), ..."""
    return tuple(tl.Tensor[name, rank] for name, rank in specs)


def tile_kernel(fn: Any, args: Sequence[Any], **meta: Any) -> Kernel:
    signature = [tensor_type(a) if isinstance(a, np.ndarray) else type(a) for a in args]
    made: Kernel = fn.trace(signature, **meta)
    return made


def twin(array: Any) -> Any:
    """A copy with the same order of strides; numbers are themselves."""
    return np.array(array, order="K", copy=True) if isinstance(array, np.ndarray) else array


def agree(
    fn: Any, grid: Sequence[int], args: Sequence[Any], *, tolerance: float = 2e-3,
    options: Options | None = None, modes: Sequence[tuple[Any, int]] = MODES, **meta: Any,
) -> Artifact:  # fmt: skip
    """The last argument after the emulator, in every mode, is what the interpreter gives, with
    an error of at most ``tolerance`` of its largest element; no mode reports anything."""
    kernel = tile_kernel(fn, args, **meta)
    artifact = compile_kernel(lower(kernel, "sm_90a", options or Options()).scheduled)
    expected = [twin(a) for a in args]
    interpret(kernel, grid, expected)
    compare(artifact, grid, args, expected[-1], tolerance, modes)
    return artifact


def compare(
    artifact: Artifact, grid: Sequence[int], args: Sequence[Any], expected: Array, tolerance: float,
    modes: Sequence[tuple[Any, int]] = MODES,
) -> None:  # fmt: skip
    wide = expected.astype(np.float64)
    for mode, seed in modes:
        found = [twin(a) for a in args]
        outcome = launch(artifact, grid, found, mode=mode, seed=seed)
        assert not outcome.reports, (mode, outcome.reports[:3])
        error = np.abs(found[-1].astype(np.float64) - wide).max(initial=0.0)
        assert error <= tolerance * np.abs(wide).max(initial=0.0), (mode, seed, error)


def assembled(text: str) -> toolchain.Assembly:
    """What ptxas says; the test is skipped, with the reason, where it is missing."""
    if toolchain.find("ptxas") is None:
        pytest.skip("ptxas not found: pip install 'tilec[test]'")
    return toolchain.assemble(text, "sm_90a")


def disassembled(assembly: toolchain.Assembly) -> str:
    if toolchain.find("nvdisasm") is None:
        pytest.skip("nvdisasm not found: pip install 'tilec[test]'")
    return toolchain.disassemble(assembly.cubin)
