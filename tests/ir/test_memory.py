"""Shapes, reductions, products and memory ops against loops over single elements."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from exact import bounds, wrap
from hypothesis import given
from hypothesis import strategies as st
from op_cases import Case, accepted, kernel_of

from tilec.ir.core import Value
from tilec.ir.errors import TilecTypeError, TilecValueError
from tilec.ir.interp import interpret
from tilec.ir.ops import make, opdef
from tilec.ir.ops.memory import ATOMICS
from tilec.ir.ops.shape import REDUCTIONS
from tilec.ir.types import (
    DTYPES,
    DType,
    TensorType,
    TileType,
    bfloat16,
    bool_,
    float8_e4m3,
    float16,
    float32,
    float64,
    int8,
    int32,
    int64,
    uint8,
)

Array = np.ndarray[Any, Any]


def numbers(dtype: DType, shape: Sequence[int], seed: int = 0) -> Array:
    """Distinct-looking numbers that every dtype holds exactly enough."""
    rng = np.random.default_rng(seed)
    if dtype.is_int:
        low, high = bounds(dtype)
        return rng.integers(low, high, shape, dtype.np, endpoint=True)
    if dtype == bool_:
        return rng.integers(0, 2, shape).astype(bool)
    return rng.standard_normal(shape).astype(dtype.np)


def run(case: Case, *inputs: Any, grid: Sequence[int] = (1,)) -> list[Array]:
    """The results of one op through the interpreter, on fresh outputs full of a wrong value."""
    kernel = kernel_of(case)
    outputs = [p.type for p in kernel.params[len(inputs) :]]
    results = []
    op = make(case.op, [Value(t) for t in case.types], **case.attrs)
    for t, result in zip(outputs, op.results, strict=True):
        assert isinstance(t, TensorType) and isinstance(result.type, TileType)
        results.append(np.full(result.type.shape or (1,), 77).astype(t.dtype.np))
    interpret(kernel, grid, [*inputs, *results])
    return results


# Shapes, reductions, products.


def test_create_and_shape() -> None:
    assert run(Case("arange", (), {"start": -3, "stop": 2}))[0].tolist() == [-3, -2, -1, 0, 1]
    assert run(Case("const", (), {"dtype": int8, "shape": (2, 1), "value": -5}))[0].tolist() == [[-5], [-5]]
    x = numbers(int32, (2, 3))
    (flat,) = run(Case("reshape", (TileType(int32, (2, 3)),), {"shape": (3, 2)}), x)
    assert flat.ravel().tolist() == [x[i, j] for i in range(2) for j in range(3)]
    cube = numbers(int32, (2, 3, 4))
    (turned,) = run(Case("permute", (TileType(int32, (2, 3, 4)),), {"perm": (2, 0, 1)}), cube)
    assert all(turned[k, i, j] == cube[i, j, k] for i, j, k in np.ndindex(2, 3, 4))
    (wide,) = run(Case("broadcast", (TileType(int32, (2, 1)),), {"shape": (2, 3)}), x[:, :1])
    assert all(wide[i, j] == x[i, 0] for i, j in np.ndindex(2, 3))
    (filled,) = run(Case("broadcast", (TileType(int32),), {"shape": (2, 2)}), 9)
    assert filled.tolist() == [[9, 9], [9, 9]]


FOLDS: dict[str, Callable[[list[Any], DType], Any]] = {
    "sum": lambda row, d: wrap(sum(row), d),
    "prod": lambda row, d: wrap(math.prod(row), d),
    "max": lambda row, d: max(row),
    "min": lambda row, d: min(row),
    "any": lambda row, d: any(row),
    "all": lambda row, d: all(row),
    "xor_sum": lambda row, d: wrap(functools.reduce(operator.xor, row), d),
    "argmax": lambda row, d: row.index(max(row)),
    "argmin": lambda row, d: row.index(min(row)),
}


def test_every_reduction_has_an_oracle() -> None:
    assert set(FOLDS) == set(REDUCTIONS)


@pytest.mark.parametrize("dtype", [d for d in DTYPES.values() if not d.is_float], ids=str)
@pytest.mark.parametrize("kind", REDUCTIONS)
def test_integer_reductions(kind: str, dtype: DType) -> None:
    x = numbers(dtype, (3, 5))
    x[:, 3] = x[:, 1]
    for axis in range(2):
        case = Case("reduce", (TileType(dtype, x.shape),), {"kind": kind, "axis": axis})
        if not accepted(case):
            return
        rows = x.T.tolist() if axis == 0 else x.tolist()
        assert run(case, x)[0].tolist() == [FOLDS[kind](row, dtype) for row in rows]


@pytest.mark.parametrize("dtype", [d for d in DTYPES.values() if d.is_float], ids=str)
@pytest.mark.parametrize("kind", ["sum", "prod", "max", "min", "argmax", "argmin"])
def test_float_reductions(kind: str, dtype: DType) -> None:
    """Within the rounding of a float32 (or float64) sum of 16 terms, then of the dtype."""
    x = numbers(dtype, (4, 16), 3)
    (found,) = run(Case("reduce", (TileType(dtype, x.shape),), {"kind": kind, "axis": 1}), x)
    for row, out in zip(x.astype(np.float64).tolist(), found.astype(np.float64).tolist(), strict=True):
        if kind in ("sum", "prod"):
            terms = [Fraction(v) for v in row]
            want = sum(terms, Fraction(0)) if kind == "sum" else math.prod(terms)
            scale = sum(map(abs, terms)) if kind == "sum" else abs(want)
            work = 52 if dtype == float64 else 23
            tiny = 2.0 ** (2 - 2 ** (dtype.exponent - 1) - dtype.mantissa)
            assert abs(Fraction(out) - want) <= 16 * scale / 2**work + abs(
                want
            ) / 2**dtype.mantissa + Fraction(tiny)
        else:
            assert out == FOLDS[kind](row, dtype)


def test_reductions_of_narrow_floats_accumulate_in_float32() -> None:
    x = np.full((1, 4096), 1.0, np.float16)
    assert run(Case("reduce", (TileType(float16, x.shape),), {"kind": "sum", "axis": 1}), x)[0][0] == 4096.0


def test_reductions_of_nan() -> None:
    x = np.array([[1.0, np.nan, 3.0]], np.float32)
    for kind in ("max", "min", "sum"):
        assert np.isnan(
            run(Case("reduce", (TileType(float32, x.shape),), {"kind": kind, "axis": 1}), x)[0][0]
        )
    assert run(Case("reduce", (TileType(float32, x.shape),), {"kind": "argmax", "axis": 1}), x)[0][0] == 1


@pytest.mark.parametrize(
    ("dtype", "acc"),
    [(float16, float32), (bfloat16, float32), (float8_e4m3, float32), (float32, float32), (float64, float64),
     (int8, int32), (uint8, int32), (int32, int32), (float16, float16)],
    ids=str,
)  # fmt: skip
def test_dot(dtype: DType, acc: DType) -> None:
    m, k, n = 3, 7, 5
    a, b, c = numbers(dtype, (m, k), 1), numbers(dtype, (k, n), 2), numbers(acc, (m, n), 3)
    (found,) = run(
        Case("dot", (TileType(dtype, (m, k)), TileType(dtype, (k, n)), TileType(acc, (m, n)))), a, b, c
    )
    exact = [x.astype(object if acc.is_int else np.float64).tolist() for x in (a, b, c)]
    for i, j in np.ndindex(m, n):
        if acc.is_int:
            assert found[i, j] == wrap(
                sum(exact[0][i][p] * exact[1][p][j] for p in range(k)) + exact[2][i][j], acc
            )
            continue
        terms = [Fraction(exact[0][i][p]) * Fraction(exact[1][p][j]) for p in range(k)] + [
            Fraction(exact[2][i][j])
        ]
        bound = (k + 1) * sum(map(abs, terms)) / 2**acc.mantissa
        assert abs(Fraction(float(found[i, j])) - sum(terms)) <= bound


def test_dot_tf32_truncates_its_operands() -> None:
    t = TileType(float32, (1, 1))
    one, above = np.ones((1, 1), np.float32), np.array([[1 + 2**-11]], np.float32)
    zero = np.zeros((1, 1), np.float32)
    assert run(Case("dot", (t, t, t), {"precision": "tf32"}), above, one, zero)[0][0, 0] == 1.0
    assert run(Case("dot", (t, t, t)), above, one, zero)[0][0, 0] == 1 + 2**-11


# The grid.


def test_grid_extents_and_strides() -> None:
    a = np.zeros((4, 6), np.float16)[:, ::2]
    tensor = TensorType(float16, 2)
    assert [run(Case("dim", (tensor,), {"axis": i}), a)[0][0] for i in range(2)] == [4, 3]
    assert [run(Case("stride", (tensor,), {"axis": i}), a)[0][0] for i in range(2)] == [6, 2]
    assert run(Case("num_programs", (), {"axis": 1}), grid=(2, 5))[0][0] == 5
    # Each instance overwrites the result: the last one in launch order stays.
    assert run(Case("program_id", (), {"axis": 0}), grid=(4, 2))[0][0] == 3


# Loads and stores.


@st.composite
def tensors(draw: st.DrawFn) -> Array:
    """A tensor of rank 1 to 3, maybe a strided, transposed or empty view."""
    rank = draw(st.integers(1, 3))
    shape = tuple(draw(st.integers(0, 5)) for _ in range(rank))
    steps = tuple(draw(st.sampled_from([1, 2, -1])) for _ in range(rank))
    base = np.arange(1, 1 + math.prod(abs(s) * n for s, n in zip(steps, shape, strict=True)), dtype=np.int32)
    base = base.reshape([abs(s) * n for s, n in zip(steps, shape, strict=True)])
    view = base[tuple(slice(None, None, s) for s in steps)]
    return view.transpose(draw(st.permutations(range(rank))))


@st.composite
def boxes(draw: st.DrawFn) -> tuple[Array, tuple[int, ...], tuple[int, ...]]:
    """A tensor, a tile shape, and offsets from well before to well after the tensor."""
    t = draw(tensors())
    shape = tuple(draw(st.integers(1, 4)) for _ in range(t.ndim))
    offsets = tuple(draw(st.integers(-6, 8) | st.sampled_from([-(2**31), 2**31 - 1])) for _ in range(t.ndim))
    return t, shape, offsets


def offset_types(offsets: Sequence[int]) -> list[TileType]:
    return [TileType(int32 if i % 2 else int64) for i in range(len(offsets))]


@given(boxes(), st.integers(-3, 3))
def test_load(box: tuple[Array, tuple[int, ...], tuple[int, ...]], pad: int) -> None:
    t, shape, offsets = box
    case = Case("load", (TensorType(int32, t.ndim), *offset_types(offsets)), {"shape": shape, "pad": pad})
    (found,) = run(case, t, *offsets)
    for place in np.ndindex(*shape):
        at = tuple(o + p for o, p in zip(offsets, place, strict=True))
        inside = all(0 <= x < n for x, n in zip(at, t.shape, strict=True))
        assert found[place] == (t[at] if inside else pad)


@given(boxes())
def test_store(box: tuple[Array, tuple[int, ...], tuple[int, ...]]) -> None:
    t, shape, offsets = box
    value = -np.arange(1, 1 + math.prod(shape), dtype=np.int32).reshape(shape)
    want = t.copy()
    for place in np.ndindex(*shape):
        at = tuple(o + p for o, p in zip(offsets, place, strict=True))
        if all(0 <= x < n for x, n in zip(at, t.shape, strict=True)):
            want[at] = value[place]
    run(
        Case("store", (TensorType(int32, t.ndim), TileType(int32, shape), *offset_types(offsets))),
        t,
        value,
        *offsets,
    )
    assert (t == want).all()


@st.composite
def indexed(draw: st.DrawFn) -> tuple[Array, list[Array], Array]:
    """A tensor, index tiles that may be far outside, and a mask."""
    t = draw(tensors())
    shape = (2, 3)
    index = st.integers(-3, 7) | st.sampled_from([-(2**31), 2**31 - 1])
    indices = [np.array([draw(index) for _ in range(6)], np.int32).reshape(shape) for _ in range(t.ndim)]
    mask = np.array([draw(st.booleans()) for _ in range(6)]).reshape(shape)
    return t, indices, mask


def places(t: Array, indices: list[Array], mask: Array) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(place in the tile, place in the tensor) of the elements that count, in row-major order."""
    found = []
    for place in np.ndindex(*mask.shape):
        at = tuple(int(i[place]) for i in indices)
        if mask[place] and all(0 <= x < n for x, n in zip(at, t.shape, strict=True)):
            found.append((place, at))
    return found


