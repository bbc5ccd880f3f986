"""`tilec doctor`: what this machine has, and whether it is enough to compile and run."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

from tilec.ir.errors import TilecError
from tilec.runtime.config import VARIABLES, config

PACKAGES = ("tilec", "numpy", "ml_dtypes", "llvmlite", "z3-solver")


@dataclass(frozen=True)
class Finding:
    """One line of the report. ``ok`` is None for what is optional and absent."""

    name: str
    value: str
    ok: bool | None = True


def examine() -> list[Finding]:
    """All findings. Nothing raises: a failure is a finding that is not ok."""
    return [_guarded(name, probe) for name, probe in PROBES.items()]


def _guarded(name: str, probe: Callable[[], Finding]) -> Finding:
    try:
        return probe()
    except Exception as error:  # a broken library may raise anything; the report must go on
        text = error.message if isinstance(error, TilecError) else f"{type(error).__name__}: {error}"
        return Finding(name, text.splitlines()[0], False)


def _versions() -> Finding:
    found = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in PACKAGES)
    return Finding("packages", f"Python {platform.python_version()}, {found}")


def _cpu() -> Finding:
    import llvmlite.binding as llvm

    features = [
        f for f in ("avx2", "avx512f", "fma", "f16c", "neon", "sve") if llvm.get_host_cpu_features().get(f)
    ]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Finding(
        "cpu", f"{llvm.get_host_cpu_name()}, {cores} cores, {' '.join(features) or 'no vector features'}"
    )


def _solver() -> Finding:
    import z3

    x = z3.Int("x")
    solver = z3.Solver()
    solver.add(x * 2 == 6)
    ok = solver.check() == z3.sat
    return Finding("solver", f"z3 {z3.get_version_string()} {'solves' if ok else 'does not solve'}", ok)


def _assembler() -> Finding:
    from tilec.runtime.toolchain import find, tool_version

    tool = find("ptxas")
    if tool is None:
        return Finding("ptxas", "not found; pip install 'tilec[test]' brings it (for cubin and SASS)", None)
    return Finding("ptxas", f"{tool_version(tool)} from {tool.origin}: {tool.path}")


def _gpu() -> Finding:
    from tilec.runtime import cuda

    reason = cuda.unavailable()
    if reason is not None:
        return Finding("gpu", f"none ({reason})", None)
    bindings = cuda.driver()
    (_, count), (_, version) = bindings.cuDeviceGetCount(), bindings.cuDriverGetVersion()
    return Finding("gpu", f"{count} device(s), driver API {version // 1000}.{version % 1000 // 10}")


def _cache() -> Finding:
    from tilec.driver import default_cache

    store = default_cache()
    usage = store.usage()
    text = f"{store.root}: {usage.entries} entries, {usage.bytes / 2**20:.1f} MiB"
    try:
        store.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=store.root):
            return Finding("cache", text)
    except OSError as error:
        return Finding("cache", f"{store.root} cannot be written: {error.strerror}", False)


def _environment() -> Finding:
    config()
    names = [f"{n}={os.environ[n]}" for n in VARIABLES if os.environ.get(n)]
    return Finding("environment", " ".join(names) or "no TILEC_ variable is set")


PROBES: dict[str, Callable[[], Finding]] = {
    "packages": _versions, "cpu": _cpu, "solver": _solver, "ptxas": _assembler, "gpu": _gpu,
    "environment": _environment, "cache": _cache,
}  # fmt: skip
