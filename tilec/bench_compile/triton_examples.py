"""Triton's kernels by the name that `.ci/evidence.py` gives the same kernel of the examples.

Imported only where Triton is installed.
"""

from __future__ import annotations

from collections.abc import Mapping

from tilec.bench_compile.triton_attention import ATTENTION
from tilec.bench_compile.triton_decode import DECODE
from tilec.bench_compile.triton_gemm import GEMM
from tilec.bench_compile.triton_gradients import GRADIENTS
from tilec.bench_compile.triton_grouped import GROUPED
from tilec.bench_compile.triton_kernels import Case
from tilec.bench_compile.triton_rows import ROWS

EXAMPLES: Mapping[str, Case] = {**ROWS, **GEMM, **GROUPED, **ATTENTION, **DECODE, **GRADIENTS}
