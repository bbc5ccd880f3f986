"""Run CPU programs: LLVM's just-in-time compiler, and threads that share a counter of instances."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from math import prod
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from tilec.backends.artifact import CpuArg, CpuProgram
from tilec.ir.errors import InternalError, ResourceError, TilecTypeError, TilecValueError
from tilec.ir.types import dtype_of
from tilec.runtime.arrays import require_writable, view
from tilec.runtime.config import config

_ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)
_lock = threading.Lock()
_pools: dict[int, ThreadPoolExecutor] = {}
_local = threading.local()


def default_threads() -> int:
    """TILEC_NUM_THREADS, or the number of cores this process may use."""
    wanted = config().num_threads
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
        machine = _machine()
        with _lock:
            module = _parse(program)
            _optimise(module, machine)
            self._engine = llvm.create_mcjit_compiler(module, machine)
            self._engine.finalize_object()
            self._entry = _ENTRY(self._engine.get_function_address(program.entry))

    def launch(self, grid: Sequence[int], args: Sequence[Any], num_threads: int | None = None) -> None:
        """Run all program instances of ``grid`` (up to three extents) and wait for them.

        ``args`` are arrays (any strides) and numbers in the order of the kernel's
        parameters. The result is the same for every number of threads, as far as
        instances communicate by atomics of exact operations only.
        """
        full = _grid(grid)
        slots, keep = _slots(self.program.args, full, args)
        total = prod(full)
        threads = min(num_threads or default_threads(), total)
        if total == 0:
            return
        counter = ctypes.c_int64(0)
        call = (slots.ctypes.data, ctypes.addressof(counter), total)
        helpers = [_pool().submit(self._work, call) for _ in range(threads - 1)]
        try:
            self._work(call)
        finally:
            _join(helpers)
        del keep

    def _work(self, call: tuple[int, int, int]) -> None:
        self._entry(*call, _workspace(self.program.workspace_bytes))


def _join(helpers: Sequence[Future[None]]) -> None:
    """Wait for helpers that have begun. One that has not is not needed any more."""
    for helper in helpers:
        if not helper.cancel():
            helper.result()


def _pool() -> ThreadPoolExecutor:
    """The threads of this process; a fork starts its own."""
    with _lock:
        pool = _pools.get(os.getpid())
        if pool is None:
            pool = ThreadPoolExecutor(max(os.cpu_count() or 1, 64), thread_name_prefix="tilec")
            _pools[os.getpid()] = pool
        return pool


def _workspace(size: int) -> int:
    """The address of this thread's scratch memory, 64-byte aligned."""
    held = getattr(_local, "memory", None)
    if held is None or held.size < size + 64:
        try:
            held = _local.memory = np.zeros(size + 64, np.uint8)
        except MemoryError:
            raise ResourceError("R202", f"the tiles of the kernel need {size} bytes for each thread",
                                help="use smaller tiles") from None  # fmt: skip
    return int(-(-held.ctypes.data // 64) * 64)


def _grid(grid: Sequence[int]) -> tuple[int, ...]:
    extents = tuple(int(n) for n in grid)
    if not 1 <= len(extents) <= 3 or any(not 0 <= n < 2**31 for n in extents):
        raise TilecValueError("V203", f"grid {extents} is not one to three extents of 0 to 2**31 - 1",
                              help="launch with kernel[(x,)], (x, y) or (x, y, z)")  # fmt: skip
    return extents + (1,) * (3 - len(extents))


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


def _machine() -> Any:
    """A target machine for this host. An engine frees its machine: each needs its own."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features()
    # LLVM prefers half-width vectors on some CPUs of the full width; the backend chose its own.
    text = ",".join(t for t in (features.flatten(), "-prefer-256-bit") if t)
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(cpu=llvm.get_host_cpu_name(), features=text, opt=3, jit=True)


def _parse(program: CpuProgram) -> Any:
    try:
        module = llvm.parse_assembly(program.text)
        module.verify()
    except RuntimeError as error:
        raise InternalError("X250", f"LLVM refuses the code of {program.entry}: {error}") from None
    return module


def _optimise(module: Any, machine: Any) -> None:
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = True
    options.slp_vectorization = True
    builder = llvm.create_pass_builder(machine, options)
    passes = builder.getModulePassManager()
    passes.run(module, builder)
