"""Autotuning: the model ranks for a GPU, the clock chooses on the CPU, and both are remembered."""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tilec
import tilec.language as tl
from tilec.errors import TilecError
from tilec.passes import Options, lower

F16 = ("f16[2]",) * 3
SMALL, LARGE = tilec.Config({"BM": 64, "BN": 64}), tilec.Config({"BM": 128, "BN": 256})
TOO_LARGE = tilec.Config({"BM": 128, "BN": 256, "BK": 1024})


@tilec.autotune([SMALL, LARGE, TOO_LARGE])
@tilec.kernel
def gemm(A: tl.Tensor, B: tl.Tensor, C: tl.Tensor,
         BM: tl.constexpr[int] = 128, BN: tl.constexpr[int] = 128, BK: tl.constexpr[int] = 64):  # fmt: skip
    m, n = tl.program_id(0), tl.program_id(1)
    acc = tl.zeros((BM, BN), tl.float32)
    for k in tl.range(tl.cdiv(A.shape[1], BK)):
        acc = tl.dot(tl.load(A, (m, k), (BM, BK)), tl.load(B, (k, n), (BK, BN)), acc)
    tl.store(C, (m, n), acc.to(C.dtype))


@tilec.autotune([tilec.Config({"BLOCK": 4}), tilec.Config({"BLOCK": 4096})], repeat=2)
@tilec.kernel
def count(X: tl.Tensor, Y: tl.Tensor, TOTAL: tl.Tensor, BLOCK: tl.constexpr[int] = 64):
    i = tl.program_id(0)
    x = tl.load(X, (i,), (BLOCK,))
    tl.store(Y, (i,), x + 1)
    tl.atomic_add(TOTAL, (tl.zeros((1,), tl.int32),), 1)


def grid(meta: Any) -> tuple[int, ...]:
    return (tl.cdiv(8192, meta["BLOCK"]),)


def test_the_ranking_is_work_per_cycle_of_the_solved_loops() -> None:
    ranked = gemm.rank(F16)
    assert [r.config for r in ranked] == [LARGE, SMALL, TOO_LARGE]
    for r, config in ((ranked[0], LARGE), (ranked[1], SMALL)):
        sizes = {"BK": 64, **dict(config.constants)}
        [answer] = lower(gemm.kernel.trace(F16, **dict(config.constants)), "sm_90a", Options()).answers
        assert answer.schedule is not None and r.score.intervals == (answer.schedule.ii,)
        assert r.score.rate == 2 * sizes["BM"] * sizes["BN"] * sizes["BK"] / answer.schedule.ii
    assert ranked[2].score.error.startswith("R101") and ranked[2].score.rate == 0


def test_a_grid_that_leaves_machines_idle_counts() -> None:
    """One program of the large tile on 132 SMs: as good as nothing; the small tile has eight."""
    ranked = gemm.rank(F16, grid=lambda meta: (tl.cdiv(128, meta["BM"]), tl.cdiv(256, meta["BN"])))
    assert [r.config for r in ranked][:2] == [SMALL, LARGE]


def test_other_processes_rank_alike() -> None:
    tuned = tilec.autotune([SMALL, LARGE], executor=None)(gemm.kernel)
    with ProcessPoolExecutor(2) as pool:
        spread = tilec.autotune([SMALL, LARGE], executor=pool)(gemm.kernel)
        assert spread.rank(F16) == tuned.rank(F16)


def test_a_cluster_ranks_alike() -> None:
    distributed = pytest.importorskip("dask.distributed", reason="dask.distributed is not installed")
    local = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": None}
    with distributed.Client(**local) as client:
        spread = tilec.autotune([SMALL, LARGE], executor=client.get_executor())(gemm.kernel)
        assert spread.rank(F16) == gemm.rank(F16)[:2]


def test_the_cpu_times_on_copies_and_remembers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEC_CACHE_DIR", str(tmp_path))
    x, y, total = np.arange(8192, dtype=np.float32), np.empty(8192, np.float32), np.zeros(1, np.int32)
    count[grid](x, y, total)
    assert np.array_equal(y, x + 1)
    [chosen] = count.chosen.values()
    assert total[0] == grid(dict(chosen.constants))[0]  # only the launch that was asked for counted

    again = tilec.autotune(count.configs)(count.kernel)
    timed = watched(monkeypatch, again)
    again[grid](x, y, total)
    assert list(again.chosen.values()) == [chosen] and timed == []
    again[lambda meta: (1,)](x, y, total)  # another grid is another question
    assert len(timed) == 2


def test_the_cpu_takes_the_fastest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEC_CACHE_DIR", str(tmp_path))
    tuned = tilec.autotune([tilec.Config({"BLOCK": n}) for n in (8, 16, 32)])(count.kernel)
    watched(monkeypatch, tuned, {8: 3.0, 16: 1.0, 32: 2.0})
    x, total = np.zeros(64, np.float32), np.zeros(1, np.int32)
    tuned[lambda meta: (tl.cdiv(64, meta["BLOCK"]),)](x, x.copy(), total)
    assert total[0] == 4


def watched(
    monkeypatch: pytest.MonkeyPatch, tuned: Any, seconds: dict[int, float] | None = None
) -> list[Any]:
    """The configurations that are timed; they take as long as is said."""
    timed: list[Any] = []

    def time(config: Any, *rest: Any) -> float:
        timed.append(config)
        return (seconds or {}).get(dict(config.constants)["BLOCK"], 1.0)

    monkeypatch.setattr(tuned, "_time", time)
    return timed


def test_the_emulator_gets_the_first_of_the_ranking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEC_CACHE_DIR", str(tmp_path))
    tuned = tilec.autotune(
        [tilec.Config({"BM": 64, "BN": 64, "BK": 1024}), tilec.Config({"BM": 64, "BN": 32, "BK": 32})]
    )(gemm.kernel)
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s).astype(np.float16) for s in ((20, 32), (32, 16)))
    c = np.empty((20, 16), np.float16)
    tuned[1](a, b, c, backend="emulator")
    np.testing.assert_allclose(c, a.astype(float) @ b.astype(float), rtol=2e-3, atol=0.02)
    assert [dict(x.constants)["BK"] for x in tuned.chosen.values()] == [32]


def test_where_nothing_compiles() -> None:
    tuned = tilec.autotune([TOO_LARGE])(gemm.kernel)
    a = np.zeros((8, 8), np.float16)
    with pytest.raises(TilecError, match=r"V358.*R101"):
        tuned[1](a, a.copy(), a.copy(), backend="emulator")


def test_a_constant_that_the_kernel_does_not_have() -> None:
    with pytest.raises(TilecError, match="T360"):
        tilec.autotune([tilec.Config({"WRONG": 1})])(gemm.kernel).rank(F16)


def test_options_are_part_of_a_configuration() -> None:
    with pytest.raises(TypeError):
        tilec.Config({}, wrong=1)
    deep = tilec.Config(dict(LARGE.constants), stages=9)
    ranked = tilec.autotune([deep, LARGE])(gemm.kernel).rank(F16)
    assert ranked[0].config == LARGE and ranked[1].score.error.startswith("I101")


def test_importing_tilec_does_not_load_the_passes() -> None:
    import subprocess

    code = "import sys, tilec; assert 'tilec.tune' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