INDEX, MASK, VALUE = TileType(int32, (2, 3)), TileType(bool_, (2, 3)), TileType(int32, (2, 3))


@given(indexed())
def test_gather(args: tuple[Array, list[Array], Array]) -> None:
    t, indices, mask = args
    other = np.arange(-6, 0, dtype=np.int32).reshape(2, 3)
    want = other.copy()
    for place, at in places(t, indices, mask):
        want[place] = t[at]
    case = Case("gather", (TensorType(int32, t.ndim), *[INDEX] * t.ndim, MASK, VALUE))
    assert (run(case, t, *indices, mask, other)[0] == want).all()


@given(indexed())
def test_scatter(args: tuple[Array, list[Array], Array]) -> None:
    t, indices, mask = args
    value = np.arange(-6, 0, dtype=np.int32).reshape(2, 3)
    before = t.copy()
    allowed: dict[tuple[int, ...], set[int]] = {}
    for place, at in places(t, indices, mask):
        allowed.setdefault(at, set()).add(int(value[place]))
    run(
        Case("scatter", (TensorType(int32, t.ndim), *[INDEX] * t.ndim, VALUE, MASK)), t, *indices, value, mask
    )
    for at in np.ndindex(*t.shape):
        assert t[at] in allowed.get(at, {before[at]})


