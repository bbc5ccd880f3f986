"""Ring plans: who writes, who reads, how many arrive, how many bytes; and what releases release."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tilec.backends.ptx.hopper_held import held_before
from tilec.backends.ptx.hopper_plan import RingPlan, plan_rings, tensor_map
from tilec.backends.ptx.hopper_views import permuted, reshaped
from tilec.ir.core import Block, Kernel, Op, Value, frozen
from tilec.ir.errors import UnsupportedError
from tilec.ir.ops import make
from tilec.ir.types import ArefType, DType, TensorType, TileType, bool_, float8_e4m3, float16, float32, int32


class Code:
    """Collects the ops of one block."""

    def __init__(self) -> None:
        self.ops: list[Op] = []

    def __call__(self, name: str, *args: Value, blocks: Sequence[Block] = (), **attrs: Any) -> Op:
        self.ops.append(make(name, args, blocks=blocks, **attrs))
        return self.ops[-1]

    def block(self, *params: Value, leaving: Sequence[Value] = ()) -> Block:
        self("yield", *leaving)
        return Block(tuple(params), tuple(self.ops))


def tensor(
    dtype: DType = float16, rank: int = 2, contiguous: int | None = None, aligned: bool = True
) -> Value:
    return Value(TensorType(dtype, rank, rank - 1 if contiguous is None else contiguous, aligned), "T")


def kernel(
    sources: Sequence[tuple[Value, tuple[int, ...]]],
    read: Callable[[Code, Op], None],
    warps: Sequence[int] = (4, 8),
    readers: int = 1,
    depth: int = 3,
    change: str = "",
) -> tuple[Kernel, Op]:
    """One ring of loaded tiles; ``change`` is an op between load and put; ``readers`` equal groups."""
    payload = tuple(TileType(t.type.dtype, shape) for t, shape in sources)  # type: ignore[union-attr]
    new = make("aref.new", payload=payload, depth=depth)
    load = Code()
    zero = load("const", dtype=int32, shape=(), value=0).result
    values = [load("load", t, *[zero] * t.type.rank, shape=s).result for t, s in sources]  # type: ignore[union-attr]
    if change:
        values = [load(change, v).result for v in values]
    load("aref.put", new.result, *values)
    blocks = [load.block()]
    for _ in range(readers):
        code = Code()
        read(code, code("aref.get", new.result))
        code("aref.release", new.result)
        blocks.append(code.block())
    names = ("load", *(f"compute{i}" for i in range(readers)))
    groups = make(
        "warp_groups", blocks=blocks, names=names, warps=(warps[0], *warps[1:] * readers),
        registers=(40,) + (232,) * readers,
    )  # fmt: skip
    body = Block((), (new, groups, make("yield")))
    return Kernel("k", tuple(t for t, _ in sources), body, "scheduled", frozen()), new


def product(code: Code, get: Op) -> None:
    a, b = get.results
    acc = code("const", dtype=float32, shape=(a.type.shape[0], b.type.shape[1]), value=0.0)  # type: ignore[union-attr]
    code("dot", a, b, acc.result)


def transposed_product(code: Code, get: Op) -> None:
    a, b = get.results
    turned = code("permute", b, perm=(1, 0)).result
    acc = code("const", dtype=float32, shape=(a.type.shape[0], turned.type.shape[1]), value=0.0)  # type: ignore[union-attr]
    code("dot", a, turned, acc.result)


def elementwise(code: Code, get: Op) -> None:
    for tile in get.results:
        code("neg", tile)


def plan(*args: Any, **how: Any) -> RingPlan:
    made, new = kernel(*args, **how)
    return plan_rings(made)[new.result]


def test_two_tiles_of_one_product_share_barriers_and_bytes() -> None:
    found = plan([(tensor(), (128, 64)), (tensor(), (64, 256))], product)
    assert found.tma and found.box_bytes == 2 * (128 * 64 + 64 * 256)
    assert (found.full_count, found.empty_count, found.readers) == (1, 2, {"compute0": "wgmma"})
    assert [t.swizzle for t in found.tiles] == ["128B", "128B"]
    assert not found.proxy_fence


@pytest.mark.parametrize("warps,readers,expected", [(4, 1, 1), (8, 1, 2), (4, 2, 2), (8, 2, 4), (4, 3, 3)])
def test_every_reading_warpgroup_arrives_once(warps: int, readers: int, expected: int) -> None:
    found = plan([(tensor(), (128, 64)), (tensor(), (64, 64))], product, (4, warps), readers)
    assert found.empty_count == expected


def test_ordinary_readers_arrive_once_a_warp() -> None:
    found = plan([(tensor(), (64, 64))], elementwise, (4, 8))
    assert (found.tma, found.empty_count, found.readers) == (True, 8, {"compute0": "warp"})


def test_bytes_are_those_of_the_boxes_not_of_the_buffer() -> None:
    assert plan([(tensor(float8_e4m3), (128, 128))], elementwise).box_bytes == 128 * 128
    padded = plan([(tensor(), (9, 64))], elementwise)
    assert (padded.box_bytes, padded.tiles[0].bytes) == (9 * 128, 2048)


def test_computed_values_are_stored_by_every_warp_with_a_fence_for_wgmma() -> None:
    sources = [(tensor(), (128, 64)), (tensor(), (64, 64))]
    found = plan(sources, product, change="neg")
    assert (found.tma, found.full_count, found.proxy_fence) == (False, 4, True)
    read = plan(sources, elementwise, change="neg")
    assert (read.full_count, read.proxy_fence) == (4, False)


@pytest.mark.parametrize(
    "source",
    [
        (tensor(aligned=False), (64, 64)),
        (tensor(rank=2, contiguous=0), (24, 8)),
        (Value(TensorType(float16, 2, None), "T"), (64, 64)),
    ],
)
def test_what_the_copy_engine_cannot_copy_is_stored(source: tuple[Value, tuple[int, int]]) -> None:
    found = plan([source], elementwise)
    assert found.tma == (source[1] == (24, 8))


def test_eight_bit_operands_are_stored_if_memory_has_the_wrong_major() -> None:
    right = [(tensor(float8_e4m3), (64, 64)), (tensor(float8_e4m3), (128, 64))]
    assert plan(right, transposed_product).tma
    wrong = [(tensor(float8_e4m3), (64, 64)), (tensor(float8_e4m3), (64, 128))]
    found = plan(wrong, product)
    assert not found.tma and found.tiles[1].inner == 0


def test_maps_list_the_contiguous_dimension_first() -> None:
    source = tensor(rank=3, contiguous=1)
    made, new = kernel([(source, (1, 64, 32))], elementwise)
    found = tensor_map(source, plan_rings(made)[new.result].tiles[0], 5)
    assert (found.arg, found.dims, found.box, found.swizzle) == (5, (1, 2, 0), (64, 32, 1), "128B")


def test_two_put_sites_are_refused() -> None:
    made, new = kernel([(tensor(), (64, 64))], elementwise)
    groups = made.body.ops[1]
    load = groups.blocks[0]
    put = next(op for op in load.ops if op.name == "aref.put")
    twice = Block((), (*load.ops[:-1], put.with_(), load.ops[-1]))
    body = Block((), (new, groups.with_(blocks=(twice, *groups.blocks[1:])), made.body.ops[2]))
    with pytest.raises(UnsupportedError, match="U503"):
        plan_rings(made.with_(body=body))


def test_views() -> None:
    assert reshaped((0, 1, 2), (2, 1, 3), (2, 3)) == (0, 2)
    assert reshaped((None, 1, 2), (1, 64, 32), (64, 1, 32)) == (1, None, 2)
    assert reshaped((0, 1), (64, 32), (32, 64)) is None
    assert permuted((0, None, 2), (2, 1, 0)) == (2, None, 0)


def loop(body: Code) -> Op:
    index = Value(TileType(int32), "i")
    bound = make("const", dtype=int32, shape=(), value=4)
    return make("for", (bound.result,) * 3, blocks=[body.block(index)])


@pytest.mark.parametrize(
    "depth,keep,inside,after",
    [
        (1, 0, (1, 1), (0, 0)),
        (3, 1, (1, 2), (0, 1)),
        (4, 2, (1, 3), (0, 2)),
        (2, 1, (1, 2), (0, 1)),
    ],
)
def test_slots_held_at_releases(depth: int, keep: int, inside: Any, after: Any) -> None:
    ring = Value(ArefType((TileType(float16, (64, 64)),), depth), "r")
    code = Code()
    code("aref.get", ring)
    lag = code("aref.release", ring, keep=keep)
    drain = make("aref.release", (ring,), keep=0)
    found = held_before(Block((), (loop(code), drain, make("yield"))), ring, depth)
    assert (found[lag], found[drain]) == (inside, after)


def test_slots_held_after_branches_join() -> None:
    ring = Value(ArefType((TileType(float16, (64, 64)),), 2), "r")
    then = Code()
    then("aref.get", ring)
    cond = make("const", dtype=bool_, shape=(), value=True)
    branch = make("if", (cond.result,), blocks=[then.block(), Code().block()])
    drain = make("aref.release", (ring,), keep=0)
    assert held_before(Block((), (branch, drain, make("yield"))), ring, 2)[drain] == (0, 1)
