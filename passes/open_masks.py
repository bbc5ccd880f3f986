"""open_masks: a loop over tiles of columns masks only those tiles that cross the mask's edge.

Attention hides keys beyond the end, or beyond the diagonal: `where(n * 128 + j < limit, s, -inf)`.
For all turns n below some number, which is known before the loop, the mask hides nothing. So the
loop becomes two, one after the other: the first without the mask, the second as it was. What a
loop carries, its rings and its turns go on from one to the next, so that a pipelined loop does not drain.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from tilec.ir.core import Block, Kernel, Op, Value, clone_op, definitions, uses, walk
from tilec.ir.ops import make, opdef
from tilec.ir.types import TileType, int32
from tilec.passes.rewrite import constant_of

Defs = Mapping[Value, Op]
MASKS = ("lt", "le")
VIEWS = ("broadcast", "reshape")


@dataclass(frozen=True)
class _Mask:
    """A test of ``op``, a `where`, hides nothing in turns i with (i + 1) * width <= limit (le: limit + 1).

    i is the loop's index less ``behind``.
    """

    op: Op
    behind: int
    width: int
    limit: Value
    strict: bool


class _Unknown(Exception):
    """A limit whose least element is not known before the loop."""


def open_masks(kernel: Kernel) -> Kernel:
    """SCHEDULED -> SCHEDULED with innermost loops of products in two, where their masks allow it.

    Any number of trips is right. The loop that a pipelined one is replaced by for few trips stays.
    """
    defs = definitions(kernel.body)
    return kernel.with_(body=_block(kernel.body, defs))


def rare_ops(loop: Op, defs: Defs) -> frozenset[Op]:
    """The masks that `open_masks` takes out of most turns of a loop, and what only they read."""
    if loop.name != "for":
        return frozenset()
    found: set[Op] = {m.op for m in _masks(loop, defs)}
    readers = uses(loop.blocks[0])
    for op in reversed(loop.blocks[0].ops if found else ()):
        users = [u for r in op.results for u in readers.get(r, ())]
        if users and all(u in found for u in users) and _is_mask_part(op):
            found.add(op)
    return frozenset(found)


def _is_mask_part(op: Op) -> bool:
    """Integers and truth values: what a mask is made of."""
    kinds = [r.type.dtype.kind for r in op.results if isinstance(r.type, TileType)]
    return opdef(op.name).effect == "pure" and all(kind in ("int", "bool") for kind in kinds)


def _block(block: Block, defs: Defs) -> Block:
    ops: list[Op] = []
    for op in block.ops:
        inner = op.blocks[:1] if op.name == "if" else op.blocks
        op = op.with_(blocks=(*(_block(b, defs) for b in inner), *op.blocks[len(inner) :]))
        ops += _opened(op, defs) if op.name == "for" else [op]
    return Block(block.params, tuple(ops))


def _opened(loop: Op, defs: Defs) -> list[Op]:
    masks = _masks(loop, defs)
    if not masks:
        return [loop]
    start, stop, step, *initial = loop.args
    least = _Least(loop, defs)
    edge = least.smallest([least.turns(m) for m in masks])
    middle = least.emit("minimum", stop, least.emit("maximum", start, edge))
    results = tuple(Value(r.type, r.hint) for r in loop.results)
    first = Op(
        "for", (start, middle, step, *initial), loop.attrs, results, (_without(loop, masks),), loop.loc
    )
    return [*least.ops, first, loop.with_(args=(middle, stop, step, *results))]


def _without(loop: Op, masks: Collection[_Mask]) -> Block:
    """A copy of the loop's body in which masks hide nothing."""
    body, gone = loop.blocks[0], {m.op for m in masks}
    env = {p: Value(p.type, p.hint) for p in body.params}
    ops: list[Op] = []
    for op in body.ops:
        if op in gone:
            env[op.result] = env.get(op.args[1], op.args[1])
            continue
        new = clone_op(op, env, lambda inner, _: [inner])
        env.update(zip(op.results, new.results, strict=True))
        ops.append(new)
    return Block(tuple(env[p] for p in body.params), tuple(ops))


def _masks(loop: Op, defs: Defs) -> list[_Mask]:
    """The masks of an innermost loop of products that counts up from a known number by one."""
    start, step = (constant_of(loop.args[n], defs) for n in (0, 2))
    ops = loop.blocks[0].ops
    products = any(op.name == "dot" for op in ops)
    if (
        start is None
        or step != 1
        or not products
        or any(op.name in ("for", "while") for op in walk(loop.blocks[0]))
    ):
        return []
    found = [_masks_of(op, loop, defs) for op in ops if op.name == "where"]
    return [m for masks in found for m in masks if all(start >= other.behind for other in masks)]


