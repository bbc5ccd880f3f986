"""2**x by the polynomial of backends/ptx/exp2.py, emulated, against float64; and which elements take it."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
from cpu_kit import kernel
from hopper_kit import agree, assembled, attention, disassembled, random_array
from ptx_kit import both, compiled
from test_ptx_ops import BOUNDS

from tilec.backends.ptx.exp2 import SIXTEEN, by_polynomial
from tilec.passes import Options
from tilec.passes.schedule.costs import POLYNOMIAL

Array = np.ndarray[Any, Any]
TILE = 4096
ERROR = 1.6e-7  # as the module says; examples allow 2**-22 = 2.4e-7


def build(name: str, share: int) -> Any:
    def body(k: Any, x: Any, y: Any) -> None:
        offset = k.op("mul", k.op("program_id", axis=0), k.number(TILE))
        loaded = k.op("load", x, offset, shape=(TILE,))
        k.op("store", y, k.op(name, loaded, share=share), offset)

    return body


def run(x: Array, name: str = "exp2", share: int = SIXTEEN) -> Array:
    """The op on all of ``x``, by the emulator."""
    padded = np.resize(x.astype(np.float32), -(-x.size // TILE) * TILE)
    found, _ = both([padded, np.zeros_like(padded)], build(name, share), (padded.size // TILE,))
    made: Array = found[1][: x.size]
    return made


def samples() -> Array:
    """All of [-126, 128): evenly, fractions of every size beside whole numbers, and at random."""
    rng = np.random.default_rng(7)
    whole = np.repeat(np.arange(-125, 127), 40)
    sizes = np.exp2(rng.uniform(-30, 0, whole.size)) * rng.choice((-1.0, 1.0), whole.size)
    small = -np.exp2(rng.uniform(-40, 0, 8000))
    return np.concatenate(
        [np.linspace(-126, 127.9999, 30000), whole + sizes, small, -small, rng.uniform(-1, 1, 40000)]
    ).astype(np.float32)


def test_the_error_is_what_is_stated() -> None:
    x = samples()
    exact = np.exp2(x.astype(np.float64))
    worst = np.abs(run(x).astype(np.float64) / exact - 1).max()
    assert 1.2e-7 < worst < ERROR < 2.0**-22  # the samples find nearly the largest one


def test_whole_numbers_are_exact() -> None:
    n = np.arange(-126, 128)
    np.testing.assert_array_equal(run(n), np.ldexp(np.float32(1), n))


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (-np.inf, 0.0), (np.inf, np.inf), (np.nan, np.nan), (0.0, 1.0), (-0.0, 1.0), (1e-45, 1.0),
        (128.0, np.inf), (1000.0, np.inf), (3e38, np.inf), (-126.00001, 0.0),
        (-127.0, 0.0), (-149.0, 0.0), (-3e38, 0.0), (-1e30, 0.0),
    ],
)  # fmt: skip
def test_ends_of_the_range(x: float, expected: float) -> None:
    np.testing.assert_array_equal(run(np.float32([x])), np.float32([expected]))


def test_a_fraction_that_rounds_to_one() -> None:
    """Right below a whole number; the part above floor(x) is 1 in float32."""
    found = run(np.float32([-1e-45, -1e-30, -1e-9]))
    np.testing.assert_allclose(found, 1, rtol=ERROR)


def test_the_largest_finite_result_is_finite() -> None:
    x = np.nextafter(np.float32(128), np.float32(0), dtype=np.float32)
    assert np.isfinite(run(np.array([x]))[0])


@pytest.mark.parametrize("name", ["exp", "tanh", "sigmoid", "erf"])
def test_functions_of_exponentials_keep_their_bounds(name: str) -> None:
    x = np.linspace(-10, 10, 8192).astype(np.float32)
    found, (_, exact) = both([x, np.zeros_like(x)], build(name, SIXTEEN), (2,))
    relative, absolute = BOUNDS[name]
    error = np.abs(found[1].astype(np.float64) - exact)
    assert (error <= relative * np.abs(exact) + absolute).all()


@pytest.mark.parametrize("share", range(9))
def test_a_share_is_so_many_in_sixteen(share: int) -> None:
    x = np.zeros(TILE, np.float32)
    text = compiled_text(x, share)
    each = TILE // 128  # elements of a thread
    assert text.count("ex2.approx") == each * (SIXTEEN - share) // SIXTEEN
    assert text.count("add.rm.f32") == each * share // SIXTEEN
    chosen = [n for n in range(SIXTEEN) if by_polynomial(n, share)]
    gaps = np.diff([*chosen, *(n + SIXTEEN for n in chosen[:1])])
    assert not chosen or gaps.max() - gaps.min() <= 1  # evenly spread


def compiled_text(x: Array, share: int) -> str:
    return compiled(kernel([x, x], build("exp2", share))).text


@pytest.mark.slow
def test_its_instructions_are_those_of_the_costs() -> None:
    x = np.zeros(TILE, np.float32)
    done = assembled(compiled(kernel([x, x], build("exp2", SIXTEEN))).text)
    each = Counter(re.findall(r"\b(FADD|FMUL|FFMA|FMNMX|SHL|SHF|IMAD|MUFU)\b[.\w]* R", disassembled(done)))
    each = {name: n / (TILE // 128) for name, n in each.items()}
    fma, alu = POLYNOMIAL
    assert [each[n] for n in ("FADD", "FFMA", "FMUL")] == [3, 5, 1] and fma == 9
    assert each["FMNMX"] == alu - 1 and "MUFU" not in each  # and a shift, which may be one of several


def test_attention_with_a_share_agrees_and_fits_into_its_registers() -> None:
    q, k, v = (random_array((1, n, 64), seed=s) for s, n in enumerate((70, 90, 90)))
    options = Options(exp2_share=4)
    artifact = agree(
        attention, (2, 1), [q, k, v, np.zeros_like(q)], options=options, tolerance=5e-3, modes=[("random", 1)]
    )
    assert "add.rm.f32" in artifact.text
    done = assembled(artifact.text)
    assert not done.spill_stores and not [m for m in done.messages if m.serious]
