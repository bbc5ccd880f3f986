"""Compile a kernel of Triton, run its PTX on the emulator, compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np

from tilec.testing import emulate

Array = np.ndarray[Any, Any]
DTYPES = {"f16": np.float16, "f32": np.float32, "bf16": ml_dtypes.bfloat16, "e4m3": ml_dtypes.float8_e4m3fn,
          "e5m2": ml_dtypes.float8_e5m2, "i8": np.int8}  # fmt: skip


class Checks(dict[str, Callable[[str], None]]):
    """What checks the kernel of a title."""

    def of(self, *titles: str) -> Callable[[Callable[[str], None]], Callable[[str], None]]:
        def note(f: Callable[[str], None]) -> Callable[[str], None]:
            self.update(dict.fromkeys(titles, f))
            return f

        return note


def starting(*names: str) -> list[str]:
    """The titles of the examples with one of these kernels."""
    from tilec.bench_compile.triton_examples import EXAMPLES

    return [t for t in EXAMPLES if t.split()[0] in names]


def run(
    title: str, grid: Any, args: dict[str, Any], near: float, expect: dict[str, Array], **smaller: Any
) -> None:
    """Compile with smaller tiles, run, and compare: at most ``near`` off, absolute and relative."""
    from tilec.bench_compile.once import compiled
    from tilec.bench_compile.triton_examples import EXAMPLES
    from tilec.bench_compile.triton_kernels import BESIDE_TRITON

    case = EXAMPLES.get(title) or BESIDE_TRITON[title]
    made = compiled(replace(case, constants={**case.constants, **smaller}))()
    names = [n for n in case.kernel.arg_names if n in case.types and n not in case.constants]
    kinds = {n: np.float32 if case.types[n] == "fp32" else np.int32 for n in names}
    values = [args[n] if isinstance(args[n], np.ndarray) else kinds[n](args[n]) for n in names]
    scratch = np.zeros(1, np.int64)
    found = {names.index(n): x for n, x in expect.items()}
    emulate(made.asm["ptx"], grid, 32 * case.options.get("num_warps", 4), [*values, scratch, scratch],
            smem=made.metadata.shared, modes=("eager",), expect=found, rtol=near, atol=near)  # fmt: skip


def numbers(*shape: int, dtype: Any = np.float16, seed: int = 0) -> Array:
    eighths = np.random.default_rng([seed, *shape]).integers(-8, 9, shape)
    return eighths.astype(dtype) if dtype is np.int8 else (eighths / 8).astype(dtype)


def wide(x: Array) -> Array:
    return x.astype(np.float64)