def _masks_of(op: Op, loop: Op, defs: Defs) -> list[_Mask]:
    """The masks that a `where` joins; none if one of them is of another kind."""
    found = [_mask(op, test, loop, defs) for test in _joined(op.args[0], defs)]
    masks = [m for m in found if m is not None and _is_known(m, loop, defs)]
    return masks if len(masks) == len(found) else []


def _joined(value: Value, defs: Defs) -> list[Op | None]:
    """The tests that must all hold."""
    op = _through(value, defs)
    if op is None or op.name != "and":
        return [op]
    return [test for arg in op.args for test in _joined(arg, defs)]


def _mask(op: Op, test: Op | None, loop: Op, defs: Defs) -> _Mask | None:
    if test is None or test.name not in MASKS:
        return None
    columns = _through(test.args[0], defs)
    if columns is None or columns.name != "add":
        return None
    for first, numbers in (columns.args, columns.args[::-1]):
        tile, line = _through(first, defs), _through(numbers, defs)
        if tile is None or line is None or tile.name != "mul" or line.name != "arange" or line.attrs["start"]:
            continue
        for index, width in (tile.args, tile.args[::-1]):
            behind = _behind(index, loop, defs)
            if behind is not None and constant_of(width, defs) == line.attrs["stop"]:
                return _Mask(op, behind, line.attrs["stop"], test.args[1], test.name == "lt")
    return None


def _through(value: Value, defs: Defs) -> Op | None:
    """The op that makes a value, behind changes of shape."""
    op = defs.get(value)
    while op is not None and op.name in VIEWS:
        op = defs.get(op.args[0])
    return op


def _behind(index: Value, loop: Op, defs: Defs) -> int | None:
    """How far a number is behind the loop's index."""
    counter, op = loop.blocks[0].params[0], defs.get(index)
    if index is counter:
        return 0
    if op is None or op.name != "sub" or op.args[0] is not counter:
        return None
    by = constant_of(op.args[1], defs)
    return by if by is not None and by >= 0 else None


def _is_known(mask: _Mask, loop: Op, defs: Defs) -> bool:
    try:
        _Least(loop, defs).turns(mask)
    except _Unknown:
        return False
    return True


class _Least:
    """Emits, before a loop, the least element of integer tiles that do not change in it."""

    def __init__(self, loop: Op, defs: Defs) -> None:
        self.defs, self.loc, self.ops = defs, loop.loc, list[Op]()
        body = loop.blocks[0]
        made = (r for op in walk(body) for r in op.results)
        self.inside = {*body.params, *made}

    def emit(self, name: str, *args: Value, **attrs: Any) -> Value:
        self.ops.append(make(name, args, loc=self.loc, **attrs))
        return self.ops[-1].result

    def number(self, n: int) -> Value:
        return self.emit("const", dtype=int32, shape=(), value=n)

    def smallest(self, values: list[Value]) -> Value:
        least, *others = values
        for other in others:
            least = self.emit("minimum", least, other)
        return least

    def turns(self, mask: _Mask) -> Value:
        """The first index of the loop whose turn the mask may touch; no sum on the way overflows."""
        limit, width = self.of(mask.limit), self.number(mask.width)
        full = self.emit("floordiv", limit, width)
        if not mask.strict:
            rest = self.emit("add", self.emit("mod", limit, width), self.number(1))
            full = self.emit("add", full, self.emit("floordiv", rest, width))
        return self.emit("add", full, self.number(mask.behind))

    def of(self, value: Value) -> Value:
        """The least element."""
        op = self.defs.get(value)
        if isinstance(value.type, TileType) and not value.type.shape:
            return self.scalar(value, op)
        if op is None:
            raise _Unknown
        if op.name in VIEWS:
            return self.of(op.args[0])
        if op.name == "arange":
            return self.number(op.attrs["start"])
        if op.name == "const":
            return self.number(op.attrs["value"])
        if op.name in ("minimum", "maximum"):
            return self.emit(op.name, *map(self.of, op.args))
        if op.name == "add" and any(map(self.is_uniform, op.args)):
            return self.emit("add", *map(self.of, op.args))
        if op.name == "sub" and self.is_uniform(op.args[1]):
            return self.emit("sub", *map(self.of, op.args))
        raise _Unknown

    def scalar(self, value: Value, op: Op | None) -> Value:
        """A number, made again if the loop makes it."""
        if value not in self.inside:
            return value
        if op is None or op.blocks or opdef(op.name).effect != "pure":
            raise _Unknown
        if not all(isinstance(a.type, TileType) and not a.type.shape for a in op.args):
            raise _Unknown
        return self.emit(op.name, *(self.scalar(a, self.defs.get(a)) for a in op.args), **op.attrs)

    def is_uniform(self, value: Value) -> bool:
        """Whether all elements of a tile are equal."""
        while isinstance(value.type, TileType) and value.type.shape:
            op = self.defs.get(value)
            if op is None or op.name not in (*VIEWS, "const"):
                return False
            if op.name == "const":
                return True
            value = op.args[0]
        return True
