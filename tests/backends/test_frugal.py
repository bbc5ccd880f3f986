"""The estimate of registers, and the order that lowers it."""

from __future__ import annotations

import numpy as np
import pytest

import tilec
import tilec.language as tl
from tilec.backends.ptx import pressure
from tilec.backends.ptx.frugal import frugal
from tilec.backends.ptx.pressure import PRODUCT, is_heavy, is_tight, peak_registers
from tilec.ir.core import Kernel, walk
from tilec.ir.forms import verify
from tilec.ir.interp import interpret
from tilec.passes import Options, lower
from tilec.passes.layouts import assign_layouts


@tilec.kernel
def chained(X: tl.Tensor, C: tl.Tensor, OUT: tl.Tensor):
    """Two products, whose 16-bit images feed two more; C is read long before it is needed."""
    y, z = tl.zeros((64, 128), tl.float32), tl.zeros((64, 128), tl.float32)
    for n in tl.range(tl.cdiv(X.shape[0], 64)):
        x, late = tl.load(X, (n, 0), (64, 64)), tl.load(C, (n, 0), (64, 64))
        wide = tl.load(X, (n, 0), (64, 128))
        p = tl.exp(tl.dot(x, x.T) * 0.01)
        y = tl.dot(p.to(tl.float16), wide, y)
        q = p * (tl.dot(x, x) - late)
        z = tl.dot(q.to(tl.float16), wide, z)
    tl.store(OUT, (0, 0), y + z)


def placed() -> Kernel:
    types = ["f16[2]", "f32[2]", "f32[2]"]
    return assign_layouts(lower(chained.trace(types), "sm_80", Options(num_warps=4)).scheduled)


def test_the_peak_is_what_a_count_by_hand_gives() -> None:
    """Per thread: y and z 64 each, p and the next product 32 each, C 32; 24 for a product's operands."""
    assert peak_registers(placed(), ("dot",)) == 4 * 64 - 32 + PRODUCT
    assert is_tight(placed()) and is_heavy(placed())


def test_the_other_order_holds_less_and_means_the_same() -> None:
    kernel = placed()
    other = frugal(kernel)
    verify(other)
    assert peak_registers(other, ("dot",)) < peak_registers(kernel, ("dot",))
    effects = [[op.name for op in walk(k.body) if op.name.startswith("aref")] for k in (kernel, other)]
    assert effects[0] == effects[1]
    x, c = (np.random.default_rng(i).standard_normal((130, 128)).astype(np.float32) for i in range(2))
    found = []
    for form in (kernel, other):
        out = np.full((64, 128), np.nan, np.float32)
        interpret(form, (1,), [x.astype(np.float16), c, out])
        found.append(out.tobytes())
    assert found[0] == found[1]


def test_a_kernel_with_registers_left_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pressure, "PLENTY", 10_000)
    kernel = placed()
    assert frugal(kernel) is kernel
