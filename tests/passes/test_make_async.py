"""What becomes a ring, and what the notes say about the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pass_kernels import Builder, attention, gemm, halves

from tilec.ir.core import Kernel, Value, walk
from tilec.ir.forms import verify
from tilec.ir.interp import interpret
from tilec.ir.types import DType, float8_e4m3, float16, float32, int32, int64
from tilec.passes import canonicalize, lower, make_async


def asynchronous(kernel: Kernel) -> tuple[Kernel, list[str], tuple[str, ...]]:
    found = make_async(canonicalize(kernel))
    verify(found)
    rings = [op.result.hint for op in walk(found.body) if op.name == "aref.new"]
    return found, rings, found.attrs["notes"]


def test_operands_of_one_product_share_a_ring() -> None:
    _, rings, notes = asynchronous(gemm())
    assert rings == ["a_b"] and notes == ()


def test_k_and_v_do_not() -> None:
    assert asynchronous(attention())[1] == ["q", "k", "v"]
    assert asynchronous(attention(True, 2))[1] == ["q", "k", "v", "k2", "v2"]


def test_release_follows_the_last_use() -> None:
    found, _, _ = asynchronous(attention())
    top = [op.name for op in found.body.ops]
    assert top.index("aref.release") == top.index("for") + 1
    (loop,) = [op for op in found.body.ops if op.name == "for"]
    names = [op.name for op in loop.blocks[0].ops]
    released = [i for i, n in enumerate(names) if n == "aref.release"]
    assert [names[i - 1] for i in released] == ["dot", "dot"]


def product(
    dtype: DType = float16, *, order: str = "kn", edit: str = "", precision: str = "ieee", **facts: Any
) -> Kernel:
    """One product per loop step with something unusual about its second operand."""
    b = Builder()
    A, B, C = b.tensor("A", dtype), b.tensor("B", dtype, **facts), b.tensor("C", float32)
    zero, acc = b.const(0, int64 if edit == "int64" else int32), b.const(0.0, float32, (64, 32))

    def body(k: Value, acc: Value) -> Value:
        a = b("load", A, b.const(0), k, shape=(64, 32), hint="a")
        if order == "kn":
            w = b("load", B, k, zero, shape=(32, 32), hint="b", **({"pad": 1} if edit == "pad" else {}))
        else:
            w = b("permute", b("load", B, zero, k, shape=(32, 32), hint="b"), perm=(1, 0))
        if edit == "scaled":
            w = b("mul", w, w)
        if edit == "written":
            b.op("store", B, w, k, zero)
        return b("dot", a, w, acc, precision=precision)

    (total,) = b.loop(0, b("dim", A, axis=1), body, acc, step=32)
    b.op("store", C, total, b.const(0), b.const(0))
    return b.kernel()


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        (product(edit="scaled"), "second operand is made by mul"),
        (product(edit="written"), "also used by store"),
        (product(edit="pad"), "TMA fills with 0"),
        (product(edit="int64"), "int32 indices"),
        (product(contiguous=None), "no contiguous dimension"),
        (product(aligned=False), "no contiguous dimension aligned"),
        (product(float8_e4m3), "contiguous along the summed dimension"),
        (product(float32), "input_precision"),
        (product(float32, precision="tf32"), "contiguous along the summed dimension"),
        (gemm(bm=32), "rows in 64s"),
        (gemm(bn=8), "not a multiple of 32 bytes"),
        (gemm(specialize=False), "specialize=False"),
    ],
)
def test_reasons(kernel: Kernel, reason: str) -> None:
    _, rings, notes = asynchronous(kernel)
    assert rings == []
    assert any(reason in note and note.startswith("line ") for note in notes)


@pytest.mark.parametrize(
    "kernel",
    [product(order="nk"), product(float8_e4m3, order="nk"), product(float32, order="nk", precision="tf32")],
    ids=["f16", "fp8", "tf32"],
)
def test_transposed_operands_with_views_before_the_put(kernel: Kernel) -> None:
    found, rings, notes = asynchronous(kernel)
    assert rings == ["a_b"] and notes == ()
    (loop,) = [op for op in found.body.ops if op.name == "for"]
    names = [op.name for op in loop.blocks[0].ops if op.name != "const"]
    assert names == ["load", "load", "aref.put", "aref.get", "permute", "dot", "aref.release", "yield"]


def test_no_product() -> None:
    b = Builder()
    x = b("load", b.tensor("X", float32), b.const(0), b.const(0), shape=(4, 4))
    b.op("store", b.tensor("Y", float32), x, b.const(0), b.const(0))
    _, rings, notes = asynchronous(b.kernel())
    assert rings == [] and "no product" in notes[0]


def gated(bm: int = 64) -> Kernel:
    """x @ w1 times x @ w2: one load feeds two products."""
    b = Builder()
    X, W1, W2, Y = (b.tensor(n) for n in ("X", "W1", "W2", "Y"))
    zero, acc = b.const(0), b.const(0.0, float32, (bm, 16))

    def body(k: Value, one: Value, two: Value) -> tuple[Value, ...]:
        x = b("load", X, zero, k, shape=(bm, 16), hint="x")
        u = b("load", W1, k, zero, shape=(16, 16), hint="u")
        w = b("load", W2, k, zero, shape=(16, 16), hint="w")
        return b("dot", x, u, one), b("dot", x, w, two)

    one, two = b.loop(0, b("dim", X, axis=1), body, acc, acc, step=16)
    b.op("store", Y, b("cast", b("mul", one, two), dtype=float16), zero, zero)
    return b.kernel("gated")


def test_a_load_that_feeds_two_products_has_one_ring() -> None:
    assert asynchronous(gated())[1] == ["x", "u", "w"]
    stages = lower(gated())
    x, u, w = halves(1, (64, 80), (80, 16), (80, 16))
    outs = []
    for kernel, policy in [(stages.tile, "first"), (stages.aref, "first"), (stages.scheduled, "last")]:
        outs.append(np.zeros((64, 16), np.float16))
        interpret(kernel, (1,), (x, u, w, outs[-1]), policy=policy)
    assert np.array_equal(outs[0], outs[1]) and np.array_equal(outs[0], outs[2])


def test_an_index_that_comes_from_a_product_keeps_one_group() -> None:
    """The load group cannot know it; the kernel still means the same."""
    b = Builder()
    A, B, C = b.tensor("A"), b.tensor("B"), b.tensor("C", float32)
    zero, acc = b.const(0), b.const(0.0, float32, (64, 16))

    def body(i: Value, k: Value, acc: Value) -> tuple[Value, ...]:
        a = b("load", A, zero, k, shape=(64, 16), hint="a")
        w = b("load", B, k, zero, shape=(16, 16), hint="b")
        acc = b("dot", a, w, acc)
        top = b("reduce", b("reduce", acc, kind="max", axis=1), kind="max", axis=0)
        step = b("cast", b("gt", top, b.const(-1e30, float32)), dtype=int32)
        return b("add", k, b("mul", step, b.const(16))), acc

    total = b.loop(0, b("dim", C, axis=1), body, zero, acc, step=8)[1]
    b.op("store", C, total, zero, zero)
    stages = lower(b.kernel())
    assert any("the load group would need" in note for note in stages.scheduled.attrs["notes"])
    assert "warp_groups" not in {op.name for op in walk(stages.scheduled.body)}
    a, w = halves(2, (64, 32), (32, 16))
    outs = [np.zeros((64, 16), np.float32) for _ in range(2)]
    for kernel, out in zip((stages.tile, stages.scheduled), outs, strict=True):
        interpret(kernel, (1,), (a, w, out))
    assert np.array_equal(*outs)
