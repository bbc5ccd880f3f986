"""`tilec bench cpu`: our kernels beside the CPU libraries that people use."""

from __future__ import annotations

from tilec.bench.rows import Row, run_all

__all__ = ["Row", "run_all"]
