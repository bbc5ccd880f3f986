"""Layouts: the tensor-core fragments against their formulas, the algebra, and the pass."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from cpu_kit import Body, kernel, load_all, store_all
from ptx_kit import scheduled

from tilec.ir.core import Kernel, Op, walk
from tilec.ir.errors import InternalError
from tilec.ir.forms import verify
from tilec.ir.layout import (
    Layout,
    blocked,
    register_map,
    replicated,
    scalar,
    wgmma,
    wgmma_a8,
    wgmma_a16,
)
from tilec.ir.types import TileType, float16, float32
from tilec.passes.layouts import assign_layouts

SHAPES = [(64, 8), (64, 256), (128, 64), (256, 128)]


@pytest.mark.parametrize("warps", [4, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_accumulator_formula(shape: tuple[int, int], warps: int) -> None:
    """Row 16 w + l / 4 + 8 (v / 2 mod 2), column 8 (v / 4) + 2 (l mod 4) + v mod 2 of each 64 rows."""
    m, n = shape
    layout = wgmma(m, n, warps)
    groups, values = min(warps // 4, m // 64), n // 2
    assert layout.registers == m * n // (128 * groups)
    v, lane, warp = np.ix_(np.arange(layout.registers), np.arange(32), np.arange(warps))
    block, v = v // values, v % values
    row = 64 * (warp // 4 % groups) + 64 * groups * block + 16 * (warp % 4) + lane // 4 + 8 * (v >> 1 & 1)
    column = 8 * (v >> 2) + 2 * (lane % 4) + (v & 1)
    assert np.array_equal(layout.elements(), row * n + column)


def test_operand_a_of_8_bits_formula() -> None:
    layout = wgmma_a8(64, 64, 4)
    v, lane, warp = np.ix_(np.arange(layout.registers), np.arange(32), np.arange(4))
    step, v = v // 16, v % 16
    row = 16 * warp + lane // 4 + 8 * (v >> 2 & 1)
    column = 32 * step + 4 * (lane % 4) + (v & 3) + 16 * (v >> 3)
    assert np.array_equal(layout.elements(), row * 64 + column)


def test_a_16_bit_product_is_an_operand_as_it_is() -> None:
    """Operand A of k step s: row as D's, column 16 s + 2 (l mod 4) + v mod 2 + 8 (v / 4)."""
    d = wgmma(128, 64, 4)
    assert register_map(d, wgmma_a16(128, 64, 4)) == tuple(range(d.registers))
    r, lane = np.ix_(np.arange(32), np.arange(32))
    step, v = r // 8, r % 8
    assert np.array_equal(d.coords(r, lane, 0)[1], 16 * step + 2 * (lane % 4) + (v & 1) + 8 * (v >> 2))


LAYOUTS = [
    wgmma(128, 32, 8), wgmma_a8(64, 64, 4), blocked((3, 100), 1, 8, 4), blocked((64, 64), 0, 4, 8),
    blocked((2, 2), 1, 8, 8), replicated((4, 8), 2), scalar(4), blocked((4, 2, 64), 2, 2, 1),
]  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_every_element_is_held_once_but_for_replication(layout: Layout) -> None:
    lanes, warps = layout.replicated
    copies = 1 << (lanes.bit_count() + warps.bit_count())
    _, counts = np.unique(layout.elements(), return_counts=True)
    assert len(counts) == np.prod(layout.shape, dtype=int) and set(counts) == {copies}


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_text_round_trip(layout: Layout) -> None:
    assert Layout.parse(str(layout)) == layout


def test_text_that_is_no_layout() -> None:
    with pytest.raises(InternalError, match="X121"):
        Layout.parse("layout(4x4 | reg 1,1)")


def test_bases_must_cover_the_tile_once() -> None:
    zero = ((0,),) * 5
    with pytest.raises(InternalError, match="do not cover"):
        Layout((4,), ((1,),), zero, ())
    with pytest.raises(InternalError, match="do not cover"):
        Layout((4,), ((1,), (2,), (2,)), zero, ())


def moved(
    layout: Layout, change: Callable[[Layout], Layout], image: Callable[[np.ndarray], np.ndarray]
) -> None:
    """``change`` of a layout holds in each register what ``image`` of the tile has there."""
    tile = image(np.arange(np.prod(layout.shape, dtype=int)).reshape(layout.shape))
    after = change(layout)
    assert tile.shape == after.shape
    assert np.array_equal(tile.ravel()[after.elements()], layout.elements())


@pytest.mark.parametrize("layout", LAYOUTS[:4], ids=str)
def test_permute_and_reshape_move_nothing(layout: Layout) -> None:
    rows, columns = layout.shape
    moved(layout, lambda x: x.permute((1, 0)), np.transpose)
    moved(layout, lambda x: x.reshape((rows * columns,)), np.ravel)
    moved(layout, lambda x: x.reshape((rows, 1, columns)), lambda t: t.reshape(rows, 1, columns))
    moved(layout, lambda x: x.unsqueeze(0), lambda t: t[None])


