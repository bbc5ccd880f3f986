# ruff: noqa: E501
"""Control flow in the interpreter: loops, branches, and what their type rules refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tilec.ir.core import Block, Value
from tilec.ir.errors import TilecTypeError, TilecValueError
from tilec.ir.forms import verify
from tilec.ir.interp import interpret
from tilec.ir.ops import make
from tilec.ir.text import parse_kernel
from tilec.ir.types import TileType, bool_, float32, int32, int64

HEAD = "tilec.kernel @k form=tile (%C: tensor<int64, 1, contiguous=0>, %a: tile<int32>, %b: tile<int32>, %c: tile<int32>) {\n"
FOOT = "  %z = const {dtype=int32, shape=(), value=0} : tile<int32>\n  store %C, %out, %z\n  yield\n}\n"
NUMBERS = """\
  %zero = const {dtype=int32, shape=(), value=0} : tile<int32>
  %one = const {dtype=int32, shape=(), value=1} : tile<int32>
  %nil = const {dtype=int64, shape=(1,), value=0} : tile<1xint64>
  %unit = const {dtype=int64, shape=(1,), value=1} : tile<1xint64>
"""


def run(body: str, a: int = 0, b: int = 0, c: int = 1) -> int:
    """The int64 that the body leaves in %out (a tile of one)."""
    kernel = parse_kernel(HEAD + NUMBERS + body + FOOT)
    verify(kernel)
    out = np.array([-1], np.int64)
    interpret(kernel, (1,), [out, a, b, c])
    return int(out[0])


# acc = acc * 3 + i, which depends on the order.
LOOP = """\
  %three = const {dtype=int64, shape=(1,), value=3} : tile<1xint64>
  %out = for %a, %b, %c, %nil : tile<1xint64> {
  ^(%i: tile<int32>, %acc: tile<1xint64>):
    %w = cast %i {dtype=int64} : tile<int64>
    %t = reshape %w {shape=(1,)} : tile<1xint64>
    %m = mul %acc, %three : tile<1xint64>
    %s = add %m, %t : tile<1xint64>
    yield %s
  }
"""


@pytest.mark.parametrize(
    "bounds",
    [(0, 0, 1), (0, 5, 1), (3, 3, 1), (5, 0, 1), (0, 7, 3), (5, 0, -1), (5, -4, -2), (-3, 3, 2), (0, 1, 9)],
)
def test_for_is_range(bounds: tuple[int, int, int]) -> None:
    want = 0
    for i in range(*bounds):
        want = want * 3 + i
    assert run(LOOP, *bounds) == want


def test_nested_loops_count_pairs() -> None:
    body = """\
  %out = for %zero, %a, %one, %nil : tile<1xint64> {
  ^(%i: tile<int32>, %x: tile<1xint64>):
    %y = for %i, %b, %one, %x : tile<1xint64> {
    ^(%j: tile<int32>, %u: tile<1xint64>):
      %v = add %u, %unit : tile<1xint64>
      yield %v
    }
    yield %y
  }
"""
    for a in range(4):
        for b in range(5):
            assert run(body, a, b) == sum(1 for i in range(a) for j in range(i, b))


def test_two_carried_values_are_exchanged_together() -> None:
    body = """\
  %out, %other = for %zero, %a, %one, %nil, %unit : tile<1xint64>, tile<1xint64> {
  ^(%i: tile<int32>, %f: tile<1xint64>, %g: tile<1xint64>):
    %h = add %f, %g : tile<1xint64>
    yield %g, %h
  }
"""
    assert [run(body, n) for n in range(8)] == [0, 1, 1, 2, 3, 5, 8, 13]


def test_while_is_the_collatz_count() -> None:
    body = """\
  %two = const {dtype=int32, shape=(), value=2} : tile<int32>
  %three = const {dtype=int32, shape=(), value=3} : tile<int32>
  %last, %out = while %a, %nil : tile<int32>, tile<1xint64> {
  ^(%n: tile<int32>, %s: tile<1xint64>):
    %more = gt %n, %one : tile<bool>
    yield %more
  ^(%m: tile<int32>, %t: tile<1xint64>):
    %r = mod %m, %two : tile<int32>
    %odd = eq %r, %one : tile<bool>
    %next = if %odd : tile<int32> {
    ^():
      %p = mul %m, %three : tile<int32>
      %q = add %p, %one : tile<int32>
      yield %q
    ^():
      %h = floordiv %m, %two : tile<int32>
      yield %h
    }
    %u = add %t, %unit : tile<1xint64>
    yield %next, %u
  }
