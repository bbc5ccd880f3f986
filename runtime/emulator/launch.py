"""Launching kernels on the emulator: any PTX text, or an Artifact with numpy arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from tilec.backends.artifact import Artifact, Param
from tilec.backends.artifact import TensorMap as MapRecipe
from tilec.ir.errors import InternalError, TilecValueError
from tilec.ir.ptx.module import Entry, Module, param_layout
from tilec.ir.ptx.parser import parse
from tilec.ir.types import DType
from tilec.runtime.config import config
from tilec.runtime.emulator import split, tensormap
from tilec.runtime.emulator.asyncops import Mode
from tilec.runtime.emulator.decode import decode
from tilec.runtime.emulator.layout import place
from tilec.runtime.emulator.machine import Machine
from tilec.runtime.emulator.program import ENVIRONMENT, Program
from tilec.runtime.emulator.report import Deadlock, Report
from tilec.runtime.emulator.spaces import GlobalMemory
from tilec.runtime.emulator.tensormap import TensorMap
from tilec.runtime.emulator.trace import Trace
from tilec.runtime.emulator.traffic import Traffic

Dim = tuple[int, int, int]
# The clocks of warps that run side by side need memory that grows with the square of their number.
_MOST_WARPS = 2048
# Modules and decoded programs that are remembered.
_KEPT = 8
# Bytes that cooperative groups find through %envreg1 and %envreg2: a size and a barrier, zero at first.
_WORKSPACE = 16


@dataclass(frozen=True)
class Outcome:
    """``reports`` are all findings; ``steps`` counts executed strand instructions. ``traffic``
    says of each load and store how many bank conflicts or sectors it caused (checked runs only).
    ``printed`` is what calls of vprintf wrote."""

    reports: tuple[Report, ...]
    steps: int
    traffic: tuple[Traffic, ...] = ()
    printed: str = ""


def run_ptx(
    text: str | Module,
    entry: str,
    grid: Sequence[int],
    block: Sequence[int],
    params: bytes,
    memory: GlobalMemory,
    *,
    smem: int = 0,
    cluster: Sequence[int] = (1, 1, 1),
    mode: Mode = "eager",
    seed: int = 0,
    registers: int = 0,
    strict: bool = True,
    check: bool = True,
    exact: bool = False,
    trace: Trace | None = None,
    limit: int = 0,
    processes: int | None = None,
) -> Outcome:
    """Run an entry. ``params`` is the parameter space (see ``param_layout``), ``smem`` the
    dynamic shared memory in bytes. Results are in ``memory``. ``strict`` raises RaceError at
    the first report whose code begins with E; DeadlockError and EmulatorError are always raised.
    ``check=False`` runs without the checker, which is faster and gives no reports. ``exact`` cuts
    the sums of tensor cores as the hardware does, which is slower (see ``emulator.exact``).
    ``trace`` collects what happens. A run of more than ``limit`` instructions (0: any number) is an
    error. ``processes``: clusters may be split among so many, which changes no result (see
    ``split``); by default TILEC_EMULATOR_PROCESSES, or the cores where it pays."""
    module = parsed(text) if isinstance(text, str) else text
    found = module.entry(entry)
    if found is None:
        raise TilecValueError("V420", f"the PTX has no entry {entry!r}")
    addresses, shared = place(module, found, memory, smem)
    given = registers or (found.directive("maxnreg") or (0,))[0]

    program = _program(_Same(module), entry, tuple(sorted(addresses.items())), exact)
    cooperative = not program.names.keys().isdisjoint(ENVIRONMENT)
    workspace = memory.add(_WORKSPACE, name="the grid's workspace") if cooperative else 0
    asked = processes or config().emulator_processes
    alone = trace is not None or limit > 0 or split.talks(program)
    count = 1 if alone else asked or split.cores()

    def run(together: bool) -> Machine:
        machine = Machine(
            # A trace changes the program.
            decode(module, found, addresses, exact) if trace is not None else program,
            _dim(grid), _dim(block), _dim(cluster), memory, _padded(params, found), shared, mode, seed, given,
            strict, check, limit, together, workspace, count, asked is None,
        )  # fmt: skip
        if trace is not None:
            trace.attach(machine)
        machine.run()
        return machine

    fits = prod(grid) // prod(cluster) > 1 and prod(grid) * -(-prod(block) // 32) <= _MOST_WARPS
    if cooperative and fits:
        machine = run(True)
    else:
        machine = _in_turn_or_together(run, memory) if fits and not limit else run(False)
    return Outcome(tuple(machine.reports), machine.now, machine.observer.counts(), "".join(machine.printed))


@lru_cache(maxsize=_KEPT)
def parsed(text: str) -> Module:
    """The module of a text; the last ones are remembered, since tests launch a kernel many times."""
    return parse(text)


@dataclass(frozen=True)
class _Same:
    """A module as a key: equal to itself only, which is quicker to find out than equal content."""

    module: Module

    def __hash__(self) -> int:
        return id(self.module)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.module is self.module


@lru_cache(maxsize=_KEPT)
def _program(
    same: _Same, entry: str, addresses: tuple[tuple[str, tuple[str, int]], ...], exact: bool
) -> Program:
    """A decoded entry. Runs do not change it."""
    found = same.module.entry(entry)
    if found is None:
        raise TilecValueError("V420", f"the PTX has no entry {entry!r}")
    with np.errstate(all="ignore"):  # an immediate may be out of its type's range
        return decode(same.module, found, dict(addresses), exact)


def _in_turn_or_together(run: Callable[[bool], Machine], memory: GlobalMemory) -> Machine:
    """Clusters run one after another. If one spins for ever, as for a later one, the run begins again with
    all side by side, as on a device that holds them all."""
    before = memory.data.copy()
    try:
        return run(False)
    except Deadlock as error:
        if not error.spins:
            raise
    memory.data[:] = before
    return run(True)


def _dim(values: Sequence[int]) -> Dim:
    x, y, z = (*values, 1, 1)[:3]
    return int(x), int(y), int(z)


def _padded(params: bytes, entry: Entry) -> Any:
    size = param_layout(entry.params)[1]
    if len(params) < size:
        raise TilecValueError(
            "V421", f"{len(params)} bytes of parameters for {entry.name}, which takes {size}"
        )
    return np.frombuffer(params.ljust(-(-size // 16) * 16 + 16, b"\0"), np.uint8)


def launch(
    artifact: Artifact,
    grid: Sequence[int],
    args: Sequence[Any],
    *,
    mode: Mode = "eager",
    seed: int = 0,
    strict: bool = True,
    check: bool = True,
    exact: bool = False,
    processes: int | None = None,
) -> Outcome:
    """Run a compiled kernel (see ``run_ptx``). ``args`` are the kernel's arguments in order: numpy arrays,
    which are updated in place as the kernel writes them, and scalars."""
    if not artifact.fits(grid):
        raise TilecValueError("V428", f"grid {tuple(grid)} is not one of clusters of {artifact.cluster}",
                              help="compile with cluster=1")  # fmt: skip
    memory = GlobalMemory()
    arrays = {i: a for i, a in enumerate(args) if isinstance(a, np.ndarray)}
    spans = {i: _span(a) for i, a in arrays.items()}
    bases = {i: memory.add(_raw(spans[i]), 256, f"argument {i}") for i in arrays}
    starts = {i: bases[i] + _first(a, spans[i]) for i, a in arrays.items()}
    module = parsed(artifact.text)
    entry = module.entry(artifact.entry)
    if entry is None:
        raise InternalError("X420", f"the artifact's text has no entry {artifact.entry!r}")
    work = artifact.workspace * prod(grid)
    workspace = memory.add(work, 128, "the kernel's workspace") if work else 0
    pack = [_pack(p, args, starts, workspace) for p in artifact.params]
    where, size = param_layout(entry.params)
    buffer = bytearray(size)
    for at, raw in zip(where.values(), pack, strict=True):
        buffer[at : at + len(raw)] = raw
    outcome = run_ptx(
        module, artifact.entry, grid, (artifact.threads, 1, 1), bytes(buffer), memory,
        smem=artifact.smem_bytes, cluster=artifact.cluster, mode=mode, seed=seed, strict=strict, check=check,
        exact=exact, processes=processes,
    )  # fmt: skip
    for i, span in spans.items():
        if span.flags.writeable:
            span.view(np.uint8)[:] = memory.bytes_at(bases[i], span.nbytes)
    return outcome


def _span(array: Any) -> Any:
    """The memory from an array's lowest to its highest element, as a flat array that shares it."""
    # The ellipsis keeps an array of rank 0 a view.
    low = array[(*(slice(None, None, -1 if s < 0 else 1) for s in array.strides), ...)]
    extent = sum((n - 1) * s // low.itemsize for n, s in zip(low.shape, low.strides, strict=True))
    count = extent + 1 if low.size else 0
    # As integers, because as_strided does not take every dtype of ml_dtypes.
    cells = low.view(f"u{low.itemsize}")
    return np.lib.stride_tricks.as_strided(cells, (count,), (low.itemsize,))


def _first(array: Any, span: Any) -> int:
    """Where in its span the first element of an array lies, in bytes."""
    return int(array.ctypes.data - span.ctypes.data) if array.size else 0


def _raw(flat: Any) -> bytes:
    return bytes(flat.tobytes())


def _scalar(dtype: DType, value: Any) -> bytes:
    return bytes(np.array([value]).astype(dtype.np).tobytes())


def _pack(param: Param, args: Sequence[Any], starts: dict[int, int], workspace: int) -> bytes:
    """The bytes of one parameter."""
    if param.kind == "workspace":
        return workspace.to_bytes(8, "little")
    arg = args[param.arg]
    makers: dict[str, Callable[[], bytes]] = {
        "pointer": lambda: starts[param.arg].to_bytes(8, "little"),
        "dim": lambda: int(arg.shape[param.axis]).to_bytes(4, "little", signed=True),
        "stride": lambda: (arg.strides[param.axis] // arg.itemsize).to_bytes(8, "little", signed=True),
        "scalar": lambda: _scalar(param.dtype, arg) if param.dtype else b"",
        "tensor_map": lambda: encode_map(param.map, arg, starts[param.arg]) if param.map else b"",
    }
    return makers[param.kind]()


_ELEMENT = {
    "int8": "UINT8", "uint8": "UINT8", "bool": "UINT8", "float8_e4m3": "UINT8", "float8_e5m2": "UINT8",
    "int16": "UINT16", "uint16": "UINT16", "int32": "INT32", "uint32": "UINT32", "int64": "INT64",
    "uint64": "UINT64",
    "float16": "FLOAT16", "bfloat16": "BFLOAT16", "float32": "FLOAT32", "float64": "FLOAT64",
}  # fmt: skip


def encode_map(recipe: MapRecipe, array: Any, base: int) -> bytes:
    """The emulator's tensor map for an array at ``base``; the stride of an extent of 1 is made legal."""
    strides = tuple(array.strides[d] if array.shape[d] > 1 else 16 for d in recipe.dims[1:])
    return tensormap.encode(
        TensorMap(
            base,
            tuple(array.shape[d] for d in recipe.dims),
            strides,
            recipe.box,
            tensormap.element_code(_ELEMENT[recipe.dtype.name]),
            tensormap.SWIZZLES.index(recipe.swizzle),
        )
    )