UPDATES: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b, "max": max, "min": min, "and": lambda a, b: a & b,
    "or": lambda a, b: a | b, "xor": lambda a, b: a ^ b, "xchg": lambda a, b: b,
}  # fmt: skip


@pytest.mark.parametrize("kind", ATOMICS)
def test_atomics_update_one_by_one(kind: str) -> None:
    @given(indexed())
    def check(args: tuple[Array, list[Array], Array]) -> None:
        t, indices, mask = args
        value = np.array([[5, -3, 2], [7, 1, -8]], np.int32)
        want, old = t.copy(), np.zeros((2, 3), np.int32)
        for place, at in places(t, indices, mask):
            old[place] = want[at]
            want[at] = UPDATES[kind](int(want[at]), int(value[place]))
        case = Case("atomic", (TensorType(int32, t.ndim), *[INDEX] * t.ndim, VALUE, MASK), {"kind": kind})
        (found,) = run(case, t, *indices, value, mask)
        assert (t == want).all() and (found == old).all()

    check()


# Type rules that depend on values.

T2 = TensorType(float32, 2)
BAD = [
    (Case("const", (), {"dtype": int32, "shape": (0,), "value": 1}), "V102"),
    (Case("arange", (), {"start": 3, "stop": 3}), "V103"),
    (Case("reduce", (TileType(int32, (2,)),), {"kind": "median", "axis": 0}), "V104"),
    (Case("reduce", (TileType(int32, (2,)),), {"kind": "sum", "axis": 1}), "V101"),
    (Case("reduce", (TileType(int32, (2,)),), {"kind": "any", "axis": 0}), "T108"),
    (Case("program_id", (), {"axis": 3}), "V105"),
    (Case("dim", (T2,), {"axis": 2}), "V101"),
    (Case("load", (T2, TileType(int32)), {"shape": (4,)}), "T117"),
    (Case("load", (T2, TileType(int32), TileType(float32)), {"shape": (4, 4)}), "T105"),
    (Case("load", (T2, TileType(int32), TileType(int32)), {"shape": (4, 0)}), "V102"),
    (Case("store", (T2, TileType(int32, (2, 2)), TileType(int32), TileType(int32))), "T118"),
    (Case("gather", (T2, INDEX, MASK, TileType(float32, (2, 3)))), "T117"),
    (Case("gather", (T2, INDEX, MASK, MASK, TileType(float32, (2, 3)))), "T119"),
    (Case("atomic", (T2, INDEX, INDEX, TileType(float32, (2, 3)), MASK), {"kind": "nand"}), "V106"),
    (Case("atomic", (T2, INDEX, INDEX, TileType(float32, (2, 3)), MASK), {"kind": "xor"}), "T108"),
    (Case("broadcast", (TileType(int32, (3,)),), {"shape": (2, 3)}), "T110"),
    (Case("broadcast", (TileType(int32, (3, 2)),), {"shape": (2, 3)}), "T101"),
    (Case("reshape", (TileType(int32, (3,)),), {"shape": (4,)}), "T111"),
    (Case("permute", (TileType(int32, (3, 4)),), {"perm": (0, 0)}), "T112"),
    (Case("bitcast", (TileType(int32, (3,)),), {"dtype": int8}), "T109"),
    (Case("dot", (TileType(float16, (2, 3)), TileType(float16, (4, 2)), TileType(float32, (2, 2)))), "T113"),
    (Case("dot", (TileType(float16, (2, 3)), TileType(bfloat16, (3, 2)), TileType(float32, (2, 2)))), "T114"),
    (Case("dot", (TileType(float16, (2, 3)), TileType(float16, (3, 2)), TileType(float32, (2, 3)))), "T115"),
    (Case("dot", (TileType(float16, (2, 3)), TileType(float16, (3, 2)), TileType(int32, (2, 2)))), "T116"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "code"), BAD, ids=[f"{c}-{code}" for c, code in BAD])
def test_refused(case: Case, code: str) -> None:
    with pytest.raises((TilecTypeError, TilecValueError)) as caught:
        make(case.op, [Value(t) for t in case.types], **case.attrs)
    assert caught.value.code == code


def test_views_of_a_ring_slot_are_copied_to_registers() -> None:
    """broadcast, bitcast and convert_layout give registers: they must not see a later write to the slot."""
    slot = np.arange(4, dtype=np.int32)
    for name, attrs in (
        ("broadcast", {"shape": (4,)}),
        ("bitcast", {"dtype": float32}),
        ("convert_layout", {"layout": None}),
    ):
        node = make(name, [Value(TileType(int32, (4,), "smem"))], **attrs)
        assert node.result.type.space == "reg"  # type: ignore[union-attr]
        assert not np.shares_memory(opdef(name).meaning(None, node, slot), slot)
