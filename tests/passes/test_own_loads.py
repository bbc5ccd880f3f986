"""Where rows are split, each part reads for itself what it needs of memory in a loop."""

from __future__ import annotations

import numpy as np

import tilec
import tilec.language as tl
from tilec.ir.core import Kernel, walk
from tilec.ir.forms import verify
from tilec.ir.interp import interpret
from tilec.ir.ops import attr
from tilec.passes.canonicalize import canonicalize
from tilec.passes.make_async import make_async
from tilec.passes.own_loads import own_loads
from tilec.passes.subtile import split_rows


@tilec.kernel
def scaled(Q: tl.Tensor, K: tl.Tensor, SCALE: tl.Tensor, OUT: tl.Tensor):
    """Columns of a product are scaled by a vector that all rows share."""
    m, acc = tl.program_id(0), tl.zeros((128, 64), tl.float32)
    q = tl.load(Q, (m, 0), (128, 64))
    for n in tl.range(tl.cdiv(K.shape[0], 64)):
        k = tl.load(K, (n, 0), (64, 64))
        scale = tl.load(SCALE, n, (64,))[None, :] * 2.0
        acc += tl.dot(q, k.T) * scale
    tl.store(OUT, (m, 0), acc)


def aref(parts: bool) -> Kernel:
    kernel = canonicalize(scaled.trace(["f16[2]", "f16[2]", "f32[1]", "f32[2]"]))
    split = split_rows(kernel) if parts else kernel
    assert isinstance(split, Kernel)
    return canonicalize(make_async(canonicalize(split)))


def loads(kernel: Kernel) -> list[int | None]:
    found = [op for op in walk(kernel.body) if op.name == "load" and op.args[0].hint == "SCALE"]
    return [attr(op, "part") for op in found]


def result(kernel: Kernel) -> bytes:
    rng = np.random.default_rng(1)
    q, k = (rng.standard_normal((n, 64)).astype(np.float16) for n in (150, 100))
    out = np.full((150, 64), np.nan, np.float32)
    interpret(kernel, (2, 1, 1), [q, k, rng.standard_normal(100).astype(np.float32), out])
    return out.tobytes()


def test_each_part_reads_for_itself_and_rings_stay_shared() -> None:
    before = aref(parts=True)
    after = own_loads(before)
    verify(after)
    assert loads(before) == [None]
    assert loads(after) == [0, 1]
    puts = [[op.args[0].hint for op in walk(k.body) if op.name == "aref.put"] for k in (before, after)]
    assert puts[0] == puts[1]
    assert result(after) == result(before) == result(aref(parts=False))


def test_without_parts_nothing_changes() -> None:
    assert loads(own_loads(aref(parts=False))) == [None]
