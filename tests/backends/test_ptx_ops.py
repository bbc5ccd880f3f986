"""Every op of the table on every dtype: emulated PTX against the interpreter, and ptxas."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cpu_kit import assert_same, samples, twin
from ptx_kit import assembled, compiled

from tilec.backends.artifact import Artifact
from tilec.backends.ptx.compile import RULES
from tilec.ir.core import Kernel
from tilec.ir.errors import UnsupportedError
from tilec.ir.interp import interpret
from tilec.ir.types import TensorType, TileType, dtype_of
from tilec.runtime.emulator import launch

sys.path.insert(0, str(Path(__file__).parents[1] / "ir"))
from op_cases import Case, good_cases, kernel_of

CASES: dict[str, list[Case]] = {}
for _case in good_cases():
    CASES.setdefault(_case.op, []).append(_case)

# (relative, absolute) bounds for float32 results, from the table in backends/ptx/maths.py.
BOUNDS = {
    "exp": (2e-6, 2e-38), "exp2": (3e-7, 2e-38), "log": (6e-7, 5e-7), "log2": (6e-7, 5e-7),
    "pow": (3e-5, 2e-38), "rsqrt": (3e-7, 0.0), "sin": (0.0, 2e-6), "cos": (0.0, 2e-6),
    "tanh": (5e-7, 0.0), "sigmoid": (2e-6, 2e-38), "erf": (1e-6, 1e-6), "reduce": (1e-6, 1e-30),
    "dot": (0.0, 0.0),
    # The emulator rounds the product of a float64 fma.
    "mod": (2e-15, 0.0),
}  # fmt: skip
WILD = {"sin": 2.0**15, "cos": 2.0**15, "exp": 90.0, "sigmoid": 80.0}
UNSUPPORTED = {"U131", "U132"}


def arguments(case: Case, made: Kernel) -> list[Any]:
    """Sample values for the parameters, in the shapes that the case has."""
    shapes = [t.shape for t in case.types if isinstance(t, TileType)]
    return [_argument(case.op, p.type, shapes, seed) for seed, p in enumerate(made.params)]


def _argument(op: str, t: Any, shapes: list[tuple[int, ...]], seed: int) -> Any:
    if not isinstance(t, TensorType):
        return np.asarray(1, t.dtype.np)[()]
    shape = next((s for s in shapes if len(s) == t.rank), (4, 8, 2)[: t.rank])
    size = int(np.prod(shape))
    values = samples(t.dtype, max(size, 64), seed)[:size].reshape(shape)
    return _tame(op, values) if t.dtype.is_float else values


def _tame(op: str, values: Any) -> Any:
    """Without what is outside of a stated range, or differs with the order of a sum."""
    dtype, size = values.dtype, np.abs(values.astype(np.float64))
    if op == "mod":  # exact for quotients below 2**29
        values = np.where((size < 1e-4) & (size > 0), 0.25, np.where(size > 1e4, 3.5, values))
    elif op in WILD or op == "reduce":
        values = np.where(size > WILD.get(op, 16.0), 1.5, values)
    elif op == "dot":  # small integers: sums are exact in any order
        values = np.rint(np.where(size < 1.5, values, 1.0))
    return np.asarray(values).astype(dtype)


def close(case: Case, found: Any, expected: Any) -> None:
    """Bit-equal, but for functions with a stated error and sums in another order."""
    if case.op not in BOUNDS or not dtype_of(expected.dtype).is_float:
        assert_same(found, expected)
        return
    relative, absolute = BOUNDS[case.op]
    with np.errstate(all="ignore"):
        a, b = found.astype(np.float64), expected.astype(np.float64)
        step = 0.0
        if found.itemsize < 4 and found.dtype.kind not in "iub":
            step = float(np.ldexp(1.0, {2: -7, 1: -2}[found.itemsize]))
        same = (
            (a == b)
            | (np.isnan(a) & np.isnan(b))
            | (np.abs(a - b) <= (relative + step) * np.abs(b) + absolute)
        )
    assert same.all(), f"{case}: {a[~same][:4]} instead of {b[~same][:4]}"


def check(case: Case) -> Artifact | None:
    """Compile and compare; None where the backend says that it cannot."""
    made = kernel_of(case)
    try:
        artifact = compiled(made)
    except UnsupportedError as error:
        assert error.code in UNSUPPORTED and error.help, f"{case}: {error}"
        return None
    args = arguments(case, made)
    found, expected = ([twin(a) if isinstance(a, np.ndarray) else a for a in args] for _ in range(2))
    launch(artifact, (1,), found)
    interpret(made, (1,), expected)
    for f, x in zip(found, expected, strict=True):
        if isinstance(f, np.ndarray):
            close(case, f, x)
    return artifact


@pytest.mark.parametrize("op", sorted(CASES))
def test_op_means_the_same(op: str) -> None:
    made = [a for a in map(check, CASES[op]) if a is not None]
    assert made, f"{op}: no case compiles"
    assembled(together(made))


def together(artifacts: list[Artifact]) -> Artifact:
    """All entries in one text, so that the assembler starts once."""
    first = artifacts[0]
    heads, entries = [], []
    for i, artifact in enumerate(artifacts):
        head, visible, entry = artifact.text.partition(".visible .entry ")
        heads.append(head)
        entries.append(f"{visible}{artifact.entry}_{i}{entry.removeprefix(artifact.entry)}")
    text = max(heads, key=len) + "".join(entries)
    return Artifact(first.target, text, first.entry, (), first.threads, first.smem_bytes)


def test_every_rule_is_of_an_op_with_cases_or_control_flow() -> None:
    control = {"for", "while", "if", "convert_layout", "section"}
    assert set(RULES) - control <= set(CASES)
