"""For tests of kernels, also of other compilers: run PTX on the emulator under many timings.

from tilec.testing import Map, emulate

def test_copy():
    x, y = np.arange(64, dtype=np.float32), np.zeros(64, np.float32)
    emulate(Path("copy.ptx").read_text(), grid=2, block=32, args=[x, y], expect={1: x})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tilec.ir.errors import TilecError, TilecValueError
from tilec.ir.ptx.module import Entry, Module
from tilec.runtime.emulator.arguments import Arguments, Map, Packed
from tilec.runtime.emulator.launch import Outcome, parsed, run_ptx
from tilec.runtime.emulator.spaces import GlobalMemory
from tilec.runtime.emulator.trace import Trace

__all__ = ["MODES", "Map", "Packed", "emulate", "run_once"]

# Eager and lazy are the extremes; random orders find more. "random:3" has the seed 3.
MODES = ("eager", "lazy", "random:0", "random:1", "random:2")


def emulate(
    ptx: str | Path | Module,
    grid: int | Sequence[int],
    block: int | Sequence[int],
    args: Sequence[Any],
    *,
    entry: str = "",
    cluster: int | Sequence[int] = 1,
    smem: int = 0,
    modes: Sequence[str] = MODES,
    expect: Mapping[int, Any] | None = None,
    rtol: float = 0.0,
    atol: float = 0.0,
    exact: bool = False,
    warnings: bool = False,
) -> list[Outcome]:
    """Run a kernel in every mode, each time with the arrays as they were, and fail if it is wrong.

    ``ptx`` is text, a parsed module or the path of a file; ``entry`` may be left out where there is one.
    ``args`` are its parameters in order: numpy arrays (C-contiguous; pointers to them), ``Map``
    (tensor maps), ``Packed`` (structs), bytes, numpy scalars, numbers. ``smem`` is dynamic
    shared memory in bytes. ``expect`` has the wanted array by the index of its argument, compared
    with ``np.testing.assert_allclose(rtol, atol)``, NaN equal to NaN.

    Raises a TilecError for a hazard (RaceError), a deadlock or an illegal access, AssertionError
    for a wrong result or, with ``warnings``, for a W report; a note names the mode. Returns an
    Outcome for each mode; the arrays hold the results of the last.
    """
    module = _module(ptx)
    found = _entry(module, entry)
    arrays = _arrays(args)
    before = [a.copy() for a in arrays]
    outcomes = []
    for mode in modes:
        for array, start in zip(arrays, before, strict=True):
            if array.flags.writeable:
                array[...] = start
        try:
            outcome = run_once(
                module, found.name, grid, block, args, cluster=cluster, smem=smem, mode=mode, exact=exact
            )
            _judge(outcome, args, expect or {}, (rtol, atol), warnings)
        except (AssertionError, TilecError) as error:
            error.add_note(f"in mode {mode!r} of {found.name}")
            raise
        outcomes.append(outcome)
    return outcomes


def run_once(
    ptx: str | Path | Module,
    entry: str,
    grid: int | Sequence[int],
    block: int | Sequence[int],
    args: Sequence[Any],
    *,
    cluster: int | Sequence[int] = 1,
    smem: int = 0,
    mode: str = "eager",
    exact: bool = False,
    strict: bool = True,
    trace: Trace | None = None,
) -> Outcome:
    """One run in one mode; the arrays of ``args`` are updated in place, also by a run that fails."""
    module = _module(ptx)
    found = _entry(module, entry)
    memory = GlobalMemory()
    bound = Arguments(found, args, memory)
    name, _, seed = mode.partition(":")
    if name not in ("eager", "lazy", "random") or (seed and not seed.isdigit()):
        raise TilecValueError("V425", f"no mode {mode!r}: eager, lazy, random or random:SEED")
    try:
        return run_ptx(
            module, found.name, _dim(grid), _dim(block), bound.params, memory, smem=smem,
            cluster=_dim(cluster), mode=name, seed=int(seed or 0), strict=strict, exact=exact, trace=trace,  # type: ignore[arg-type]
        )  # fmt: skip
    finally:
        bound.read_back()


def _module(ptx: str | Path | Module) -> Module:
    if isinstance(ptx, Module):
        return ptx
    return parsed(ptx.read_text(encoding="utf-8") if isinstance(ptx, Path) else ptx)


def _entry(module: Module, name: str) -> Entry:
    """The entry of that name; the only one if no name is given."""
    entries = [i for i in module.items if isinstance(i, Entry)]
    found = [e for e in entries if e.name == name or not name]
    if len(found) != 1:
        names = ", ".join(e.name for e in entries) or "none"
        asked = f"no entry {name!r}" if name else f"{len(entries)} entries and no name"
        raise TilecValueError("V427", f"{asked}; the PTX has {names}")
    return found[0]


def _dim(value: int | Sequence[int]) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(value)


def _arrays(args: Sequence[Any]) -> list[Any]:
    """Every array among the arguments, once."""
    found: dict[int, Any] = {}
    for arg in args:
        parts = arg.values if isinstance(arg, Packed) else (arg.array if isinstance(arg, Map) else arg,)
        found.update((id(p), p) for p in parts if isinstance(p, np.ndarray))
    return list(found.values())


def _judge(outcome: Outcome, args: Sequence[Any], expect: Mapping[int, Any], close: tuple[float, float],
           warnings: bool) -> None:  # fmt: skip
    reports = [r for r in outcome.reports if warnings or r.code.startswith("E")]
    if reports:
        raise AssertionError("\n".join(map(str, reports)))
    for index, wanted in expect.items():
        arg = args[index]
        got = arg.array if isinstance(arg, Map) else arg
        np.testing.assert_allclose(
            np.asarray(got, np.float64), np.asarray(wanted, np.float64), *close, err_msg=f"argument {index}"
        )
