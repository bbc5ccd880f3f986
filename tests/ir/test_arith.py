"""Elementwise ops and casts against integers and rationals of Python."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from exact import bounds, decode, round_to, same, saturate, wrap

from tilec.ir.core import Value
from tilec.ir.errors import TilecTypeError
from tilec.ir.ops import OPS, make, opdef
from tilec.ir.types import (
    DTYPES,
    DType,
    TileType,
    bool_,
    float8_e4m3,
    float8_e5m2,
    float16,
    float32,
    float64,
    int32,
)

INTS = [d for d in DTYPES.values() if d.is_int]
FLOATS = [d for d in DTYPES.values() if d.is_float]
NARROW = [d for d in FLOATS if d.bits < 32]


def run(name: str, source: DType, columns: list[list[Any]], **attrs: Any) -> list[Any]:
    """One op on lists of numbers, as Python numbers."""
    exact = None if source.is_float else source.np
    with np.errstate(all="ignore"):
        arrays = [np.array(c, exact).astype(source.np) for c in columns]
    node = make(name, [Value(TileType(source, a.shape)) for a in arrays], **attrs)
    with np.errstate(all="ignore"):
        out = np.asarray(opdef(name).meaning(None, node, *arrays))
    result = node.result.type
    assert isinstance(result, TileType)
    assert out.dtype == result.dtype.np and out.shape == result.shape
    wide = out.astype(np.float64) if result.dtype.is_float else out
    return list(wide.tolist())


def check(name: str, dtype: DType, rows: Iterable[tuple[Any, ...]], oracle: Callable[..., Any]) -> None:
    rows = list(rows)
    found = run(name, dtype, [list(c) for c in zip(*rows, strict=True)])
    for row, out in zip(rows, found, strict=True):
        want = oracle(*row)
        assert same(float(out), want) if isinstance(want, float) else out == want, (row, out, want)


# Integers.


def integers(dtype: DType, arity: int) -> list[tuple[int, ...]]:
    """All of them for 8 bits, else edges with edges and random ones."""
    low, high = bounds(dtype)
    if dtype.bits == 8:
        return list(itertools.product(range(low, high + 1), repeat=arity))
    edges = [
        low,
        low + 1,
        high,
        high - 1,
        high // 2,
        0,
        1,
        2,
        3,
        7,
        dtype.bits - 1,
        dtype.bits,
        dtype.bits + 1,
    ]
    edges += [-1, -2, -7] if low else []
    rng = random.Random(0)
    some = [tuple(rng.randint(low, high) for _ in range(arity)) for _ in range(300)]
    return list(itertools.product(edges, repeat=arity)) + some


def shift_left(dtype: DType, a: int, b: int) -> int:
    return wrap(a << b, dtype) if 0 <= b < dtype.bits else 0


def shift_right(dtype: DType, a: int, b: int) -> int:
    return a >> (b if 0 <= b < dtype.bits else dtype.bits)


INTEGER_ORACLES: dict[str, Callable[..., int]] = {
    "add": lambda d, a, b: wrap(a + b, d),
    "sub": lambda d, a, b: wrap(a - b, d),
    "mul": lambda d, a, b: wrap(a * b, d),
    "floordiv": lambda d, a, b: wrap(a // b, d) if b else 0,
    "mod": lambda d, a, b: wrap(a % b, d) if b else 0,
    "minimum": lambda d, a, b: min(a, b),
    "maximum": lambda d, a, b: max(a, b),
    "and": lambda d, a, b: a & b,
    "or": lambda d, a, b: a | b,
    "xor": lambda d, a, b: a ^ b,
    "shl": shift_left,
    "shr": shift_right,
    "neg": lambda d, a: wrap(-a, d),
    "not": lambda d, a: wrap(~a, d),
    "abs": lambda d, a: wrap(abs(a), d),
    "lt": lambda d, a, b: a < b,
    "le": lambda d, a, b: a <= b,
    "gt": lambda d, a, b: a > b,
    "ge": lambda d, a, b: a >= b,
    "eq": lambda d, a, b: a == b,
    "ne": lambda d, a, b: a != b,
}


def takes(name: str, dtype: DType) -> bool:
    row = OPS[name]
    try:
        row.infer((TileType(dtype),) * len(row.operands), {}, ())
    except Exception:
        return False
    return True


ELEMENTWISE = [n for n, r in OPS.items() if r.family.startswith(("elementwise", "compare")) and n != "where"]


def test_every_integer_op_has_an_oracle() -> None:
    assert set(INTEGER_ORACLES) == {n for n in ELEMENTWISE if any(takes(n, d) for d in INTS)}


@pytest.mark.parametrize("dtype", INTS, ids=str)
@pytest.mark.parametrize("name", INTEGER_ORACLES)
def test_integers_are_as_in_python(name: str, dtype: DType) -> None:
    rows = integers(dtype, len(OPS[name].operands))
    check(name, dtype, rows, lambda *row: INTEGER_ORACLES[name](dtype, *row))


@pytest.mark.parametrize("name", ["and", "or", "xor", "eq", "ne"])
def test_bools(name: str) -> None:
    oracle = INTEGER_ORACLES[name]
    check(name, bool_, itertools.product([False, True], repeat=2), lambda a, b: bool(oracle(None, a, b)))
    check("not", bool_, [(False,), (True,)], lambda a: not a)


# Floats.


def floats(dtype: DType, arity: int, count: int = 1500) -> list[tuple[float, ...]]:
    """Edges with edges, and random bit patterns, as exact Python floats."""
    top = math.ldexp(1, min((1 << (dtype.exponent - 1)) - 1, 120))
    tiny = round_to(Fraction(1, 2 ** ((1 << (dtype.exponent - 1)) - 2 + dtype.mantissa)), dtype)
    edges = [0.0, -0.0, 1.0, -1.0, 1.5, -2.5, 3.0, 0.1, top, -top, tiny, -tiny, math.inf, -math.inf, math.nan]
    edges = [round_to(e, dtype) for e in edges]
    rng = random.Random(1)
    if dtype == float64:
        draw = lambda: rng.uniform(-2, 2) * 2.0 ** rng.randint(-40, 40)  # noqa: E731
    else:
        draw = lambda: decode(rng.getrandbits(dtype.bits), dtype)  # noqa: E731
    some = [tuple(draw() for _ in range(arity)) for _ in range(count)]
    near = [tuple(round_to(rng.uniform(-4, 4), dtype) for _ in range(arity)) for _ in range(count)]
    return list(itertools.product(edges, repeat=arity)) + some + near


def computed(dtype: DType, x: Fraction | float) -> float:
    """Rounded as the table promises: through float32 for narrow floats."""
    return round_to(round_to(x, float32), dtype) if dtype.bits < 32 else round_to(x, dtype)


def rational(fn: Callable[..., Fraction], *args: float) -> Fraction | None:
    """fn on rationals, or None where an operand is not finite or the result is zero or undefined."""
    if not all(map(math.isfinite, args)):
        return None
    try:
        return fn(*map(Fraction, args)) or None
    except ZeroDivisionError:
        return None


EXACT: dict[str, tuple[Callable[..., Fraction], Callable[..., float]]] = {
    # On rationals; and by IEEE's rules for zeros, infinities and NaN, on float64.
    "add": (lambda a, b: a + b, lambda a, b: a + b),
    "sub": (lambda a, b: a - b, lambda a, b: a - b),
    "mul": (lambda a, b: a * b, lambda a, b: a * b),
    "div": (lambda a, b: a / b, lambda a, b: float(np.float64(a) / np.float64(b))),
    "fma": (lambda a, b, c: a * b + c, lambda a, b, c: a * b + c),
    "neg": (lambda a: -a, lambda a: -a),
    "abs": (lambda a: abs(a), lambda a: abs(a)),
}


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", EXACT)
def test_floats_are_rounded_once(name: str, dtype: DType) -> None:
    on_rationals, special = EXACT[name]

    def oracle(*args: float) -> float:
        value = rational(on_rationals, *args)
        # A float64 fma is a product and a sum, each rounded, as Python does it.
        if value is None or (name == "fma" and dtype == float64):
            with np.errstate(all="ignore"):
                return computed(dtype, special(*args))
        # fma of narrow floats goes from the exact sum to the dtype in one rounding.
        return round_to(value, dtype) if name == "fma" else computed(dtype, value)

    check(name, dtype, floats(dtype, len(OPS[name].operands), 400), oracle)


MATH: dict[str, Callable[[float], float]] = {
    "exp": math.exp, "exp2": math.exp2, "log": math.log, "log2": math.log2, "sqrt": math.sqrt,
    "rsqrt": lambda a: 1 / math.sqrt(a), "sin": math.sin, "cos": math.cos, "tanh": math.tanh,
    "sigmoid": lambda a: 1 / (1 + math.exp(-a)), "erf": math.erf,
    "floor": math.floor, "ceil": math.ceil, "rint": round,
}  # fmt: skip
DOMAIN = {"log": 0.0, "log2": 0.0, "sqrt": 0.0, "rsqrt": 0.0}


def ulp(x: float, dtype: DType) -> float:
    exponent = max(math.frexp(x)[1] - 1 if x else -1000, 2 - (1 << (dtype.exponent - 1)))
    return math.ldexp(1, exponent - dtype.mantissa)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", MATH)
def test_math_is_near_the_truth(name: str, dtype: DType) -> None:
    """Within 4 units of the last place (numpy's float32 functions), and half a unit more for narrow ones."""
    rows = [r for r in floats(dtype, 1) if math.isfinite(r[0]) and DOMAIN.get(name, -16.0) < r[0] < 16.0]
    found = run(name, dtype, [[r[0] for r in rows]])
    allowed = 1.01 if dtype.bits < 32 else 4.0
    for (x,), out in zip(rows, found, strict=True):
        want = float(MATH[name](x))
        near = abs(out - want) <= allowed * ulp(want, dtype)
        assert near or same(out, round_to(want, dtype)), (x, out, want)


def test_every_float_op_has_an_oracle() -> None:
    tested = {*EXACT, *MATH, *COMPARE, "floordiv", "mod", "pow", "minimum", "maximum"}
    there = {n for n in ELEMENTWISE if takes(n, float32)}
    assert tested == there, f"add to MATH or EXACT, or remove: {sorted(tested ^ there)}; docs/add-an-op.md"


COMPARE: dict[str, Callable[[float, float], bool]] = {
    "lt": lambda a, b: a < b, "le": lambda a, b: a <= b, "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b, "eq": lambda a, b: a == b, "ne": lambda a, b: a != b,
}  # fmt: skip


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_float_comparisons_and_extrema(dtype: DType) -> None:
    rows = floats(dtype, 2, 300)
    for name, oracle in COMPARE.items():
        check(name, dtype, rows, oracle)
    for name, pick in (("minimum", min), ("maximum", max)):
        found = run(name, dtype, [[r[0] for r in rows], [r[1] for r in rows]])
        for (a, b), out in zip(rows, found, strict=True):
            assert math.isnan(out) if math.isnan(a) or math.isnan(b) else out == pick(a, b), (name, a, b)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_float_floordiv_mod_pow(dtype: DType) -> None:
    rows = [
        (a, b) for a, b in floats(dtype, 2, 300) if math.isfinite(a) and 0.25 < abs(b) < 8 and abs(a) < 100
    ]
    columns = [[a for a, _ in rows], [b for _, b in rows]]
    for (a, b), q, r in zip(rows, run("floordiv", dtype, columns), run("mod", dtype, columns), strict=True):
        exact = Fraction(a) / Fraction(b)
        assert same(q, computed(dtype, float(math.floor(exact)))) or q in (
            computed(dtype, float(math.floor(computed(float32, exact)))), -0.0,
        ), (a, b, q)  # fmt: skip
        rest = Fraction(a) - Fraction(b) * math.floor(exact)
        assert abs(r - rest) <= ulp(float(b), dtype), (a, b, r)
    positive = [(abs(a) + 0.5, b) for a, b in rows]
    positive = [(round_to(a, dtype), b) for a, b in positive]
    for (a, b), out in zip(
        positive, run("pow", dtype, [list(c) for c in zip(*positive, strict=True)]), strict=True
    ):
        want = a**b
        assert abs(out - want) <= 4 * ulp(want, dtype) or same(out, round_to(want, dtype)), (a, b, out)


# Casts.


def cast(values: list[Any], source: DType, to: DType) -> list[Any]:
    return run("cast", source, [values], dtype=to)


def expected_cast(x: Any, to: DType) -> Any:
    if to.kind == "bool":
        return bool(x != 0)
    if to.is_float:
        return round_to(x, to)
    return saturate(x, to) if isinstance(x, float) else wrap(int(x), to)


def check_cast(values: list[Any], source: DType, to: DType) -> None:
    for x, out in zip(values, cast(values, source, to), strict=True):
        want = expected_cast(x, to)
        assert same(out, want) if isinstance(want, float) else out == want, (source, to, x, out, want)


@pytest.mark.parametrize("to", DTYPES.values(), ids=str)
@pytest.mark.parametrize("source", NARROW, ids=str)
def test_casts_of_every_narrow_float(source: DType, to: DType) -> None:
    check_cast([decode(bits, source) for bits in range(1 << source.bits)], source, to)


@pytest.mark.parametrize(("source", "to"), [(float32, float16), (int32, float8_e4m3), (float64, float8_e5m2)])
def test_only_casts_to_8_bits_saturate(source: DType, to: DType) -> None:
    with pytest.raises(TilecTypeError, match="T108"):
        make("cast", [Value(TileType(source, (4,)))], dtype=to, saturate=True)


@pytest.mark.parametrize("to", DTYPES.values(), ids=str)
@pytest.mark.parametrize("source", [float32, float64], ids=str)
def test_casts_of_wide_floats(source: DType, to: DType) -> None:
    values = [r[0] for r in floats(source, 1)]
    values += [x + s for e in range(70) for x in (2.0**e, -(2.0**e)) for s in (0, 0.5, -0.5, 1, -1)]
    if to.is_float and to.bits < source.bits:
        # Halfway between two numbers of `to`, and a hair beside it.
        for bits in range(0, 1 << min(to.bits, 15), 7):
            x, y = decode(bits, to), decode(bits + 1, to) if to.bits < 64 else 0.0
            middle = (x + y) / 2
            values += [middle, middle * (1 + 2**-40), middle * (1 - 2**-40)]
    check_cast([round_to(v, source) for v in values], source, to)


@pytest.mark.parametrize("to", DTYPES.values(), ids=str)
@pytest.mark.parametrize("source", INTS, ids=str)
def test_casts_of_integers(source: DType, to: DType) -> None:
    values = [r[0] for r in integers(source, 1)]
    low, high = bounds(source)
    # Just over a tie of each width.
    values += [(1 << e) + (1 << (e - m - 1)) + 1 for m in (7, 10, 23) for e in range(m + 1, source.bits - 1)]
    check_cast([v for v in values if low <= v <= high], source, to)


@pytest.mark.parametrize("to", DTYPES.values(), ids=str)
def test_casts_of_bools(to: DType) -> None:
    check_cast([False, True], bool_, to)


def test_where() -> None:
    cond, a, b = np.array([True, False]), np.array([1.0, 2.0]), np.array([3.0, np.nan])
    assert np.isnan(OPS["where"].meaning(None, None, cond, a, b)[1])
    assert OPS["where"].meaning(None, None, cond, a, b)[0] == 1.0


@pytest.mark.parametrize("dtype", [d for d in FLOATS if d.bits <= 32], ids=str)
def test_bitcast_shows_the_bits(dtype: DType) -> None:
    rng = random.Random(2)
    values = [
        v for v in (decode(rng.getrandbits(dtype.bits), dtype) for _ in range(500)) if not math.isnan(v)
    ]
    for x, bits in zip(
        values, run("bitcast", dtype, [values], dtype=DTYPES[f"uint{dtype.bits}"]), strict=True
    ):
        assert same(decode(bits, dtype), x)


def test_bitcast_of_a_view_is_a_copy() -> None:
    x = np.arange(6, dtype=np.int32).reshape(2, 3).T
    node = make("bitcast", [Value(TileType(DTYPES["int32"], (3, 2)))], dtype=float32)
    out = opdef("bitcast").meaning(None, node, x)
    assert not np.shares_memory(out, x) and (out.view(np.int32) == x).all()
