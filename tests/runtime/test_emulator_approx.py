"""Approximate functions stay within the errors that NVIDIA's PTX ISA manual states; im2col says that it is
not emulated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from emulator_kit import apply, builder, pointer, run

from tilec.ir.errors import TilecError

COUNT = 1024
Function = Callable[[Any], Any]
# Opcode, function, range of the argument (logarithmic where positive), largest relative error.
RELATIVE: tuple[tuple[str, Function, tuple[float, float], float], ...] = (
    ("ex2.approx.ftz.f32", np.exp2, (-120, 120), 2.0**-22),
    ("rcp.approx.ftz.f32", np.reciprocal, (1e-30, 1e30), 2.0**-23),
    ("rsqrt.approx.ftz.f32", lambda x: 1 / np.sqrt(x), (1e-30, 1e30), 2.0**-22.4),
    ("sqrt.approx.ftz.f32", np.sqrt, (1e-30, 1e30), 2.0**-22),
    ("tanh.approx.f32", np.tanh, (-12, 12), 2.0**-11),
    ("lg2.approx.ftz.f32", np.log2, (2.0, 1e30), 2.0**-22),
)


def arguments(low: float, high: float) -> Any:
    rng = np.random.default_rng(5)
    if low > 0:
        return np.exp(rng.uniform(np.log(low), np.log(high), COUNT)).astype(np.float32)
    return rng.uniform(low, high, COUNT).astype(np.float32)


@pytest.mark.parametrize("opcode, function, span, bound", RELATIVE)
def test_relative_errors(opcode: str, function: Function, span: tuple[float, float], bound: float) -> None:
    x = arguments(*span)
    got = apply(opcode, "b32", ["b32"], [x], np.zeros(COUNT, np.float32)).astype(np.float64)
    wanted = function(x.astype(np.float64))
    assert np.abs(got / wanted - 1).max() <= bound


def test_the_logarithm_of_numbers_near_1_has_an_absolute_error() -> None:
    x = np.linspace(0.5, 2, COUNT, dtype=np.float32)
    got = apply("lg2.approx.ftz.f32", "b32", ["b32"], [x], np.zeros(COUNT, np.float32))
    assert np.abs(got.astype(np.float64) - np.log2(x.astype(np.float64))).max() <= 2.0**-22


@pytest.mark.parametrize("opcode, x, wanted", [
    ("ex2.approx.ftz.f32", [-np.inf, np.inf, 0, 1e-40], [0, np.inf, 1, 1]),
    ("rcp.approx.ftz.f32", [np.inf, -0.0, 0.0, 1e-40], [0, -np.inf, np.inf, np.inf]),
    ("lg2.approx.ftz.f32", [np.inf, 0.0, 1.0, 1e-40], [np.inf, -np.inf, 0, -np.inf]),
    ("tanh.approx.f32", [np.inf, -np.inf, 0.0, 1.0e-3], [1, -1, 0, np.tanh(1.0e-3)]),
])  # fmt: skip
def test_special_arguments(opcode: str, x: list[float], wanted: list[float]) -> None:
    got = apply(opcode, "b32", ["b32"], [np.array(x * 8, np.float32)], np.zeros(32, np.float32))
    np.testing.assert_allclose(got[:4], wanted, rtol=2.0**-11)


def test_im2col_is_not_emulated() -> None:
    b = builder()
    where, bar, tile = pointer(b), b.shared("bar", 8), b.shared("tile", 1024, align=128)
    b.emit("ret")
    line = (
        "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes "
        f"[{tile.name}], [{where.name}, {{0, 0, 0, 0}}], [{bar.name}], {{0, 0}};"
    )
    with pytest.raises(TilecError, match="im2col") as raised:
        run(b.text().replace("ret;", f"{line}\n    ret;"), [np.zeros(64, np.uint8)])
    assert raised.value.code == "D404"
