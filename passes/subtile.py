"""Split the rows of a kernel: two or more sub-tiles that different warp groups can run.

TILE -> TILE. The rows of every product are cut into equal parts. What is computed from a
product is computed once for each part; what a part needs of other values, it makes for its
own rows; operands that all rows share stay whole. `dot` gets an attribute "part".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tilec.ir.core import Block, Kernel, Op, Value, frozen, walk
from tilec.ir.ops import make, opdef
from tilec.ir.types import TileType
from tilec.passes.rewrite import where

ROWS = 64  # of a product that one warp group runs
Key = tuple[Value, int, int]  # (value, dimension of its rows, part)
SAME_SHAPE = ("elementwise", "compare", "cast")


class _CannotSplit(Exception):
    """The reason, for the user."""


def split_rows(kernel: Kernel, parts: int = 2) -> Kernel | str:
    """The kernel with its rows in ``parts`` parts, bit for bit the same results; or why that cannot be."""
    dots = [op for op in walk(kernel.body) if op.name == "dot"]
    if not dots:
        return "no product has rows to split"
    for dot in dots:
        rows = _shape(dot.result)[0]
        if rows % (ROWS * parts):
            return f"{where(dot)}: the {rows} rows of this product are not {parts} times {ROWS}"
    try:
        body = _split(kernel, _rows(kernel), parts)
    except _CannotSplit as reason:
        return str(reason)
    return kernel.with_(body=body)


def _split(kernel: Kernel, rows: dict[Value, int], parts: int) -> Block:
    """The body in parts. What a part needs is made where the whole is: known only after a first try."""
    needed: set[Key] = set()
    while True:
        splitter = _Splitter(kernel, rows, parts, frozenset(needed))
        body = splitter.block(kernel.body, {})
        if splitter.late <= needed:
            return body
        needed |= splitter.late


def _shape(value: Value) -> tuple[int, ...]:
    return value.type.shape if isinstance(value.type, TileType) else ()


def _rows(kernel: Kernel) -> dict[Value, int]:
    """The values that come from products, each with the dimension that holds its rows."""
    rows: dict[Value, int] = {}
    while True:
        before = len(rows)
        _spread(kernel.body, rows)
        if len(rows) == before:
            return rows


def _spread(block: Block, rows: dict[Value, int]) -> None:
    for op in block.ops:
        if op.name == "dot":
            _note(rows, op.result, 0, op)
        elif op.name in ("for", "while", "if"):
            _spread_carried(op, rows)
        elif op.name != "yield":
            for arg in op.args:
                dim = _forward(op, arg, rows[arg]) if arg in rows else None
                for result in op.results if dim is not None else ():
                    _note(rows, result, dim or 0, op)
        for inner in op.blocks:
            _spread(inner, rows)


def _note(rows: dict[Value, int], value: Value, dim: int, op: Op) -> None:
    if rows.setdefault(value, dim) != dim:
        raise _CannotSplit(f"{where(op)}: rows lie along two dimensions of one tile")


def _spread_carried(op: Op, rows: dict[Value, int]) -> None:
    """What is carried, yielded and given is one value."""
    for same in _carried(op):
        found = next((rows[v] for v in same if v in rows), None)
        for value in same if found is not None else ():
            # What starts the loop need not come from a product: parts are made of it.
            if value not in op.args:
                _note(rows, value, found or 0, op)


def _carried(op: Op) -> Iterator[tuple[Value, ...]]:
    """The names under which each result of a control op goes."""
    if op.name == "if":
        for n, result in enumerate(op.results):
            yield (result, *(b.yielded[n] for b in op.blocks))
        return
    first = 3 if op.name == "for" else 0
    for n, result in enumerate(op.results):
        own = [result, op.args[first + n], op.blocks[-1].yielded[n]]
        params = [b.params[n + (1 if op.name == "for" else 0)] for b in op.blocks]
        yield (*own, *params)


def _forward(op: Op, arg: Value, dim: int) -> int | None:
    """Where an op puts the rows of an operand; None if it only has effects."""
    family = opdef(op.name).family
    if op.name == "dot":
        if arg is op.args[1] or (arg is op.args[0] and dim != 0):
            raise _CannotSplit(f"{where(op)}: this dot sums over rows of another product")
        return 0
    if op.name == "store":
        return None
    if family.startswith(SAME_SHAPE) or op.name in ("bitcast", "rint"):
        return dim
    if op.name == "broadcast":
        return dim + len(_shape(op.result)) - len(_shape(arg))
    if op.name == "permute":
        return tuple(op.attrs["perm"]).index(dim)
    if op.name == "reshape":
        return _reshaped(op, dim)
    if op.name == "reduce" and op.attrs["axis"] != dim and not _scanned(op):
        return dim - (op.attrs["axis"] < dim)
    if op.name == "gather" and arg in op.args[1:]:
        return dim
    raise _CannotSplit(f"{where(op)}: this {op.name} works across rows")


def _scanned(op: Op) -> bool:
    return len(op.results) != 1


def _reshaped(op: Op, dim: int) -> int:
    """Rows stay one dimension, with the same elements before it."""
    old, new = _shape(op.args[0]), _shape(op.result)
    before, place = 1, 0
    for n in old[:dim]:
        before *= n
    while place < len(new) and (before > 1 or new[place] == 1) and new[place] != old[dim]:
        before //= new[place]
        place += 1
    if before != 1 or place == len(new) or new[place] != old[dim]:
        raise _CannotSplit(f"{where(op)}: this reshape cuts rows up")
    return place


@dataclass(eq=False)
class _Splitter:
    """Rebuilds blocks. ``env`` has what a block sees: whole values by value, parts by key.

    ``needed``: parts of values that do not come from products, made beside the whole.
    ``late`` collects those that some op wanted and did not find.
    """

    kernel: Kernel
    rows: dict[Value, int]
    parts: int
    needed: frozenset[Key]
    late: set[Key] = field(default_factory=set)
    defs: dict[Value, Op] = field(init=False)

    def __post_init__(self) -> None:
        self.defs = {r: op for op in walk(self.kernel.body) for r in op.results}

    def block(self, block: Block, env: dict[object, Value]) -> Block:
        out: list[Op] = []
        for op in block.ops:
            self.op(op, env, out)
        return Block(block.params, tuple(out))

    def op(self, op: Op, env: dict[object, Value], out: list[Op]) -> None:
        if op.name == "yield":
            out.append(op.with_(args=self.spread(op.args, env, out)))
        elif op.name in ("for", "while", "if"):
            self.control(op, env, out)
        elif self.split_effect(op) or any(r in self.rows for r in op.results):
            for part in range(self.parts):
                self.part(op, part, env, out)
        else:
            out.append(self.whole(op, env))
            for result in op.results:
                for dim, part in sorted((d, p) for v, d, p in self.needed if v is result):
                    self.emit(op, dim, part, env, out)

    def split_effect(self, op: Op) -> bool:
        return op.name == "store" and op.args[1] in self.rows

    def whole(self, op: Op, env: dict[object, Value]) -> Op:
        for arg in op.args:
            if arg in self.rows:
                raise _CannotSplit(f"{where(op)}: this {op.name} needs all rows at once")
        return op.with_(args=tuple(env.get(a, a) for a in op.args))

    def spread(self, values: tuple[Value, ...], env: dict[object, Value], out: list[Op]) -> tuple[Value, ...]:
        """Each value, those of rows once for each part."""
        found: list[Value] = []
        for v in values:
            if v in self.rows:
                found += [self.want(v, self.rows[v], p, env, out) for p in range(self.parts)]
            else:
                found.append(env.get(v, v))
        return tuple(found)

    def control(self, op: Op, env: dict[object, Value], out: list[Op]) -> None:
        """A loop or branch: what it carries of rows it carries in parts."""
        first = {"for": 3, "while": 0, "if": 1}[op.name]
        args = list(op.args[:first])
        for value, result in zip(op.args[first:], op.results, strict=op.name != "if"):
            dim = self.rows.get(result)
            if dim is None:
                args.append(env.get(value, value))
            else:
                args += [self.want(value, dim, p, env, out) for p in range(self.parts)]
        blocks = []
        for inner in op.blocks:
            scope = dict(env)
            params = self.named(inner.params, scope)
            blocks.append(Block(params, self.block(inner, scope).ops))
        results = self.named(op.results, env)
        out.append(op.with_(args=tuple(args), results=results, blocks=tuple(blocks)))

    def named(self, values: tuple[Value, ...], env: dict[object, Value]) -> tuple[Value, ...]:
        """Results or parameters, those of rows once for each part."""
        found: list[Value] = []
        for v in values:
            if v not in self.rows:
                found.append(v)
                continue
            for p in range(self.parts):
                env[v, self.rows[v], p] = self.fresh(v, self.rows[v], p)
                found.append(env[v, self.rows[v], p])
        return tuple(found)

    def fresh(self, value: Value, dim: int, part: int) -> Value:
        t = value.type
        assert isinstance(t, TileType)
        hint = f"{value.hint}_{'abcdefgh'[part]}" if value.hint else ""
        return Value(t.with_(shape=self.cut(t.shape, dim)), hint)

    def cut(self, shape: tuple[int, ...], dim: int) -> tuple[int, ...]:
        if shape[dim] % self.parts:
            raise _CannotSplit(f"{shape[dim]} rows do not split in {self.parts}")
        return (*shape[:dim], shape[dim] // self.parts, *shape[dim + 1 :])

    def want(self, value: Value, dim: int, part: int, env: dict[object, Value], out: list[Op]) -> Value:
        """The rows of a part: there already, or made by a copy of the op that makes all."""
        key = value, dim, part
        if key in env:
            return env[key]
        op = self.defs.get(value)
        if op is None or op.blocks or len(op.results) != 1 or value in self.rows:
            what = f"{where(op)}: " if op else "a carried value: "
            raise _CannotSplit(what + "its rows are not made for each part")
        self.late.add(key)
        self.emit(op, dim, part, env, out)
        return env[key]

    def part(self, op: Op, part: int, env: dict[object, Value], out: list[Op]) -> None:
        if op.name == "store":
            dim = self.rows[op.args[1]]
            value = self.want(op.args[1], dim, part, env, out)
            offsets = self.moved(op, op.args[2:], dim, part, env, out)
            out.append(op.with_(args=(op.args[0], value, *offsets)))
        elif (op.result, self.rows[op.result], part) not in env:
            self.emit(op, self.rows[op.result], part, env, out)

    def emit(self, op: Op, dim: int, part: int, env: dict[object, Value], out: list[Op]) -> None:
        """A copy of an op for the rows of a part."""
        attrs = dict(op.attrs)
        args = tuple(self.operand(op, n, dim, part, env, out) for n in range(len(op.args)))
        shape = _shape(op.result)
        if op.name == "load":
            args = (op.args[0], *self.moved(op, op.args[1:], dim, part, env, out))
        if op.name == "arange":
            step = shape[0] // self.parts
            attrs |= {"start": attrs["start"] + part * step}
            attrs |= {"stop": attrs["start"] + step}
        elif "shape" in attrs:
            attrs["shape"] = self.cut(tuple(attrs["shape"]), dim)
        if op.name == "dot":
            attrs["part"] = part
        result = self.fresh(op.result, dim, part)
        env[op.result, dim, part] = result
        out.append(op.with_(args=args, attrs=frozen(**attrs), results=(result,)))

    def operand(self, op: Op, n: int, dim: int, part: int, env: dict[object, Value], out: list[Op]) -> Value:
        """Operand ``n`` as a copy of the op for one part reads it."""
        arg = op.args[n]
        inner = self.backward(op, n, dim)
        if inner is None:
            if arg in self.rows:
                raise _CannotSplit(f"{where(op)}: this {op.name} needs all rows at once")
            return env.get(arg, arg)
        return self.want(arg, inner, part, env, out)

    def backward(self, op: Op, n: int, dim: int) -> int | None:
        """The dimension of operand ``n`` that gives rows along ``dim`` of the result; None: it is shared."""
        arg, family = op.args[n], opdef(op.name).family
        shape = _shape(arg)
        if op.name == "load" or not shape:
            return None
        if op.name == "dot":
            return None if n == 1 else 0
        if family.startswith(SAME_SHAPE) or op.name in ("bitcast", "gather", "rint"):
            return dim if isinstance(arg.type, TileType) else None
        if op.name == "broadcast":
            inner = dim - len(_shape(op.result)) + len(shape)
            return inner if inner >= 0 and shape[inner] != 1 else None
        if op.name == "permute":
            return int(op.attrs["perm"][dim])
        if op.name == "reshape":
            return next(
                d for d in range(len(shape)) if shape[d] == _shape(op.result)[dim] and _lands(op, d, dim)
            )
        if op.name == "reduce":
            return dim + (op.attrs["axis"] <= dim)
        raise _CannotSplit(f"{where(op)}: this {op.name} is not made for each part")

    def moved(
        self, op: Op, offsets: tuple[Value, ...], dim: int, part: int, env: dict[object, Value], out: list[Op]
    ) -> tuple[Value, ...]:
        """Offsets of a load or store, moved to the rows of a part."""
        own = [env.get(o, o) for o in offsets]
        step = _shape(op.result if op.results else op.args[1])[dim] // self.parts
        if part:
            kind = own[dim].type
            assert isinstance(kind, TileType)
            const = make("const", loc=op.loc, dtype=kind.dtype, shape=(), value=part * step)
            own[dim] = (total := make("add", (own[dim], const.result), loc=op.loc)).result
            out += [const, total]
        return tuple(own)


def _lands(op: Op, old: int, new: int) -> bool:
    try:
        return _reshaped(op, old) == new
    except _CannotSplit:
        return False
