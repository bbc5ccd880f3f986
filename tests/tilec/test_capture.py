"""Run-time if, for and while: what is carried, what is decided while tracing, what is refused."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import pytest

import tilec
import tilec.language as tl
from tilec.ir import walk


def run(kernel: Any, *args: Any, grid: Any = 1, **meta: Any) -> None:
    kernel[grid](*args, backend="interpreter", **meta)


def ints(n: int = 8) -> np.ndarray:
    return np.full(n, -1, np.int32)


def ops(kernel: Any, signature: list[str], **meta: Any) -> list[str]:
    return [op.name for op in walk(kernel.trace(signature, **meta).body)]


def put(T: Any, i: Any, x: Any) -> None:
    """Store a scalar at place i of a rank-1 int tensor."""
    tl.scatter(T, (i,), x)


def fails(kernel: Any, signature: list[str], line: str, message: str, **meta: Any) -> tilec.TilecError:
    """Trace; the error must be at the source line that contains ``line``."""
    import linecache
    import re

    with pytest.raises(tilec.TilecError) as caught:
        kernel.trace(signature, **meta)
    error = caught.value
    assert error.loc is not None, str(error)
    assert line in linecache.getline(error.loc.file, error.loc.line), str(error)
    assert re.search(message, f"{error.message} {error.help}"), str(error)
    return error


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_for_carries_rebound_names(n: int) -> None:
    @tilec.kernel
    def k(T: tl.Tensor, n: int):
        total, last = 0, -7
        for i in tl.range(n):
            total = total + i * i
            last = i
        put(T, 0, total)
        put(T, 1, last)

    out = ints()
    run(k, out, n)
    assert out[0] == sum(i * i for i in range(n))
    assert out[1] == (n - 1 if n else -7)


@pytest.mark.parametrize(("start", "stop", "step"), [(0, 5, 1), (5, 0, -2), (2, 11, 3), (3, 3, 1)])
def test_range_is_pythons(start: int, stop: int, step: int) -> None:
    @tilec.kernel
    def k(T: tl.Tensor, a: int, b: int, c: int):
        n = 0
        for i in tl.range(a, b, c):
            put(T, n, i)
            n += 1
        put(T, 7, n)

    out = ints()
    run(k, out, start, stop, step)
    want = list(range(start, stop, step))
    assert out[: len(want)].tolist() == want and out[7] == len(want)


def test_swap_of_carried_names() -> None:
    @tilec.kernel
    def k(T: tl.Tensor, n: int):
        a, b = 0, 1
        for _ in tl.range(n):
            a, b = b, a + b
        put(T, 0, a)
        put(T, 1, b)

    out = ints()
    run(k, out, 10)
    assert out[:2].tolist() == [55, 89]


def test_two_names_for_one_tile_are_two_values() -> None:
    @tilec.kernel
    def k(T: tl.Tensor, n: int):
        a = b = tl.zeros((4,), tl.int32)
        for i in tl.range(n):
            a = a + i
        tl.store(T, (0,), a)
        tl.store(T, (1,), b)

    out = ints()
    run(k, out, 4)
    assert out.tolist() == [6] * 4 + [0] * 4


def test_nested_loops() -> None:
    @tilec.kernel
    def k(T: tl.Tensor, n: int):
        total = tl.full((), 0, tl.int32)
        for i in tl.range(n):
            row = 0
            for j in tl.range(i):
                row += j
                total += 100
            total += row
        put(T, 0, total)

    out = ints()
    run(k, out, 5)
    assert out[0] == sum(sum(range(i)) + 100 * i for i in range(5))


def test_number_adapts_to_the_dtype_of_the_body() -> None:
    @tilec.kernel
    def k(X: tl.Tensor, T: tl.Tensor, n: int):
        total = 0
        for i in tl.range(n):
            total = total + tl.sum(tl.load(X, (i,), (2,)))
        tl.store(T, (0,), tl.full((1,), total, tl.float32))

    x, out = np.arange(8, dtype=np.float32), np.zeros(1, np.float32)
    run(k, x, out, 4)
    assert out[0] == 28


def test_constants_rebound_to_themselves_stay_constants() -> None:
    @tilec.kernel
    def k(T: tl.Tensor, n: int):
        width = 4
        for i in tl.range(n):
            width = 4
            tl.store(T, (i,), tl.full((width,), i, tl.int32))
        tl.store(T, (1,), tl.zeros((width,), tl.int32))

    out = ints()
    run(k, out, 2)
    assert out.tolist() == [0] * 8


def test_tuples_lists_and_dicts_are_carried() -> None:
    class Pair(NamedTuple):
        x: Any
        y: Any

    @tilec.kernel
    def k(T: tl.Tensor, n: int):
        pair, items, table = Pair(1, 2), [0, (5, 6)], {"a": 0}
        for i in tl.range(n):
            pair = Pair(pair.y, pair.x)
            items = [items[0] + i, items[1]]
            table = {"a": table["a"] - i}
        put(T, 0, pair.x)
        put(T, 1, items[0])
        put(T, 2, items[1][1])
        put(T, 3, table["a"])

    out = ints()
    run(k, out, 3)
    assert out[:4].tolist() == [2, 3, 6, -3]


def test_a_temporary_may_change_its_shape() -> None:
    @tilec.kernel
    def k(T: tl.Tensor, n: int):
        x = tl.zeros((2,), tl.int32)
        tl.store(T, (0,), x)
        for i in tl.range(n):
            x = tl.full((4,), i, tl.int32)
            tl.store(T, (1,), x)

    out = ints()
    run(k, out, 3)
    assert out.tolist() == [0, 0, -1, -1, 2, 2, 2, 2]


def test_name_that_changed_its_shape_has_no_value_after_the_loop() -> None:
    @tilec.kernel
    def k(T: tl.Tensor, n: int):
        x = tl.zeros((2,), tl.int32)
        for i in tl.range(n):
            x = tl.full((4,), i, tl.int32)
        tl.store(T, (0,), x)

    fails(k, ["i32[1]", "i32"], "tl.store(T, (0,), x)", "'x' has no value here: it changes")


def test_shape_change_of_a_carried_value() -> None:
    @tilec.kernel
    def k(T: tl.Tensor, n: int):
        x = tl.zeros((2,), tl.int32)
        for i in tl.range(n):
            x = x[:, None] + tl.arange(0, 2)[None, :] + i
        tl.store(T, (0,), x)

    fails(k, ["i32[1]", "i32"], "tl.range(n)", r"'x' enters the loop as tile<2xint32>.*2x2x")


def test_dtype_change_of_a_carried_value() -> None:
    @tilec.kernel
    def k(T: tl.Tensor, n: int):
        x = tl.zeros((2,), tl.int32)
        for _ in tl.range(n):
            x = x * 0.5
        tl.store(T, (0,), x)

    fails(k, ["f32[1]", "i32"], "tl.range(n)", "int32.*float32")


def test_value_that_escapes_a_loop() -> None:
    @tilec.kernel
    def k(T: tl.Tensor, n: int):
        for i in tl.range(n):
            x = tl.full((4,), i, tl.int32)
        tl.store(T, (0,), x)

    fails(k, ["i32[1]", "i32"], "tl.store(T, (0,), x)", "bound only inside the loop")


def test_induction_variable_has_no_value_after_the_loop() -> None:
    @tilec.kernel
    def k(T: tl.Tensor, n: int):
        for i in tl.range(n):
            put(T, i, i)
        put(T, 0, i)

    fails(k, ["i32[1]", "i32"], "put(T, 0, i)", "'i' has no value here: it is bound by the loop")


def test_value_that_escapes_in_a_list() -> None:
    @tilec.kernel
    def k(T: tl.Tensor, n: int):
        kept = []
        for i in tl.range(n):
            kept.append(i + 1)
        put(T, 0, kept[0])

    fails(k, ["i32[1]", "i32"], "tl.range(n)", "kept is changed in place")


def test_hidden_state_in_a_list_element() -> None:
    @tilec.kernel
    def k(T: tl.Tensor, n: int):
        state = [tl.full((), 0, tl.int32)]
        for i in tl.range(n):
            state[0] = state[0] + 1
            put(T, i, state[0])

    fails(k, ["i32[1]", "i32"], "tl.range(n)", "state is changed in place.*name of its own")


def test_hidden_state_in_a_python_counter() -> None:
    class Counter:
        n = 0

        def step(self) -> int:
            self.n += 1
            return self.n

    counter = Counter()

    @tilec.kernel
    def k(T: tl.Tensor, n: int):
        for i in tl.range(n):
            put(T, i, counter.step())

    fails(k, ["i32[1]", "i32"], "tl.range(n)", "counter is changed in place")


LOG: list[int] = []


def test_hidden_state_in_a_global() -> None:
    @tilec.kernel
    def k(T: tl.Tensor, n: int):
        for i in tl.range(n):
            LOG.append(1)
            put(T, i, len(LOG))

    fails(k, ["i32[1]", "i32"], "tl.range(n)", "LOG is changed in place")


def test_value_kept_from_an_earlier_trace() -> None:
    kept: list[Any] = []

    @tilec.kernel
    def k(T: tl.Tensor, first: tl.constexpr[bool] = True):
        if first:
            kept.append(tl.arange(0, 4))
        tl.store(T, (0,), kept[0])

    k.trace(["i32[1]"])
    fails(k, ["i32[1]"], "tl.store", "earlier trace", first=False)


@pytest.mark.parametrize("x", [-3, 0, 4])
def test_if_joins_both_branches(x: int) -> None:
    @tilec.kernel
    def k(T: tl.Tensor, x: int):
        y = 5
        if x > 0:
            y = x * 2
        elif x == 0:
            pass
        else:
            y = -x
            z = 1  # noqa: F841
        put(T, 0, y)

    out = ints()
    run(k, out, x)
    assert out[0] == (x * 2 if x > 0 else 5 if x == 0 else -x)


@pytest.mark.parametrize("x", [0, 1])
def test_name_bound_in_both_branches(x: int) -> None:
    @tilec.kernel
    def k(T: tl.Tensor, x: int):
        if x > 0:
            y = tl.full((2,), 7, tl.int32)
        else:
            y = tl.arange(0, 2)
        tl.store(T, (0,), y)

    out = ints()
    run(k, out, x)
    assert out[:2].tolist() == ([7, 7] if x else [0, 1])


def test_branch_effects_happen_only_if_taken() -> None:
    @tilec.kernel
    def k(T: tl.Tensor):
        i = tl.program_id(0)
        if i % 2 == 0:
            put(T, i, i)

    out = ints()
    run(k, out, grid=8)
    assert out.tolist() == [0, -1, 2, -1, 4, -1, 6, -1]


def test_name_bound_in_one_branch_only() -> None:
    @tilec.kernel
    def k(T: tl.Tensor, x: int):
        if x > 0:
            y = x
        put(T, 0, y)

    fails(k, ["i32[1]", "i32"], "put(T, 0, y)", "'y' has no value here: it is bound only in one branch")


def test_mismatched_branches() -> None:
    @tilec.kernel
    def k(T: tl.Tensor, x: int):
        y = tl.zeros((2,), tl.int32)
        if x > 0:
            y = tl.zeros((4,), tl.int32)
        tl.store(T, (0,), y)

    fails(k, ["i32[1]", "i32"], "if x > 0", "'y' is tile<4xint32> in the first branch and tile<2xint32>")


def test_mismatched_new_names_fail_where_they_are_used() -> None:
    @tilec.kernel
    def k(T: tl.Tensor, x: int):
        if x > 0:
            y = tl.zeros((4,), tl.int32)
            tl.store(T, (0,), y)
        else:
            y = tl.zeros((2,), tl.int32)
            tl.store(T, (0,), y)
        tl.store(T, (1,), y)

    fails(
        k,
        ["i32[1]", "i32"],
        "tl.store(T, (1,), y)",
        "'y' has no value here: it is tile<4xint32> in the first",
    )


@pytest.mark.parametrize("x", [0, 1, 5])
def test_early_return(x: int) -> None:
    @tilec.kernel
    def k(T: tl.Tensor, x: int):
        put(T, 0, 1)
        if x > 3:
            return
        put(T, 1, 1)
        if x > 0:  # noqa: SIM102
            if x == 1:
                put(T, 2, 1)
                return
        put(T, 3, 1)

    out = np.zeros(4, np.int32)
    run(k, out, x)
    assert out.tolist() == [1, int(x <= 3), int(x == 1), int(x <= 0)]


@pytest.mark.parametrize("x", [-2, 0, 3])
def test_helper_returns_from_branches(x: int) -> None:
    def sign(v: Any) -> Any:
        if v > 0:
            return 1
        if v < 0:
            return -1
        return 0

    @tilec.kernel
    def k(T: tl.Tensor, x: int):
        put(T, 0, sign(x))
        put(T, 1, sign(4))

    out = ints()
    run(k, out, x)
    assert out[:2].tolist() == [int(np.sign(x)), 1]


def test_helper_that_returns_different_shapes() -> None:
    def pick(v: Any) -> Any:
        if v > 0:
            return tl.zeros((2,), tl.int32)
        return tl.zeros((4,), tl.int32)

    @tilec.kernel
    def k(T: tl.Tensor, x: int):
        tl.store(T, (0,), pick(x))

    error = fails(k, ["i32[1]", "i32"], "if v > 0", "the returned value is tile<2x")
    assert error.loc is not None and error.loc.caller is not None
    assert error.loc.caller.function == "k" and "called from" in str(error)


@pytest.mark.parametrize("n", [1, 6, 27])
def test_while(n: int) -> None:
    @tilec.kernel
    def k(T: tl.Tensor, n: int):
        steps = 0
        while n != 1:
            if n % 2 == 0:
                n = n // 2
            else:
                n = 3 * n + 1
            steps += 1
        put(T, 0, steps)

    out = ints()
    run(k, out, n)
    steps, m = 0, n
    while m != 1:
        m, steps = (m // 2 if m % 2 == 0 else 3 * m + 1), steps + 1
    assert out[0] == steps


def test_while_with_and_and_a_helper() -> None:
    def going(i: Any, n: Any) -> Any:
        return i < n and i * i < 50

    @tilec.kernel
    def k(T: tl.Tensor, n: int):
        i = tl.full((), 0, tl.int32)
        while going(i, n):
            i += 1
        put(T, 0, i)

    out = ints()
    run(k, out, 100)
    assert out[0] == 8
    run(k, out, 3)
    assert out[0] == 3


def test_python_while_is_unrolled() -> None:
    @tilec.kernel
    def k(T: tl.Tensor, N: tl.constexpr[int]):
        i = 1
        while i < N:
            if i == 8:
                break
            put(T, i // 4, i)
            i *= 2
        else:
            put(T, 7, 77)

    out = ints()
    run(k, out, N=4)
    assert out.tolist() == [2, -1, -1, -1, -1, -1, -1, 77]
    out = ints()
    run(k, out, N=64)
    assert out.tolist() == [2, 4, -1, -1, -1, -1, -1, -1]
    assert "while" not in ops(k, ["i32[1]"], N=64)


def test_python_loops_and_conditions_stay_python() -> None:
    @tilec.kernel
    def k(T: tl.Tensor, flag: tl.constexpr[bool] = True):
        total = 0
        for i, name in enumerate(["a", "b", "c", "d"]):
            if name == "b":
                continue
            if i == 3:
                break
            total += 10 * i if flag else i
        else:
            total = 999
        put(T, 0, total)
        put(T, 1, len([2 * i for i in tl.static_range(2, 9, 3)]))

    out = ints()
    run(k, out)
    assert out[:2].tolist() == [20, 3]
    assert not {"for", "if"} & set(ops(k, ["i32[1]"]))


@pytest.mark.parametrize("x", [-1, 0, 3, 9])
def test_expressions_on_run_time_scalars(x: int) -> None:
    @tilec.kernel
    def k(T: tl.Tensor, x: int):
        put(T, 0, 1 if 0 <= x < 5 else 0)
        put(T, 1, x if x > 0 else -x)
        put(T, 2, ((x > 0 and x < 9) or x == -1).to(tl.int32))
        put(T, 3, (not x > 0).to(tl.int32))

    out = ints()
    run(k, out, x)
    want = [int(0 <= x < 5), abs(x), int((x > 0 and x < 9) or x == -1), int(not x > 0)]
    assert out[:4].tolist() == want


def test_closures_nested_functions_and_defaults() -> None:
    scale = 3

    @tilec.kernel
    def k(T: tl.Tensor, n: int):
        def twice(v: Any, *, by: int = scale) -> Any:
            total = 0
            for _ in tl.range(2):
                total += v * by
            return total

        shift = lambda v: v + 1  # noqa: E731
        put(T, 0, twice(n))
        put(T, 1, shift(twice(n, by=1)))
        put(T, 2, functools.partial(twice, by=2)(n))

    out = ints()
    run(k, out, 5)
    assert out[:3].tolist() == [30, 11, 20]
    scale = 4
    assert k.fn.__closure__ is not None


class Scaler:
    """A user's class with a method that has a run-time loop."""

    def __init__(self, by: int) -> None:
        self.by = by

    def apply(self, v: Any, n: Any) -> Any:
        for _ in tl.range(n):
            v = v * self.by
        return v


