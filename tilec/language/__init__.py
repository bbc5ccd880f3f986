"""The language of kernels: ``import tilec.language as tl``."""

from __future__ import annotations

import difflib
from typing import Any

from tilec.ir.types import (
    DType,
    bfloat16,
    bool_,
    float8_e4m3,
    float8_e5m2,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)  # fmt: skip
from tilec.language import later
from tilec.language.arith import (
    abs,
    cdiv,
    ceil,
    clamp,
    cos,
    erf,
    exp,
    exp2,
    floor,
    fma,
    log,
    log2,
    maximum,
    minimum,
    pow,
    rint,
    rsqrt,
    sigmoid,
    sin,
    sqrt,
    tanh,
    where,
)  # fmt: skip
from tilec.language.control import (
    Tensor,
    assume,
    constexpr,
    range,
    static_assert,
    static_print,
    static_range,
)  # fmt: skip
from tilec.language.create import arange, full, zeros
from tilec.language.memory import (
    atomic_add,
    atomic_and,
    atomic_max,
    atomic_min,
    atomic_or,
    atomic_xchg,
    atomic_xor,
    gather,
    load,
    num_programs,
    program_id,
    scatter,
    store,
)  # fmt: skip
from tilec.language.product import dot
from tilec.language.reductions import all, any, argmax, argmin, max, min, prod, sum, xor_sum
from tilec.language.section import section
from tilec.language.shape import bitcast, broadcast_to, cast, expand_dims, permute, reshape, trans
from tilec.tile import MissingAttributeError, Tile

__all__ = [
    "DType",
    "Tensor",
    "Tile",
    "abs",
    "all",
    "any",
    "arange",
    "argmax",
    "argmin",
    "assume",
    "atomic_add",
    "atomic_and",
    "atomic_max",
    "atomic_min",
    "atomic_or",
    "atomic_xchg",
    "atomic_xor",
    "bfloat16",
    "bitcast",
    "bool_",
    "broadcast_to",
    "cast",
    "cdiv",
    "ceil",
    "clamp",
    "constexpr",
    "cos",
    "dot",
    "erf",
    "exp",
    "exp2",
    "expand_dims",
    "float8_e4m3",
    "float8_e5m2",
    "float16",
    "float32",
    "float64",
    "floor",
    "fma",
    "full",
    "gather",
    "int8",
    "int16",
    "int32",
    "int64",
    "load",
    "log",
    "log2",
    "max",
    "maximum",
    "min",
    "minimum",
    "num_programs",
    "permute",
    "pow",
    "prod",
    "program_id",
    "range",
    "reshape",
    "rint",
    "rsqrt",
    "scatter",
    "section",
    "sigmoid",
    "sin",
    "sqrt",
    "static_assert",
    "static_print",
    "static_range",
    "store",
    "sum",
    "tanh",
    "trans",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "where",
    "xor_sum",
    "zeros",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Names that do not work yet, and a useful error for names that do not exist."""
    if name in later.FUNCTIONS:
        return later.FUNCTIONS[name]
    if name.startswith("_"):
        raise AttributeError(name)
    near = difflib.get_close_matches(name, [*__all__, *later.INSTEAD], 1)
    mend = f"did you mean tl.{near[0]}?" if near else "docs/language.md lists all functions"
    raise MissingAttributeError("V314", f"the language has no function tl.{name}", help=mend)
