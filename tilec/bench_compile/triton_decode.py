"""Decode attention over pages for Triton. See `triton_attention`."""

# Annotations of a kernel are those of its language, which mypy cannot read.
# mypy: ignore-errors

from __future__ import annotations

from collections.abc import Mapping

import triton
import triton.language as tl

from tilec.bench_compile.triton_attention import LOG2E, read, softmax_step, write
from tilec.bench_compile.triton_kernels import Case, types_of


@triton.jit
def decode_shares(Q, K, V, TABLE, LENGTH, O, TOP, TOTAL, exponent, heads, table, fixed: tl.constexpr,
                  ROWS: tl.constexpr, D: tl.constexpr, PAGE: tl.constexpr):  # fmt: skip
    """Pages are (heads, PAGE, D). ``fixed``: of all scores ``exponent`` is taken, not their maximum."""
    share, head, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    place, rows, inner = batch * heads + head, tl.arange(0, ROWS), tl.arange(0, PAGE)
    length = tl.load(LENGTH + batch)
    pages = tl.cdiv(length, PAGE)
    each = tl.cdiv(pages, tl.num_programs(0))
    q = read(Q + place * ROWS * D, rows, ROWS, D, D)
    top = tl.full((ROWS,), -1e30, dtype=tl.float32)
    total = tl.zeros((ROWS,), dtype=tl.float32)
    acc = tl.zeros((ROWS, D), dtype=tl.float32)
    for i in range(share * each, tl.minimum((share + 1) * each, pages)):
        at = (tl.load(TABLE + batch * table + i).to(tl.int64) * heads + head) * PAGE * D
        k, v = read(K + at, inner, PAGE, D, D), read(V + at, inner, PAGE, D, D)
        s = tl.dot(q, tl.trans(k)) * (LOG2E / D**0.5)
        seen = (i * PAGE + inner < length)[None, :]
        if fixed:
            s = tl.where(seen, s - exponent, float("-inf"))
            top = tl.maximum(top, tl.max(s, 1))
            p = tl.exp2(s)
            total += tl.sum(p, 1)
            acc = tl.dot(p.to(v.dtype), v, acc)
        else:
            top, total, acc = softmax_step(tl.where(seen, s, float("-inf")), v, top, total, acc)
    out = place * tl.num_programs(0) + share
    write(O + out * ROWS * D, acc, rows, ROWS, D, D)
    tl.store(TOP + out * ROWS + rows, top)
    tl.store(TOTAL + out * ROWS + rows, total)


@triton.jit
def combine(O, TOP, TOTAL, OUT, heads, shares, ROWS: tl.constexpr, GROUP: tl.constexpr, D: tl.constexpr):
    place, rows = tl.program_id(1) * heads + tl.program_id(0), tl.arange(0, GROUP)
    top = tl.full((GROUP,), -1e30, dtype=tl.float32)
    total = tl.zeros((GROUP,), dtype=tl.float32)
    acc = tl.zeros((GROUP, D), dtype=tl.float32)
    for share in range(shares):
        at = (place * shares + share) * ROWS
        part_top, part_total = tl.load(TOP + at + rows), tl.load(TOTAL + at + rows)
        part = read(O + at * D, rows, GROUP, D, D)
        new_top = tl.maximum(top, part_top)
        fade, scale = tl.exp2(top - new_top), tl.exp2(part_top - new_top)
        total = total * fade + part_total * scale
        acc = acc * fade[:, None] + part * scale[:, None]
        top = new_top
    write(OUT + place * GROUP * D, acc / total[:, None], rows, GROUP, D, D)


_PAGED = {
    **types_of("Q K V", "*fp16", "heads table", TABLE="*i32", LENGTH="*i32", exponent="fp32"),
    **types_of("O TOP TOTAL", "*fp32", ""),
}


def _paged(fixed: bool) -> Case:
    return Case(
        decode_shares,
        _PAGED,
        {"fixed": fixed, "ROWS": 64, "D": 128, "PAGE": 64},
        {"num_warps": 4, "num_stages": 3},
    )


DECODE: Mapping[str, Case] = {
    "decode_shares f16": _paged(False),
    "decode_fixed f16": _paged(True),
    "combine f32": Case(
        combine,
        types_of("O TOP TOTAL", "*fp32", "heads shares", OUT="*fp16"),
        {"ROWS": 64, "GROUP": 8, "D": 128},
    ),
}
