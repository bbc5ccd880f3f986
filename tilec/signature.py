"""Parameters of a kernel: what they may be given, at launch and in a signature for compile."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any

import numpy as np

from tilec.coerce import is_number, number_dtype, plain
from tilec.convert import location
from tilec.ir.errors import TilecError, TilecSyntaxError, TilecTypeError, TilecValueError
from tilec.ir.types import DType, TensorType, TileType, Type, bool_, dtype_of, float32, int32, scalar
from tilec.language.control import Tensor, constexpr
from tilec.runtime import arrays

RESERVED = ("backend", "num_threads", "target", "stream", "options")
_SCALARS: dict[Any, DType] = {int: int32, float: float32, bool: bool_}
WISHES = ("num_warps", "num_stages", "stages", "specialize", "cluster")
_EMPTY = inspect.Parameter.empty


@dataclass(frozen=True)
class Parameter:
    """One parameter. ``kind`` is "tensor", "scalar", "constexpr" or "any" (no annotation)."""

    name: str
    kind: str
    dtype: DType | None = None
    rank: int | None = None
    type: type | None = None
    default: Any = _EMPTY


def parameters(fn: FunctionType) -> tuple[Parameter, ...]:
    """The parameters of a kernel function, from its annotations."""
    found = []
    for p in inspect.signature(fn).parameters.values():
        if p.kind not in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
            raise TilecSyntaxError(
                "S310", f"parameter {p.name!r} of kernel {fn.__name__} is variadic or positional-only",
                help="a kernel has a fixed list of named parameters", loc=location(fn),
            )  # fmt: skip
        if p.name in RESERVED:
            raise TilecSyntaxError(
                "S311", f"parameter name {p.name!r} of kernel {fn.__name__} is a launch option",
                help=f"rename it; reserved are {', '.join(RESERVED)}", loc=location(fn),
            )  # fmt: skip
        found.append(_parameter(fn, p))
    return tuple(found)


def _parameter(fn: FunctionType, p: inspect.Parameter) -> Parameter:
    note = _annotation(fn, p)
    if isinstance(note, constexpr) or note is constexpr:
        kind = note.kind if isinstance(note, constexpr) else None
        return Parameter(p.name, "constexpr", type=kind, default=p.default)
    if p.default is not _EMPTY:
        raise TilecSyntaxError(
            "S312", f"run-time parameter {p.name!r} of kernel {fn.__name__} has a default",
            help="only tl.constexpr parameters have defaults", loc=location(fn),
        )  # fmt: skip
    if isinstance(note, Tensor):
        return Parameter(p.name, "tensor", note.dtype, note.rank)
    if note is Tensor:
        return Parameter(p.name, "tensor")
    if isinstance(note, DType) or note in _SCALARS:
        return Parameter(p.name, "scalar", note if isinstance(note, DType) else _SCALARS[note])
    if note is _EMPTY:
        return Parameter(p.name, "any")
    raise TilecTypeError(
        "T350", f"parameter {p.name!r} of kernel {fn.__name__} is annotated {note!r}", loc=location(fn),
        help="use tl.Tensor, int, float, bool, a dtype such as tl.int64, or tl.constexpr",
    )  # fmt: skip


def _annotation(fn: FunctionType, p: inspect.Parameter) -> Any:
    if not isinstance(p.annotation, str):
        return p.annotation
    names = dict(zip(fn.__code__.co_freevars, (_cell(c) for c in fn.__closure__ or ()), strict=True))
    try:
        return eval(p.annotation, fn.__globals__, names)
    except TilecError:
        raise
    except Exception as error:
        raise TilecTypeError(
            "T350", f"annotation {p.annotation!r} of {p.name!r} cannot be evaluated: {error}",
            loc=location(fn), help="annotations must be visible at module level",
        ) from error  # fmt: skip


def _cell(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def parse_type(item: Any, name: str) -> Type:
    """An element of a signature: a type, tl.Tensor[dtype, rank], a dtype, or text as "f16[2]", "i32"."""
    if isinstance(item, TensorType | TileType):
        return item
    if isinstance(item, Tensor) and item.dtype is not None and item.rank is not None:
        return _dense(item.dtype, item.rank)
    if isinstance(item, DType):
        return scalar(item)
    if item in (int, float, bool):
        return scalar(_SCALARS[item])
    if isinstance(item, str):
        return _parse_text(item, name)
    raise TilecTypeError(
        "T351", f"signature of {name!r}: {item!r} is no argument type",
        help='use tl.Tensor["f16", 2], "f16[2]", "i32" or a dtype',
    )  # fmt: skip


def _dense(dtype: DType, rank: int) -> TensorType:
    return TensorType(dtype, rank, rank - 1 if rank else None)


_TENSOR = re.compile(r"(\w+)\[(\d+)((?:,\s*[\w=]+)*)\]")


def _parse_text(text: str, name: str) -> Type:
    match = _TENSOR.fullmatch(text.strip())
    if match is None:
        return scalar(dtype_of(text.strip()))
    type_ = _dense(dtype_of(match[1]), int(match[2]))
    for flag in filter(None, (f.strip() for f in match[3].split(","))):
        if flag == "unaligned":
            type_ = replace(type_, aligned=False)
        elif flag == "divisible":
            type_ = replace(type_, divisible=True)
        elif re.fullmatch(r"contiguous=(\d+|none)", flag):
            axis = flag.split("=")[1]
            type_ = replace(type_, contiguous=None if axis == "none" else int(axis))
        else:
            raise TilecValueError(
                "V350", f"signature of {name!r}: unknown property {flag!r} in {text!r}",
                help='known are "contiguous=AXIS", "contiguous=none", "unaligned" and "divisible"',
            )  # fmt: skip
    if type_.contiguous is not None and type_.contiguous >= type_.rank > 0:
        raise TilecValueError("V350", f"signature of {name!r}: {text!r} has no axis {type_.contiguous}")
    return type_


def check_type(p: Parameter, type_: Type) -> Type:
    """A type for a run-time parameter, checked against its annotation."""
    is_tensor = isinstance(type_, TensorType)
    if p.kind in ("tensor", "scalar") and is_tensor != (p.kind == "tensor"):
        raise TilecTypeError(
            "T352", f"argument {p.name!r} is {type_}, but the parameter is a {p.kind}",
            help="pass an array" if p.kind == "tensor" else "pass a number",
        )  # fmt: skip
    if not isinstance(type_, TensorType):
        return _check_scalar(p, type_)
    if p.dtype is not None and type_.dtype != p.dtype:
        raise TilecTypeError(
            "T353", f"argument {p.name!r} has {type_.dtype} elements, the parameter is annotated {p.dtype}",
            help=f"convert the array to {p.dtype}",
        )  # fmt: skip
    if p.rank is not None and type_.rank != p.rank:
        raise TilecTypeError(
            "T354", f"argument {p.name!r} has rank {type_.rank}, the parameter is annotated {p.rank}",
            help="reshape the array",
        )  # fmt: skip
    return type_


def _check_scalar(p: Parameter, type_: Type) -> Type:
    if not isinstance(type_, TileType) or type_.shape:
        raise TilecTypeError("T352", f"argument {p.name!r} is {type_}, not a tensor or scalar")
    if p.dtype is not None and type_.dtype != p.dtype:
        raise TilecTypeError(
            "T353", f"argument {p.name!r} is {type_.dtype}, the parameter is annotated {p.dtype}"
        )
    return type_


def argument_type(p: Parameter, value: Any) -> Type:
    """The type of a launch argument, checked against the parameter."""
    if arrays.is_array(value):
        if p.kind == "scalar":
            raise TilecTypeError("T352", f"argument {p.name!r} is an array, but the parameter is a scalar",
                                 help="pass a number, or annotate it tl.Tensor")  # fmt: skip
        described = _described(p.name, value)
        if any(n >= 2**31 for n in described.shape):
            raise TilecValueError(
                "V351", f"argument {p.name!r} has shape {described.shape}: an extent exceeds int32",
                help="split the array",
            )  # fmt: skip
        return check_type(p, described.tensor)
    if not is_number(value):
        raise TilecTypeError(
            "T355", f"argument {p.name!r} is {type(value).__name__}, neither an array nor a number",
            help="pass a numpy array, an object with __dlpack__, int, float or bool",
        )  # fmt: skip
    if p.kind == "tensor":
        raise TilecTypeError("T352", f"argument {p.name!r} is {value}, but the parameter is a tensor",
                             help="pass an array")  # fmt: skip
    return scalar(_scalar_dtype(p, value))


def with_extents(type_: Type, value: Any) -> Type:
    """The type of a launch argument with what its extents tell, which code for a GPU relies on."""
    if not isinstance(type_, TensorType):
        return type_
    return replace(type_, divisible=arrays.is_divisible(value))


def _described(name: str, value: Any) -> arrays.Described:
    """What `describe` says of an array; its errors name the argument."""
    try:
        return arrays.describe(value)
    except TilecError as error:
        raise type(error)(error.code, f"argument {name!r}: {error.message}", help=error.help) from None


def _scalar_dtype(p: Parameter, value: Any) -> DType:
    number = plain(value)
    dtype = p.dtype or (dtype_of(value.dtype) if isinstance(value, np.generic) else number_dtype(number))
    fits: Any = {"bool": bool, "int": int, "uint": int, "float": (int, float)}[dtype.kind]
    if not isinstance(number, fits) or (isinstance(number, bool) and dtype.kind != "bool"):
        raise TilecTypeError("T353", f"argument {p.name!r} is {number!r}, but it is annotated {dtype}",
                             help="convert it before the launch")  # fmt: skip
    if dtype.is_int and not _holds(dtype, number):
        wide = next((w for w in ("int64", "uint64") if _holds(dtype_of(w), number)), None)
        mend = f"annotate the parameter tl.{wide}" if wide else "pass a smaller number"
        raise TilecValueError(
            "V352", f"argument {p.name!r} is {number}, which does not fit in {dtype}", help=mend
        )
    return dtype


def _holds(dtype: DType, number: int | float) -> bool:
    """Whether a number lies between the ends of an integer dtype."""
    signed = dtype.kind == "int"
    low, high = (-(2 ** (dtype.bits - 1)) if signed else 0), 2 ** (dtype.bits - signed)
    return bool(low <= number < high)


def constant(p: Parameter, value: Any) -> Any:
    """A value for a constexpr parameter, checked and made plain."""
    if arrays.is_array(value):
        raise TilecTypeError("T356", f"constexpr parameter {p.name!r} is given an array",
                             help="annotate the parameter tl.Tensor")  # fmt: skip
    value = plain(value) if is_number(value) else value
    try:
        hash(value)
    except TypeError:
        kind = type(value).__name__
        raise TilecTypeError("T357", f"constexpr parameter {p.name!r} is given a {kind}, not hashable",
                             help="pass a tuple instead of a list") from None  # fmt: skip
    wanted: Any = (float, int) if p.type is float else p.type
    wrong = isinstance(wanted, type | tuple) and not isinstance(value, wanted)
    if wrong or (isinstance(value, bool) and p.type in (int, float)):
        raise TilecTypeError(
            "T358", f"constexpr parameter {p.name!r} is {value!r}, not {getattr(p.type, '__name__', p.type)}",
            help="pass a value of that type",
        )  # fmt: skip
    return value


def split(
    name: str, params: Sequence[Parameter], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Launch arguments as run-time values and constants by name, in order of the parameters."""
    if len(args) > len(params):
        raise TilecTypeError(
            "T359", f"kernel {name} takes {len(params)} arguments, {len(args)} are given",
            help=f"its parameters are {', '.join(p.name for p in params)}",
        )  # fmt: skip
    given = dict(zip((p.name for p in params), args, strict=False))
    known = {p.name for p in params}
    for key, value in kwargs.items():
        if key not in known or key in given:
            what = "is given twice" if key in given else f"is no parameter of kernel {name}"
            more = "; wishes for the GPU go in options=tilec.driver.Options(...)" if key in WISHES else ""
            names = ", ".join(p.name for p in params)
            raise TilecTypeError("T360", f"argument {key!r} {what}", help=f"its parameters are {names}{more}")
        given[key] = value
    values: dict[str, Any] = {}
    constants: dict[str, Any] = {}
    for p in params:
        value = given.get(p.name, p.default)
        if value is _EMPTY:
            raise TilecTypeError("T361", f"argument {p.name!r} of kernel {name} is missing",
                                 help=f"pass it as {p.name}=...")  # fmt: skip
        if p.kind == "constexpr":
            constants[p.name] = constant(p, value)
        else:
            values[p.name] = value
    return values, constants
