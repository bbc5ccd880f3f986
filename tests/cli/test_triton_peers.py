"""Triton's kernels of the evidence page compute what their names say: its PTX, run by the emulator.

A wrong peer would be a wrong number. Numbers are small multiples of 1/8, extents ragged multiples of 16.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("triton")
pytestmark = pytest.mark.slow

from triton_kit import DTYPES, Array, Checks, numbers, run, starting, wide  # noqa: E402

CHECKS = Checks()

# Without products.


@CHECKS.of("vector_add f32")
def vector_add(title: str) -> None:
    x, y = numbers(1104, dtype=np.float32), numbers(1104, dtype=np.float32, seed=1)
    run(title, 2, {"X": x, "Y": y, "Z": np.zeros_like(x), "n": 1104}, 0, {"Z": x + y})


@CHECKS.of("softmax f32", "layer_norm f32", "softmax", "layer norm", "rms norm")
def rows(title: str) -> None:
    dtype = np.float32 if title in ("softmax f32", "layer_norm f32", "rms norm") else np.float16
    x, w, b = numbers(3, 80, dtype=dtype), numbers(80, dtype=dtype, seed=1), numbers(80, dtype=dtype, seed=2)
    v = wide(x)
    if title.startswith("softmax"):
        e = np.exp(v - v.max(1, keepdims=True))
        y = e / e.sum(1, keepdims=True)
    elif title.startswith("layer"):
        d = v - v.mean(1, keepdims=True)
        y = d / np.sqrt((d * d).mean(1, keepdims=True) + 1e-5) * w + b
    else:
        y = v / np.sqrt((v * v).mean(1, keepdims=True) + 1e-5) * w
    run(title, 3, {"X": x, "W": w, "B": b, "Y": np.zeros_like(x), "stride": 80, "n": 80}, 2e-3, {"Y": y})


@CHECKS.of("embedding f16")
def embedding(title: str) -> None:
    table, tokens = numbers(16, 80), np.array([3, -1, 16, 0] * 4, np.int32)
    known = (tokens >= 0) & (tokens < 16)
    expected = np.where(known[:, None], table[tokens % 16], 0)
    args = {
        "TABLE": table,
        "TOKENS": tokens,
        "OUT": np.ones_like(expected),
        "tokens": 16,
        "words": 16,
        "width": 80,
    }
    run(title, (1, 1), args, 0, {"OUT": expected})


@CHECKS.of("rms_norm f16 BN=4096", "rms_norm_backward f16 BN=4096", "layer_norm_backward f16 BN=4096")
def norms(title: str) -> None:
    x, w, dy = numbers(16, 80), numbers(80, seed=1), numbers(16, 80, seed=2)
    v, g, n = wide(x), wide(dy), 80
    mean = v.mean(1) if title.startswith("layer") else np.zeros(16)
    rstd = 1 / np.sqrt(((v - mean[:, None]) ** 2).mean(1) + 1e-5)
    z = (v - mean[:, None]) * rstd[:, None]
    up = g * w
    across = up.mean(1, keepdims=True) if title.startswith("layer") else 0
    dx = rstd[:, None] * (up - across - z * (up * z).mean(1, keepdims=True))
    args = {"X": x, "W": w, "DY": dy, "Y": np.zeros_like(x), "DX": np.zeros_like(x), "stride": n, "n": n,
            "MEAN": mean.astype(np.float32), "RSTD": rstd.astype(np.float32), "parts": n, "rows": 16,
            "DW": np.zeros((2, n), np.float32), "DB": np.zeros((2, n), np.float32)}  # fmt: skip
    if title.startswith("rms_norm f16"):
        run(title, 16, {**args, "RSTD": np.zeros(16, np.float32)}, 4e-3, {"Y": z * w, "RSTD": rstd}, BN=128)
        return
    both = {"DX": dx, "DW": np.stack([(g * z)[i::2].sum(0) for i in range(2)])}
    if title.startswith("layer"):
        both["DB"] = np.stack([g[i::2].sum(0) for i in range(2)])
    run(title, 2, args, 4e-3, both, BN=128)


@CHECKS.of("add_rows f32", "add_shares f32")
def sums(title: str) -> None:
    parts = numbers(16, 32, 80, dtype=np.float32)
    if title == "add_rows f32":
        args = {"PARTS": parts, "OUT": np.zeros(80, np.float32), "stride": 80, "rows": 512, "n": 80}
        run(title, 1, args, 1e-5, {"OUT": wide(parts).reshape(-1, 80).sum(0)})
        return
    args = {"PARTS": parts, "C": np.zeros((32, 80), np.float16), "shares": 16, "M": 32, "N": 80, "part": 2560,
            "pm": 80, "cm": 80}  # fmt: skip
    run(title, (2, 1), args, 2e-3, {"C": wide(parts).sum(0)})


@CHECKS.of("cross_entropy f16")
def cross_entropy(title: str) -> None:
    x, target = numbers(4, 160), np.array([0, 159, 77, -1], np.int32)
    v = wide(x)
    p = np.exp(v) / np.exp(v).sum(1, keepdims=True)
    loss, grad = -np.log(p[np.arange(4), target]), p.copy()
    grad[np.arange(4), target] -= 1
    loss[3], grad[3] = 0, 0
    args = {"LOGITS": x, "TARGET": target, "LOSS": np.zeros(4, np.float32), "GRAD": np.zeros_like(x),
            "stride": 160, "classes": 160}  # fmt: skip
    run(title, 4, args, 1e-3, {"LOSS": loss, "GRAD": grad}, BN=128)


@CHECKS.of("rotary f16")
def rotary(title: str) -> None:
    x, cos, sin = (
        numbers(2, 16, 16, 32),
        numbers(16, 16, dtype=np.float32),
        numbers(16, 16, dtype=np.float32, seed=1),
    )
    a, b = np.split(wide(x), 2, axis=-1)
    c, s = cos[:, None, :], sin[:, None, :]
    expected = np.concatenate([a * c - b * s, b * c + a * s], -1)
    args = {"X": x, "COS": cos, "SIN": sin, "OUT": np.zeros_like(x), "batch_stride": 8192, "position": 512,
            "head": 32, "table": 16, "positions": 16, "heads": 16}  # fmt: skip
    run(title, (2, 4, 2), args, 2e-3, {"OUT": expected}, D=32)


# Products.

M, N, K = 48, 80, 112
SMALL = {"BM": 64, "BN": 64, "BK": 32}


def operands(dtype: Any = np.float16, transposed: bool = False) -> tuple[dict[str, Any], Array]:
    a, b = numbers(M, K, dtype=dtype), numbers(K, N, dtype=dtype, seed=1)
    right = np.ascontiguousarray(b.T) if transposed else b
    sizes = {"M": M, "N": N, "K": K, "am": K, "bk": N, "bn": K, "cm": N}
    return {"A": a, "B": right, **sizes}, wide(a) @ wide(b)


@CHECKS.of("gemm fp16", "gemm fp8", "gemm bf16", "gemm tf32", "gemm int8")
def gemm(title: str) -> None:
    kinds = {"fp16": "f16", "fp8": "e4m3", "bf16": "bf16", "tf32": "f32", "int8": "i8"}
    kind = kinds[title.split()[1]]
    args, product = operands(DTYPES[kind], kind in ("e4m3", "f32", "i8"))
    out = {"e4m3": np.float16, "i8": np.int32}.get(kind, DTYPES[kind])
    run(title, (1, 2), {**args, "C": np.zeros((M, N), out)}, 8e-3, {"C": product}, BM=64, BN=64, BK=64)


@CHECKS.of("gemm_bias_gelu f16", "persistent_gemm f16")
def epilogues(title: str) -> None:
    args, product = operands()
    args |= {"bias": numbers(N, seed=2), "C": np.zeros((M, N), np.float16)}
    if title.startswith("gemm"):
        from math import erf

        x = product + wide(args["bias"])
        product = 0.5 * x * (1 + np.vectorize(erf)(x * 0.5**0.5))
    run(title, (1, 2) if title.startswith("gemm") else 1, args, 5e-3, {"C": product}, **SMALL)


@CHECKS.of(*starting("gemm_scaled"))
def scaled(title: str) -> None:
    kind = title.split()[1]
    args, product = operands(DTYPES[kind], True)
    by_row, by_column = numbers(M, dtype=np.float32), numbers(N, dtype=np.float32, seed=1)
    args |= {"row_scale": by_row, "column_scale": by_column, "C": np.zeros((M, N), ml_dtypes.bfloat16)}
    expected = product * by_row[:, None] * by_column[None, :]
    run(title, (1, 2), args, 1e-2, {"C": expected}, BM=64, BN=64, BK=32)


@CHECKS.of("gemm_shares f16", "gemm_atomic f16", "stream_k f16")
def shared(title: str) -> None:
    args, product = operands()
    a, b = wide(args["A"]), wide(args["B"])
    parts = np.stack([a[:, :64] @ b[:64], a[:, 64:] @ b[64:]])
    args |= {
        "PARTS": np.zeros((2, M, N), np.float32),
        "C": np.zeros((M, N), np.float32),
        "part": M * N,
        "pm": N,
    }
    expect = {"PARTS": parts} if title.startswith("gemm_shares") else {"C": product}
    run(title, 3 if title.startswith("stream") else (1, 2, 2), args, 1e-4, expect, **SMALL)


@CHECKS.of("batched_gemm f16")
def batched(title: str) -> None:
    a, b = numbers(2, M, K), numbers(2, K, N, seed=1)
    args = {"A": a, "B": b, "C": np.zeros((2, M, N), np.float16), "M": M, "N": N, "K": K, "a0": M * K,
            "am": K, "b0": K * N, "bk": N, "c0": M * N, "cm": N}  # fmt: skip
    run(title, (1, 2, 2), args, 2e-3, {"C": wide(a) @ wide(b)}, **SMALL)


@CHECKS.of("swiglu f16")
def swiglu(title: str) -> None:
    x, gate, up = numbers(M, K), numbers(K, N, seed=1), numbers(K, N, seed=2)
    g = wide(x) @ wide(gate)
    args = {"X": x, "GATE": gate, "UP": up, "OUT": np.zeros((M, N), np.float16), "M": M, "N": N, "K": K,
            "xm": K, "gk": N, "uk": N, "om": N}  # fmt: skip
    run(title, (1, 2), args, 5e-3, {"OUT": g / (1 + np.exp(-g)) * (wide(x) @ wide(up))}, **SMALL)


@CHECKS.of("grouped_gemm f16", "grouped_weights f16")
def grouped(title: str) -> None:
    ends, x = np.array([0, 5, 5, 80], np.int32), numbers(80, K)
    if title.startswith("grouped_weights"):
        d = numbers(80, N, seed=1)
        dw = np.stack([wide(x[a:b]).T @ wide(d[a:b]) for a, b in pairwise(ends)])
        args = {"X": x, "DOUT": d, "OFFSETS": ends, "DW": np.zeros((3, K, N), np.float16), "M": K, "N": N,
                "xm": K, "dm": N, "w0": K * N, "wm": N}  # fmt: skip
        run(title, (2, 2, 3), args, 5e-3, {"DW": dw}, **SMALL)
        return
    w = numbers(3, K, N, seed=1)
    expected = np.concatenate([wide(x[a:b]) @ wide(w[i]) for i, (a, b) in enumerate(pairwise(ends))])
    args = {"X": x, "W": w, "OFFSETS": ends, "EXPERT": np.array([0, 2, 2], np.int32),
            "TILE": np.array([0, 0, 1], np.int32), "OUT": np.zeros((80, N), np.float16), "N": N, "K": K,
            "xm": K, "w0": K * N, "wk": N, "om": N}  # fmt: skip
    run(title, (3, 2), args, 5e-3, {"OUT": expected}, **SMALL)


@CHECKS.of("gemv f16", "flat_gemm f16")
def flat(title: str) -> None:
    w, x = numbers(N, K), numbers(16, K, seed=1)
    args = {"W": w, "x": x[0], "X": x, "y": np.zeros(N, np.float16), "Y": np.zeros((16, N), np.float16),
            "N": N, "K": K, "wn": K, "xm": K, "ym": N, "BATCHES": 16}  # fmt: skip
    if title.startswith("gemv"):
        run(title, 5, args, 2e-3, {"y": wide(w) @ wide(x[0])}, BK=64)
    else:
        run(title, (2, 1), args, 2e-3, {"Y": wide(x) @ wide(w).T}, BK=64)


@pytest.mark.parametrize("title", CHECKS)
def test_a_peer_computes_what_its_name_says(title: str) -> None:
    CHECKS[title](title)
