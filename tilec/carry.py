"""Carried values of a loop: which names, as what types, and whether they fit after the body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tilec.coerce import const, is_number, plain
from tilec.ir.core import Value
from tilec.ir.errors import TilecTypeError
from tilec.ir.types import TileType, scalar
from tilec.tile import Tile
from tilec.trace import Region, Tracer
from tilec.values import UNBOUND, Nest, describe, flatten, meeting_dtype, rebuild, same_object


def adapt(tracer: Tracer, region: Region, x: Any, other: Any) -> Any:
    """A number as a scalar tile of the dtype in which it meets ``other``, made in ``region``."""
    if not is_number(x):
        return x
    dtype = meeting_dtype(x, other)
    if dtype is None or (isinstance(other, Tile) and other.dtype != dtype):
        return x
    tracer.stack.append(region)
    made = const(plain(x), dtype)
    tracer.stack.pop()
    return made


class Carried:
    """The names that a loop rebinds and that had a value before it.

    A tile is carried from the first trace of the body on. A Python value stays
    what it is unless the body changes it: then the body is traced again with a
    number as a run-time scalar.
    """

    def __init__(self, tracer: Tracer, names: Sequence[str], env: Mapping[str, Any], what: str) -> None:
        self.tracer, self.names, self.what = tracer, names, what
        self.leaves: dict[str, list[Any]] = {}
        self.nests: dict[str, Nest] = {}
        self.types: dict[str, list[TileType | None]] = {}
        self.lost: dict[str, str] = {}
        for name in names:
            if name in env:
                leaves, self.nests[name] = flatten(env[name])
                self.leaves[name] = leaves
                self.types[name] = [x.type if isinstance(x, Tile) else None for x in leaves]

    def enter(self) -> dict[str, Any]:
        """Make parameters of the innermost region; gives what the names hold inside."""
        self.params: dict[str, list[Tile | None]] = {}
        values: dict[str, Any] = {}
        for name, leaves in self.leaves.items():
            params = [self.tracer.param(t, name) if t else None for t in self.types[name]]
            self.params[name] = params
            values[name] = rebuild(
                [x if p is None else p for p, x in zip(params, leaves, strict=True)], self.nests[name]
            )
        return values

    def leave(
        self, region: Region, env: Mapping[str, Any], line: int, condition: Region | None = None
    ) -> list[Tile] | None:
        """The tiles to yield, or None if the body must be traced again."""
        again = False
        yielded: list[Tile] = []
        for name in list(self.leaves):
            leaves, nest = flatten(env.get(name, UNBOUND))
            if not nest.same(self.nests[name]):
                raise self._differ(
                    name, rebuild(list(self.leaves[name]), self.nests[name]), env.get(name, UNBOUND)
                )
            found = [self._leaf(region, name, i, x) for i, x in enumerate(leaves)]
            if any(x is UNBOUND for x in found):
                self._drop(name, region, condition, env, leaves, line)
                continue
            again = again or any(x is None for x in found)
            yielded += [x for x in found if isinstance(x, Tile)]
        return None if again else yielded

    def _leaf(self, region: Region, name: str, i: int, x: Any) -> Any:
        """What to yield for a leaf; True for a constant, None to trace again, UNBOUND for a misfit."""
        before, kind = self.leaves[name][i], self.types[name][i]
        if kind is None:
            if same_object(before, x):
                return True
            dtype = meeting_dtype(before, x)
            if dtype is None:
                raise self._differ(name, before, x)
            self.types[name][i] = scalar(dtype)
            return None
        if is_number(x) and kind.shape == ():
            x = adapt(self.tracer, region, x, self.params[name][i])
        return x if isinstance(x, Tile) and x.type == kind else UNBOUND

    def _differ(self, name: str, before: Any, after: Any) -> TilecTypeError:
        mend = "give it the same shape and dtype: convert with .to(dtype), or start from tl.zeros or tl.full"
        if not isinstance(before, Tile) and not is_number(before):
            mend = "Python objects cannot change in a run-time loop: carry tiles and numbers"
        text = f"{describe(before)} and leaves its body as {describe(after)}"
        return TilecTypeError("T342", f"{name!r} enters {self.what} as {text}", help=mend)

    def _drop(
        self, name: str, region: Region, condition: Region | None, env: Mapping[str, Any],
        leaves: list[Any], line: int,
    ) -> None:  # fmt: skip
        """A name that is not read before it is rebound need not fit: it ends with the loop."""
        params = [p for p in self.params[name] if p is not None]
        others = [x for n in self.leaves if n != name for x in flatten(env.get(n, UNBOUND))[0]]
        held = {x.value for x in others if isinstance(x, Tile)}
        regions = [r for r in (region, condition) if r]
        kinds = [x if t is None else t for t, x in zip(self.types[name], self.leaves[name], strict=True)]
        if any(p.value in held or region.uses(p.value) for p in params) or condition:
            wrong = next(i for i, x in enumerate(leaves) if not isinstance(x, Tile) or x.type != kinds[i])
            raise self._differ(name, self._held(name, wrong), leaves[wrong])
        gone: set[Value] = {p.value for p in params}
        for r in regions:
            r.params = [p for p in r.params if p not in gone]
        del self.leaves[name]
        self.lost[name] = f"it changes from {kinds[0]} to {describe(leaves[0])} in {self.what} at line {line}"

    def _held(self, name: str, i: int) -> Any:
        """What a leaf is inside of the loop."""
        param = self.params[name][i]
        return self.leaves[name][i] if param is None else param

    def initial(self) -> list[Tile]:
        """The run-time leaves before the loop."""
        out = []
        for name, leaves in self.leaves.items():
            for x, kind in zip(leaves, self.types[name], strict=True):
                if kind is not None:
                    out.append(x if isinstance(x, Tile) else const(x, kind.dtype))
        return out

    def hints(self) -> list[str]:
        """Source names of the run-time leaves."""
        return [n for n in self.leaves for t in self.types[n] if t is not None]

    def after(self, results: Sequence[Tile], line: int) -> dict[str, Any]:
        """What the names hold after the loop."""
        rest = iter(results)
        values: dict[str, Any] = {}
        for name, leaves in self.leaves.items():
            filled = [x if t is None else next(rest) for x, t in zip(leaves, self.types[name], strict=True)]
            values[name] = rebuild(filled, self.nests[name])
        function = self.tracer.loc().function
        for name in self.names:
            if name not in values:
                inside = f"it is bound only inside {self.what} at line {line}"
                self.tracer.lost[(function, name)] = self.lost.get(name, inside)
        return values
