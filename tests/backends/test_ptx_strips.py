"""Chains of pointwise ops, strip by strip: the same values, and no more registers than needed."""

from __future__ import annotations

import numpy as np
import pytest

from tilec.backends.ptx.strips import STRIP, Strip, strips, units
from tilec.ir.core import Block, Value
from tilec.ir.layout import Layout, blocked, wgmma
from tilec.ir.ops import make
from tilec.ir.types import TileType, float16, float32


@pytest.mark.parametrize("layout", [wgmma(128, 256, 8), wgmma(256, 128, 4), blocked((64, 512), 1, 8, 4)])
def test_strips_cover_a_layout_in_register_order(layout: Layout) -> None:
    found = strips(layout)
    assert len(found) == layout.registers // STRIP
    coords = []
    for strip in found:
        part = strip.layout(layout)
        origin = [sum(b[axis] for b in strip.chosen) for axis in range(2)]
        coords += [tuple(np.add(c, origin)) for c in part.register_coords()]
    assert coords == layout.register_coords()


def test_a_projected_layout_is_cut_along_its_own_axis() -> None:
    layout = wgmma(128, 256, 8)
    strip = strips(layout)[3]
    assert strip.layout(layout.project(0)).shape == (1, strip.layout(layout).shape[1])
    assert strip.layout(layout.project(1)).shape == (128, 1)


def test_a_layout_whose_upper_register_bits_are_low_coordinates_stays_whole() -> None:
    whole = wgmma(128, 256, 8)
    turned = Layout(whole.shape, tuple(reversed(whole.reg)), whole.lane, whole.warp)
    assert strips(turned) == [Strip((), ())]


def test_chains_are_neighbours_with_one_large_layout() -> None:
    large, small = wgmma(128, 256, 8), wgmma(128, 64, 8)
    x, y = (Value(TileType(float32, s.shape, layout=s)) for s in (large, small))
    a = make("add", (x, x))
    b = make("cast", (a.result,), dtype=float16)
    c = make("neg", (y,))
    d = make("neg", (x,))
    found = list(units(Block((), (a, b, c, d, make("yield")))))
    assert [[op.name for op in unit] for unit in found] == [["add", "cast"], ["neg"], ["neg"]]
