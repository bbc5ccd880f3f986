"""What ran when, as a trace that ui.perfetto.dev opens.

The format is the Trace Event Format (JSON): a process for each CTA with a track for each warp,
on which every instruction is a slice of one step and every wait a slice until the warp goes on, and a
slice for each asynchronous operation from its issue until it acts. A step stands as a
microsecond: steps count instructions of the emulator, they are no time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tilec.ir.loc import UNKNOWN
from tilec.ir.ptx.printer import instruction_text
from tilec.runtime.emulator.asyncops import AsyncOp, Flight
from tilec.runtime.emulator.program import Op, Run
from tilec.runtime.emulator.strand import cta_name

if TYPE_CHECKING:
    from tilec.runtime.emulator.cta import Cta
    from tilec.runtime.emulator.machine import Machine
    from tilec.runtime.emulator.strand import Strand, Wait


@dataclass
class Trace:
    """Collects the events of one run; ``steps`` are its instructions as (step, who, PTX line, text)."""

    events: list[dict[str, Any]] = field(default_factory=list)
    steps: list[tuple[int, str, int, str]] = field(default_factory=list)
    _waits: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)
    _named: set[tuple[int, int]] = field(default_factory=set)
    _reported: int = 0
    _issued: int = 0

    def attach(self, machine: Machine) -> None:
        """Watch a machine that has not run yet. What an earlier one did is forgotten."""
        for collected in (self.events, self.steps, self._waits, self._named):
            collected.clear()
        self._reported = self._issued = 0
        for op in machine.program.code:
            op.run = self._watched(machine, op, op.run)
        machine.flight = _Watched(machine.mode, machine.rng, [], self, machine)

    def json(self) -> str:
        """The trace as text."""
        return json.dumps({"traceEvents": self.events, "displayTimeUnit": "ms"}, separators=(",", ":"))

    def _watched(self, machine: Machine, op: Op, run: Run) -> Run:
        text = instruction_text(op.inst)
        args: dict[str, Any] = {"line": op.inst.line, "text": text}
        if op.inst.loc is not UNKNOWN:
            args["source"] = str(op.inst.loc)

        def watched(s: Strand) -> Wait | None:
            self.steps.append((machine.now, s.name(), op.inst.line, text))
            tracks = [(_number(s.cta), int(w)) for w in s.warps]
            for pid, warp in tracks:
                self._step(s.cta, pid, warp, machine.now, op.inst.opcode, args)
            wait = run(s)
            if wait is not None and not wait.spin:
                for track in tracks:
                    self._begin_wait(track, machine.now, wait.text())
            self._report(machine, tracks[0])
            return wait

        return watched

    def _step(self, cta: Cta, pid: int, warp: int, now: int, name: str, args: dict[str, Any]) -> None:
        self._name(cta, pid, warp)
        waiting = self._waits.pop((pid, warp), None)
        if waiting is not None:
            waiting["dur"] = max(now - waiting["ts"], 0)
            self.events.append(waiting)
        self.events.append(
            {"ph": "X", "pid": pid, "tid": warp, "ts": now, "dur": 1, "name": name, "args": args}
        )

    def _begin_wait(self, track: tuple[int, int], now: int, text: str) -> None:
        pid, warp = track
        self._waits[track] = {"ph": "X", "pid": pid, "tid": warp, "ts": now + 1, "dur": 0, "name": text}

    def _name(self, cta: Cta, pid: int, warp: int) -> None:
        if (pid, warp) in self._named:
            return
        if not any(p == pid for p, _ in self._named):
            self._meta("process_name", pid, 0, f"CTA {cta_name(cta.ctaid)}")
        self._named.add((pid, warp))
        self._meta("thread_name", pid, warp, f"warp {warp}")

    def _meta(self, what: str, pid: int, tid: int, name: str) -> None:
        self.events.append({"ph": "M", "pid": pid, "tid": tid, "name": what, "args": {"name": name}})

    def _report(self, machine: Machine, track: tuple[int, int]) -> None:
        for report in machine.reports[self._reported :]:
            self.events.append({
                "ph": "i", "s": "t", "pid": track[0], "tid": track[1], "ts": machine.now, "name": report.code,
                "args": {"message": report.message, "line": report.line},
            })  # fmt: skip
        self._reported = len(machine.reports)

    def begin(self, op: AsyncOp, pid: int, now: int) -> dict[str, Any]:
        """The first event of an asynchronous operation; its last one differs in ph and ts."""
        self._issued += 1
        event = {
            "ph": "b",
            "cat": "async",
            "id": self._issued,
            "pid": pid,
            "tid": 0,
            "ts": now,
            "name": op.text,
        }
        self.events.append(event)
        return event


def _number(cta: Cta) -> int:
    """A number for a CTA: its place in the grid."""
    grid = cta.machine.grid
    x, y, z = cta.ctaid
    return x + grid[0] * (y + grid[1] * z)


@dataclass
class _Watched(Flight):
    """Flight that notes when operations begin and end. They belong to the CTA that issues them,
    which is that of the newest instruction."""

    trace: Trace = field(default_factory=Trace)
    machine: Any = None

    def issue(self, op: AsyncOp) -> None:
        steps = self.trace.events
        pid = next((e["pid"] for e in reversed(steps) if e["ph"] == "X"), 0)
        event = self.trace.begin(op, pid, self.machine.now)
        last = op.stages[-1]

        def act() -> None:
            last()
            self.trace.events.append({**event, "ph": "e", "ts": self.machine.now + 1})

        op.stages[-1] = act
        super().issue(op)
