"""Fetching the next program instance's tiles while this one computes.

A tile that several loops read costs memory time in the first of them only. The second
loop asks for the same tile of the next instance as it goes, one line for each vector, so
that memory is busy while the others compute. A prefetch changes no value and cannot
fault: a wrong guess is only slow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tilec.backends.cpu import loops
from tilec.backends.cpu.access import prefetch
from tilec.backends.cpu.lanes import storage
from tilec.backends.cpu.views import At, View


class Ahead:
    """Which views have a successor, and which loop asks for it."""

    def __init__(self, b: Any) -> None:
        self.b = b
        self.starts: dict[View, Any] = {}
        self._loops: dict[View, int] = {}
        self._due: frozenset[View] = frozenset()
        self._asked: set[tuple[View, At]] = set()

    @contextmanager
    def loop(self, read: Sequence[View]) -> Iterator[None]:
        """While the code of a loop that reads these views is generated."""
        for view in read:
            self._loops[view] = self._loops.get(view, 0) + 1
        before = self._due
        self._due = frozenset(v for v in read if v in self.starts and self._loops[v] == 2)
        yield
        self._due = before

    def ask(self, view: View, at: At) -> None:
        """The view is read at a position: fetch what the next instance will read there."""
        if view not in self._due or (view, at) in self._asked:
            return
        self._asked.add((view, at))
        offset: Any = 0
        for coord, stride in zip(at, view.tensor.strides, strict=True):
            offset = loops.add(self.b, offset, loops.mul(self.b, coord.base, stride))
        element = storage(view.type.dtype)
        place = self.b.gep(self.starts[view], [loops.i64(offset)], source_etype=element)
        prefetch(self.b, place, level=2)  # The first cache is full of the tile at hand.
