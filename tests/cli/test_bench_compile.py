"""`tilec bench compile`: rows, means, and that each kernel compiles in a process of its own."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from tilec.bench_compile import Row, summary, table
from tilec.bench_compile.cases import CASES
from tilec.cli_bench_compile import bench_compile
from tilec.ir.errors import TilecValueError

ROWS = (Row("a", "ptx", 1.0, 2.0), Row("b", "ptx", 1.0, 8.0), Row("a", "cubin", 2.0, None))


def test_means_and_missing_peers() -> None:
    data = summary(ROWS)
    assert data["geomean_speedup_vs_triton_ptx"] == pytest.approx(4)
    assert data["geomean_speedup_vs_triton_cubin"] is None
    assert data["rows"][2] == {"kernel": "a", "output": "cubin", "ours": 2.0, "theirs": None, "ratio": None}
    text = "\n".join(table.lines(ROWS))
    assert "geometric mean to ptx: 4.00" in text and "cubin:" not in text


def test_all_kernels_are_there() -> None:
    assert tuple(CASES) == table.KERNELS


def test_one_compilation() -> None:
    assert 0 < table._once("tilec", "softmax", "ptx") < 60


def test_what_does_not_compile_is_named() -> None:
    with pytest.raises(TilecValueError, match=r"V605.*no such kernel"):
        table._once("tilec", "no such kernel", "ptx")


def test_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_once", lambda maker, kernel, output: 3.0 if maker == "triton" else 1.0)
    monkeypatch.setattr(table.importlib.util, "find_spec", lambda name: name)
    done = CliRunner().invoke(bench_compile, ["--format", "json", "--repeat", "2"])
    assert done.exit_code == 0, done.output
    data = json.loads(done.output)
    assert len(data["rows"]) == 12 and data["geomean_speedup_vs_triton_cubin"] == pytest.approx(3)
