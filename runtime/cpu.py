"""Run CPU programs: arguments as the machine code reads them, and who runs the instances."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from tilec.backends.artifact import CpuArg, CpuProgram
from tilec.ir.errors import TilecTypeError, TilecValueError
from tilec.ir.types import dtype_of
from tilec.runtime.arrays import require_writable, view
from tilec.runtime.config import num_threads as wanted_threads
from tilec.runtime.machine import compile_text
from tilec.runtime.threads import Pool, scratch

Grid = tuple[int, int, int]

_ENTRY = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p
)
GRID_SLOTS = 3
# Chunks per thread: few enough that the counter costs nothing, enough to end together.
_CHUNKS = 32
_lock = threading.Lock()
_pools: dict[int, Pool] = {}
_local = threading.local()


def default_threads() -> int:
    """TILEC_NUM_THREADS, or the number of cores this process may use."""
    wanted = wanted_threads()
    if wanted is not None:
        return wanted
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load(program: CpuProgram) -> Loaded:
    """Compile a program to machine code for this CPU."""
    return Loaded(program)


class Loaded:
    """Machine code of a program. `launch` may be called from several threads at once."""

    def __init__(self, program: CpuProgram) -> None:
        self.program = program
        self._code = compile_text(program.text)
        self._entry_at = self._code.address(program.entry)
        self._entry = _ENTRY(self._entry_at)

    def launch(self, grid: Sequence[int], args: Sequence[Any], num_threads: int | None = None) -> None:
        """Run all program instances of ``grid`` (up to three extents) and wait for them.

        ``args`` are arrays (any strides) and numbers in the order of the kernel's
        parameters. The result is the same for every number of threads, as far as
        instances communicate by atomics of exact operations only.
        """
        full = full_grid(grid)
        slots, keep = _slots(self.program.args, full, args)
        self.start(slots.ctypes.data, prod(full), num_threads)
        del keep

    def start(self, slots: Any, total: int, num_threads: int | None) -> None:
        """Run ``total`` instances with the arguments at an address."""
        threads = min(num_threads or default_threads(), total)
        if threads < 1:
            return
        chunk = max(1, total // (threads * _CHUNKS))
        pool = _pool() if threads > 1 else None
        # A pool that works for another thread is no reason to wait: this thread works alone.
        if pool is None or not pool.lock.acquire(blocking=False):
            counter = ctypes.c_int64(0)
            space = _workspace(self.program.workspace_bytes)
            self._entry(slots, ctypes.addressof(counter), total, chunk, space)
            return
        try:
            pool.run(self._entry_at, slots, total, chunk, threads - 1, self.program.workspace_bytes)
        finally:
            pool.lock.release()

    def prepare(self, args: Sequence[Any]) -> Prepared:
        """A launch to repeat with other addresses and numbers; ``args`` are views and numbers."""
        slots, _ = _slots(self.program.args, (1, 1, 1), args)
        places, at = [], GRID_SLOTS
        for spec in self.program.args:
            places.append(at)
            at += 1 if spec.rank is None else 1 + 2 * spec.rank
        return Prepared(self, (ctypes.c_uint64 * len(slots)), slots.tobytes(), tuple(places))


@dataclass(frozen=True, eq=False)
class Prepared:
    """Arguments of a launch as bytes; ``places`` has the slot of each address or number."""

    loaded: Loaded
    kind: Any
    template: bytes
    places: tuple[int, ...]

    def launch(self, grid: Sequence[int], values: Sequence[int], num_threads: int | None) -> None:
        """Run with the addresses of the arrays and the bits of the numbers, in order."""
        slots = self.kind.from_buffer_copy(self.template)
        x, y, z = full_grid(grid)
        slots[0], slots[1], slots[2] = x, y, z
        for place, value in zip(self.places, values, strict=True):
            slots[place] = value
        self.loaded.start(ctypes.addressof(slots), x * y * z, num_threads)


def _pool() -> Pool:
    """The threads of this process; a fork starts its own."""
    pool = _pools.get(os.getpid())
    if pool is not None:
        return pool
    with _lock:
        if os.getpid() not in _pools:
            _pools[os.getpid()] = Pool()
        return _pools[os.getpid()]


def _workspace(size: int) -> int:
    """The address of this thread's scratch memory."""
    held = getattr(_local, "memory", None)
    if held is None or held.size < size:
        held = _local.memory = scratch(size)
    return int(held.ctypes.data)


def full_grid(grid: Sequence[int]) -> Grid:
    """Three extents; raises TilecValueError for others than one to three of 0 to 2**31 - 1."""
    extents = tuple(int(n) for n in grid)
    if not 1 <= len(extents) <= 3 or any(not 0 <= n < 2**31 for n in extents):
        raise TilecValueError("V203", f"grid {extents} is not one to three extents of 0 to 2**31 - 1",
                              help="launch with kernel[(x,)], (x, y) or (x, y, z)")  # fmt: skip
    x, y, z = extents + (1,) * (3 - len(extents))
    return x, y, z


def _slots(
    specs: Sequence[CpuArg], grid: Sequence[int], args: Sequence[Any]
) -> tuple[np.ndarray[Any, Any], list[Any]]:
    """The arguments as the code reads them, and the arrays that must stay alive."""
    if len(specs) != len(args):
        raise TilecTypeError("T210", f"the kernel takes {len(specs)} arguments, not {len(args)}")
    values, keep = list(grid), []
    for spec, arg in zip(specs, args, strict=True):
        if spec.rank is None:
            values.append(_number(spec, arg))
            continue
        array = view(arg)
        _check(spec, array)
        keep.append(array)
        values += [array.ctypes.data, *array.shape, *(s // array.itemsize for s in array.strides)]
    return np.array([v & (2**64 - 1) for v in values], np.uint64), keep


def _number(spec: CpuArg, arg: Any) -> int:
    """The bits of a scalar argument."""
    try:
        raw = np.asarray(arg, spec.dtype.np)
        if raw.shape != ():
            raise TypeError("not a scalar")
    except (OverflowError, TypeError, ValueError) as error:
        message = f"argument {spec.name!r}: {arg!r} is no {spec.dtype} ({error})"
        raise TilecTypeError("T211", message) from None
    return int.from_bytes(raw.tobytes(), "little" if np.little_endian else "big")


def _check(spec: CpuArg, array: np.ndarray[Any, Any]) -> None:
    if dtype_of(array.dtype) != spec.dtype or array.ndim != spec.rank:
        raise TilecTypeError(
            "T212",
            f"argument {spec.name!r} is a {array.ndim}-dimensional array of {array.dtype}, "
            f"the kernel was compiled for rank {spec.rank} of {spec.dtype}",
        )
    d = spec.contiguous
    if d is not None and array.shape[d] > 1 and array.strides[d] != array.itemsize:
        raise TilecTypeError("T213", f"argument {spec.name!r}: axis {d} must have stride 1")
    if spec.written:
        require_writable(array, spec.name)
