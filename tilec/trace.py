"""Recording: the tracer, its regions, and the call of a kernel function.

A region is a block under construction. Every tile knows the region that made it,
so that a value which leaves its loop or branch by a side door is an error.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from types import FunctionType
from typing import TYPE_CHECKING, Any

from tilec.ir.core import Block, Kernel, Op, Value, walk
from tilec.ir.errors import (
    InternalError,
    ResourceError,
    TilecError,
    TilecSyntaxError,
    TilecTypeError,
    TilecValueError,
    UnsupportedError,
)
from tilec.ir.loc import UNKNOWN, Loc
from tilec.ir.ops import make, opdef, section_sources, written_tensors
from tilec.ir.types import TensorType, TileType, Type
from tilec.source import here, of_traceback, raised_by_us

if TYPE_CHECKING:
    from tilec.tile import TensorArg, Tile

MAX_OPS = 200_000
# Elements of a tile: int32 must hold the indices.
MAX_ELEMENTS = 2**31 - 1


class Region:
    """A block under construction; ``what`` names it in messages."""

    def __init__(self, what: str, loc: Loc) -> None:
        self.what, self.loc = what, loc
        self.params: list[Value] = []
        self.ops: list[Op] = []

    def close(self, yielded: Sequence[Value], loc: Loc) -> Block:
        """The finished block, ended by a yield."""
        return Block(tuple(self.params), (*self.ops, make("yield", yielded, loc=loc)))

    def uses(self, value: Value) -> bool:
        """Is the value read by an op of this region, at any depth?"""
        return any(_reads(op, value) for op in self.ops)


def _reads(op: Op, value: Value) -> bool:
    return value in op.args or any(_reads(o, value) for b in op.blocks for o in b.ops)


class Tracer:
    """The state of one trace: the stack of open regions, innermost last."""

    def __init__(self, name: str, file: str) -> None:
        self.name, self.file = name, file
        self.stack: list[Region] = [Region("the kernel", UNKNOWN)]
        self.count = 0
        # User functions that took part: a kept trace depends on what they read.
        self.functions: list[FunctionType] = []
        # (function, variable) -> why the variable has no value.
        self.lost: dict[tuple[str, str], str] = {}

    @property
    def region(self) -> Region:
        return self.stack[-1]

    def loc(self) -> Loc:
        """The innermost user line that is being executed."""
        return here(self.run.__func__.__code__, self.file) or UNKNOWN  # type: ignore[attr-defined]

    def emit(
        self, name: str, args: Sequence[Tile | TensorArg] = (), *, blocks: Sequence[Block] = (),
        hints: Sequence[str] = (), **attrs: Any,
    ) -> list[Tile]:  # fmt: skip
        """Record an op; gives its results as tiles."""
        from tilec.tile import Tile

        loc = self.loc()
        values = [self.visible(a, loc) for a in args]
        op = make(name, values, blocks=blocks, loc=loc, hints=hints, **attrs)
        self.region.ops.append(op)
        self.count += 1
        for result in op.results:
            if isinstance(result.type, TileType) and result.type.size > MAX_ELEMENTS:
                raise ResourceError(
                    "R302", f"a tile of shape {result.type.shape} has more than {MAX_ELEMENTS} elements",
                    loc=loc, help="loop over smaller tiles",
                )  # fmt: skip
        if self.count > MAX_OPS:
            raise ResourceError(
                "R301", f"the kernel unrolls to more than {MAX_OPS} operations", loc=loc,
                help="use tl.range instead of a Python loop",
            )  # fmt: skip
        return [Tile(self, self.region, r) for r in op.results]

    def section(self, tensor: TensorArg, bounds: Sequence[Tile], axis: int) -> TensorArg:
        """Record a section of a tensor argument."""
        from tilec.tile import TensorArg

        (made,) = self.emit("section", [tensor, *bounds], hints=(tensor.name,), axis=axis)
        return TensorArg(self, self.region, made.value, tensor)

    def visible(self, tile: Any, loc: Loc | None = None) -> Value:
        """The tile's value, or an error if its region is closed."""
        value: Value = tile.value
        if tile.region in self.stack and tile.tracer is self:
            return value
        if tile.tracer is not self:
            raise TilecValueError(
                "V301", "a tile of another kernel or an earlier trace is used", loc=loc,
                help="tiles live inside one call of one kernel: do not keep them in globals",
            )  # fmt: skip
        where = tile.region.loc
        raise TilecValueError(
            "V302",
            f"a value made inside {tile.region.what} at line {where.line} is used outside of it",
            help="bind a name before the loop or branch and rebind that name inside: it is then carried",
            loc=loc,
        )

    def param(self, type: Type, hint: str) -> Tile:
        """A new parameter of the innermost region."""
        from tilec.tile import Tile

        value = Value(type, hint)
        self.region.params.append(value)
        return Tile(self, self.region, value)

    def run(self, fn: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """Call the captured function; every error leaves it located."""
        token = _CURRENT.set(self)
        try:
            result = fn(*args, **kwargs)
        except TilecError as error:
            if error.loc is None:
                error.loc = of_traceback(error.__traceback__, self.file)
            raise
        except Exception as error:
            raise self.explain(error) from error
        finally:
            _CURRENT.reset(token)
        if result is not None:
            raise TilecValueError(
                "V303", f"kernel {self.name} returns a value",
                help="a kernel returns nothing: write results with tl.store", loc=self.end_loc,
            )  # fmt: skip

    end_loc: Loc | None = None

    def explain(self, error: Exception) -> TilecError:
        """A Python exception of the user's code as a located error."""
        loc = of_traceback(error.__traceback__, self.file)
        if isinstance(error, NameError):
            return self._unbound(error, loc)
        text = f"{type(error).__name__}: {error}"
        if raised_by_us(error.__traceback__) and not isinstance(error, RecursionError):
            return InternalError("X310", f"the compiler failed with {text}", loc=loc, help="please report it")
        if isinstance(error, TypeError):
            return TilecTypeError("T301", f"Python raised {text}", loc=loc, help=_usage(str(error)))
        return TilecValueError("V304", f"Python raised {text}", loc=loc, help=_HELP.get(type(error), _ELSE))

    def _unbound(self, error: NameError, loc: Loc | None) -> TilecError:
        name = error.name or (re.findall(r"'(\w+)'", str(error)) or ["?"])[0]
        why = self.lost.get((loc.function if loc else "", name))
        if why is not None:
            return TilecValueError(
                "V306", f"{name!r} has no value here: {why}", loc=loc,
                help=f"give {name!r} a value of the same shape and dtype before it",
            )  # fmt: skip
        return TilecValueError(
            "V305", f"name {name!r} is not defined", loc=loc,
            help="define it before this line; language functions are written tl.name",
        )  # fmt: skip


_HELP: dict[type[Exception], str] = {
    AssertionError: "assert is checked while the kernel is traced; tl.static_assert takes a message",
    RecursionError: "recursion on run-time values does not end: use a loop over tl.range",
}


def _usage(message: str) -> str:
    """How the function of the language is called of which Python says that it was called wrongly."""
    from tilec import language

    name = message.partition("(")[0]
    fn = vars(language).get(name) if name in language.__all__ else None
    if not inspect.isfunction(fn):
        return "docs/language.md lists the arguments of each function"
    empty = inspect.Parameter.empty
    parts = inspect.signature(fn)
    plain = [p.replace(annotation=empty) for p in parts.parameters.values()]
    return f"write tl.{name}{parts.replace(parameters=plain, return_annotation=empty)}"


_ELSE = "this line runs while the kernel is traced, on Python values"

_CURRENT: ContextVar[Tracer | None] = ContextVar("tilec_tracer", default=None)


def current(what: str) -> Tracer:
    """The running tracer; ``what`` is the language function that needs it."""
    tracer = _CURRENT.get()
    if tracer is None:
        raise TilecSyntaxError(
            "S315", f"{what} is used outside of a kernel",
            help="call it inside a function decorated with @tilec.kernel",
        )  # fmt: skip
    return tracer


def active() -> Tracer | None:
    """The running tracer, or None outside of a trace."""
    return _CURRENT.get()


def trace(
    fn: Callable[..., Any], name: str, file: str, arguments: dict[str, Type | Constant], loc: Loc
) -> tuple[Kernel, list[FunctionType]]:
    """Call ``fn`` (already captured) and give the TILE kernel it records, and the helpers it calls.

    ``arguments`` has one entry per parameter of ``fn``: a type for a run-time
    argument, a `Constant` for a compile-time one.
    """
    from tilec.tile import TensorArg, Tile

    tracer = Tracer(name, file)
    tracer.end_loc = loc
    params: list[Value] = []
    values: dict[str, Any] = {}
    for key, what in arguments.items():
        if isinstance(what, Constant):
            values[key] = what.value
            continue
        params.append(Value(what, key))
        handle = TensorArg if isinstance(what, TensorType) else Tile
        values[key] = handle(tracer, tracer.region, params[-1])
    tracer.run(fn, (), values)
    body = tracer.region.close((), loc)
    _check_sections(body)
    return Kernel(name, tuple(params), body), tracer.functions


def _check_sections(body: Block) -> None:
    """A tensor that the kernel writes is accessed under one name: so its accesses need no more order
    than the names tell."""
    sources, written = section_sources(body), written_tensors(body)
    names: dict[Value, Value] = {}
    for op in (o for o in walk(body) if opdef(o.name).family == "memory"):
        tensor = op.args[0]
        root = sources.get(tensor, tensor)
        if root in written and names.setdefault(root, tensor) is not tensor:
            raise UnsupportedError(
                "U322", f"{root.hint!r} is written, and accessed through more than one tensor", loc=op.loc,
                help="access it through one section only",
            )  # fmt: skip


class Constant:
    """A compile-time argument."""

    def __init__(self, value: Any) -> None:
        self.value = value
