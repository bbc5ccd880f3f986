"""Clusters of a grid in several processes.

Each process is forked from the run so far, takes every n-th cluster that is left, and keeps which bytes of
global memory it reads and writes. Where none wrote what another one touched, no order of the clusters gives
other values or reports, and all results are taken over as if the clusters had run in turn. Otherwise, and
where one of them fails, nothing of theirs is used: the clusters run in turn in this process, in which
nothing has changed.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tilec.ir.loc import Loc
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.program import CLOCKS, Program
from tilec.runtime.emulator.report import Report
from tilec.runtime.emulator.spaces import Footprint
from tilec.runtime.emulator.traffic import Traffic

if TYPE_CHECKING:
    from tilec.runtime.emulator.machine import Dim, Machine

# A fork, and taking over what it gives, costs about 10 ms.
_WORTH_SECONDS = 0.05
_MOST_BYTES = 1 << 28
_SCOPED = ("acquire", "release", "acq_rel", "relaxed", "volatile", "mmio")


def cores() -> int:
    """The processes that a run may use by default: one where forking is not possible or not safe."""
    if not sys.platform.startswith("linux") or threading.active_count() > 1:
        return 1
    return len(os.sched_getaffinity(0))


def pays(machine: Machine, seconds: float) -> bool:
    """Whether to split what is left, if the last cluster took so long."""
    left = len(machine.queue)
    return left > 1 and seconds * left >= _WORTH_SECONDS and len(machine.memory.data) <= _MOST_BYTES


def talks(program: Program) -> bool:
    """Whether clusters seem to depend on one another, so that splitting them would be in vain, or on how
    many instructions ran before them."""
    return not program.names.keys().isdisjoint(CLOCKS) or any(_talks(op.inst.opcode) for op in program.code)


def _talks(opcode: str) -> bool:
    base, *parts = opcode.split(".")
    if base in ("clusterlaunchcontrol", "griddepcontrol") or opcode.startswith("cp.reduce.async.bulk."):
        return True
    if any(p.startswith("shared") for p in parts):
        return False
    return base in ("atom", "red") or (base in ("ld", "st") and not set(parts).isdisjoint(_SCOPED))


@dataclass(frozen=True)
class _Part:
    """A process: the clusters that it runs, and the pipe that it answers through."""

    pid: int
    pipe: int


@dataclass(frozen=True)
class _Board:
    """Memory that all processes share: what each has read and written, and the bytes that were written."""

    prints: list[Footprint]
    data: Array

    def clash(self) -> bool:
        """Whether a process wrote what another one touched."""
        wrote = np.zeros(len(self.data), bool)
        touched = np.zeros(len(self.data), np.uint8)
        for one in self.prints:
            wrote |= one.wrote != 0
            touched += (one.wrote | one.read) != 0
        return bool((wrote & (touched > 1)).any())

    def take(self, memory: Array) -> None:
        """Copy what was written into memory."""
        for one in self.prints:
            wrote = one.wrote != 0
            memory[wrote] = self.data[wrote]


def run(machine: Machine) -> bool:
    """Run the clusters that are queued in several processes. False: nothing has been done."""
    clusters = list(enumerate(machine.queue, machine.started))
    count = min(machine.processes, len(clusters))
    parts: list[_Part] = []
    try:
        board = _board(count, len(machine.memory.data))
        for i in range(count):
            parts.append(_fork(machine, clusters[i::count], board, i))
        answers = [_answer(p) for p in parts]
    except OSError:  # no memory, or no more processes
        return False
    finally:
        _end(parts)
    if not all(answers) or board.clash():
        return False
    board.take(machine.memory.data)
    _take([cluster for answer in answers for cluster in json.loads(answer)], machine)
    machine.queue.clear()
    return True


def _board(count: int, size: int) -> _Board:
    raw = np.frombuffer(mmap.mmap(-1, max(size, 1) * (2 * count + 1)), np.uint8)
    rows = raw[: size * (2 * count + 1)].reshape(2 * count + 1, size)
    return _Board([Footprint(rows[2 * i], rows[2 * i + 1]) for i in range(count)], rows[-1])


def _fork(machine: Machine, clusters: Sequence[tuple[int, Dim]], board: _Board, index: int) -> _Part:
    read, write = os.pipe()
    with warnings.catch_warnings():
        # Python warns of threads, among them those of BLAS, which knows how to be forked.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        _child(machine, clusters, board, index, write)
    os.close(write)
    return _Part(pid, read)


def _child(machine: Machine, clusters: Sequence[tuple[int, Dim]], board: _Board, index: int,
           pipe: int) -> None:  # fmt: skip
    """Run the clusters, answer, and end the process. No answer means that it failed."""
    try:
        machine.memory.footprint = mine = board.prints[index]
        machine.queue.clear()
        answers = [_cluster(machine, number, origin) for number, origin in clusters]
        wrote = mine.wrote != 0
        board.data[wrote] = machine.memory.data[wrote]
        with os.fdopen(pipe, "w", encoding="utf-8") as out:
            json.dump(answers, out)
    finally:
        os._exit(0)


def _cluster(machine: Machine, number: int, origin: Dim) -> dict[str, Any]:
    """Run one cluster; what it adds to the outcome, as plain values."""
    reports, printed, now = len(machine.reports), len(machine.printed), machine.now
    machine.observer.forget_counts()
    machine.run_cluster(number, origin)
    return {
        "number": number,
        "steps": machine.now - now,
        "printed": machine.printed[printed:],
        "reports": [asdict(r) for r in machine.reports[reports:]],
        "traffic": [asdict(t) for t in machine.observer.counts()],
    }


def _answer(part: _Part) -> str:
    with open(part.pipe, encoding="utf-8", closefd=False) as pipe:
        return pipe.read()


def _end(parts: Sequence[_Part]) -> None:
    """No process is left."""
    for part in parts:
        os.close(part.pipe)
        with suppress(ProcessLookupError):
            os.kill(part.pid, signal.SIGKILL)
        os.waitpid(part.pid, 0)


def _take(clusters: list[dict[str, Any]], machine: Machine) -> None:
    """Add what the clusters gave, in their order."""
    for found in sorted(clusters, key=lambda c: int(c["number"])):
        machine.now += found["steps"]
        machine.printed += found["printed"]
        for report in found["reports"]:
            places = {key: _loc(report[key]) for key in ("loc", "other_loc")}
            machine.note(Report(**{**report, **places}))
        machine.observer.add_counts([Traffic(**{**t, "loc": _loc(t["loc"])}) for t in found["traffic"]])


def _loc(fields: dict[str, Any]) -> Loc:
    caller = fields["caller"]
    return Loc(**{**fields, "caller": None if caller is None else _loc(caller)})
