"""Asynchronous references, and the ops of the SCHEDULED form.

A ring of depth D counts p = puts begun, f = puts arrived, and per consumer
g = gets begun and c = releases done; always c <= g <= f <= p <= min(c) + D.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

from tilec.ir.core import Block, Op
from tilec.ir.errors import TilecTypeError, TilecValueError
from tilec.ir.ops.table import RINGS, SCHEDULED, Args, op, tile
from tilec.ir.types import ArefType, Type

Blocks = tuple[Block, ...]


def _ring(t: Type, what: str) -> ArefType:
    if not isinstance(t, ArefType):
        raise TilecTypeError("T123", f"{what} takes an aref, not {t}")
    return t


def _infer_new(args: Args, attrs: Mapping[str, Any], blocks: Blocks) -> tuple[Type, ...]:
    depth = attrs.get("depth")
    if depth is not None and depth < 1:
        raise TilecValueError("V107", f"an aref needs a depth of at least 1, not {depth}")
    return (ArefType(tuple(attrs["payload"]), depth),)


@op(
    "aref.new", _infer_new, effect="sync", forms=RINGS, family="aref",
    attrs=("payload",), optional={"depth": None},
)  # fmt: skip
def _new(rt: Any, node: Op) -> Any:
    """A ring of empty slots. Without a depth it has one slot."""
    return rt.new_ring(node)


def _infer_put(args: Args, attrs: Mapping[str, Any], blocks: Blocks) -> tuple[Type, ...]:
    ring = _ring(args[0], "aref.put")
    found = tuple(tile(a, "put value").with_(layout=None) for a in args[1:])
    if found != ring.payload:
        raise TilecTypeError("T124", f"put of {', '.join(map(str, found))} into {ring}")
    return ()


@op(
    "aref.put",
    _infer_put,
    ("ring", "tiles..."),
    effect="sync",
    forms=RINGS,
    attrs=(),
    optional={"group": ""},
    family="aref",
)
def _put(rt: Any, node: Op, ring: Any, *values: Any) -> Generator[Any, None, Any]:
    """Wait for an empty slot, write it, signal full."""
    slot = yield from ring.put_enter(node)
    ring.write(slot, values)
    yield
    ring.put_exit()


def _infer_get(args: Args, attrs: Mapping[str, Any], blocks: Blocks) -> tuple[Type, ...]:
    return tuple(t.with_(space="smem") for t in _ring(args[0], "aref.get").payload)


@op("aref.get", _infer_get, ("ring",), effect="sync", forms=RINGS, optional={"group": ""}, family="aref")
def _get(rt: Any, node: Op, ring: Any) -> Generator[Any, None, Any]:
    """Wait for a full slot and borrow it until `aref.release`."""
    tiles = yield from ring.get(node, rt.consumer(node))
    return tiles


def _infer_release(args: Args, attrs: Mapping[str, Any], blocks: Blocks) -> tuple[Type, ...]:
    _ring(args[0], "aref.release")
    return ()


@op(
    "aref.release", _infer_release, ("ring",), effect="sync", forms=RINGS, family="aref",
    optional={"keep": 0, "group": ""},
)  # fmt: skip
def _release(rt: Any, node: Op, ring: Any) -> Generator[Any, None, Any]:
    """Give back the oldest borrowed slots until at most ``keep`` are held."""
    yield
    ring.release(node, rt.consumer(node), node.attrs.get("keep", 0))


def _infer_wait(args: Args, attrs: Mapping[str, Any], blocks: Blocks) -> tuple[Type, ...]:
    if attrs["pending"] < 0:
        raise TilecValueError("V108", f"dot.wait: pending is {attrs['pending']}")
    return args


@op(
    "dot.wait", _infer_wait, ("values...",), effect="sync", forms=SCHEDULED, attrs=("pending",), family="aref"
)
def _wait(rt: Any, node: Op, *values: Any) -> Any:
    """Wait until at most ``pending`` asynchronous dots of this group run; passes values on."""
    return rt.wait_dots(node.attrs["pending"], values)


def _infer_groups(args: Args, attrs: Mapping[str, Any], blocks: Blocks) -> tuple[Type, ...]:
    n = len(blocks)
    for name in ("names", "warps", "registers"):
        if len(attrs[name]) != n:
            raise TilecValueError("V109", f"warp_groups: {n} blocks but {name} = {attrs[name]}")
    if len(set(attrs["names"])) != n or any(w < 1 for w in attrs["warps"]):
        raise TilecValueError("V109", f"warp_groups: names {attrs['names']}, warps {attrs['warps']}")
    return ()


@op(
    "warp_groups", _infer_groups, effect="control", forms=SCHEDULED, blocks=-1, family="aref",
    attrs=("names", "warps", "registers"),
)  # fmt: skip
def _groups(rt: Any, node: Op) -> Generator[Any, None, Any]:
    """One block per group, run side by side; only arefs carry values between them."""
    yield from rt.run_groups(node)


def _infer_layout(args: Args, attrs: Mapping[str, Any], blocks: Blocks) -> tuple[Type, ...]:
    return (tile(args[0], "operand of convert_layout").with_(layout=attrs["layout"], space="reg"),)


@op("convert_layout", _infer_layout, ("x",), forms=SCHEDULED, attrs=("layout",), family="aref")
def _convert(rt: Any, node: Op, x: Any) -> Any:
    """The same tile spread differently over the registers of a group."""
    return x.copy()