def test_methods_are_captured() -> None:
    @tilec.kernel
    def k(T: tl.Tensor, n: int):
        put(T, 0, Scaler(3).apply(2, n))

    out = ints()
    run(k, out, 2)
    assert out[0] == 18


def test_kernel_called_in_a_kernel_is_inlined() -> None:
    @tilec.kernel
    def inner(T: tl.Tensor, i: int, V: tl.constexpr[int] = 7):
        if i > 0:
            put(T, i, V)

    @tilec.kernel
    def outer(T: tl.Tensor):
        inner(T, tl.program_id(0))

    out = ints()
    run(outer, out, grid=3)
    assert out.tolist() == [-1, 7, 7] + [-1] * 5


def test_kernels_share_source_but_not_closures() -> None:
    def make(value: int) -> Any:
        @tilec.kernel
        def k(T: tl.Tensor):
            put(T, 0, value)

        return k

    for value in (1, 2, 3):
        out = ints()
        run(make(value), out)
        assert out[0] == value


def test_lines_are_the_users() -> None:
    @tilec.kernel
    def k(T: tl.Tensor, n: int):
        for i in tl.range(n):
            if i > 2:
                put(T, i, i)

    import inspect

    lines, first = inspect.getsourcelines(k.fn)
    text = dict(enumerate(lines, first))
    for op in walk(k.trace(["i32[1]", "i32"]).body):
        if op.name in ("for", "if", "gt"):
            want = {"for": "tl.range(n)", "if": "i > 2", "gt": "i > 2"}[op.name]
            line = text[op.loc.line]
            assert line[op.loc.col : op.loc.end_col] == want
        if op.name == "scatter":
            assert op.loc.function == "put" and op.loc.caller is not None
            assert "put(T, i, i)" in text[op.loc.caller.line]


