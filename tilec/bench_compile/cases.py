"""Kernels that are compiled beside Triton's, and how each is specialised. `triton_kernels` has the same.

They are those that `tilec bench cpu` runs, and a product of two row-major matrices. Compilation
of `CASES` is timed; machine code of `BESIDE_TRITON` is compared.
"""

# Annotations of a kernel are those of its language, which mypy cannot read.
# mypy: ignore-errors

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tilec
import tilec.language as tl
from tilec.bench.kernels import attention, gemm, layer_norm, rms_norm, softmax


@tilec.kernel
def gemm_nt(A: tl.Tensor, B: tl.Tensor, C: tl.Tensor, BM: tl.constexpr[int] = 128,
            BN: tl.constexpr[int] = 256, BK: tl.constexpr[int] = 128):  # fmt: skip
    m, n = tl.program_id(0), tl.program_id(1)
    acc = tl.zeros((BM, BN), tl.float32 if A.dtype.is_float else tl.int32)
    for k in tl.range(tl.cdiv(A.shape[1], BK)):
        a, b = tl.load(A, (m, k), (BM, BK)), tl.load(B, (n, k), (BN, BK))
        acc = tl.dot(a, b.T, acc, input_precision="tf32")
    tl.store(C, (m, n), acc.to(C.dtype))


@dataclass(frozen=True)
class Case:
    """A kernel, the types of its run-time arguments, and constants."""

    kernel: Any
    signature: tuple[str, ...]
    constants: Mapping[str, Any]


CASES: Mapping[str, Case] = {
    "gemm fp16": Case(gemm, ("f16[2]",) * 3, {"BM": 128, "BN": 256, "BK": 64}),
    "gemm fp8": Case(gemm_nt, ("float8_e4m3fn[2]", "float8_e4m3fn[2]", "f16[2]"), {}),
    "attention": Case(attention, ("f16[3]",) * 4, {"causal": False, "D": 128}),
    "attention causal": Case(attention, ("f16[3]",) * 4, {"causal": True, "D": 128}),
    "softmax": Case(softmax, ("f16[2]",) * 2, {"BN": 1024}),
    "layer norm": Case(layer_norm, ("f16[2]", "f16[1]", "f16[1]", "f16[2]"), {"BN": 1024}),
}
_HEADS = ("f16[3]",) * 4
BESIDE_TRITON: Mapping[str, Case] = {
    **CASES,
    "gemm bf16": Case(gemm, ("bf16[2]",) * 3, {"BM": 128, "BN": 256, "BK": 64}),
    "gemm tf32": Case(gemm_nt, ("f32[2]",) * 3, {"BN": 128, "BK": 32}),
    "gemm int8": Case(gemm_nt, ("i8[2]", "i8[2]", "i32[2]"), {}),
    "attention 64": Case(attention, _HEADS, {"causal": False, "D": 64}),
    "attention 64 causal": Case(attention, _HEADS, {"causal": True, "D": 64}),
    "rms norm": Case(rms_norm, ("f32[2]", "f32[1]", "f32[2]"), {"BN": 4096}),
}
