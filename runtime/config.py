"""The environment variables that tilec reads, in one typed table.

Nothing else in the package looks at the environment. A variable that is set to
something illegal is an error that names it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import platformdirs

from tilec.ir.errors import TilecValueError

BACKENDS = ("cpu", "cuda", "emulator", "interpreter")


@dataclass(frozen=True)
class Config:
    """Values of the environment at one moment; the fields are rows of `VARIABLES`."""

    cache_dir: Path
    cache: bool = True
    dump_dir: Path | None = None
    num_threads: int | None = None
    spin_ms: float = 2.0
    backend: str | None = None
    ptxas: Path | None = None
    nvdisasm: Path | None = None
    cuobjdump: Path | None = None
    emulator_processes: int | None = None


@dataclass(frozen=True)
class Variable:
    """One environment variable: the field of Config, how to read it, what it does."""

    field: str
    parse: Callable[[str], Any]
    doc: str


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError("it must be at least 1")
    return value


def _duration(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1e6:
        raise ValueError("it must be 0 to 1000000")
    return value


def _switch(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError("it must be 0 or 1")
    return text == "1"


def _backend(text: str) -> str:
    if text not in BACKENDS:
        raise ValueError(f"it must be one of {', '.join(BACKENDS)}")
    return text


VARIABLES: dict[str, Variable] = {
    "TILEC_CACHE_DIR": Variable("cache_dir", Path, "folder of the compile cache"),
    "TILEC_CACHE": Variable("cache", _switch, "0 compiles afresh and stores nothing"),
    "TILEC_DUMP_DIR": Variable("dump_dir", Path, "write every stage of every compilation here"),
    "TILEC_NUM_THREADS": Variable(
        "num_threads", _positive, "threads of the CPU backend (default: all cores)"
    ),
    "TILEC_SPIN_MS": Variable(
        "spin_ms", _duration, "how long idle CPU threads look for a launch before they sleep (default: 2)"
    ),
    "TILEC_BACKEND": Variable("backend", _backend, "backend of launches that do not name one"),
    "TILEC_PTXAS": Variable("ptxas", Path, "the assembler to use instead of the one found"),
    "TILEC_NVDISASM": Variable("nvdisasm", Path, "the disassembler to use instead of the one found"),
    "TILEC_CUOBJDUMP": Variable("cuobjdump", Path, "the cubin reader to use instead of the one found"),
    "TILEC_EMULATOR_PROCESSES": Variable(
        "emulator_processes", _positive, "processes that share the CTAs of a grid (default: by its cost)"
    ),
}


def config(environ: Mapping[str, str] | None = None) -> Config:
    """The configuration that the environment describes now."""
    env = os.environ if environ is None else environ
    values: dict[str, Any] = {"cache_dir": _default_cache_dir()}
    for name, variable in VARIABLES.items():
        if env.get(name, "") != "":
            values[variable.field] = _read(name, variable, env[name])
    return Config(**values)


def num_threads() -> int | None:
    """TILEC_NUM_THREADS alone: launches ask for it, and reading the whole table takes longer."""
    text = os.environ.get("TILEC_NUM_THREADS")
    return _read("TILEC_NUM_THREADS", VARIABLES["TILEC_NUM_THREADS"], text) if text else None


@cache
def _default_cache_dir() -> Path:
    return Path(platformdirs.user_cache_dir("tilec", appauthor=False))


def _read(name: str, variable: Variable, text: str) -> Any:
    try:
        return variable.parse(text)
    except ValueError as error:
        raise TilecValueError("V601", f"{name}={text!r}: {error}", help=f"{name}: {variable.doc}") from None
