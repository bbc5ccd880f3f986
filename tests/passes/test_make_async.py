"""What becomes a ring, and what the notes say about the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pass_kernels import Builder, attention, gemm, halves

import tilec
import tilec.language as tl
from tilec.ir.core import Kernel, Value, walk
from tilec.ir.forms import verify
from tilec.ir.interp import interpret
from tilec.ir.ops import attr
from tilec.ir.types import DType, float8_e4m3, float16, float32, int32, int64
from tilec.passes import canonicalize, lower, make_async
from tilec.passes.copy_rules import TMA_ALONE


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
        (product(float32), "input_precision"),
        (gemm(bm=32), "rows in 64s"),
        (gemm(specialize=False), "specialize=False"),
    ],
)
def test_reasons(kernel: Kernel, reason: str) -> None:
    _, rings, notes = asynchronous(kernel)
    assert rings == []
    assert any(reason in note and note.startswith("line ") for note in notes)


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        (product(edit="pad"), "TMA fills with 0"),
        (product(edit="int64"), "int32 indices"),
        (product(contiguous=None), "no contiguous dimension"),
        (product(aligned=False), "no contiguous dimension aligned"),
        (product(float8_e4m3), "contiguous along the summed dimension"),
        (product(float32, precision="tf32"), "contiguous along the summed dimension"),
        (gemm(bn=8), "not a multiple of 32 bytes"),
    ],
)
def test_threads_fill_the_rings_that_tma_cannot(kernel: Kernel, reason: str) -> None:
    """One ring for each kind of copy: that of A stays with TMA."""
    found, rings, notes = asynchronous(kernel)
    assert rings == ["a", "b"]
    assert [n for n in notes if reason in n and "done by threads, not by TMA" in n] == list(notes)
    loads = {op.args[0].hint: attr(op, "threads") for op in walk(found.body) if op.name == "load"}
    assert loads == {"A": False, "B": True}


def test_where_threads_may_not_either_nothing_changes() -> None:
    found = make_async(canonicalize(product(edit="pad")), TMA_ALONE)
    assert "aref.new" not in {op.name for op in walk(found.body)}


def rows(edit: str = "", **facts: Any) -> Kernel:
    """A gather of rows of A, whose columns count up, as the first operand of a product."""
    b = Builder()
    A, I, B, C = b.tensor("A", **facts), b.tensor("I", int32), b.tensor("B"), b.tensor("C", float32)
    zero, acc, shape = b.const(0), b.const(0.0, float32, (64, 16)), (64, 32)
    ids = b("reshape", b("load", I, zero, zero, shape=(1, 64)), shape=(64, 1))
    steps = b("arange", start=4 if edit == "odd start" else 0, stop=36 if edit == "odd start" else 32)

    def body(k: Value, acc: Value) -> Value:
        k = b("mul", k, b.const(30 if edit == "odd step" else 32))
        first = b("broadcast", b("reshape", k, shape=(1,)), shape=(32,))
        columns = b("reshape", b("add", first, steps), shape=(1, 32))
        row, column = (b("broadcast", v, shape=shape) for v in (ids, columns))
        if edit == "column mask":
            mask = b("lt", column, b.const(40, int32, shape))
        else:
            mask = b("broadcast", b("ge", ids, b.const(3, int32, (64, 1))), shape=shape)
        other = b.const(1.0 if edit == "other" else 0.0, float16, shape)
        indices = (column, row) if edit == "turned" else (row, column)
        a = b("gather", A, *indices, mask, other, hint="a")
        return b("dot", a, b("load", B, k, zero, shape=(32, 16), hint="b"), acc)

    (total,) = b.loop(0, b("dim", B, axis=1), body, acc)
    b.op("store", C, total, zero, zero)
    return b.kernel()


@pytest.mark.parametrize(
    ("kernel", "along"),
    [
        (rows(), 1),
        (rows("turned", contiguous=0), 1),
        (rows("column mask"), None),
        (rows("other"), None),
        (rows("turned"), None),
        (rows("odd start"), None),
        (rows("odd step"), None),
        (rows(aligned=False), None),
    ],
)
def test_a_gather_of_rows_is_copied_in_units(kernel: Kernel, along: int | None) -> None:
    found, rings, _ = asynchronous(kernel)
    (gather,) = [op for op in walk(found.body) if op.name == "gather"]
    assert rings == ["a", "b"] and attr(gather, "threads") and attr(gather, "along") == along
    stages = lower(kernel)
    groups = next(op for op in stages.scheduled.body.ops if op.name == "warp_groups")
    assert groups.attrs["registers"] == ((104, 200) if along is None else (56, 224))


@tilec.kernel
def after_a_product(X: tl.Tensor, W: tl.Tensor, V: tl.Tensor, OUT: tl.Tensor):
    first = tl.dot(tl.load(X, (0, 0), (64, 64)), tl.load(W, (0, 0), (64, 64)))
    ids = tl.max(first, 1).to(tl.int32)
    rows = tl.gather(V, (ids[:, None], tl.arange(0, 64)[None, :]))
    tl.store(OUT, (0, 0), tl.dot(rows.T, tl.load(W, (0, 0), (64, 64))))


def test_a_gather_at_what_a_product_gave_leaves_the_other_rings_to_tma() -> None:
    stages = lower(after_a_product.trace(("f16[2]", "f16[2]", "f16[2]", "f32[2]")))
    assert "warp_groups" in {op.name for op in walk(stages.scheduled.body)}
    assert all("threads" not in op.attrs for op in walk(stages.scheduled.body))


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
