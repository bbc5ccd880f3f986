"""Expressions of captured code that Python would decide: and, or, not, a if c else b, a < b < c."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tilec.branches import VALUE, If, is_live
from tilec.ir.errors import TilecSyntaxError
from tilec.tile import Tile
from tilec.trace import active


def returning(depth: int) -> None:
    """Called before a return that could not be joined with the end of the function."""
    tracer = active()
    if tracer is not None and len(tracer.stack) > depth:
        raise TilecSyntaxError(
            "S304", "return inside of a loop that runs on the device, or of an if in a Python loop",
            help="set a name in the loop and return after it",
        )  # fmt: skip


def choose(condition: Any, a: Callable[[], Any], b: Callable[[], Any]) -> Any:
    """``a if condition else b``."""
    state = If(condition, (VALUE,), (VALUE,), {})
    if not state.live:
        return a() if state.then else b()
    state.middle({VALUE: a()})
    state.end({VALUE: b()})
    return state.get(VALUE)


def _logic(word: str, a: Any, b: Any) -> Any:
    for x in (a, b):
        is_live(x, word)
    return a & b if word == "and" else a | b


def both(first: Any, *rest: Callable[[], Any]) -> Any:
    """``a and b``; bool scalars that are run-time values are combined without short circuit."""
    for thunk in rest:
        if isinstance(first, Tile):
            first = _logic("and", first, _truth(thunk()))
        elif first:
            first = thunk()
    return first


def either(first: Any, *rest: Callable[[], Any]) -> Any:
    """``a or b``; bool scalars that are run-time values are combined without short circuit."""
    for thunk in rest:
        if isinstance(first, Tile):
            first = _logic("or", first, _truth(thunk()))
        elif not first:
            first = thunk()
    return first


def _truth(x: Any) -> Any:
    return x if isinstance(x, Tile) else bool(x)


def negate(x: Any) -> Any:
    """``not x``."""
    return ~x if is_live(x, "not") else not x


def chain(left: Any, *steps: tuple[Callable[[], Any], Callable[[Any, Any], Any]]) -> Any:
    """``a < b < c``."""
    result: Any = True
    for thunk, compare in steps:
        right = thunk()
        step = compare(left, right)
        result = _logic("and", step, result) if isinstance(step, Tile) or isinstance(result, Tile) else step
        if not isinstance(result, Tile) and not result:
            return result
        left = right
    return result
