"""`tilec bench compile`: seconds from a kernel in Python to PTX and to machine code, beside Triton."""

from __future__ import annotations

from tilec.bench_compile.table import Row, run, summary

__all__ = ["Row", "run", "summary"]
