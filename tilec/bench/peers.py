"""The libraries beside which we are timed; each is None where it is not installed."""

from __future__ import annotations

import ctypes
import importlib
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

_LOOPS = {"copy": "a[i]", "scale": "3.0 * a[i]", "add": "a[i] + b[i]", "triad": "a[i] + 3.0 * b[i]"}
_C = """
void stream_{name}(const double *restrict a, const double *restrict b, double *restrict c, long n) {{
    #pragma omp parallel for schedule(static)
    for (long i = 0; i < n; i++) c[i] = {value};
}}
"""
FLAGS = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC")


@cache
def library(name: str) -> Any | None:
    """A Python library, if it is installed and can be loaded."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError):
        return None


def keep_memory() -> None:
    """Have malloc reuse large blocks: outputs that a peer allocates must not measure page faults."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD


@cache
def c_stream() -> dict[str, Any] | None:
    """STREAM's loops compiled by gcc with OpenMP, by name; None without gcc."""
    if shutil.which("gcc") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / "stream.c", Path(folder) / "stream.so"
        source.write_text("".join(_C.format(name=n, value=v) for n, v in _LOOPS.items()), encoding="ascii")
        done = subprocess.run(["gcc", *FLAGS, str(source), "-o", str(made)], capture_output=True, check=False)
        if done.returncode != 0:
            return None
        found = ctypes.CDLL(str(made))
    kinds = [ctypes.c_void_p] * 3 + [ctypes.c_long]
    loops = {n: getattr(found, f"stream_{n}") for n in _LOOPS}
    for loop in loops.values():
        loop.argtypes, loop.restype = kinds, None
    return loops


STREAM_KINDS = tuple(_LOOPS)
