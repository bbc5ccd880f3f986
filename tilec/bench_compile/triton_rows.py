"""Kernels of the examples without products, for Triton. See `triton_kernels`."""

# Annotations of a kernel are those of its language, which mypy cannot read.
# mypy: ignore-errors

from __future__ import annotations

from collections.abc import Mapping

import triton
import triton.language as tl

from tilec.bench_compile.triton_kernels import Case, layer_norm, softmax, types_of


@triton.jit
def vector_add(X, Y, Z, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(Z + at, tl.load(X + at, mask=at < n) + tl.load(Y + at, mask=at < n), mask=at < n)


@triton.jit
def embedding(TABLE, TOKENS, OUT, tokens, words, width, BM: tl.constexpr, BD: tl.constexpr):
    rows, columns = tl.program_id(0) * BM + tl.arange(0, BM), tl.program_id(1) * BD + tl.arange(0, BD)
    names = tl.load(TOKENS + rows, mask=rows < tokens, other=-1)
    known = ((names >= 0) & (names < words))[:, None] & (columns < width)[None, :]
    found = tl.load(TABLE + names[:, None] * width + columns[None, :], mask=known, other=0.0)
    inside = (rows < tokens)[:, None] & (columns < width)[None, :]
    tl.store(OUT + rows[:, None] * width + columns[None, :], found, mask=inside)


@triton.jit
def rotary(X, COS, SIN, OUT, batch_stride, position, head, table, positions, heads, D: tl.constexpr,
           BP: tl.constexpr, BH: tl.constexpr):  # fmt: skip
    ps, hs = tl.program_id(1) * BP + tl.arange(0, BP), tl.program_id(2) * BH + tl.arange(0, BH)
    ds = tl.arange(0, D // 2)
    there = (ps < positions)[:, None]
    at = ps[:, None] * table + ds[None, :]
    cos = tl.load(COS + at, mask=there, other=0.0)[:, None, :]
    sin = tl.load(SIN + at, mask=there, other=0.0)[:, None, :]
    place = tl.program_id(0) * batch_stride + ps[:, None, None] * position + hs[None, :, None] * head
    place += ds[None, None, :]
    inside = (ps < positions)[:, None, None] & (hs < heads)[None, :, None]
    left = tl.load(X + place, mask=inside, other=0.0).to(tl.float32)
    right = tl.load(X + place + D // 2, mask=inside, other=0.0).to(tl.float32)
    tl.store(OUT + place, (left * cos - right * sin).to(OUT.dtype.element_ty), mask=inside)
    tl.store(OUT + place + D // 2, (right * cos + left * sin).to(OUT.dtype.element_ty), mask=inside)


@triton.jit
def cross_entropy(LOGITS, TARGET, LOSS, GRAD, stride, classes, BN: tl.constexpr):
    row = tl.program_id(0)
    logits, grad, target = LOGITS + row * stride, GRAD + row * stride, tl.load(TARGET + row)
    top = tl.full((), -1e30, dtype=tl.float32)
    total = tl.zeros((), dtype=tl.float32)
    for start in range(0, classes, BN):
        at = start + tl.arange(0, BN)
        x = tl.load(logits + at, mask=at < classes, other=float("-inf")).to(tl.float32)
        new_top = tl.maximum(top, tl.max(x, 0))
        total = total * tl.exp(top - new_top) + tl.sum(tl.exp(x - new_top), 0)
        top = new_top
    counts = (target >= 0) & (target < classes)
    chosen = tl.load(logits + target, mask=counts, other=0.0).to(tl.float32)
    tl.store(LOSS + row, tl.where(counts, tl.log(total) + top - chosen, 0.0))
    for start in range(0, classes, BN):
        at = start + tl.arange(0, BN)
        x = tl.load(logits + at, mask=at < classes, other=float("-inf")).to(tl.float32)
        g = tl.exp(x - top) / total - tl.where(at == target, 1.0, 0.0)
        tl.store(grad + at, tl.where(counts, g, 0.0).to(GRAD.dtype.element_ty), mask=at < classes)


@triton.jit
def rms_norm(X, W, Y, RSTD, stride, n, BN: tl.constexpr):
    row, at = tl.program_id(0), tl.arange(0, BN)
    x = tl.load(X + row * stride + at, mask=at < n, other=0.0).to(tl.float32)
    w = tl.load(W + at, mask=at < n, other=0.0).to(tl.float32)
    rstd = tl.rsqrt(tl.sum(x * x, 0) / n + 1e-5)
    tl.store(Y + row * stride + at, (x * rstd * w).to(Y.dtype.element_ty), mask=at < n)
    tl.store(RSTD + row, rstd)


@triton.jit
def rms_norm_backward(X, W, RSTD, DY, DX, DW, stride, parts, rows, n, BN: tl.constexpr):
    at = tl.arange(0, BN)
    w = tl.load(W + at, mask=at < n, other=0.0).to(tl.float32)
    dw = tl.zeros((BN,), dtype=tl.float32)
    for row in range(tl.program_id(0), rows, tl.num_programs(0)):
        rstd = tl.load(RSTD + row)
        x = tl.load(X + row * stride + at, mask=at < n, other=0.0).to(tl.float32) * rstd
        dy = tl.load(DY + row * stride + at, mask=at < n, other=0.0).to(tl.float32)
        dw += dy * x
        along = tl.sum(dy * w * x, 0) / n
        tl.store(DX + row * stride + at, (rstd * (dy * w - x * along)).to(DX.dtype.element_ty), mask=at < n)
    tl.store(DW + tl.program_id(0) * parts + at, dw, mask=at < n)


@triton.jit
def layer_norm_backward(X, W, MEAN, RSTD, DY, DX, DW, DB, stride, parts, rows, n, BN: tl.constexpr):
    at, program = tl.arange(0, BN), tl.program_id(0)
    w = tl.load(W + at, mask=at < n, other=0.0).to(tl.float32)
    dw = tl.zeros((BN,), dtype=tl.float32)
    db = tl.zeros((BN,), dtype=tl.float32)
    for row in range(program, rows, tl.num_programs(0)):
        mean, rstd = tl.load(MEAN + row), tl.load(RSTD + row)
        x = (tl.load(X + row * stride + at, mask=at < n, other=0.0).to(tl.float32) - mean) * rstd
        dy = tl.load(DY + row * stride + at, mask=at < n, other=0.0).to(tl.float32)
        dw += dy * x
        db += dy
        up = dy * w
        across, along = tl.sum(up, 0) / n, tl.sum(up * x, 0) / n
        dx = rstd * (up - across - x * along)
        tl.store(DX + row * stride + at, dx.to(DX.dtype.element_ty), mask=at < n)
    tl.store(DW + program * parts + at, dw, mask=at < n)
    tl.store(DB + program * parts + at, db, mask=at < n)


@triton.jit
def add_rows(PARTS, OUT, stride, rows, n, BN: tl.constexpr):
    at = tl.program_id(0) * BN + tl.arange(0, BN)
    total = tl.zeros((BN,), dtype=tl.float32)
    for row in range(rows):
        total += tl.load(PARTS + row * stride + at, mask=at < n, other=0.0)
    tl.store(OUT + at, total.to(OUT.dtype.element_ty), mask=at < n)


_WIDE = {"BN": 4096}
_SUMS = {"RSTD": "*fp32", "MEAN": "*fp32", "DW": "*fp32", "DB": "*fp32"}
ROWS: Mapping[str, Case] = {
    "vector_add f32": Case(vector_add, types_of("X Y Z", "*fp32", "n"), {"BLOCK": 1024}),
    "softmax f32": Case(softmax, types_of("X Y", "*fp32", "stride n"), {"BN": 1024}),
    "layer_norm f32": Case(layer_norm, types_of("X W B Y", "*fp32", "stride n"), {"BN": 1024}),
    "embedding f16": Case(
        embedding, types_of("TABLE OUT", "*fp16", "tokens words width", TOKENS="*i32"), {"BM": 32, "BD": 128}
    ),
    "rms_norm f16 BN=4096": Case(rms_norm, types_of("X W Y", "*fp16", "stride n", RSTD="*fp32"), _WIDE),
    "rms_norm_backward f16 BN=4096": Case(
        rms_norm_backward, types_of("X W DY DX", "*fp16", "stride parts rows n", **_SUMS), _WIDE
    ),
    "add_rows f32": Case(add_rows, types_of("PARTS OUT", "*fp32", "stride rows n"), {"BN": 128}),
    "layer_norm_backward f16 BN=4096": Case(
        layer_norm_backward, types_of("X W DY DX", "*fp16", "stride parts rows n", **_SUMS), _WIDE
    ),
    "cross_entropy f16": Case(
        cross_entropy,
        types_of("LOGITS GRAD", "*fp16", "stride classes", TARGET="*i32", LOSS="*fp32"),
        {"BN": 1024},
    ),
    "rotary f16": Case(
        rotary,
        types_of(
            "X OUT", "*fp16", "batch_stride position head table positions heads", COS="*fp32", SIN="*fp32"
        ),
        {"D": 128, "BP": 4, "BH": 8},
    ),
}