def test_trace_is_deterministic() -> None:
    from tilec.ir.text import print_kernel

    def make() -> Any:
        @tilec.kernel
        def k(T: tl.Tensor, n: int):
            a = b = 0
            for i in tl.range(n):
                a, b = b + i, a
            put(T, a, b)

        return k

    assert len({print_kernel(make().trace(["i32[1]", "i32"])) for _ in range(3)}) == 1


FACTOR = 2


def scaled(v: Any) -> Any:
    return v * FACTOR


def test_a_changed_global_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    @tilec.kernel
    def k(T: tl.Tensor):
        put(T, 0, scaled(3))

    out = ints()
    run(k, out)
    assert out[0] == 6
    assert k.trace(["i32[1]"]) is k.trace(["i32[1]"])
    monkeypatch.setattr(__import__("sys").modules[__name__], "FACTOR", 5)
    run(k, out)
    assert out[0] == 15


def test_a_changed_closure_is_seen() -> None:
    value, helper = 1, lambda v: v + 1

    @tilec.kernel
    def k(T: tl.Tensor):
        put(T, 0, helper(value))

    out = ints()
    run(k, out)
    value = 2
    run(k, out)
    assert out[0] == 3
    helper = lambda v: v * 10  # noqa: E731
    run(k, out)
    assert out[0] == 20
