"""The textual form: `print_kernel` and `parse_kernel`, derived from the op table.

A line per op: results, name, operands, attributes, result types, blocks:

    %acc = for %start, %stop, %step, %zero {stages=3} : tile<16x16xfloat32> {
    ^(%k: tile<int32>, %acc_1: tile<16x16xfloat32>):
      yield %acc_1
    }

Every value has one name in the whole kernel. `parse_kernel(print_kernel(k))`
prints the same text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tilec.ir.core import Block, Kernel, Op, Value
from tilec.ir.errors import InternalError
from tilec.ir.loc import UNKNOWN, Loc
from tilec.ir.parse import parse_kernel
from tilec.ir.types import ArefType, DType, TensorType, TileType

__all__ = ["excerpt", "kernel_lines", "parse_kernel", "print_kernel"]

# A line of text and the op it belongs to (None: header, block label, brace).
Line = tuple[Op | None, str]


def print_kernel(kernel: Kernel, *, locs: bool = False) -> str:
    """The kernel as text; with ``locs`` every op ends with its source location.

    Kernel attributes that are not plain data are left out.
    """
    return "\n".join(text for _, text in _Printer(locs).kernel(kernel)) + "\n"


def kernel_lines(kernel: Kernel) -> Iterator[Line]:
    """The lines of `print_kernel`, each with its op."""
    yield from _Printer(False).kernel(kernel)


def excerpt(kernel: Kernel, guilty: Op | None, context: int = 3) -> str:
    """The lines around an op, the op itself marked with ">"."""
    lines = list(_Printer(False).kernel(kernel))
    at = next((i for i, (op, _) in enumerate(lines) if op is guilty and op is not None), 0)
    chosen = range(max(at - context, 0), min(at + context + 1, len(lines)))
    return "\n".join(f"  {'>' if i == at else ' '} {lines[i][1]}" for i in chosen)


class _Names:
    """One readable name per value, given at first sight."""

    def __init__(self) -> None:
        self.names: dict[Value, str] = {}
        self.used: set[str] = set()
        self.next: dict[str, int] = {}

    def __getitem__(self, value: Value) -> str:
        if value not in self.names:
            self.names[value] = self.fresh(value.hint)
        return f"%{self.names[value]}"

    def fresh(self, hint: str) -> str:
        base = re.sub(r"\W", "_", hint)
        base = f"_{base}" if base[:1].isdigit() else base
        name = base or self.numbered(base)
        while name in self.used:
            name = self.numbered(base)
        self.used.add(name)
        return name

    def numbered(self, base: str) -> str:
        n = self.next.get(base, 1 if base else 0)
        self.next[base] = n + 1
        return f"{base}_{n}" if base else str(n)


class _Printer:
    def __init__(self, locs: bool) -> None:
        self.locs = locs
        self.names = _Names()

    def kernel(self, kernel: Kernel) -> Iterator[Line]:
        name = kernel.name if re.fullmatch(r"\w+", kernel.name) else json.dumps(kernel.name)
        plain = {k: v for k, v in kernel.attrs.items() if _is_plain(v)}
        attrs = f" {print_attr(plain)}" if plain else ""
        yield None, f"tilec.kernel @{name} form={kernel.form}{attrs} ({self.typed(kernel.params)}) {{"
        yield from self.ops(kernel.body, 1)
        yield None, "}"

    def typed(self, values: tuple[Value, ...]) -> str:
        return ", ".join(f"{self.names[v]}: {v.type}" for v in values)

    def ops(self, block: Block, depth: int) -> Iterator[Line]:
        for op in block.ops:
            yield from self.op(op, depth)

    def op(self, op: Op, depth: int) -> Iterator[Line]:
        pad = "  " * depth
        loc = f" {_print_loc(op.loc)}" if self.locs and op.loc is not UNKNOWN else ""
        yield op, pad + self.head(op) + (" {" if op.blocks else loc)
        for block in op.blocks:
            yield None, f"{pad}^({self.typed(block.params)}):"
            yield from self.ops(block, depth + 1)
        if op.blocks:
            yield None, f"{pad}}}{loc}"

    def head(self, op: Op) -> str:
        results = ", ".join(self.names[r] for r in op.results)
        parts = [f"{results} = {op.name}" if results else op.name]
        if op.args:
            parts.append(", ".join(self.names[a] for a in op.args))
        if op.attrs:
            parts.append(print_attr(op.attrs))
        if op.results:
            parts.append(f": {', '.join(str(r.type) for r in op.results)}")
        return " ".join(parts)


def _print_loc(loc: Loc) -> str:
    """loc("file":line:first-last, "function", loc(caller)); columns count from 1."""
    last = f"-{loc.end_col}" if loc.end_col else ""
    text = f"{json.dumps(loc.file)}:{loc.line}:{loc.col + 1}{last}"
    if loc.function or loc.caller:
        text += f", {json.dumps(loc.function)}"
    if loc.caller:
        text += f", {_print_loc(loc.caller)}"
    return f"loc({text})"


def print_attr(value: Any) -> str:
    """Plain data as text: numbers, strings, None, tuples, mappings, dtypes, types, layouts."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int):
        return str(value)
    if isinstance(value, float):
        return "-nan" if math.isnan(value) and math.copysign(1, value) < 0 else repr(float(value))
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, tuple | list):
        return f"({', '.join(map(print_attr, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}={print_attr(v)}" for k, v in value.items()) + "}"
    if isinstance(value, DType | TensorType | TileType | ArefType):
        return str(value)
    if hasattr(type(value), "parse"):
        return f"layout<{value}>"
    raise InternalError("X230", f"an attribute that is not plain data: {value!r}")


def _is_plain(value: Any) -> bool:
    try:
        print_attr(value)
    except InternalError:
        return False
    return True
