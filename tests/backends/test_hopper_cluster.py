"""Clusters on Hopper: tiles that TMA brings to several programs at once, against the interpreter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hopper_kit import MODES, agree, assembled, attention, gemm, persistent, random_array, tile_kernel, twin

import tilec
import tilec.language as tl
from tilec.backends.artifact import Artifact
from tilec.ir.core import walk
from tilec.ir.errors import TilecError
from tilec.ir.interp import interpret
from tilec.passes import Options, lower
from tilec.runtime import emulator
from tilec.runtime.emulator import launch

FEW = MODES[2:3]


def arguments(m: int = 200, n: int = 248) -> list[Any]:
    return [random_array((m, 200)), random_array((200, n)), np.zeros((m, n), np.float16)]


def tight(text: str) -> bool:
    found = assembled(text)
    return found.spill_stores == found.spill_loads == 0 and all(m.severity == "info" for m in found.messages)


def log_of(fn: Any, args: Any, options: Options, **meta: Any) -> str:
    return lower(tile_kernel(fn, args, **meta), "sm_90a", options).log[-1]


@pytest.mark.parametrize(
    ("rows", "columns", "cluster", "copies"),
    [(64, 64, (2, 1, 1), 1), (128, 64, (1, 2, 1), 1), (128, 128, (2, 1, 1), 2)],
)
def test_a_pair_of_programs_loads_the_larger_tile_together(
    rows: int, columns: int, cluster: tuple[int, int, int], copies: int
) -> None:
    """Tiles hang over the ends of the matrices, and one program of a pair may have nothing to do."""
    grid = (-(-200 // rows), -(-248 // columns))
    modes = MODES if rows == columns == 128 else FEW
    artifact = agree(gemm, grid, arguments(), BM=rows, BN=columns, options=Options(cluster=2), modes=modes)
    assert artifact.cluster == cluster and artifact.text.count(".multicast::cluster [") == copies
    assert f".reqnctapercluster {', '.join(map(str, cluster))}" in artifact.text
    assert tight(artifact.text)


def test_four_programs() -> None:
    artifact = agree(gemm, (4, 4), arguments(), options=Options(cluster=4, stages=2), modes=FEW)
    assert artifact.cluster == (4, 1, 1) and "], 15;" in artifact.text
    assert tight(artifact.text)


@tilec.kernel
def grouped(X: tl.Tensor, W: tl.Tensor, OFFSETS: tl.Tensor, OUT: tl.Tensor):
    """Programs of one group, side by side in n, share the rows of a section."""
    n, m, group = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    start, stop = tl.gather(OFFSETS, group), tl.gather(OFFSETS, group + 1)
    rows, out = tl.section(X, start, stop), tl.section(OUT, start, stop)
    acc = tl.zeros((64, 64), tl.float32)
    for k in tl.range(tl.cdiv(X.shape[1], 64)):
        w = tl.load(W, (group, k, n), (1, 64, 64)).reshape(64, 64)
        acc = tl.dot(tl.load(rows, (m, k), (64, 64)), w, acc)
    tl.store(out, (m, n), acc.to(OUT.dtype))


def test_the_rows_of_a_section_are_shared() -> None:
    offsets = np.array([0, 70, 70, 100], np.int32)
    args = [random_array((100, 72)), random_array((3, 72, 128)), offsets, np.full((100, 128), 7, np.float16)]
    artifact = agree(grouped, (2, 2, 3), args, options=Options(cluster=2), modes=FEW)
    # The other choice, a pair in m, would share W, whose tile is as large: the first axis is taken.
    assert artifact.cluster == (2, 1, 1) and artifact.workspace == 2 * 128
    assert tight(artifact.text)


def test_blocks_of_queries_share_keys_and_values() -> None:
    q, k = random_array((2, 200, 64)), random_array((1, 90, 64))
    args = [q, k, random_array((1, 90, 64), seed=1), np.zeros_like(q)]
    artifact = agree(attention, (4, 2), args, options=Options(cluster=2), modes=FEW, tolerance=5e-3)
    assert artifact.cluster == (2, 1, 1) and artifact.text.count(".multicast::cluster [") == 2
    assert tight(artifact.text)


@pytest.mark.parametrize(
    ("kernel", "meta", "args"),
    [
        (
            attention,
            {"causal": True},
            [random_array((1, 128, 64))] * 3 + [np.zeros((1, 128, 64), np.float16)],
        ),
        (persistent, {}, arguments()),
    ],
    ids=["causal", "persistent"],
)
def test_programs_that_make_other_trips_are_no_cluster(kernel: Any, meta: Any, args: Any) -> None:
    """Blocks of a causal mask have loops of other lengths, and other heads other keys; programs of a
    persistent kernel have no tile in common."""
    stages = lower(tile_kernel(kernel, args, **meta), "sm_90a", Options(cluster=2))
    assert "cluster" not in stages.scheduled.attrs and "no cluster: programs" in stages.log[-1]
    assert all("cluster" not in op.attrs for op in walk(stages.scheduled.body))


def test_a_cluster_is_made_where_l2_binds() -> None:
    """A tile of 128 x 256 x 64 takes 1032 cycles of the tensor cores, and 48 KiB of it L2 1239; half of B
    comes from the other program. Keys and values of attention come within the interval."""
    options, args = Options(cluster=0), arguments()
    line = log_of(gemm, args, options, BM=128, BN=256)
    assert line == "cluster of 2 along grid axis 0 (B by TMA multicast): interval with L2 1239 -> 1032"
    heads = [random_array((1, 128, 64))] * 3 + [np.zeros((1, 128, 64), np.float16)]
    found = lower(tile_kernel(attention, heads, BM=128), "sm_90a", options)
    assert "no cluster: the interval with L2 is" in found.log[-1] and "cluster" not in found.scheduled.attrs


def test_late_arrivals_are_part_of_the_price() -> None:
    """With one slot the next copy waits for the last reader anyway; arrivals from another SM take longer."""
    args = arguments()
    one = log_of(gemm, args, Options(cluster=2, stages=1), BM=128, BN=256)
    assert one.endswith("interval with L2 2876 -> 3089")
    assert "no cluster: the interval with L2 is 2876" in log_of(gemm, args, Options(stages=1), BM=128, BN=256)


def test_a_launch_takes_pairs_where_they_pay_and_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel that `compile` gives runs on any grid; only its launch knows whether pairs are whole."""
    seen: list[tuple[int, int, int]] = []
    run = emulator.launch

    def watched(artifact: Artifact, *args: Any) -> Any:
        seen.append(artifact.cluster)
        return run(artifact, *args)

    monkeypatch.setattr(emulator, "launch", watched)
    for grid, options, want in (
        ((2, 1), None, (2, 1, 1)),
        ((3, 1), None, (1, 1, 1)),
        ((2, 1), Options(cluster=1), (1, 1, 1)),
    ):
        args, right = arguments(grid[0] * 64, 64), arguments(grid[0] * 64, 64)
        interpret(tile_kernel(gemm, right), grid, right)
        gemm[grid](*args, backend="emulator", options=options, BM=64, BN=64, BK=64)
        assert seen.pop() == want and not seen
        assert np.abs(args[2].astype(float) - right[2].astype(float)).max() < 0.05
    alone = gemm.compile(("f16[2]", "f16[2]", "f16[2]"))
    assert alone.artifact.cluster == (1, 1, 1) and alone.artifact.pairs == (2, 1, 1)
    assert "reqncta" not in alone.artifact.text and "takes clusters" in alone.stages.log[-1]


