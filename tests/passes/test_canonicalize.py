"""Folding keeps values bit for bit; merging and removing keep effects."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pass_kernels import Builder, attention, gemm

from tilec.ir.core import Kernel, Value, walk
from tilec.ir.forms import verify
from tilec.ir.interp import interpret
from tilec.ir.types import bool_, float16, float32, int32
from tilec.passes import canonicalize


def ops_after(b: Builder) -> list[str]:
    kernel = canonicalize(b.kernel())
    verify(kernel)
    return [op.name for op in walk(kernel.body) if op.name not in ("yield", "const")]


def keep(b: Builder, value: Value, name: str = "out") -> None:
    """Store a scalar or vector so that it is not dead."""
    kind: Any = value.type
    size = kind.size
    out = b.tensor(name, kind.dtype, 1)
    b.op("store", out, b("reshape", value, shape=(size,)), b.const(0))


INT_RULES = [
    ("add", 0, "x"), ("sub", 0, "x"), ("mul", 1, "x"), ("mul", 0, 0), ("floordiv", 1, "x"), ("mod", 1, 0),
    ("and", 0, 0), ("or", 0, "x"), ("xor", 0, "x"), ("shl", 0, "x"), ("shr", 0, "x"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "number", "expected"), INT_RULES)
def test_integer_identities(name: str, number: int, expected: object) -> None:
    b = Builder()
    keep(b, b(name, b.scalar("x"), b.const(number)))
    assert ops_after(b) == (["reshape", "store"] if expected == "x" else ["store"])


@pytest.mark.parametrize("name", ["add", "sub"])
@pytest.mark.parametrize("number", [0.0, -0.0])
def test_float_zero_is_not_neutral(name: str, number: float) -> None:
    b = Builder()
    keep(b, b(name, b.scalar("x", float32), b.const(number, float32)))
    assert name in ops_after(b)


def test_float_one_is_neutral() -> None:
    b = Builder()
    keep(b, b("mul", b.scalar("x", float32), b.const(1.0, float32)))
    assert ops_after(b) == ["reshape", "store"]


def test_constants_that_differ_only_in_sign_or_type_stay_apart() -> None:
    b = Builder()
    for i, number in enumerate((0.0, -0.0)):
        keep(b, b("mul", b.scalar(f"x{i}", float32), b.const(number, float32)), f"o{i}")
    kernel = canonicalize(b.kernel())
    values = [repr(op.attrs["value"]) for op in walk(kernel.body) if op.name == "const"]
    assert {"0.0", "-0.0"} <= set(values)


def test_fold_by_the_numpy_meaning() -> None:
    b = Builder()
    big = b("mul", b.const(1 << 30), b.const(4))  # wraps to 0
    small = b("cast", b.const(1e6, float32), dtype=float16)  # overflows to inf
    keep(b, big, "a")
    keep(b, b("exp2", b("broadcast", small, shape=(4,))), "c")
    kernel = canonicalize(b.kernel())
    stored = {op.args[0].hint: op.args[1] for op in walk(kernel.body) if op.name == "store"}
    made = {r: op for op in walk(kernel.body) for r in op.results}
    assert made[stored["a"]].attrs["value"] == 0
    assert made[stored["c"]].attrs["value"] == float("inf")


def test_views_compose() -> None:
    b = Builder()
    x = b("load", b.tensor("X", float32), b.const(0), b.const(0), shape=(4, 8), hint="x")
    y = b("permute", b("permute", x, perm=(1, 0)), perm=(1, 0))
    z = b("reshape", b("reshape", y, shape=(32,)), shape=(4, 8))
    keep(b, z)
    assert ops_after(b) == ["load", "reshape", "store"]


def test_equal_ops_merge_also_into_inner_blocks_but_not_out() -> None:
    b = Builder()
    x = b.scalar("x")
    y = b.scalar("y")
    one = b("add", x, y)

    def body(i: Value, acc: Value) -> Value:
        return b("add", acc, b("mul", b("add", x, y), b("mul", i, i)))

    (total,) = b.loop(0, x, body, one)
    keep(b, b("mul", total, b("mul", x, x)))
    names = ops_after(b)
    assert names.count("add") == 2 and names.count("mul") == 4


def test_loads_of_a_written_tensor_do_not_merge() -> None:
    b = Builder()
    t = b.tensor("T", float32, 1)
    first = b("load", t, b.const(0), shape=(4,))
    b.op("store", t, b("mul", first, first), b.const(0))
    b.op("store", t, b("load", t, b.const(0), shape=(4,)), b.const(4))
    assert ops_after(b).count("load") == 2


def test_dead_carries_and_loops_go() -> None:
    b = Builder()
    n = b.scalar("n")

    def body(i: Value, used: Value, dead: Value, same: Value) -> tuple[Value, ...]:
        return b("add", used, same), b("mul", dead, i), same

    used, _, _ = b.loop(0, n, body, b.const(0), b.const(1), n)
    b.loop(0, n, lambda i, x: b("add", x, i), n)
    keep(b, used)
    kernel = canonicalize(b.kernel())
    verify(kernel)
    loops = [op for op in walk(kernel.body) if op.name == "for"]
    assert [len(loop.results) for loop in loops] == [1]
    assert "mul" not in {op.name for op in walk(kernel.body)}


def test_while_keeps_what_its_condition_needs() -> None:
    b = Builder()
    n = b.scalar("n")
    zero = b.const(0)
    state = b.repeat(
        (zero, zero, zero),
        lambda i, s, d: b("lt", i, n),
        lambda i, s, d: (b("add", i, b.const(1)), b("add", s, i), b("add", d, s)),
    )
    keep(b, state[1])
    kernel = b.kernel()
    smaller = canonicalize(kernel)
    verify(smaller)
    assert [len(op.results) for op in walk(smaller.body) if op.name == "while"] == [2]
    outs = [np.zeros(1, np.int32), np.zeros(1, np.int32)]
    for k, out in zip((kernel, smaller), outs, strict=True):
        interpret(k, (1,), (5, out))
    assert outs[0] == outs[1] == 10


@pytest.mark.parametrize(("known", "left"), [(True, "add"), (False, "mul")])
def test_known_branch(known: bool, left: str) -> None:
    b = Builder()
    x = b.scalar("x")
    (y,) = b.branch(b.const(known, bool_), lambda: b("add", x, x), lambda: b("mul", x, x))
    keep(b, y)
    assert ops_after(b) == [left, "reshape", "store"]


def test_unknown_branch_with_equal_results() -> None:
    b = Builder()
    x = b.scalar("x")
    y = b.branch(b("lt", x, b.const(3)), lambda: x, lambda: x)[0]
    keep(b, y)
    assert ops_after(b) == ["reshape", "store"]


def test_loop_that_never_runs() -> None:
    b = Builder()
    x = b.scalar("x", int32)
    (y,) = b.loop(3, b.const(3), lambda i, a: b("add", a, i), x)
    keep(b, y)
    assert ops_after(b) == ["reshape", "store"]


@pytest.mark.parametrize("kernel", [gemm(), attention(True, 2)], ids=["gemm", "attention"])
def test_stable(kernel: Kernel) -> None:
    once = canonicalize(kernel)
    twice = canonicalize(once)
    assert sum(1 for _ in walk(once.body)) == sum(1 for _ in walk(twice.body))
