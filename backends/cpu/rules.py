"""The table of emit rules of ops that are not pointwise."""

from __future__ import annotations

from collections.abc import Callable

from tilec.backends.cpu.tiles import Code
from tilec.ir.core import Op

Emit = Callable[[Code, Op], None]
RULES: dict[str, Emit] = {}


def emits(name: str) -> Callable[[Emit], Emit]:
    """Register the emit rule of an op."""

    def wrap(fn: Emit) -> Emit:
        RULES[name] = fn
        return fn

    return wrap
