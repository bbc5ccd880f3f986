"""Turns: how warp groups pass on the right to go ahead, in the SCHEDULED form.

A chain counts the turns that are over, from 0. Turn ``index`` of ``of`` may begin when
the count modulo ``of`` is ``index``, so that the turns of a chain follow each other round
and round. Whoever holds a turn is alone in it.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

from tilec.ir.core import Block, Op
from tilec.ir.errors import TilecValueError
from tilec.ir.ops.table import SCHEDULED, Args, op
from tilec.ir.types import Type

ATTRS = ("chain", "index", "of")


def _infer(args: Args, attrs: Mapping[str, Any], blocks: tuple[Block, ...]) -> tuple[Type, ...]:
    index, of = attrs["index"], attrs["of"]
    if not 0 <= index < of:
        raise TilecValueError("V112", f"turn {index} of {of} in chain {attrs['chain']}")
    return ()


@op("turn.enter", _infer, effect="sync", forms=SCHEDULED, attrs=ATTRS, family="aref")
def _enter(rt: Any, node: Op) -> Generator[Any, None, Any]:
    """Wait until the turns of ``chain`` that are over are ``index`` modulo ``of``."""
    yield from rt.enter_turn(node)


@op("turn.exit", _infer, effect="sync", forms=SCHEDULED, attrs=ATTRS, family="aref")
def _exit(rt: Any, node: Op) -> Generator[Any, None, Any]:
    """The turn is over: the next one of the chain may begin."""
    yield
    rt.exit_turn(node)
