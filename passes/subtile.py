"""Split the rows of a kernel: two or more sub-tiles that different warp groups can run.

TILE -> TILE. The rows of every product are cut into equal parts. What is made from a
product is made once for each part, one after the other; what a part needs of other values
is made for its rows too; what all rows share stays whole. `dot` gets an attribute "part".
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tilec.ir.core import Attrs, Block, Kernel, Op, Value, definitions, frozen, uses, walk
from tilec.ir.ops import make
from tilec.ir.types import TileType
from tilec.passes.make_async import suffix
from tilec.passes.rewrite import where
from tilec.passes.subtile_rows import CannotSplit, Whole, backward, rows_of, shape_of
from tilec.passes.sweep import CARRIED

ROWS = 64  # of a product that one warp group runs
Key = tuple[Value, int, int]  # (value, dimension that is cut, part)
Env = dict[Key, Value]
OFFSETS = {"load": 1, "store": 2}  # the operand that is the first offset
ORDERLESS = ("add", "max", "min", "and", "or", "xor")


def split_rows(kernel: Kernel, parts: int = 2) -> Kernel | str:
    """A TILE kernel with its rows in ``parts`` parts, or a sentence that says why they cannot be cut.

    In the interpreter both give the same bits: each element is computed by the same ops in
    the same order, and writes keep their order, part by part. ``dot`` ops have the number
    of their part as attribute "part"; all else tells its part by the dots that it comes from.
    """
    dots = [op for op in walk(kernel.body) if op.name == "dot"]
    if not dots:
        return "no product has rows to split"
    for dot in dots:
        rows = shape_of(dot.result)[0]
        if rows % (ROWS * parts):
            return f"{where(dot)}: the {rows} rows of this product are not {parts} times {ROWS}"
    try:
        return kernel.with_(body=_split(kernel, parts))
    except CannotSplit as reason:
        return str(reason)


def _split(kernel: Kernel, parts: int) -> Block:
    """The body in parts. What else than products must be in parts shows on the way: carried values
    that are, and parts that stand beside a whole value. So it is tried until no more are found."""
    carried: dict[Value, int] = {}
    wanted: set[Key] = set()
    while True:
        rows = rows_of(kernel.body, parts, carried)
        _check_atomics(kernel, rows)
        splitter = _Splitter(kernel, rows, parts, frozenset(wanted))
        try:
            body = splitter.block(kernel.body, (), {})
        except Whole as more:
            carried[more.value] = more.dim
            wanted = set()
            continue
        if splitter.missed <= wanted:
            return body
        wanted |= splitter.missed


def _check_atomics(kernel: Kernel, rows: dict[Value, int]) -> None:
    """Groups update in any order: that must not show."""
    users = uses(kernel.body)
    for op in (op for op in walk(kernel.body) if op.name == "atomic" and any(a in rows for a in op.args)):
        kind = op.result.type
        assert isinstance(kind, TileType)
        if op.attrs["kind"] not in ORDERLESS or not kind.dtype.is_int or users.get(op.result):
            raise CannotSplit(f"{where(op)}: the order of this atomic's updates may be seen")


@dataclass(eq=False)
class _Splitter:
    """Rebuilds blocks. ``wanted``: parts to make beside a whole value; ``missed`` collects
    those that some op asked for and that were not there."""

    kernel: Kernel
    rows: dict[Value, int]
    parts: int
    wanted: frozenset[Key]
    missed: set[Key] = field(default_factory=set)
    defs: dict[Value, Op] = field(init=False)
    beside: dict[Value, list[tuple[int, int]]] = field(init=False)

    def __post_init__(self) -> None:
        self.defs = definitions(self.kernel.body)
        self.beside = {}
        for value, dim, part in self.wanted:
            self.beside.setdefault(value, []).append((dim, part))

    def block(self, block: Block, targets: tuple[Value, ...], env: Env) -> Block:
        """The block with the ops of parts. ``targets`` are what its yield gives values to; ``env``
        has the parts that it sees."""
        out: list[Op] = []
        for op in block.ops:
            if op.name == "yield":
                out.append(op.with_(args=self.handed(op, op.args, targets, env, out)))
            elif op.name in CARRIED:
                self.control(op, env, out)
            elif any(v in self.rows for v in (*op.results, *op.args)):
                dim = next(self.rows[v] for v in (*op.results, *op.args) if v in self.rows)
                for part in range(self.parts):
                    self.emit(op, dim, part, env, out)
            else:
                out.append(op)
                for dim, part in sorted(k for r in op.results for k in self.beside.get(r, ())):
                    self.emit(op, dim, part, env, out)
        return Block(self.named(block.params, env), tuple(out))

    def control(self, op: Op, env: Env, out: list[Op]) -> None:
        """A loop or branch: what it carries of rows it carries in parts."""
        first = CARRIED[op.name]
        initial = self.handed(op, op.args[first:], op.results if op.args[first:] else (), env, out)
        blocks = []
        for n, inner in enumerate(op.blocks):
            scope = dict(env)
            self.named(inner.params, scope)
            targets = () if op.name == "while" and n == 0 else op.results
            blocks.append(self.block(inner, targets or inner.yielded, scope))
        results = self.named(op.results, env)
        out.append(op.with_(args=(*op.args[:first], *initial), results=results, blocks=tuple(blocks)))

    def named(self, values: tuple[Value, ...], env: Env) -> tuple[Value, ...]:
        """Results or parameters; one for each part instead of one that holds rows."""
        found: list[Value] = []
        for v in values:
            if v not in self.rows:
                found.append(v)
                continue
            for part in range(self.parts):
                key = v, self.rows[v], part
                if key not in env:
                    env[key] = self.piece(*key)
                found.append(env[key])
        return tuple(found)

    def handed(
        self, user: Op, values: tuple[Value, ...], targets: tuple[Value, ...], env: Env, out: list[Op]
    ) -> tuple[Value, ...]:
        """What is given to ``targets``: the parts for one that holds rows."""
        found: list[Value] = []
        for value, target in zip(values, targets, strict=True):
            if target in self.rows:
                dim = self.rows[target]
                found += [self.want(value, dim, p, user, env, out) for p in range(self.parts)]
            else:
                found.append(value)
        return tuple(found)

    def piece(self, value: Value, dim: int, part: int) -> Value:
        """A new value for a part of ``value``."""
        t = value.type
        assert isinstance(t, TileType)
        return Value(t.with_(shape=self.cut(t.shape, dim)), value.hint and value.hint + suffix(part))

    def cut(self, shape: tuple[int, ...], dim: int) -> tuple[int, ...]:
        return (*shape[:dim], shape[dim] // self.parts, *shape[dim + 1 :])

    def want(self, value: Value, dim: int, part: int, user: Op, env: Env, out: list[Op]) -> Value:
        """A part of a value: there already, or made by the op that makes the whole."""
        key = value, dim, part
        if key not in env:
            op = self.defs.get(value)
            if value in self.rows:
                raise CannotSplit(
                    f"{where(user)}: this {user.name} cuts rows of products along another dimension"
                )
            if op is None or op.blocks:
                raise Whole(value, dim)
            self.missed.add(key)
            self.emit(op, dim, part, env, out)
        return env[key]

    def emit(self, op: Op, dim: int, part: int, env: Env, out: list[Op]) -> None:
        """The op for a part of the rows, which its result (for a write, its operand) has along ``dim``."""
        args = list(op.args)
        for n, arg in enumerate(op.args):
            inner = backward(op, n, dim, self.parts)
            if inner is not None:
                args[n] = self.want(arg, inner, part, op, env, out)
        if op.name in OFFSETS:
            whole = shape_of(op.result if op.name == "load" else op.args[1])
            n = OFFSETS[op.name] + dim
            args[n] = _moved(op, args[n], part * whole[dim] // self.parts, out)
        results = tuple(self.piece(r, dim, part) for r in op.results)
        env.update({(r, dim, part): new for r, new in zip(op.results, results, strict=True)})
        out.append(op.with_(args=tuple(args), attrs=self.attrs(op, dim, part), results=results))

    def attrs(self, op: Op, dim: int, part: int) -> Attrs:
        """The attributes of the op for a part."""
        new = dict(op.attrs)
        if op.name == "arange":
            n = (new["stop"] - new["start"]) // self.parts
            new["start"] += part * n
            new["stop"] = new["start"] + n
        elif op.name == "dot":
            new["part"] = part
        elif "shape" in new:
            new["shape"] = self.cut(tuple(new["shape"]), dim)
        return frozen(**new)


def _moved(op: Op, offset: Value, by: int, out: list[Op]) -> Value:
    """The offset of a part of a load or store."""
    if not by:
        return offset
    assert isinstance(offset.type, TileType)
    step = make("const", loc=op.loc, dtype=offset.type.dtype, shape=(), value=by)
    total = make("add", (offset, step.result), loc=op.loc)
    out += [step, total]
    return total.result
