"""Effects of one instance happen in program order: where a barrier must stand between two accesses.

A thread sees its own accesses of global memory in order. Those of other threads of its group
it sees in order only if a barrier lies between.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tilec.ir.core import Block, Op, Value, walk
from tilec.ir.layout import Layout
from tilec.ir.ops import opdef
from tilec.ir.types import TileType

Tile = tuple[tuple[Value, ...], tuple[int, ...]]  # offsets and shape


@dataclass(frozen=True)
class Access:
    """What an op does to a tensor.

    ``tile``: where, None if any element may be meant. ``layout``: which thread does it, None if
    that is not known or if several do the same.
    """

    tensor: Value
    writes: bool
    tile: Tile | None = None
    layout: Layout | None = None

    def meets(self, later: Access) -> bool:
        """Whether two threads may need the order of two accesses. Arguments do not overlap (V202)."""
        own = self.layout is not None and self.layout == later.layout and self.tile == later.tile
        return self.tensor is later.tensor and (self.writes or later.writes) and not own


class Order:
    """The accesses of a group since its last barrier, as far as an access to come may meet them."""

    def __init__(self) -> None:
        self._open: list[Access] = []

    def barrier(self) -> None:
        """A barrier of the group has been emitted."""
        self._open = []

    def before(self, op: Op) -> bool:
        """Note an op; whether a barrier must come before it."""
        access = _access(op)
        if access is None:
            return False
        needed = any(a.meets(access) for a in self._open)
        self._open = [*(() if needed else self._open), access]
        return needed

    @contextmanager
    def loop(self, *blocks: Block) -> Iterator[None]:
        """Around a loop's code: any access of an earlier turn may be open."""
        found = (_access(op) for block in blocks for op in walk(block))
        self._open += [Access(a.tensor, a.writes) for a in found if a is not None]
        with self.branch():
            yield

    @contextmanager
    def branch(self) -> Iterator[None]:
        """One of several ways: what was open before stays so, as another way may be taken."""
        before = list(self._open)
        yield
        self._open = [*before, *(a for a in self._open if a not in before)]


def _access(op: Op) -> Access | None:
    effect = opdef(op.name).effect
    if opdef(op.name).family != "memory" or effect not in ("read", "write"):
        return None
    if op.name not in ("load", "store"):
        return Access(op.args[0], effect == "write")
    value, offsets = (op.result, op.args[1:]) if effect == "read" else (op.args[1], op.args[2:])
    assert isinstance(value.type, TileType)
    layout = value.type.layout
    own = isinstance(layout, Layout) and not any(layout.replicated)
    return Access(op.args[0], effect == "write", (offsets, value.type.shape), layout if own else None)
