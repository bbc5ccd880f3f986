"""Repeated launches on the CPU: what an earlier launch with arguments of these kinds found out.

A launch checks, traces and compiles. Where everything that decides this is as it was
(dtypes, shapes, strides, alignment, constants, globals that the kernel reads), only
addresses and numbers are left to write. Whatever is unusual takes the ordinary way.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import numpy as np

from tilec.dependencies import names_of
from tilec.ir.types import float32, float64, int32, int64

_MISSING = object()
_LIMIT = 256  # kinds of launches that a kernel keeps
_PACK = {int32: ("<i", "<I"), int64: ("<q", "<Q"), float32: ("<f", "<I"), float64: ("<d", "<Q")}
_PLAIN = (int, bool, str, type(None))
Key = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Plan:
    """``reach``: bytes before and after the address of each array; ``written``: its arrays by index.

    ``watched``: (look up, name, object) of all that the kernel's functions read from outside.
    """

    prepared: Any
    reach: tuple[tuple[int, int] | None, ...]
    written: tuple[int, ...]
    numbers: tuple[tuple[str, str] | None, ...]
    watched: tuple[tuple[Callable[..., Any], str, Any], ...]
    constants: Mapping[str, Any]

    def unchanged(self) -> bool:
        """Whether the kernel's functions still see the very objects that they saw."""
        return all(look(name, _MISSING) is value for look, name, value in self.watched)

    def values(self, args: Sequence[Any], addresses: Sequence[int]) -> list[int] | None:
        """Addresses and the bits of numbers; None if a number does not fit, or written arrays may overlap."""
        out = list(addresses)
        for i, form in enumerate(self.numbers):
            if form is not None:
                try:
                    out[i] = struct.unpack(form[1], struct.pack(form[0], args[i]))[0]
                except (OverflowError, struct.error):
                    return None
        return out if self._apart(addresses) else None

    def _apart(self, addresses: Sequence[int]) -> bool:
        for i in self.written:
            low, high = self._range(i, addresses)
            for j, reach in enumerate(self.reach):
                if reach is not None and j != i:
                    start, stop = self._range(j, addresses)
                    if start < high and low < stop:
                        return False
        return True

    def _range(self, i: int, addresses: Sequence[int]) -> tuple[int, int]:
        reach = self.reach[i]
        if reach is None:
            return 0, 0
        return addresses[i] - reach[0], addresses[i] + reach[1]


class Plans:
    """The plans of one kernel."""

    def __init__(self) -> None:
        self._found: dict[Key, Plan] = {}

    def find(self, key: Key) -> Plan | None:
        """The plan of an earlier launch of this kind, if the kernel sees what it saw."""
        plan = self._found.get(key)
        return plan if plan is not None and plan.unchanged() else None

    def keep(self, key: Key, plan: Plan) -> None:
        """Remember a plan; old ones go all at once."""
        if len(self._found) >= _LIMIT:
            self._found.clear()
        self._found[key] = plan


def kind_of(args: Sequence[Any], keywords: Mapping[str, Any]) -> tuple[Key, list[int]] | None:
    """What decides a launch, and the addresses of the arrays; None for arguments of other kinds."""
    if os.environ.get("TILEC_BACKEND"):
        return None
    key: list[Any] = []
    addresses = []
    for a in args:
        kind = type(a)
        if kind is np.ndarray:
            address, read_only = a.__array_interface__["data"]
            key += (a.dtype, a.shape, a.strides, address % 16, read_only)
            addresses.append(address)
        elif kind in (int, float):
            key.append(kind)
            addresses.append(0)
        else:
            return None
    for name, value in keywords.items():
        if type(value) not in _PLAIN:
            return None
        key += (name, type(value), value)
    return tuple(key), addresses


def plan_of(
    prepared: Any, args: Sequence[Any], written: Iterable[int], functions: Iterable[FunctionType],
    constants: Mapping[str, Any],
) -> Plan | None:  # fmt: skip
    """A plan from a launch that went well; ``args`` as given, run-time ones only."""
    numbers = [
        None if spec.rank is not None else _PACK.get(spec.dtype) for spec in prepared.loaded.program.args
    ]
    whole = [spec.rank is not None or form is not None
             for spec, form in zip(prepared.loaded.program.args, numbers, strict=True)]  # fmt: skip
    if not all(whole):
        return None
    reach = tuple(_reach(a) if isinstance(a, np.ndarray) else None for a in args)
    return Plan(prepared, reach, tuple(sorted(written)), tuple(numbers), tuple(_watch(functions)), constants)


def _reach(a: np.ndarray[Any, Any]) -> tuple[int, int]:
    if a.size == 0:
        return 0, 0
    steps = [s * (n - 1) for s, n in zip(a.strides, a.shape, strict=True)]
    return -sum(s for s in steps if s < 0), sum(s for s in steps if s > 0) + a.itemsize


def _watch(functions: Iterable[FunctionType]) -> Iterable[tuple[Callable[..., Any], str, Any]]:
    for fn in functions:
        for name in names_of(fn.__code__):
            yield fn.__globals__.get, name, fn.__globals__.get(name, _MISSING)
        for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
            look = _cell_reader(cell)
            yield look, name, look(name, _MISSING)


def _cell_reader(cell: Any) -> Callable[[str, Any], Any]:
    def look(_: str, default: Any) -> Any:
        try:
            return cell.cell_contents
        except ValueError:
            return default

    return look
