"""Asynchronous operations in flight, and when they act."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Mode = Literal["eager", "lazy", "random"]


@dataclass
class AsyncOp:
    """An operation that acts in ``stages`` (a store: read, then write). ``before`` must act
    first. ``release`` drops its claim on memory and registers, once a wait has seen it done."""

    text: str
    stages: list[Callable[[], None]]
    before: AsyncOp | None = None
    release: Callable[[], None] | None = None
    done: int = 0

    @property
    def finished(self) -> bool:
        return self.done == len(self.stages)

    def advance(self) -> None:
        """Run the next stage."""
        if self.before is not None:
            self.before.finish()
            self.before = None
        self.done += 1
        self.stages[self.done - 1]()

    def finish(self, stages: int | None = None) -> None:
        """Run what is left, or the first ``stages``."""
        wanted = len(self.stages) if stages is None else stages
        while self.done < wanted:
            self.advance()

    def observed(self) -> None:
        """A wait covers it: its claims end."""
        if self.release is not None:
            self.release()
            self.release = None


@dataclass
class Flight:
    """All operations in flight of a cluster, and the policy that lets them act."""

    mode: Mode
    rng: np.random.Generator
    pending: list[AsyncOp] = field(default_factory=list)

    def issue(self, op: AsyncOp) -> None:
        if self.mode == "eager" or (self.mode == "random" and self.rng.random() < 0.3):
            op.finish()
        else:
            self.pending.append(op)

    def maybe(self) -> bool:
        """RANDOM: now and then one operation acts. Whether one did."""
        return self.mode == "random" and bool(self.pending) and self.rng.random() < 0.25 and self.force()

    def force(self) -> bool:
        """Let one operation act, since nothing else can. False if there is none."""
        self.pending = [op for op in self.pending if not op.finished]
        if not self.pending:
            return False
        index = int(self.rng.integers(len(self.pending))) if self.mode == "random" else 0
        self.pending[index].advance()
        return True

    def drain(self) -> None:
        """Everything acts: the kernel is over."""
        for op in self.pending:
            op.finish()
        self.pending = []


@dataclass
class Groups:
    """Commit groups of one thread (bulk copies) or warpgroup (wgmma)."""

    open: list[AsyncOp] = field(default_factory=list)
    committed: list[list[AsyncOp]] = field(default_factory=list)

    def add(self, op: AsyncOp) -> None:
        self.open.append(op)

    def commit(self) -> None:
        self.committed.append(self.open)
        self.open = []

    def wait(self, pending: int, stages: int | None = None) -> None:
        """Finish all but the newest ``pending`` groups (their first ``stages``)."""
        keep = len(self.committed) - pending
        for group in self.committed[: max(keep, 0)]:
            for op in group:
                op.finish(stages)
                op.observed()
        if stages is None and keep > 0:
            del self.committed[:keep]

    def all_ops(self) -> list[AsyncOp]:
        """Every operation that no wait has retired."""
        return [*self.open, *(op for group in self.committed for op in group)]

    @property
    def last(self) -> AsyncOp | None:
        """The newest operation, committed or not."""
        if self.open:
            return self.open[-1]
        return next((g[-1] for g in reversed(self.committed) if g), None)
