"""`tilec bench cpu`: the command, its arithmetic, and the kernels that it times."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import numpy as np
import pytest
from click.testing import CliRunner

from tilec.bench import interpreted, kernels
from tilec.bench import measure as measure_module
from tilec.bench.measure import in_turns
from tilec.bench.rows import Row, measure, table
from tilec.bench.works import INTERPRETER, Prepared, Work, works
from tilec.cli import main


def test_the_quick_run_gives_rows_as_json() -> None:
    result = CliRunner().invoke(main, ["bench", "cpu", "--quick", "--samples", "1", "--format", "json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert {r["work"].split()[1] for r in found["rows"]} == {"copy", "scale", "add", "triad"}
    assert all(r["ours"] > 0 and {"peer", "theirs", "ratio", "target"} <= set(r) for r in found["rows"])
    assert found["launch_us"] > 0 and found["host"]["threads"] >= 1


def ticking(costs: dict[str, float]) -> tuple[Callable[[], float], Callable[[str], Callable[[], None]]]:
    """A clock that only moves when a run is called, by that run's cost."""
    now = [0.0]

    def run(name: str) -> Callable[[], None]:
        def call() -> None:
            now[0] += costs[name]

        return call

    return lambda: now[0], run


def test_speeds_and_ratios() -> None:
    clock, run = ticking({"ours": 2.0, "theirs": 3.0})
    assert in_turns([run("ours"), run("theirs")], 3, clock, 0.0) == pytest.approx([2.0, 3.0])
    work = Work("w", "p", 1.4, 6e9, "GB/s", lambda: Prepared(run("ours"), run("theirs"), lambda: 0.5))
    row = measure(work, 3, clock, 0.0)
    assert (row.ours, row.theirs, row.ratio) == pytest.approx((3.0, 2.0, 1.5))
    assert row.reached and row.error == 0.5 and row.peer_error is None
    [line] = table([row])
    assert "1.50x" in line and line.endswith("yes")


def test_a_missing_peer_leaves_the_ratio_open() -> None:
    clock, run = ticking({"ours": 2.0})
    row = measure(Work("w", "p", 1.0, 2e9, "GB/s", lambda: Prepared(run("ours"), None)), 1, clock, 0.0)
    assert row.theirs is None and row.ratio is None and row.reached is None
    assert "not installed" in next(iter(table([row])))


@pytest.mark.parametrize("theirs", [600.0, None])
def test_a_peer_in_a_process_of_its_own(theirs: float | None) -> None:
    clock, run = ticking({"ours": 2.0})
    found = Prepared(run("ours"), None, apart=lambda: theirs)
    row = measure(Work("w", "p", 500.0, 2e9, "GB/s", lambda: found), 1, clock, 0.0)
    assert row.ratio == (None if theirs is None else pytest.approx(300))
    assert row.reached is (None if theirs is None else False)


def test_samples_begin_after_a_rest_and_calls_that_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    did: list[str] = []
    monkeypatch.setattr(time, "sleep", lambda seconds: did.append(f"rest {seconds}"))
    monkeypatch.setattr(measure_module, "calls_for", lambda run: 2)
    in_turns([lambda: did.append("a"), lambda: did.append("b")], 2, lambda: 0.0, 0.25)
    sides = {"a": ["rest 0.25", *"aaaa"], "b": ["rest 0.25", *"bbbb"]}
    assert did == [*"aabb", *sides["a"], *sides["b"], *sides["b"], *sides["a"]]


@pytest.mark.parametrize("name", [n for n in interpreted.CASES if "512" not in n])
def test_what_is_timed_beside_tritons_interpreter_runs(name: str) -> None:
    interpreted.CASES[name].make(None)()


@pytest.mark.parametrize(("ratio", "reached"), [(0.9499, False), (0.95, True)])
def test_a_target_is_a_lower_bound(ratio: float, reached: bool) -> None:
    assert Row("w", "p", ratio, 1.0, "x", ratio, 0.95).reached is reached


def test_every_work_of_the_contract_is_there() -> None:
    names = [w.name for w in works() if w.peer != INTERPRETER]
    assert sum(n.startswith("gemm f32") for n in names) == 6
    assert sum("attention" in n for n in names) == 16 and sum("causal" in n for n in names) == 8
    assert {w.target for w in works() if w.peer == "STREAM copy"} == {0.9}
    assert sum(w.peer == "numba" for w in works()) == 3
    assert {w.target for w in works() if w.peer == INTERPRETER} == {500.0}


@pytest.mark.parametrize("causal", [False, True])
def test_the_timed_attention_is_right(causal: bool) -> None:
    q, k, v = (np.random.default_rng(i).standard_normal((2, 70, 16)).astype(np.float32) for i in range(3))
    o = np.zeros_like(q)
    kernels.attention[(3, 2)](q, k, v, o, causal=causal, D=16, BM=32, BN=32)
    s = q.astype(np.float64) @ k.swapaxes(1, 2) / 4
    s = np.where(np.tri(70, dtype=bool) | (not causal), s, -np.inf)
    p = np.exp(s - s.max(axis=2, keepdims=True))
    np.testing.assert_allclose(o, p @ v / p.sum(axis=2, keepdims=True), atol=2e-6)


def test_the_timed_norms_are_right() -> None:
    x = np.random.default_rng(0).standard_normal((5, 100)).astype(np.float32)
    w, b, wide = x[0] + 1, x[1], x.astype(np.float64)
    outs = [np.zeros_like(x) for _ in range(3)]
    kernels.softmax[(5,)](x, outs[0], BN=128)
    kernels.layer_norm[(5,)](x, w, b, outs[1], BN=128)
    kernels.rms_norm[(5,)](x, w, outs[2], BN=128)
    e = np.exp(wide - wide.max(axis=1, keepdims=True))
    d = wide - wide.mean(axis=1, keepdims=True)
    norm = d / np.sqrt((d * d).mean(axis=1, keepdims=True) + kernels.EPS) * w + b
    rms = wide / np.sqrt((wide * wide).mean(axis=1, keepdims=True) + kernels.EPS) * w
    for out, expected in zip(outs, (e / e.sum(axis=1, keepdims=True), norm, rms), strict=True):
        np.testing.assert_allclose(out, expected, rtol=3e-6, atol=3e-6)
