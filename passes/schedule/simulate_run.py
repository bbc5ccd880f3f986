"""What a simulation reports."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple


class Fault(NamedTuple):
    """The first cycle in which a rule is broken: its class, its cycle, and who meets whom."""

    kind: str
    cycle: int
    text: str

    def __str__(self) -> str:
        return f"[{self.kind}] cycle {self.cycle}: {self.text}"


class Event(NamedTuple):
    """``lane`` (a group, "group 1", or a unit) is busy with an op of an iteration in [start, end)."""

    lane: str
    op: str
    iteration: int
    start: int
    end: int


class Stall(NamedTuple):
    """An op stood at the head of its group for ``cycles`` in all, because of ``cause``."""

    op: str
    cause: str
    cycles: int


@dataclass(frozen=True)
class Run:
    """A simulated loop.

    ``ii``: cycles per iteration of the slowest op in the steady state, exact where the
    execution repeats itself; None if there are too few iterations to say or it deadlocks.
    ``cycles``: from the first issue until all is done. ``busy``: share of each unit's
    instances held in the steady half. ``deadlock``: who waits for what, empty if all ended.
    """

    ii: Fraction | None
    cycles: int
    faults: tuple[Fault, ...] = ()
    deadlock: tuple[str, ...] = ()
    busy: tuple[tuple[str, float], ...] = ()
    stalls: tuple[Stall, ...] = ()
    trace: tuple[Event, ...] = ()

    @property
    def broken(self) -> bool:
        """Whether the schedule does not work: a rule was broken, or it stands still."""
        return bool(self.faults or self.deadlock)
