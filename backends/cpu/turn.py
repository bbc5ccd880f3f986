"""Products turned over where that saves packing: the transposed result, of the transposed operands.

The microkernel reads its left operand where it is, and its right one in panels. In a loop of two
products, as that of attention, the right operands of both are loaded in each turn, so both would be packed.
Turned, they are on the left, and what is on the right stays the same or was just computed. Then the
rows of the tiles between them lie along the lanes, so that a row's maximum needs no shuffles.

A sum has the same terms in the same order either way. Only products that depend on each other, or whose
operand the loop does not change, are turned: a single one has nothing to gain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tilec.backends.cpu.lanes import is_small
from tilec.backends.cpu.microkernel import VECTORS
from tilec.backends.cpu.shapes import tile_type
from tilec.backends.cpu.target import CpuTarget
from tilec.backends.cpu.tiles import POINTWISE
from tilec.ir.core import Block, Kernel, Op, Value, definitions, uses, walk
from tilec.ir.ops import make
from tilec.ir.types import TensorType, TileType, float32
from tilec.passes.canonicalize import canonicalize

Defs = Mapping[Value, Op]


def turn_products(kernel: Kernel, target: CpuTarget) -> Kernel:
    """TILE -> TILE with the same values, some of its tiles transposed."""
    facts = _Facts(kernel.body, target)
    inside: set[Value] = set()
    for loop in (op for op in walk(kernel.body) if op.name == "for"):
        dots = [d for d in loop.blocks[0].ops if d.name == "dot" and d.result not in inside]
        found = _together(facts, dots)
        if found is not None and _pays(facts, loop, found):
            inside |= found
    if not inside:
        return kernel
    body = _Turner(facts, frozenset(inside)).block(kernel.body, {})
    return canonicalize(kernel.with_(body=body))


class _Facts:
    """Who defines and who reads each value, and in which op its block is."""

    def __init__(self, body: Block, target: CpuTarget) -> None:
        self.target = target
        self.defs, self.users = definitions(body), uses(body)
        self.parents = {op: outer for outer in walk(body) for block in outer.blocks for op in block.ops}


def _is_identity(op: Op) -> bool:
    """Element i of the result needs elements i of the operands only."""
    return op.name in POINTWISE and POINTWISE[op.name].identity


def _together(facts: _Facts, dots: Sequence[Op]) -> frozenset[Value] | None:
    """The tiles that are turned with the results of products; None where one cannot be."""
    if not dots or any(not tile_type(d.result).dtype.is_float for d in dots):
        return None
    found: dict[Value, None] = {}
    queue = [d.result for d in dots]
    while queue:
        value = queue.pop()
        if value in found:
            continue
        found[value] = None
        for op in facts.users.get(value, ()):
            nearby = _readers(facts, op, value)
            if nearby is None:
                return None
            queue += nearby
    return frozenset(found)


def _readers(facts: _Facts, op: Op, value: Value) -> Sequence[Value] | None:
    """What is turned with an operand of an op; None where the loop would have to turn it back."""
    if op.name == "dot" or _is_identity(op):
        return op.results
    loop = facts.parents.get(op) if op.name == "yield" else op
    if loop is not None and loop.name == "for":
        args = op.args if op.name == "yield" else op.args[3:]
        carried = zip(args, loop.blocks[0].params[1:], loop.results, strict=True)
        return [v for arg, *both in carried if arg is value for v in both]
    return () if op.name == "reduce" or facts.parents.get(op) is None else None


def _pays(facts: _Facts, loop: Op, inside: frozenset[Value]) -> bool:
    """Whether fewer elements are packed in a turn of the loop, and the products belong together."""
    dots = [d for d in loop.blocks[0].ops if d.name == "dot" and d.result in inside]
    made = {v for op in walk(loop.blocks[0]) for v in op.results} | set(loop.blocks[0].params)
    if not any(a in inside or a not in made for d in dots for a in d.args[:2]):
        return False
    cost = _Packing(facts, inside, made)
    straight = sum(cost.left(d, d.args[0]) + cost.right(d, d.args[1], 1) for d in dots)
    turned = sum(cost.left(d, d.args[1]) + cost.right(d, d.args[0], 0) for d in dots)
    return turned < straight


@dataclass(frozen=True)
class _Packing:
    """Elements that one turn of a loop packs for an operand; those transposed on the way count twice."""

    facts: _Facts
    inside: frozenset[Value]
    made: set[Value]

    def left(self, dot: Op, value: Value) -> int:
        """As the left operand, whose rows need no order."""
        wide = float32 if is_small(tile_type(dot.result).dtype) else tile_type(dot.result).dtype
        same = tile_type(value).dtype == wide
        return 0 if same or self._source(value) not in self.made else tile_type(value).size

    def right(self, dot: Op, value: Value, lanes: int) -> int:
        """As the right operand, with an axis of the value along the lanes."""
        source, type_ = self._source(value), tile_type(value)
        if source not in self.made:
            return 0
        if value in self.inside:
            panel = VECTORS * self.facts.target.lanes(tile_type(dot.result).dtype.bytes)
            return 0 if lanes == 0 and type_.shape[0] == panel else type_.size
        return type_.size * (1 if self._contiguous(value) == lanes else 2)

    def _source(self, value: Value) -> Value:
        """What is behind casts and shape ops."""
        op = self.facts.defs.get(value)
        while op is not None and op.name in ("permute", "cast", "reshape"):
            value = op.args[0]
            op = self.facts.defs.get(value)
        return value

    def _contiguous(self, value: Value) -> int:
        """The axis of a matrix along which it lies in memory."""
        op = self.facts.defs.get(value)
        if op is None or op.name not in ("permute", "cast", "reshape", "load"):
            return 1
        if op.name == "load":
            tensor = op.args[0].type
            assert isinstance(tensor, TensorType)
            return 0 if tensor.contiguous == tensor.rank - 2 else 1
        inner = self._contiguous(op.args[0])
        return 1 - inner if op.name == "permute" else inner


def _swapped(value: Value) -> TileType:
    type_ = tile_type(value)
    return type_.with_(shape=type_.shape[::-1])


@dataclass
class _Turner:
    """Rewrites blocks: ``table`` has the transposed form of values that have one."""

    facts: _Facts
    inside: frozenset[Value]
    ops: list[Op] = field(default_factory=list)

    def block(self, block: Block, table: Mapping[Value, Value], params: Sequence[Value] = ()) -> Block:
        """A block with its ops rewritten; ``params`` replace the block's own."""
        inner = _Turner(self.facts, self.inside)
        known = dict(table)
        for old, new in zip(block.params, params or block.params, strict=True):
            if old is not new:
                inner._turned_is(known, old, new, block.ops[0])
        for op in block.ops:
            inner._op(op, known)
        return Block(tuple(params) or block.params, tuple(inner.ops))

    def _op(self, op: Op, table: dict[Value, Value]) -> None:
        if op.name == "for" and any(r in self.inside for r in op.results):
            self._loop(op, table)
        elif op.blocks:
            self.ops.append(op.with_(blocks=tuple(self.block(b, table) for b in op.blocks)))
        elif any(r in self.inside for r in op.results):
            self._turned_is(table, op.result, self._remade(op, table), op)
        elif op.name == "reduce" and op.args[0] in self.inside:
            attrs = {**op.attrs, "axis": 1 - op.attrs["axis"]}
            new = make("reduce", (table[op.args[0]],), loc=op.loc, **attrs)
            self.ops.append(new.with_(results=op.results))
        elif op.name == "yield" and op in self.facts.parents:
            swap = [r in self.inside for r in self.facts.parents[op].results]
            args = [self._turned(a, table, op) if s else a for a, s in zip(op.args, swap, strict=True)]
            self.ops.append(op.with_(args=tuple(args)))
        else:
            self.ops.append(op)

    def _loop(self, op: Op, table: dict[Value, Value]) -> None:
        (body,) = op.blocks
        first, *carried = body.params
        swap = [r in self.inside for r in op.results]
        starts = [self._turned(v, table, op) if s else v for v, s in zip(op.args[3:], swap, strict=True)]
        params = [Value(_swapped(p), p.hint) if s else p for p, s in zip(carried, swap, strict=True)]
        results = [Value(_swapped(r), r.hint) if s else r for r, s in zip(op.results, swap, strict=True)]
        block = self.block(body, table, (first, *params))
        self.ops.append(op.with_(args=(*op.args[:3], *starts), results=tuple(results), blocks=(block,)))
        for old, new in zip(op.results, results, strict=True):
            if old is not new:
                self._turned_is(table, old, new, op)

    def _turned_is(self, table: dict[Value, Value], old: Value, new: Value, at: Op) -> None:
        """The transposed form of a value; who wants the value as it was gets it turned back."""
        table[old] = new
        if any(not self._reads_turned(op) for op in self.facts.users.get(old, ())):
            back = make("permute", (new,), loc=at.loc, perm=(1, 0))
            self.ops.append(back.with_(results=(old,)))

    def _reads_turned(self, op: Op) -> bool:
        return op.name in ("reduce", "yield") or any(r in self.inside for r in op.results)

    def _remade(self, op: Op, table: dict[Value, Value]) -> Value:
        """A product or an elementwise op on transposed operands."""
        args: Iterable[Value] = op.args
        if op.name == "dot":
            args = (op.args[1], op.args[0], op.args[2])
        return self._emit(op.name, [self._turned(a, table, op) for a in args], op)

    def _emit(self, name: str, args: Sequence[Value], like: Op, **attrs: object) -> Value:
        self.ops.append(make(name, tuple(args), loc=like.loc, **{**like.attrs, **attrs}))
        return self.ops[-1].result

    def _turned(self, value: Value, table: dict[Value, Value], at: Op) -> Value:
        """The transposed form of a value; what is cheap is computed that way, the rest is a view."""
        if value not in table:
            op = self.facts.defs.get(value)
            made = None if op is None else self._anew(op, table)
            if made is None:
                self.ops.append(make("permute", (value,), loc=at.loc, perm=(1, 0)))
                made = self.ops[-1].result
            table[value] = made
        return table[value]

    def _anew(self, op: Op, table: dict[Value, Value]) -> Value | None:
        shape = tile_type(op.result).shape[::-1]
        if op.name == "const":
            return self._emit("const", (), op, shape=shape)
        if op.name == "broadcast":
            source = op.args[0]
            if tile_type(source).shape:
                source = self._turned(source, table, op)
            return self._emit("broadcast", (source,), op, shape=shape)
        if op.name == "reshape" and len(tile_type(op.args[0]).shape) == 1 and 1 in shape:
            return self._emit("reshape", op.args, op, shape=shape)
        if op.name == "permute":
            return op.args[0]
        if _is_identity(op) and op.args and all(tile_type(a).shape[::-1] == shape for a in op.args):
            return self._emit(op.name, [self._turned(a, table, op) for a in op.args], op)
        return None