def test_odd_grids_fall_back() -> None:
    args, want = arguments(130, 72), arguments(130, 72)
    options = Options(cluster=2)
    interpret(tile_kernel(gemm, want), (3, 2), want)
    gemm[(3, 2)](*args, backend="emulator", options=options, BM=64, BN=64, BK=64)
    assert np.abs(args[2].astype(float) - want[2].astype(float)).max() < 0.05
    artifact = gemm.compile(("f16[2]", "f16[2]", "f16[2]"), options=options).artifact
    with pytest.raises(TilecError, match="clusters"):
        launch(artifact, (3, 2), args)


def test_an_option_that_is_not_there() -> None:
    with pytest.raises(TilecError, match="cluster=3"):
        lower(tile_kernel(gemm, arguments()), "sm_90a", Options(cluster=3))


@pytest.fixture(scope="module")
def pair() -> Artifact:
    return agree(gemm, (2, 1), arguments(128, 64), options=Options(cluster=2, stages=1), modes=())


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        # A slot is filled again although the other program still reads it.
        ("_, [%MAPPED]", "_, [%OWN]", "E"),
        (".acquire.cluster.shared::cta", ".shared::cta", "W13"),
        ("barrier.cluster.arrive.release;\n    barrier.cluster.wait.acquire;\n    ret", "ret", "E23"),
        ("fence.mbarrier_init.release.cluster;", "", "W14"),
    ],
    ids=["own arrival only", "scope", "end", "init"],
)
def test_the_emulator_misses_what_a_cluster_needs(pair: Artifact, old: str, new: str, code: str) -> None:
    text = pair.text
    if "%MAPPED" in old:
        line = next(x for x in text.splitlines() if "mapa" in x)
        text = text.replace(line, line.replace(line.split(", ")[-1], "%cluster_ctarank;"))
    else:
        assert old in text
        text = text.replace(old, new)
    args = [twin(a) for a in arguments(128, 64)]
    try:
        found = launch(replace(pair, text=text), (2, 1), args, strict=False, mode="lazy").reports
    except TilecError as error:
        found = getattr(error, "reports", ()) or (error,)
    assert any(r.code.startswith(code) or r.code.startswith("D") for r in found), found
