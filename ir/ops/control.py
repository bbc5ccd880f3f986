"""Control flow: regions with explicit carried values, ended by `yield`."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

from tilec.ir.core import Block, Op, Value
from tilec.ir.errors import TilecTypeError
from tilec.ir.ops.table import Args, op, scalar_int, tile
from tilec.ir.types import TileType, Type, bool_, scalar

Blocks = tuple[Block, ...]


def _types(values: tuple[Value, ...]) -> tuple[Type, ...]:
    return tuple(v.type for v in values)


def _carried(what: str, expected: Args, found: Args) -> None:
    for i, (e, f) in enumerate(zip(expected, found, strict=False)):
        if e != f:
            raise TilecTypeError("T120", f"{what}: carried value {i} enters as {e} and leaves as {f}")
    if len(expected) != len(found):
        raise TilecTypeError("T120", f"{what}: {len(expected)} values enter, {len(found)} leave")


def _infer_yield(args: Args, attrs: Mapping[str, Any], blocks: Blocks) -> tuple[Type, ...]:
    return ()


@op("yield", _infer_yield, ("values...",), effect="control", family="control")
def _yield(rt: Any, node: Op, *values: Any) -> None:
    """Ends a block and gives its values to the op around it."""


def _infer_for(args: Args, attrs: Mapping[str, Any], blocks: Blocks) -> tuple[Type, ...]:
    bounds = [scalar_int(a, "a loop bound") for a in args[:3]]
    if len({b.dtype for b in bounds}) != 1:
        raise TilecTypeError("T121", f"loop bounds of different dtypes: {', '.join(map(str, bounds))}")
    (body,) = blocks
    _carried("for", (bounds[0], *args[3:]), _types(body.params))
    _carried("for", args[3:], _types(body.yielded))
    return args[3:]


@op(
    "for", _infer_for, ("start", "stop", "step", "carried..."), effect="control", blocks=1, family="control",
    optional={"stages": None, "specialize": None, "unroll": None},
)  # fmt: skip
def _for(rt: Any, node: Op, start: Any, stop: Any, step: Any, *carried: Any) -> Generator[Any, None, Any]:
    """Python's range; the block takes (i, carried...)."""
    (body,) = node.blocks
    dtype = start.dtype
    for i in range(int(start), int(stop), int(step)):
        carried = yield from rt.run_block(body, (dtype.type(i), *carried))
    return carried


def _infer_while(args: Args, attrs: Mapping[str, Any], blocks: Blocks) -> tuple[Type, ...]:
    cond, body = blocks
    _carried("while", args, _types(cond.params))
    _carried("while", args, _types(body.params))
    _carried("while", args, _types(body.yielded))
    _carried("condition of while", (scalar(bool_),), _types(cond.yielded))
    return args


@op("while", _infer_while, ("carried...",), effect="control", blocks=2, family="control")
def _while(rt: Any, node: Op, *carried: Any) -> Generator[Any, None, Any]:
    """The first block yields the condition, the second the next values."""
    cond, body = node.blocks
    while True:
        (more,) = yield from rt.run_block(cond, carried)
        if not more:
            return carried
        carried = yield from rt.run_block(body, carried)


def _infer_if(args: Args, attrs: Mapping[str, Any], blocks: Blocks) -> tuple[Type, ...]:
    cond = tile(args[0], "condition of if")
    if cond != TileType(bool_, ()):
        raise TilecTypeError(
            "T122", f"condition of if must be a bool scalar, not {cond}",
            help="compare, or reduce a tile with tl.any or tl.all; use tl.where per element",
        )  # fmt: skip
    then, other = blocks
    _carried("branches of if", _types(then.yielded), _types(other.yielded))
    return _types(then.yielded)


@op("if", _infer_if, ("cond",), effect="control", blocks=2, family="control")
def _if(rt: Any, node: Op, cond: Any) -> Generator[Any, None, Any]:
    """Runs the first block if true, else the second."""
    result = yield from rt.run_block(node.blocks[0 if cond else 1], ())
    return result


def _infer_assume(args: Args, attrs: Mapping[str, Any], blocks: Blocks) -> tuple[Type, ...]:
    if tile(args[0], "operand of assume") != TileType(bool_, ()):
        raise TilecTypeError("T122", f"assume takes a bool scalar, not {args[0]}")
    return ()


@op("assume", _infer_assume, ("cond",), effect="sync", family="control")
def _assume(rt: Any, node: Op, cond: Any) -> None:
    """A promise of the author; the interpreter checks it."""
    rt.check_assumption(node, bool(cond))
