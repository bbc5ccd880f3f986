"""Where the tile of a load begins in the next program instance, so that it can be fetched early."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tilec.backends.cpu.lanes import I32, I64
from tilec.backends.cpu.shapes import tile_type
from tilec.backends.cpu.tiles import POINTWISE, Code, Lazy
from tilec.backends.cpu.views import Tensor, place
from tilec.ir.core import Value
from tilec.ir.types import TileType

# Bytes of a tile from which on its rows are worth the instructions.
LEAST = 4096


def next_tile(code: Code, tensor: Tensor, offsets: Sequence[Value], type_: TileType) -> Any:
    """Where the tile of the next instance starts; None where that is not known or would not pay."""
    axis = tensor.type.contiguous
    if len(code.frames) > 1 or axis is None or not LEAST <= type_.bytes <= code.target.l2_bytes // 4:
        return None
    found = _replayed(code, offsets)
    if found is None or not any(code.definitions[v].name == "program_id" for v in found):
        return None
    before, code.env = code.env, {**code.env, **found}
    starts = [code.b.sext(code.scalar(o), I64) for o in offsets]
    code.env = before
    return place(code.b, tensor, starts)


def _replayed(code: Code, offsets: Sequence[Value]) -> Mapping[Value, Any] | None:
    """What the scalars behind the offsets are in the next instance; None for unknown ones."""
    found: dict[Value, Any] = {}
    program = _next_program(code)

    def visit(value: Value) -> bool:
        op = code.definitions.get(value)
        if op is None or op.name in ("dim", "num_programs"):
            return True
        if op.name == "program_id":
            found[value] = code.b.trunc(program[op.attrs["axis"]], I32)
        elif op.name in POINTWISE:
            found[value] = Lazy(op)
        else:
            return False
        return all(visit(a) for a in op.args)

    known = all(tile_type(o).dtype.bits == 32 and visit(o) for o in offsets)
    return found if known else None


def _next_program(code: Code) -> list[Any]:
    """The program ids one instance on, the first axis fastest."""
    out, carry = [], I64(1)
    for at, extent in zip(code.program, code.grid, strict=True):
        up = code.b.add(at, carry)
        full = code.b.icmp_signed("==", up, extent)
        out.append(code.b.select(full, I64(0), up))
        carry = code.b.zext(full, I64)
    return out
