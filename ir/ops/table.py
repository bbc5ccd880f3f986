"""The op table's machinery: OpDef, registration, and `make`, the only builder.

An op is declared once. The type rule (`infer`) is used three times: to trace,
to build and to verify. `meaning` is the numpy definition that every backend
must agree with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tilec.ir.core import Block, Op, Value, frozen, walk
from tilec.ir.errors import InternalError, TilecTypeError, TilecValueError
from tilec.ir.loc import UNKNOWN, Loc, located
from tilec.ir.types import TensorType, TileType, Type

Effect = Literal["pure", "read", "write", "sync", "control"]
Args = tuple[Type, ...]
TypeRule = Callable[[Args, Mapping[str, Any], tuple[Block, ...]], tuple[Type, ...]]
# meaning(rt, op, *values) -> one value, a tuple for several results, None for none,
# or a generator that yields where the op may have to wait and returns its results.
Meaning = Callable[..., Any]

ALL_FORMS = frozenset({"tile", "aref", "scheduled"})
RINGS = frozenset({"aref", "scheduled"})
SCHEDULED = frozenset({"scheduled"})


@dataclass(frozen=True)
class OpDef:
    """One row of the op table.

    ``operands`` are names for people; one that ends with "..." stands for any number.
    ``attrs`` are the required attributes, ``optional`` the others with their
    defaults. ``effect``: "pure" ops may be copied, merged and removed; "read"
    ops may be removed and, if the tensor is never written in the kernel, copied.
    """

    name: str
    doc: str
    infer: TypeRule
    meaning: Meaning
    operands: tuple[str, ...] = ()
    effect: Effect = "pure"
    forms: frozenset[str] = ALL_FORMS
    attrs: tuple[str, ...] = ()
    optional: Mapping[str, Any] | None = None
    blocks: int = 0
    family: str = ""


OPS: dict[str, OpDef] = {}


def op(
    name: str,
    infer: TypeRule,
    operands: tuple[str, ...] = (),
    *,
    effect: Effect = "pure",
    forms: frozenset[str] = ALL_FORMS,
    attrs: tuple[str, ...] = (),
    optional: Mapping[str, Any] | None = None,
    blocks: int = 0,
    family: str = "",
) -> Callable[[Meaning], Meaning]:
    """Declare an op; decorates its numpy meaning, whose docstring is the op's."""

    def register(meaning: Meaning) -> Meaning:
        doc = (meaning.__doc__ or "").strip()
        OPS[name] = OpDef(name, doc, infer, meaning, operands, effect, forms, attrs, optional, blocks, family)
        return meaning

    return register


def opdef(name: str) -> OpDef:
    """The row of an op."""
    if name not in OPS:
        raise InternalError("X101", f"no op named {name!r} in the op table")
    return OPS[name]


def attr(node: Op, name: str) -> Any:
    """An attribute, or its default from the table."""
    if name in node.attrs:
        return node.attrs[name]
    return (opdef(node.name).optional or {})[name]


def section_sources(block: Block) -> dict[Value, Value]:
    """For each section that the block (or deeper) makes the tensor that it is of, in program order."""
    return {node.result: node.args[0] for node in walk(block) if node.name == "section"}


def written_tensors(block: Block) -> set[Value]:
    """Tensor arguments, and sections of them, that ops of the block (or deeper) write."""
    written = {node.args[0] for node in walk(block) if opdef(node.name).effect == "write"}
    return written | {source for part, source in section_sources(block).items() if part in written}


def make(
    name: str,
    args: Sequence[Value] = (),
    *,
    blocks: Sequence[Block] = (),
    loc: Loc = UNKNOWN,
    hints: Sequence[str] = (),
    **attrs: Any,
) -> Op:
    """Build an op: checks attributes, runs the type rule, makes the results."""
    types = result_types(name, tuple(a.type for a in args), attrs, tuple(blocks), loc)
    names = list(hints) + [""] * (len(types) - len(hints))
    results = tuple(Value(t, h) for t, h in zip(types, names, strict=True))
    return Op(name, tuple(args), frozen(**attrs), results, tuple(blocks), loc)


def result_types(
    name: str, args: Args, attrs: Mapping[str, Any], blocks: tuple[Block, ...], loc: Loc
) -> tuple[Type, ...]:
    """What the type rule gives for these operands; errors carry ``loc``."""
    row = opdef(name)
    known = set(row.attrs) | set(row.optional or {})
    if set(row.attrs) - set(attrs) or set(attrs) - known:
        raise InternalError("X102", f"{name}: attributes {sorted(attrs)}, table has {sorted(known)}")
    if len(blocks) != row.blocks and row.blocks >= 0:
        raise InternalError("X103", f"{name}: {len(blocks)} blocks, table says {row.blocks}")
    with located(loc):
        _check_arity(row, len(args))
        return row.infer(args, attrs, blocks)


def _check_arity(row: OpDef, found: int) -> None:
    fixed = sum(not o.endswith("...") for o in row.operands)
    if found < fixed or (found > fixed and fixed == len(row.operands)):
        names = ", ".join(row.operands) or "nothing"
        raise TilecTypeError("T106", f"{row.name} takes {names}, not {found} operands")


def tile(t: Type, what: str) -> TileType:
    """``t`` as a tile type, or a TypeError that names ``what``."""
    if not isinstance(t, TileType):
        raise TilecTypeError("T103", f"{what} must be a tile, not {t}", help="load it first")
    return t


def tensor(t: Type, what: str) -> TensorType:
    """``t`` as a tensor type, or a TypeError that names ``what``."""
    if not isinstance(t, TensorType):
        raise TilecTypeError("T104", f"{what} must be a tensor argument, not {t}")
    return t


def scalar_int(t: Type, what: str) -> TileType:
    """``t`` as an integer scalar type."""
    found = tile(t, what)
    if found.shape != () or not found.dtype.is_int:
        raise TilecTypeError("T105", f"{what} must be an integer scalar, not {found}")
    return found


def check_axis(axis: int, rank: int, what: str) -> None:
    """Refuse an axis outside [0, rank)."""
    if not 0 <= axis < rank:
        raise TilecValueError("V101", f"{what}: axis {axis} is outside a tile of rank {rank}")
