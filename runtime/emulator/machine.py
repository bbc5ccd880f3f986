"""The emulated device: runs the CTAs of a grid, cluster by cluster."""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass, field
from math import inf
from time import perf_counter

import numpy as np

from tilec.ir.errors import RaceError
from tilec.ir.loc import UNKNOWN
from tilec.runtime.emulator import split
from tilec.runtime.emulator.asyncops import Flight, Mode
from tilec.runtime.emulator.check_tensor import TensorChecker
from tilec.runtime.emulator.checker import Checker
from tilec.runtime.emulator.cta import Cta
from tilec.runtime.emulator.numbers import Array
from tilec.runtime.emulator.observe import Observer
from tilec.runtime.emulator.program import ENVIRONMENT, Program
from tilec.runtime.emulator.report import Deadlock, EmulatorError, Report, where
from tilec.runtime.emulator.scheduler import Scheduler
from tilec.runtime.emulator.spaces import GlobalMemory
from tilec.runtime.emulator.strand import Strand
from tilec.runtime.emulator.tensor_watch import TensorWatch

Dim = tuple[int, int, int]


@dataclass
class Machine:
    """``smem`` is all shared memory of a CTA in bytes, ``registers`` those per thread at launch
    (0: setmaxnreg is not accounted). ``strict`` raises RaceError at the first E report;
    without ``check`` there are no reports; ``limit`` is the number of instructions after which a run
    is an error (0: none). ``together``: all clusters run side by side, not one after another.
    ``workspace`` is the address that %envreg1 and %envreg2 hold. ``processes``: clusters that run one after
    another may be split among so many (see ``split``), at once or, if ``probe``, where the first one took
    long enough."""

    program: Program
    grid: Dim
    block: Dim
    cluster: Dim
    memory: GlobalMemory
    params: Array
    smem: int
    mode: Mode = "eager"
    seed: int = 0
    registers: int = 0
    strict: bool = True
    check: bool = True
    limit: int = 0
    together: bool = False
    workspace: int = 0
    processes: int = 1
    probe: bool = True
    now: int = 0
    reports: list[Report] = field(default_factory=list)
    known: set[tuple[str, int]] = field(default_factory=set)
    queue: deque[Dim] = field(default_factory=deque)
    started: int = 0
    printed: list[str] = field(default_factory=list)
    ctas: list[Cta] = field(default_factory=list)
    last_effect: int = 0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.flight = Flight(self.mode, self.rng)
        self.observer: Observer = Observer()
        self.tensor = TensorWatch()
        if self.check:
            self.observer = checker = Checker(self)
            self.tensor = TensorChecker(checker)

    def note(self, report: Report) -> bool:
        """Note a finding, once per instruction and code. Whether it is one of the first kind."""
        if not self.check or (report.code, report.line) in self.known:
            return False
        self.known.add((report.code, report.line))
        self.reports.append(report)
        return True

    def report(self, report: Report) -> None:
        """Note a finding, and raise it if it is the first error and the run is strict."""
        if self.note(report) and self.strict and report.code.startswith("E"):
            loc = None if report.loc is UNKNOWN else report.loc
            raise RaceError(report.code, f"{report.message} at PTX line {report.line}", loc=loc)

    def run(self) -> None:
        """Run the grid to its end. Of clusters that run one after another, each may take others out of
        the queue (see ``launchcontrol``). An error that stops the run carries the reports so far."""
        steps = [range(0, g, c) for g, c in zip(self.grid, self.cluster, strict=True)]
        try:
            with np.errstate(all="ignore"):
                origins = [(x, y, z) for z, y, x in itertools.product(*reversed(steps))]
                if self.together:
                    self._run(origins)
                self.queue.extend(() if self.together else origins)
                self._in_turn()
        except (EmulatorError, Deadlock) as error:
            error.reports = tuple(self.reports)
            raise

    def _in_turn(self) -> None:
        """Run the queue; several processes may take what is left of it, which is tried once."""
        may, seconds = self.processes > 1, 0.0 if self.probe else inf
        while self.queue:
            if may and split.pays(self, seconds):
                may = False
                if split.run(self):
                    return
            begin = perf_counter()
            self.run_cluster(self.started, self.queue.popleft())
            seconds = perf_counter() - begin

    def run_cluster(self, number: int, origin: Dim) -> None:
        """Run one cluster of those in turn. What is random in it depends on its number only."""
        self.started = number + 1
        self.rng = self.flight.rng = np.random.default_rng([self.seed, number])
        self._run([origin])

    def _run(self, origins: list[Dim]) -> None:
        """Run clusters side by side."""
        self.ctas = []
        for origin in origins:
            self._launch(origin)
        self.observer.begin(self.ctas)
        self.tensor.begin(self.ctas)
        Scheduler(self).run()
        self.tensor.end()
        self.observer.end()
        self.flight.drain()

    def _launch(self, origin: Dim) -> None:
        cluster: list[Cta] = []
        for delta in itertools.product(*(range(c) for c in reversed(self.cluster))):
            x, y, z = (o + d for o, d in zip(origin, reversed(delta), strict=True))
            cluster.append(Cta(self, (x, y, z), cluster, len(self.ctas)))
            self.ctas.append(cluster[-1])

    def deadlock(self, strands: list[Strand], reason: str, code: str = "D400") -> Deadlock:
        """The error that names every waiting strand."""
        lines = [reason]
        for s in strands:
            inst = self.program.code[s.pc].inst
            text = s.wait.text() if s.wait else "runs"
            lines.append(f"  {s.name()}: {text}, at {where(inst)}")
        lines += self.observer.stuck(strands)
        lines += [f"  reported before: {r}" for r in self.reports]
        first = self.program.code[strands[0].pc].inst if strands else None
        found = Deadlock(code, "\n".join(lines), loc=first.loc if first and first.loc.line else None)
        found.spins = any(s.wait is None for s in strands)
        return found

    def fill_specials(self, cta: Cta) -> None:
        """Set the special registers that the program reads."""
        for name, values in self._specials(cta).items():
            row = self.program.names.get(name)
            if row is not None:
                cta.regs[row][:] = values

    def _specials(self, cta: Cta) -> dict[str, Array | int]:
        thread = np.arange(cta.size)
        bx, by, _ = self.block
        lane = thread & 31
        one = np.uint64(1)
        bit = one << lane.astype(np.uint64)
        clusters = tuple(g // c for g, c in zip(self.grid, self.cluster, strict=True))
        where_cluster = tuple(i // c for i, c in zip(cta.ctaid, self.cluster, strict=True))
        in_cluster = tuple(i % c for i, c in zip(cta.ctaid, self.cluster, strict=True))
        found: dict[str, Array | int] = {
            "%laneid": lane, "%warpid": thread >> 5, "%nwarpid": len(cta.warp_alive), "%smid": 0, "%nsmid": 1,
            "%gridid": 0, "%cluster_ctarank": cta.rank, "%cluster_nctarank": int(np.prod(self.cluster)),
            "%is_explicit_cluster": int(self.cluster != (1, 1, 1)), "%lanemask_eq": bit,
            "%lanemask_lt": bit - one, "%lanemask_le": (bit << one) - one,
            "%lanemask_ge": (one << np.uint64(32)) - bit,
            "%lanemask_gt": (one << np.uint64(32)) - (bit << one), "%dynamic_smem_size": self.smem,
            "%total_smem_size": self.smem, **dict.fromkeys(ENVIRONMENT, 0),
            "%envreg1": self.workspace >> 32, "%envreg2": self.workspace & 0xFFFFFFFF,
        }  # fmt: skip
        by_axis: dict[str, tuple[Array | int, ...]] = {
            "tid": (thread % bx, thread // bx % by, thread // (bx * by)), "ntid": self.block,
            "ctaid": cta.ctaid, "nctaid": self.grid, "clusterid": where_cluster, "nclusterid": clusters,
            "cluster_ctaid": in_cluster, "cluster_nctaid": self.cluster,
        }  # fmt: skip
        for stem, values in by_axis.items():
            for axis, value in zip("xyz", values, strict=True):
                found[f"%{stem}.{axis}"] = value
        return found