"""

    def steps(n: int) -> int:
        return 0 if n <= 1 else 1 + steps(3 * n + 1 if n % 2 else n // 2)

    assert [run(body, n) for n in range(12)] == [steps(n) for n in range(12)]


@pytest.mark.parametrize("a", [1, 2])
def test_only_the_chosen_branch_has_effects(a: int) -> None:
    body = """\
  %big = gt %a, %one : tile<bool>
  %hundred = const {dtype=int64, shape=(1,), value=100} : tile<1xint64>
  %out = if %big : tile<1xint64> {
  ^():
    store %C, %hundred, %one
    yield %nil
  ^():
    yield %unit
  }
"""
    kernel = parse_kernel(HEAD + NUMBERS + body + FOOT)
    out = np.zeros(2, np.int64)
    interpret(kernel, (1,), [out, a, 0, 0])
    assert out.tolist() == ([0, 100] if a == 2 else [1, 0])


def test_an_assumption_is_checked() -> None:
    body = "  %ok = gt %a, %zero : tile<bool>\n  assume %ok\n  %out = add %nil, %unit : tile<1xint64>\n"
    assert run(body, 1) == 1
    with pytest.raises(TilecValueError, match="V110"):
        run(body, 0)


def test_every_program_instance_runs_once() -> None:
    text = """\
tilec.kernel @k form=tile (%C: tensor<int32, 3, contiguous=2>) {
  %x = program_id {axis=0} : tile<int32>
  %y = program_id {axis=1} : tile<int32>
  %z = program_id {axis=2} : tile<int32>
  %old = load %C, %x, %y, %z {shape=(1, 1, 1)} : tile<1x1x1xint32>
  %one = const {dtype=int32, shape=(1, 1, 1), value=1} : tile<1x1x1xint32>
  %new = add %old, %one : tile<1x1x1xint32>
  store %C, %new, %x, %y, %z
  yield
}
"""
    out = np.zeros((2, 3, 4), np.int32)
    interpret(parse_kernel(text), (2, 3, 4), [out])
    assert (out == 1).all()


def test_an_unknown_interleaving_is_refused() -> None:
    kernel = parse_kernel("tilec.kernel @k form=tile () {\n  yield\n}")
    with pytest.raises(TilecValueError, match="V111"):
        interpret(kernel, (1,), [], policy="alphabetical")


# Type rules of control flow.

I, L, F, B = (TileType(t) for t in (int32, int64, float32, bool_))


def block(params: list[Any], results: list[Any]) -> Block:
    return Block(tuple(map(Value, params)), (make("yield", list(map(Value, results))),))


BAD = [
    ("for", [I, I, F], [block([I], [])], "T105"),
    ("for", [I, I, L], [block([I], [])], "T121"),
    ("for", [I, I, I], [block([L], [])], "T120"),
    ("for", [I, I, I, F], [block([I, F], [I])], "T120"),
    ("for", [I, I, I, F], [block([I, F], [])], "T120"),
    ("for", [I, I, I, F], [block([I], [F])], "T120"),
    ("while", [F], [block([F], [F]), block([F], [F])], "T120"),
    ("while", [F], [block([F], [B]), block([F], [I])], "T120"),
    ("if", [I], [block([], []), block([], [])], "T122"),
    ("if", [TileType(bool_, (2,))], [block([], []), block([], [])], "T122"),
    ("if", [B], [block([], [F]), block([], [I])], "T120"),
    ("if", [B], [block([], [F]), block([], [])], "T120"),
]


@pytest.mark.parametrize(("name", "types", "blocks", "code"), BAD)
def test_refused(name: str, types: list[Any], blocks: list[Block], code: str) -> None:
    with pytest.raises(TilecTypeError) as caught:
        make(name, list(map(Value, types)), blocks=blocks)
    assert caught.value.code == code
