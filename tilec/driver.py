"""`compile`: a TILE kernel, a target and options -> Compiled, which keeps every stage."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import time
from dataclasses import asdict
from functools import cache
from pathlib import Path

import tilec.backends
import tilec.ir
import tilec.passes
import tilec.runtime
from tilec import stored
from tilec.backends.artifact import Artifact, CpuProgram
from tilec.compiled import Asm, Compiled, write_stages
from tilec.ir.core import Kernel
from tilec.ir.errors import TilecValueError, UnsupportedError
from tilec.ir.text import print_kernel
from tilec.passes import Options, Stages, lower
from tilec.passes.schedule.proofs import kept_on
from tilec.passes.targets import TARGETS as GPUS
from tilec.proof_shelf import ProofShelf
from tilec.runtime.cache import Cache, key_of, source_digest
from tilec.runtime.config import config

__all__ = ["TARGETS", "Asm", "Compiled", "Options", "compile", "default_cache", "lowered", "parse_target"]

TARGETS = ("cpu", *GPUS)
# Makers of code: another release may make other code from the same kernel.
_MAKERS = ("llvmlite", "z3-solver", "numpy", "ml_dtypes")


def compile(kernel: Kernel, target: str = "sm_90a", options: Options | None = None) -> Compiled:
    """Compile a TILE kernel; never touches a driver. Reads and fills the cache.

    Raises UnsupportedError for a target without a backend, and what the passes and
    the backend raise.
    """
    target, options = parse_target(target), options or Options()
    settings = config()
    store = default_cache() if settings.cache else None
    # The key reads every source file of the compiler.
    needed = store is not None or settings.dump_dir is not None
    key = cache_key(kernel, target, options) if needed else ""
    found = _read(store, key)
    if found is not None:
        compiled = Compiled(kernel, target, options, found, ("read from the cache",), cached=True)
    else:
        compiled = _compile(kernel, target, options)
        if store is not None:
            store.put(key, {"artifact.json": stored.dumps(compiled.artifact)})
    if settings.dump_dir is not None:
        write_stages(compiled, settings.dump_dir / f"{kernel.name}-{target}-{key[:12]}")
    return compiled


def _compile(kernel: Kernel, target: str, options: Options) -> Compiled:
    start = time.perf_counter()
    stages = lowered(kernel, target, options)
    middle = time.perf_counter()
    artifact = _emit(stages, target)
    log = (*stages.log, f"passes: {middle - start:.3f} s", f"backend: {time.perf_counter() - middle:.3f} s")
    return Compiled(kernel, target, options, artifact, log, _stages=stages)


def lowered(kernel: Kernel, target: str, options: Options | None = None) -> Stages:
    """All forms of a kernel. Loops that were solved before, for any kernel, are read from the cache."""
    shelf = ProofShelf(default_cache(), _compiler()) if config().cache else None
    with kept_on(shelf):
        return lower(kernel, target, options or Options())


def _emit(stages: Stages, target: str) -> Artifact | CpuProgram:
    """Backends are imported when they are needed: LLVM takes a while to load."""
    if target == "cpu":
        from tilec.backends import cpu

        return cpu.compile_kernel(stages.tile)
    from tilec.backends import ptx

    return ptx.compile_kernel(stages.scheduled, target)


def parse_target(target: str) -> str:
    """The canonical name of a target; "cuda:90:32" and "sm_90" mean "sm_90a", "sm_120" means "sm_120a"."""
    triton = re.fullmatch(r"cuda:(\d+)(:32)?", target)
    name = f"sm_{triton[1]}" if triton else target
    name = f"{name}a" if f"{name}a" in TARGETS else name
    if name in TARGETS:
        return name
    have = f"this version compiles for {', '.join(TARGETS)}"
    if re.fullmatch(r"sm_\d+[af]?", name):
        raise UnsupportedError("U510", f"no backend for {target}", help=have)
    raise TilecValueError("V501", f"no target named {target!r}", help=have)


def cache_key(kernel: Kernel, target: str, options: Options) -> str:
    """Everything that decides the artifact: kernel, target, options, compiler, libraries, host."""
    parts: dict[str, object] = {
        "kernel": print_kernel(kernel, locs=True),
        "target": target,
        "options": asdict(options),
        "compiler": _compiler(),
    }
    if target == "cpu":
        parts["host"] = _host()
    return key_of(parts)


@cache
def _compiler() -> dict[str, str]:
    packages = (tilec, tilec.ir, tilec.passes, tilec.backends, tilec.runtime)
    folders = sorted(Path(p).resolve() for package in packages for p in package.__path__)
    versions = {name: importlib.metadata.version(name) for name in ("tilec", *_MAKERS)}
    return {**versions, "sources": source_digest(folders), "python": platform.python_version()}


@cache
def _host() -> str:
    from tilec.backends.cpu import host
    from tilec.runtime.machine import host_features

    return f"{host_features()} {host()}"


def default_cache() -> Cache:
    """The cache in the folder that the environment names."""
    return _cache_at(config().cache_dir)


@cache
def _cache_at(folder: Path) -> Cache:
    return Cache(folder)


def _read(store: Cache | None, key: str) -> Artifact | CpuProgram | None:
    files = store.get(key) if store is not None else None
    if files is None:
        return None
    try:
        found = stored.loads(files["artifact.json"])
    except (KeyError, ValueError):
        return None
    return found if isinstance(found, Artifact | CpuProgram) else None
