"""What a name may hold across a run-time statement: tiles, numbers, and nests of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tilec.coerce import is_number, number_dtype, plain, weak
from tilec.ir.types import DType, bool_, float32
from tilec.tile import Tile


class _Unbound:
    """The only value is UNBOUND: a name that has no value."""

    def __repr__(self) -> str:
        return "UNBOUND"


UNBOUND = _Unbound()


@dataclass(frozen=True)
class Nest:
    """The structure of a value: how its leaves form tuples, lists and dicts."""

    build: Callable[[Sequence[Any]], Any] | None
    parts: tuple[Nest, ...] = ()
    key: Any = None

    def same(self, other: Nest) -> bool:
        """Do both have the same containers with the same sizes and keys?"""
        if (self.key, len(self.parts)) != (other.key, len(other.parts)):
            return False
        return all(a.same(b) for a, b in zip(self.parts, other.parts, strict=True))


_LEAF = Nest(None)


def flatten(value: Any) -> tuple[list[Any], Nest]:
    """The leaves of nested tuples, lists and dicts, and the structure around them."""
    if (
        isinstance(value, tuple | list)
        and type(value).__module__ != "builtins"
        and not hasattr(value, "_fields")
    ):
        return [value], _LEAF
    if isinstance(value, tuple | list):
        kind = type(value)
        make = (lambda items: kind(*items)) if hasattr(value, "_fields") else kind
        return _flatten_items(list(value), make, kind)
    if type(value) is dict:
        keys = tuple(value)
        return _flatten_items(
            list(value.values()), lambda items: dict(zip(keys, items, strict=True)), (dict, keys)
        )
    return [value], _LEAF


def _flatten_items(items: list[Any], build: Callable[[Any], Any], key: Any) -> tuple[list[Any], Nest]:
    leaves: list[Any] = []
    parts: list[Nest] = []
    for item in items:
        inner, nest = flatten(item)
        leaves += inner
        parts.append(nest)
    return leaves, Nest(build, tuple(parts), key)


def rebuild(leaves: list[Any], nest: Nest) -> Any:
    """The value with these leaves; takes them from the front of the list."""
    if nest.build is None:
        return leaves.pop(0)
    return nest.build([rebuild(leaves, part) for part in nest.parts])


def same_object(a: Any, b: Any) -> bool:
    """Are two Python values interchangeable as compile-time values?"""
    if a is b:
        return True
    if isinstance(a, Tile) or isinstance(b, Tile) or type(a) is not type(b):
        return False
    if isinstance(a, float):
        return a == b or (a != a and b != b)
    return isinstance(a, int | str | bytes | DType | type(None)) and bool(a == b)


def meeting_dtype(a: Any, b: Any) -> DType | None:
    """The scalar dtype in which two leaves meet, of which at least one is a number; None if they cannot."""
    if is_number(a) and is_number(b):
        kinds = number_dtype(plain(a)), number_dtype(plain(b))
        if kinds[0] == kinds[1]:
            return kinds[0]
        if bool_ in kinds:
            return None
        return float32 if float32 in kinds else max(kinds, key=lambda d: d.bits)
    number, tile = (a, b) if is_number(a) else (b, a)
    if not is_number(number) or not isinstance(tile, Tile) or tile.shape != ():
        return None
    if isinstance(plain(number), bool) != (tile.dtype == bool_):
        return None
    return weak(plain(number), tile.dtype)


def describe(leaf: Any) -> str:
    """A leaf in messages."""
    if leaf is UNBOUND:
        return "nothing"
    if isinstance(leaf, Tile):
        return str(leaf.type)
    return f"the number {leaf}" if is_number(leaf) else f"the Python object {leaf!r}"
