"""Kernels whose roles the scheduler chose, on the emulator and through ptxas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hopper_kit import MODES, Array, assembled, twin

from tilec.backends.artifact import Artifact
from tilec.backends.ptx import compile_kernel
from tilec.ir.core import Kernel
from tilec.ir.interp import interpret
from tilec.load import load_kernel
from tilec.passes import Options, lower
from tilec.runtime.emulator import launch

EXAMPLES = Path(__file__).parents[2] / "examples"
HEADS = ",".join(["f16[4]"] * 4)
GRADIENT = (
    "attention_backward.py:attention_dkdv",
    f"{HEADS},f32[3],f32[3],f16[4],f16[4]",
    ("D=128", "BN=64"),
)
WINDOW = ("attention_window.py:attention_window", f"{HEADS},f32[3],i32", ("D=64", "BM=64", "BN=64"))


def built(example: tuple[str, str, tuple[str, ...]], roles: int | None = None) -> tuple[Kernel, Artifact]:
    """The TILE kernel and its PTX, which ptxas takes without spills or warnings."""
    name, signature, constants = example
    kernel = load_kernel(f"{EXAMPLES}/{name}", signature, constants)
    artifact = compile_kernel(lower(kernel, "sm_90a", Options(roles=roles)).scheduled)
    found = assembled(artifact.text)
    assert found.spill_stores == found.spill_loads == 0
    assert all(m.severity == "info" for m in found.messages)
    return kernel, artifact


def heads(*rows: int, d: int) -> list[Array]:
    rng = np.random.default_rng([d, *rows])
    return [rng.standard_normal((1, 1, n, d)).astype(np.float16) for n in rows]


def agree_in(kernel: Kernel, artifact: Artifact, grid: tuple[int, ...], args: list[Any], modes: Any) -> None:
    """Every array after the emulator is what the interpreter gives, within 16-bit rounding; no reports."""
    want = [twin(a) for a in args]
    interpret(kernel, grid, want)
    for mode, seed in modes:
        found = [twin(a) for a in args]
        assert not launch(artifact, grid, found, mode=mode, seed=seed).reports
        for a, b in ((a, b) for a, b in zip(found, want, strict=True) if isinstance(a, np.ndarray)):
            assert np.abs(a.astype(float) - b.astype(float)).max() <= 5e-3 * np.abs(b.astype(float)).max()


@pytest.mark.parametrize(
    ("causal", "keys", "modes"),
    [
        (True, 100, MODES[2:3]),
        pytest.param(False, 150, MODES, marks=pytest.mark.slow),
        pytest.param(True, 150, MODES, marks=pytest.mark.slow),
    ],
)
def test_gradients_of_head_size_128(causal: bool, keys: int, modes: Any) -> None:
    """Two groups, one for the gradient of each operand; both read the queries."""
    name, signature, constants = GRADIENT
    kernel, artifact = built((name, signature, (*constants, f"causal={causal}")))
    q, k, v, do, dk, dv = heads(150, keys, keys, 150, keys, keys, d=128)
    lse, delta = np.full((1, 1, 150), 8.0, np.float32), np.full((1, 1, 150), 0.25, np.float32)
    args = [q, k, v, do, lse, delta, np.zeros_like(dk), np.zeros_like(dv)]
    agree_in(kernel, artifact, (-(-keys // 64), 1, 1), args, modes)


@pytest.mark.parametrize(
    "modes", [MODES[2:3], pytest.param(MODES, marks=pytest.mark.slow)], ids=["one", "all"]
)
def test_attention_in_a_window_by_three_groups(modes: Any) -> None:
    kernel, artifact = built(WINDOW)
    assert artifact.threads == 4 * 128
    q, k, v, o = heads(64, 150, 150, 64, d=64)
    agree_in(kernel, artifact, (1, 1, 1), [q, k, v, o, np.zeros((1, 1, 64), np.float32), 70], modes)


@pytest.mark.slow
def test_roles_in_a_cluster() -> None:
    """Two programs share keys and values; values from group to group stay within each."""
    kernel = load_kernel(
        f"{EXAMPLES}/attention.py:attention", HEADS, ("D=64", "BM=64", "BN=64", "causal=False")
    )
    artifact = compile_kernel(lower(kernel, "sm_90a", Options(roles=2, cluster=2)).scheduled)
    assert artifact.cluster == (2, 1, 1) and artifact.threads == 384
    agree_in(kernel, artifact, (2, 1, 1), heads(100, 150, 150, 100, d=64), MODES)


@pytest.mark.slow
@pytest.mark.parametrize(("roles", "threads"), [(1, 256), (2, 384), (3, 512)])
def test_roles_that_are_asked_for(roles: int, threads: int) -> None:
    kernel, artifact = built(WINDOW, roles)
    assert artifact.threads == threads
    q, k, v, o = heads(100, 150, 150, 100, d=64)
    agree_in(kernel, artifact, (2, 1, 1), [q, k, v, o, np.zeros((1, 1, 100), np.float32), 40], MODES)
