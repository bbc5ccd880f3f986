"""Products of one loop that read one tile in different stages have a ring each."""

from __future__ import annotations

import numpy as np

import tilec
import tilec.language as tl
from tilec.ir.core import Kernel, walk
from tilec.ir.forms import verify
from tilec.ir.interp import interpret
from tilec.passes.canonicalize import canonicalize
from tilec.passes.make_async import make_async
from tilec.passes.reread import reread


@tilec.kernel
def gradient(Q: tl.Tensor, K: tl.Tensor, V: tl.Tensor, OUT: tl.Tensor, BM: tl.constexpr[int] = 128):
    """As the gradient of attention: K is read by the first product of a block and by the last."""
    m, acc = tl.program_id(0), tl.zeros((BM, 64), tl.float32)
    q = tl.load(Q, (m, 0), (BM, 64))
    lse = (tl.arange(0, BM).to(tl.float32) * 0.01)[:, None]
    for n in tl.range(tl.cdiv(K.shape[0], 64)):
        k, v = tl.load(K, (n, 0), (64, 64)), tl.load(V, (n, 0), (64, 64))
        p = tl.exp2(tl.dot(q, k.T) * 0.05 - lse)
        p = p * (tl.dot(q, v.T) - lse)
        acc = tl.dot(p.to(tl.float16), k, acc)
    tl.store(OUT, (m, 0), acc)


def traced(rows: int = 128) -> Kernel:
    return canonicalize(gradient.trace(["f16[2]", "f16[2]", "f16[2]", "f32[2]"], BM=rows))


def result(kernel: Kernel, keys: int) -> bytes:
    q, k, v = (
        np.random.default_rng(n).standard_normal((n, 64)).astype(np.float16) for n in (150, keys, keys)
    )
    out = np.full((150, 64), np.nan, np.float32)
    interpret(kernel, (2, 1, 1), [q, k, v, out])
    return out.tobytes()


def test_the_further_ring_is_filled_right_before_its_product() -> None:
    aref = canonicalize(make_async(traced()))
    apart = reread(aref)
    assert apart is not None
    verify(apart)
    loop = next(op for op in walk(apart.body) if op.name == "for")
    order = [
        (op.name, op.args[0].hint if op.name == "aref.put" else "")
        for op in loop.blocks[0].ops
        if op.name in ("aref.put", "dot")
    ]
    assert order == [
        ("aref.put", "k"), ("aref.put", "v"), ("dot", ""), ("dot", ""), ("aref.put", "k_2"), ("dot", ""),
    ]  # fmt: skip
    assert result(apart, 100) == result(aref, 100)
    assert reread(apart) is None
