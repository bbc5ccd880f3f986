"""What is emitted, in cycles of the machine model: nearly as fast as the plan, or slower with reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tilec.ir.core import Kernel, frozen
from tilec.ir.types import ArefType
from tilec.load import load_kernel
from tilec.passes import Options, lower
from tilec.passes.schedule.machines import H100
from tilec.passes.schedule.replay import Replay, replay

ROOT = Path(__file__).parents[2]
TILES = 24


def attention(d: int, causal: bool, bn: int = 128, tiles: int = TILES, **options: Any) -> tuple[int, Replay]:
    """The plan's interval and the replay of one block of rows that sees ``tiles`` tiles of keys."""
    constants = (f"D={d}", f"causal={causal}", f"BN={bn}")
    kernel = load_kernel(f"{ROOT}/examples/attention.py:attention", ",".join(["f16[4]"] * 4), constants)
    stages = lower(kernel, "sm_90a", Options(**options))
    q, k = (np.zeros((1, 1, n, d), np.float16) for n in (128, bn * tiles))
    return interval(stages), replay(stages.scheduled, H100, (1, 1, 1), [q, k, k, q.copy()])


def gemm(bm: int, bn: int, bk: int, **options: Any) -> tuple[int, Replay]:
    kernel = load_kernel(
        f"{ROOT}/examples/gemm.py:gemm", "f16[2],f16[2],f16[2]", (f"BM={bm}", f"BN={bn}", f"BK={bk}")
    )
    stages = lower(kernel, "sm_90a", Options(**options))
    a, b, c = (np.zeros(s, np.float16) for s in ((bm, bk * TILES), (bk * TILES, bn), (bm, bn)))
    return interval(stages), replay(stages.scheduled, H100, (1, 1, 1), [a, b, c])


def gradient(name: str, constants: tuple[str, ...], rows: int, heads: int) -> tuple[int, Replay]:
    """The plan's interval and the replay of one block of ``rows`` rows; all else has 60 tiles of 64."""
    more = ",f16[4]" * name.endswith("dkdv")
    signature = ",".join(["f16[4]"] * 4) + ",f32[3],f32[3],f16[4]" + more
    kernel = load_kernel(f"{ROOT}/examples/attention_backward.py:{name}", signature, constants)
    stages = lower(kernel, "sm_90a", Options(cluster=1))
    of_queries, of_keys = (rows, 64 * 60) if name.endswith("dq") else (64 * 60, rows)
    q, k = (np.zeros((1, 1, n, heads), np.float16) for n in (of_queries, of_keys))
    sums = np.zeros((1, 1, of_queries), np.float32)
    out = [q.copy()] if name.endswith("dq") else [k.copy(), k.copy()]
    return interval(stages), replay(stages.scheduled, H100, (1, 1, 1), [q, k, k, q, sums, sums, *out])


def interval(stages: Any) -> int:
    [answer] = stages.answers
    assert answer.schedule is not None
    return int(answer.schedule.ii)


@pytest.mark.parametrize(
    ("d", "causal", "bn", "loss"),
    [(64, False, 128, 0.06), (64, True, 128, 0.06), (128, False, 128, 0.03), (128, True, 128, 0.03),
     (256, False, 64, 0.03), (256, True, 64, 0.03)],
)  # fmt: skip
def test_attention_is_as_fast_as_its_plan(d: int, causal: bool, bn: int, loss: float) -> None:
    ii, run = attention(d, causal, bn)
    assert ii <= run.interval("k") <= ii * (1 + loss)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "d", "rows", "loss"),
    [("attention_dkdv", 64, 128, 0.17), ("attention_dkdv", 128, 64, 0.0),
     ("attention_dq", 64, 128, 0.03), ("attention_dq", 128, 128, 0.03)],
)  # fmt: skip
def test_gradients_are_nearly_as_fast_as_their_plan(
    name: str, d: int, rows: int, loss: float, real_budget: None
) -> None:
    constants = (f"D={d}", *((f"BN={rows}",) if name == "attention_dkdv" else ()))
    ii, run = gradient(name, constants, rows, d)
    assert ii <= run.interval("k" if name == "attention_dq" else "q") <= ii * (1 + loss)


@pytest.mark.parametrize(("bm", "bn", "bk"), [(128, 256, 64), (128, 128, 64), (64, 128, 64), (128, 256, 32)])
def test_products_are_as_fast_as_their_plan(bm: int, bn: int, bk: int) -> None:
    ii, run = gemm(bm, bn, bk)
    assert run.interval("a_b") == ii


def test_one_slot_is_slower() -> None:
    """A copy of about 1800 cycles then stands between two products."""
    ii, run = gemm(128, 256, 64, stages=1)
    assert run.interval("a_b") > 2 * 1032
    assert abs(run.interval("a_b") - ii) < 100


def test_groups_are_busy_at_different_things() -> None:
    """While one group is at its softmax the other has the tensor cores: turns alternate."""
    _, run = attention(128, False)
    turns = [e.group for e in run.events if e.op.name == "turn.exit"]
    assert turns[:6] == ["compute_a", "compute_b", "compute_a"] * 2 and len(turns) >= 2 * TILES
    busy = sum(e.op.name == "dot" for e in run.events)
    assert busy == 2 * 2 * TILES


def with_depth(kernel: Kernel, name: str, depth: int) -> Kernel:
    """The kernel with another number of slots for a ring."""
    for op in kernel.body.ops:
        if op.name == "aref.new" and op.result.hint == name:
            kind = op.result.type
            assert isinstance(kind, ArefType)
            object.__setattr__(op.result, "type", ArefType(kind.payload, depth))
            object.__setattr__(op, "attrs", frozen(**{**op.attrs, "depth": depth}))
    return kernel


def test_fewer_slots_than_planned_cost_cycles() -> None:
    kernel = load_kernel(f"{ROOT}/examples/gemm.py:gemm", "f16[2],f16[2],f16[2]", ())
    arrays = [np.zeros(s, np.float16) for s in ((128, 64 * TILES), (64 * TILES, 256), (128, 256))]
    found = []
    for depth in (2, 3, 4):
        scheduled = with_depth(lower(kernel, "sm_90a").scheduled, "a_b", depth)
        found.append(replay(scheduled, H100, (1, 1, 1), arrays).interval("a_b"))
    assert found[0] > found[1] >= found[2] == 1032