def test_row_statistics_of_an_accumulator_need_no_conversion() -> None:
    """Reduced over columns and broadcast back, every thread finds its rows in its own registers."""
    d = wgmma(64, 64, 4)
    rows = d.drop(1).unsqueeze(1)
    assert register_map(rows, d.project(1)) == (0, 1)
    wide = rows.expand(1, 64)
    assert wide.shape == d.shape and wide.registers == 2 * 64


def test_register_map_permutes_registers_or_refuses() -> None:
    a = blocked((32, 64), 1, 4, 4)
    b = Layout(a.shape, tuple(reversed(a.reg)), a.lane, a.warp)
    found = register_map(a, b)
    assert found is not None
    for r, s in enumerate(found):
        assert b.register_coords()[r] == a.register_coords()[s]
    assert register_map(a, blocked((32, 64), 0, 4, 4)) is None


# The pass.


def laid_out(made: Kernel, warps: int = 4) -> Kernel:
    found = assign_layouts(scheduled(made, warps))
    verify(found)
    for op in walk(found.body):
        for value in op.results:
            t = value.type
            if isinstance(t, TileType) and t.space == "reg":
                assert isinstance(t.layout, Layout) == bool(t.shape), op.name
    return found


def ops(found: Kernel, name: str) -> list[Op]:
    return [op for op in walk(found.body) if op.name == name]


X16 = np.zeros((64, 64), np.float16)


def _attention_row(k: Body, *tensors: object) -> None:
    q, v, y = tensors
    zero = k.number(0.0, float32)
    acc = k.op("broadcast", zero, shape=(64, 64))
    s = k.op("dot", load_all(k, q, (64, 64)), load_all(k, v, (64, 64)), acc)  # type: ignore[arg-type]
    top = k.op("reshape", k.op("reduce", s, kind="max", axis=1), shape=(64, 1))
    p = k.op("exp2", k.op("sub", s, k.op("broadcast", top, shape=(64, 64))))
    o = k.op("dot", k.op("cast", p, dtype=float16), load_all(k, v, (64, 64)), acc)  # type: ignore[arg-type]
    store_all(k, y, k.op("cast", o, dtype=float16))  # type: ignore[arg-type]


def test_attention_needs_no_conversion() -> None:
    found = laid_out(kernel([X16, X16, X16], _attention_row))
    assert not ops(found, "convert_layout")
    first, second = ops(found, "dot")
    assert first.result.type.layout == wgmma(64, 64, 4)  # type: ignore[union-attr]
    assert second.args[0].type.layout == wgmma_a16(64, 64, 4)  # type: ignore[union-attr]


def test_a_bias_row_is_loaded_where_the_accumulator_needs_it() -> None:
    def build(k: Body, a, b, bias, y):  # type: ignore[no-untyped-def]
        acc = k.op("const", dtype=float32, shape=(64, 64), value=0.0)
        d = k.op("dot", load_all(k, a, (64, 64)), load_all(k, b, (64, 64)), acc)
        row = k.op("broadcast", load_all(k, bias, (1, 64)), shape=(64, 64))
        store_all(k, y, k.op("add", d, row))

    f32 = np.zeros((64, 64), np.float32)
    found = laid_out(kernel([X16, X16, f32[:1], f32], build))
    assert not ops(found, "convert_layout")
    assert ops(found, "load")[-1].result.type.layout == wgmma(64, 64, 4).project(0)  # type: ignore[union-attr]


def test_a_transposed_store_converts_once() -> None:
    def build(k: Body, x, y):  # type: ignore[no-untyped-def]
        store_all(k, y, k.op("permute", load_all(k, x, (64, 64)), perm=(1, 0)))

    assert len(ops(laid_out(kernel([X16, X16], build)), "convert_layout")) == 1


def test_carried_values_keep_one_layout() -> None:
    """A flexible start takes the layout of the loop's product."""

    def build(k: Body, a, b, y):  # type: ignore[no-untyped-def]
        acc = k.op("const", dtype=float32, shape=(64, 64), value=0.0)
        left, right = load_all(k, a, (64, 64)), load_all(k, b, (64, 64))
        bounds = [k.number(n) for n in (0, 4, 1)]
        total = k.loop(bounds, [acc], lambda body, i, c: (body.op("dot", left, right, c),))
        store_all(k, y, k.op("cast", total, dtype=float16))

    found = laid_out(kernel([X16, X16, X16], build))
    assert not ops(found, "convert_layout")
    (loop,) = ops(found, "for")
    layouts = {v.type.layout for v in (*loop.args[3:], *loop.blocks[0].params[1:], *loop.results)}  # type: ignore[union-attr]
    assert layouts == {wgmma(64, 64, 4)}


def test_the_pass_is_deterministic() -> None:
    made = kernel([X16, X16, X16], _attention_row)
    a, b = ([str(v.type) for op in walk(laid_out(made).body) for v in op.results] for _ in range(2))
    assert a == b and len(list(itertools.chain(a))) > 8
