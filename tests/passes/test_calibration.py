"""The comparison with published figures, and that docs/machine-model.md says what it gives."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from math import isnan
from pathlib import Path

import pytest
from machine_page import bias_table, free_table

from tilec.ir.types import float16
from tilec.passes.schedule.calibrate import CLOCKS, judged, kendall, listing, report
from tilec.passes.schedule.calibrate_loops import Tile, gemm
from tilec.passes.schedule.calibrate_probes import in_flight, product_interval, warp_product_interval
from tilec.passes.schedule.calibrate_rows import Row, predicted, read
from tilec.passes.schedule.machines import H100

DATA = Path(__file__).parent / "data" / "published.csv"
PAGE = (Path(__file__).parents[2] / "docs" / "machine-model.md").read_text(encoding="utf-8")


@cache
def rows() -> list[Row]:
    return read(DATA)


def quick() -> list[Row]:
    """Rows whose loops need no solver."""
    return [r for r in rows() if r.kernel != "attention-fwd"]


def test_every_figure_has_a_source() -> None:
    assert len(rows()) == 275 and all(r.source and r.unit and r.value > 0 for r in rows())


def test_the_page_has_what_the_model_says() -> None:
    verdicts = report(quick()).splitlines()[2:-1]
    assert len(verdicts) == 16
    for line in verdicts:
        assert line in PAGE
    for kernel in ("ubench wgmma m64n64", "ubench TMA->", "ubench TMA load"):
        assert listing(rows(), kernel) in PAGE


@pytest.mark.slow
def test_the_page_has_what_the_model_says_of_attention() -> None:
    assert report(rows()) in PAGE and bias_table(rows()) in PAGE
    table, worst = free_table()
    assert table in PAGE and f"up to {worst:.0f} %" in PAGE


def test_shapes_are_read() -> None:
    row = Row("gemm", "cuBLAS", "H100-SXM5", "fp16", "M=N=8192 K=256", 1, "TFLOP/s", "")
    assert row.sizes == {"M": 8192, "N": 8192, "K": 256} and row.numbers == [8192, 256]


def test_what_the_model_does_not_know_it_does_not_say() -> None:
    row = Row("gemm", "cuBLAS", "H100-SXM5", "fp16", "M=N=K=4096", 700, "TFLOP/s", "")
    assert predicted(row) is not None
    for other in (
        replace(row, shape="M=N=K=512"), replace(row, gpu="MI300"), replace(row, impl="Triton"),
        replace(row, kernel="softmax"), replace(row, kernel="attention-fwd", impl="cuDNN"),
    ):  # fmt: skip
        assert predicted(other) is None


def test_only_the_clock_is_fitted() -> None:
    """A source that is slower throughout gets a slower clock, and the same error and rank."""
    mine = [r for r in rows() if "matmul/README" in r.source]
    [verdict] = judged(mine)
    [slower] = judged([replace(r, value=0.8 * r.value) for r in mine])
    assert verdict.clock in CLOCKS and verdict.clock is not None and slower.clock is not None
    assert slower.clock == pytest.approx(0.8 * verdict.clock, rel=0.01)
    assert slower.mape == pytest.approx(verdict.mape, abs=0.5) and slower.tau == verdict.tau


def test_figures_in_cycles_are_not_fitted() -> None:
    mine = [r for r in rows() if r.kernel.startswith("ubench wgmma m64nNk16")]
    [verdict] = judged(mine)
    [doubled] = judged([replace(r, value=2 * r.value) for r in mine])
    assert verdict.clock is None and verdict.mape < 1 and doubled.mape == pytest.approx(50, abs=1)


@pytest.mark.parametrize(
    ("pairs", "tau"),
    [
        ([(1, 1), (2, 2), (3, 3)], 1), ([(1, 3), (2, 2), (3, 1)], -1), ([(1, 1), (2, 3), (3, 2)], 1 / 3),
        ([(1, 1), (2, 1), (3, 2)], 2 / 6**0.5),
    ],
)  # fmt: skip
def test_kendall(pairs: list[tuple[float, float]], tau: float) -> None:
    assert kendall(pairs) == pytest.approx(tau)
    assert isnan(kendall([(1, 1)])) and isnan(kendall([(1, 1), (2, 1)]))


def test_products_in_flight() -> None:
    """One at a time costs interval and drain; enough of them only the interval."""
    assert in_flight(H100, 64, 1, 1) == 33 + 46 + 1
    assert in_flight(H100, 64, 1, 8) == 33 == round(product_interval(H100, 64))
    assert [round(warp_product_interval(H100, n), 2) for n in (1, 2, 4, 8)] == [25, 12.5, 6.26, 6.26]


def test_time_grows_by_waves_and_never_beats_the_bounds() -> None:
    tile = Tile(2, 64, 256, 64, 48 * 1024, 4)
    times = {m: gemm(H100, tile, float16, m, 256 * 11, 4096) for m in (128 * 12, 128 * 13)}
    assert times[128 * 12].cycles * 2 == times[128 * 13].cycles  # 132 tiles, and 143 on 132 SMs
    for t in times.values():
        assert t.cycles > t.ideal and t.seconds(1.5) >= t.floor + t.launch
