"""The driver: targets, the cache, and the stages that a compilation keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tilec
import tilec.language as tl
from tilec import driver, stored
from tilec.backends.artifact import Artifact, CpuArg, CpuProgram, Param, TensorMap
from tilec.ir.core import Kernel
from tilec.ir.errors import TilecValueError, UnsupportedError
from tilec.ir.types import float16, float32, int32


@tilec.kernel
def double(X: tl.Tensor, Y: tl.Tensor, BLOCK: tl.constexpr[int] = 64):
    i = tl.program_id(0)
    tl.store(Y, (i,), tl.load(X, (i,), (BLOCK,)) * 2.0)


@pytest.fixture
def kernel() -> Kernel:
    return double.trace(["f32[1]", "f32[1]"])


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("TILEC_CACHE_DIR", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("cpu", "cpu"),
        ("sm_90a", "sm_90a"),
        ("sm_90", "sm_90a"),
        ("cuda:90:32", "sm_90a"),
        ("sm_80", "sm_80"),
        ("cuda:86", "sm_86"),
        ("sm_120", "sm_120a"),
    ],
)
def test_targets_have_one_name(given: str, expected: str) -> None:
    assert driver.parse_target(given) == expected


def test_other_targets_are_refused_with_what_exists() -> None:
    for target in ("sm_75", "sm_100a", "cuda:100:32"):
        with pytest.raises(UnsupportedError, match="sm_90a"):
            driver.parse_target(target)
    with pytest.raises(TilecValueError, match="gfx"):
        driver.parse_target("gfx942")


ARTIFACTS = (
    Artifact("sm_90a", ".version 8.0 \u03b1\n", "k",
             (Param("pointer", 0), Param("scalar", 1, dtype=float32),
              Param("tensor_map", 0, map=TensorMap(0, float16, (1, 0), (64, 128), "128B"))), 128, 1024),
    CpuProgram("define void @k()", "k", (CpuArg("x", float32, 2, 1, True), CpuArg("n", int32)), 64, 32),
)  # fmt: skip


@pytest.mark.parametrize("artifact", ARTIFACTS, ids=lambda a: type(a).__name__)
def test_artifacts_survive_the_cache(artifact: Any) -> None:
    data = stored.dumps(artifact)
    assert stored.loads(data) == artifact
    assert stored.dumps(stored.loads(data)) == data


@pytest.mark.parametrize("data", [b"[", b'{"class": "Path"}', b'{"class": "CpuArg", "what": 1}', b'{"x": 1}'])
def test_other_data_is_no_artifact(data: bytes) -> None:
    with pytest.raises(ValueError):
        stored.loads(data)


@pytest.mark.parametrize("target", driver.TARGETS)
def test_the_second_compilation_reads_the_cache(kernel: Kernel, target: str, folder: Path) -> None:
    first, second = (driver.compile(kernel, target) for _ in range(2))
    assert (first.cached, second.cached) == (False, True)
    assert first.artifact == second.artifact
    assert {k: second.asm[k] for k in ("tile", "aref", "scheduled")} == {
        k: first.asm[k] for k in ("tile", "aref", "scheduled")
    }


def test_a_new_compiler_compiles_again(kernel: Kernel, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not driver.compile(kernel, "cpu").cached
    old = driver._compiler()
    monkeypatch.setattr(driver, "_compiler", lambda: {**old, "sources": "0" * 64})
    assert not driver.compile(kernel, "cpu").cached
    monkeypatch.setattr(driver, "_compiler", lambda: {**old, "llvmlite": "0.0"})
    assert not driver.compile(kernel, "cpu").cached
    monkeypatch.setattr(driver, "_compiler", lambda: old)
    assert driver.compile(kernel, "cpu").cached


def test_options_targets_and_constants_have_their_own_entries(kernel: Kernel) -> None:
    other = double.trace(["f32[1]", "f32[1]"], BLOCK=32)
    keys = {
        driver.cache_key(kernel, "cpu", driver.Options()),
        driver.cache_key(kernel, "sm_90a", driver.Options()),
        driver.cache_key(kernel, "sm_90a", driver.Options(stages=3)),
        driver.cache_key(other, "cpu", driver.Options()),
    }
    assert len(keys) == 4


def test_damage_in_the_cache_is_survived(kernel: Kernel, folder: Path) -> None:
    first = driver.compile(kernel, "cpu")
    (file,) = folder.rglob("artifact.json")
    file.write_bytes(file.read_bytes()[:-3])
    again = driver.compile(kernel, "cpu")
    assert not again.cached
    assert again.artifact == first.artifact


def test_the_cache_can_be_switched_off(kernel: Kernel, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEC_CACHE", "0")
    monkeypatch.setattr(driver, "cache_key", lambda *_: pytest.fail("a key that nobody needs"))
    assert not driver.compile(kernel, "cpu").cached
    assert not driver.compile(kernel, "cpu").cached
    assert not list(folder.iterdir())


def test_stages_are_dumped_where_the_environment_says(
    kernel: Kernel, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TILEC_DUMP_DIR", str(tmp_path / "dump"))
    driver.compile(kernel, "cpu")
    (entry,) = (tmp_path / "dump").iterdir()
    assert {"double.tile", "double.llvm", "double.log"} <= {p.name for p in entry.iterdir()}


def test_equal_input_gives_equal_bytes(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEC_CACHE", "0")
    for target in driver.TARGETS:
        first, second = (stored.dumps(driver.compile(kernel, target).artifact) for _ in range(2))
        assert first == second
        assert json.loads(first)["class"] in ("Artifact", "CpuProgram")


def test_a_stage_that_there_is_not(kernel: Kernel, folder: Path) -> None:
    asm = driver.compile(kernel, "cpu").asm
    with pytest.raises(TilecValueError, match="V502: no stage named 'ptx' for cpu") as caught:
        asm["ptx"]
    assert "tile, aref, scheduled, llvm" in caught.value.help
    assert asm.get("ptx") is None and "ptx" not in asm
