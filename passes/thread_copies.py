"""Rings that the threads of the load group fill, where TMA cannot: gathers, odd addresses, other pads.

A gather of rows, whose indices along one axis of the tile count up by one, is copied by cp.async in
units of 16 bytes; all else passes through registers.
"""

from __future__ import annotations

from collections.abc import Mapping

from tilec.ir.core import Kernel, Op, Value, walk
from tilec.ir.ops import attr, opdef
from tilec.ir.types import TensorType, TileType
from tilec.passes.async_rules import OPERANDS, SPAN, is_plus_zero
from tilec.passes.copy_rules import COPY, is_multiple
from tilec.passes.rewrite import constant_of

# Registers per thread of the load group and of a compute group, of which there may be two, by who fills
# rings: setmaxnreg takes multiples of 8 from 24 on, and all groups share 65536.
REGISTERS = {"tma": (24, 240), "cp.async": (56, 224), "stores": (104, 200)}

Defs = Mapping[Value, Op]


def why_not_threads(load: Op, written: set[Value]) -> str | None:
    """Why threads cannot fill a ring with what a load or gather reads; None if they can."""
    source, tile = load.args[0], load.result.type
    assert isinstance(tile, TileType)
    if tile.dtype not in OPERANDS:
        return f"tensor cores here take 16-bit and 8-bit floats, tf32 and 8-bit integers, not {tile.dtype}"
    return f"the kernel writes {source.hint or 'the tensor'}" if source in written else None


def by_threads(op: Op) -> bool:
    """Whether an op is a load or gather whose ring threads fill."""
    return op.name in ("load", "gather") and bool(attr(op, "threads"))


def kind(load: Op) -> str:
    """Who fills the ring of a load or gather: "tma", "cp.async" or "stores"."""
    if not by_threads(load):
        return "tma"
    return "cp.async" if load.name == "gather" and attr(load, "along") is not None else "stores"


def group_registers(kernel: Kernel) -> tuple[int, int]:
    """Registers per thread of the load group and of each compute group of an AREF kernel."""
    kinds = {kind(op) for op in walk(kernel.body) if op.name in ("load", "gather")}
    return max(REGISTERS[k] for k in ("tma", *sorted(kinds)))


def row_axis(gather: Op, defs: Defs) -> int | None:
    """The axis of the tile along which a gather reads whole aligned units of 16 bytes; None if there is none.

    There the index into the contiguous dimension counts up from a multiple of a unit, and nothing
    else changes; what is masked or outside is zero.
    """
    t, tile = gather.args[0].type, gather.result.type
    assert isinstance(t, TensorType) and isinstance(tile, TileType)
    *indices, mask, other = gather.args[1:]
    zero = constant_of(_origin(other, defs), defs)
    if t.contiguous is None or not t.aligned or zero is None or not is_plus_zero(zero):
        return None
    steady = [mask, *(index for axis, index in enumerate(indices) if axis != t.contiguous)]
    for axis, extent in reversed(list(enumerate(tile.shape))):
        whole = extent * tile.dtype.bytes % SPAN == 0
        counts = _counts(indices[t.contiguous], axis, COPY // tile.dtype.bytes, defs)
        if whole and counts and not any(_varies(v, axis, defs) for v in steady):
            return axis
    return None


def _origin(value: Value, defs: Defs) -> Value:
    """What a value is a reshape and broadcast of."""
    op = defs.get(value)
    while op is not None and op.name in ("broadcast", "reshape"):
        value = op.args[0]
        op = defs.get(value)
    return value


def _behind(op: Op, axis: int) -> int | None:
    """The axis of a shape op's operand that becomes ``axis``; None if it has none, or more than one."""
    source, target = (v.type for v in (op.args[0], op.result))
    assert isinstance(source, TileType) and isinstance(target, TileType)
    if op.name == "broadcast":
        return axis if len(source.shape) == len(target.shape) else None
    wide = [[d for d, n in enumerate(t.shape) if n != 1] for t in (source, target)]
    same = [source.shape[d] for d in wide[0]] == [target.shape[d] for d in wide[1]]
    return wide[0][wide[1].index(axis)] if same and axis in wide[1] else None


def _varies(value: Value, axis: int, defs: Defs) -> bool:
    """Whether a tile may have different elements along an axis."""
    t, op = value.type, defs.get(value)
    assert isinstance(t, TileType)
    if not t.shape or t.shape[axis] == 1 or (op is not None and op.name == "const"):
        return False
    if op is None:
        return True
    if op.name in ("broadcast", "reshape"):
        inner, source = _behind(op, axis), op.args[0].type
        assert isinstance(source, TileType)
        return _varies(op.args[0], inner, defs) if inner is not None else bool(source.shape)
    family = opdef(op.name).family
    return not family.startswith(("elementwise", "compare", "cast")) or any(
        _varies(a, axis, defs) for a in op.args
    )


def _counts(value: Value, axis: int, unit: int, defs: Defs) -> bool:
    """Whether a tile of integers counts up by one along an axis, from a multiple of ``unit``."""
    op, t = defs.get(value), value.type
    assert isinstance(t, TileType)
    if op is None or not t.dtype.is_int:
        return False
    if op.name == "arange":
        return bool(op.attrs["start"] % unit == 0)
    if op.name == "add":
        a, b = op.args
        return any(
            _counts(x, axis, unit, defs) and not _varies(y, axis, defs) and is_multiple(y, unit, defs)
            for x, y in ((a, b), (b, a))
        )
    if op.name == "cast":
        return _counts(op.args[0], axis, unit, defs)
    if op.name in ("broadcast", "reshape"):
        inner, source = _behind(op, axis), op.args[0].type
        assert isinstance(source, TileType)
        return inner is not None and source.shape[inner] > 1 and _counts(op.args[0], inner, unit, defs)
    return False
