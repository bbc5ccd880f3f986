"""16-bit floats that are only used two in a register are made so, by one ``cvt.rn.f16x2``.

ptxas (13.5) finds such a pair itself, but where a loop carries the two halves to a wgmma it may give
them registers from which they must be moved: 24 moves a turn in attention with head size 64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tilec.ir.ptx.code import Code, is_op, renamed
from tilec.ir.ptx.module import Instruction, Label, Reg, Statement, Vec

CONVERT = ("cvt.rn.f16.f32", "cvt.rn.bf16.f32")
Two = tuple[Reg, Reg]


def in_pairs(code: Code) -> None:
    """Make one ``cvt r`` of each ``cvt x; cvt y; mov r, {x, y}`` where x and y have no other use and r
    is an operand of a product. An epilogue of GEMM made so is a tenth shorter, but one that gathers spilled.

    A loop may carry x and y: then every place that makes them makes both, one after the other.
    """
    for two, joins in _joined(code).items():
        if not any(_multiplied(code, at) for at in joins):
            continue
        makes = list(_makes(code, two, joins))
        if makes and all(_may_be(code, at, [max(m) for m in makes]) for at in joins):
            _join(code, joins, makes)


def _joined(code: Code) -> dict[Two, list[int]]:
    """Halves that only occur as these two of a register, and where that is put together."""
    found: dict[Two, list[int]] = {}
    for i, s in enumerate(code.body):
        if isinstance(s, Instruction) and s.opcode == "mov.b32" and s.pred is None:
            _, source = s.operands
            if isinstance(source, Vec) and len(source.items) == 2:
                x, y = source.items
                if isinstance(x, Reg) and isinstance(y, Reg) and x != y:
                    found.setdefault((x, y), []).append(i)
    return found


def _makes(code: Code, two: Two, joins: list[int]) -> Iterator[tuple[int, int]]:
    """The two conversions of each time that the halves are made; none if anything else has them."""
    places = [sorted({*code.places[r]} - {*joins}) for r in two]
    couples = list(zip(*places, strict=False))
    if len(places[0]) == len(places[1]) and all(_is_made(code, two, at) for at in couples):
        yield from couples


def _is_made(code: Code, two: Two, at: tuple[int, ...]) -> bool:
    """Whether one statement converts to each half, with only conversions between."""
    made = [code.body[i] for i in at]
    between = code.body[min(at) : max(at)]
    return (
        all(isinstance(s, Instruction) and s.opcode in CONVERT and s.pred is None for s in made)
        and all(isinstance(s, Instruction) and s.operands[0] == r for s, r in zip(made, two, strict=True))
        and len({s.opcode for s in made if isinstance(s, Instruction)}) == 1
        and all(is_op(s, "cvt.rn.") or not isinstance(s, (Instruction, Label)) for s in between)
    )


def _may_be(code: Code, at: int, makes: list[int]) -> bool:
    """Whether the register that is put together at a place can be the one that is made earlier."""
    reg = _made(code, at)
    first, *uses = code.places[reg]
    if first != at or any(_writes(code.body[i], reg) for i in uses):
        return False
    last = uses[-1] if uses else at
    follows = len(makes) == 1 and makes[0] < at and code.closed(makes[0], at)
    kept = code.closed(at, last) and not any(at < m < last for m in makes)
    return (follows or kept) and not any(code.may_run(reg, m) for m in makes)


def _multiplied(code: Code, at: int) -> bool:
    return any(is_op(code.body[i], "wgmma.mma_async") for i in code.places[_made(code, at)])


def _made(code: Code, at: int) -> Reg:
    s = code.body[at]
    assert isinstance(s, Instruction) and isinstance(s.operands[0], Reg)
    return s.operands[0]


def _writes(s: Statement | None, reg: Reg) -> bool:
    to = s.operands[0] if isinstance(s, Instruction) and s.operands else None
    return to == reg or (isinstance(to, Vec) and reg in to.items)


def _join(code: Code, joins: list[int], makes: list[tuple[int, int]]) -> None:
    to = _made(code, joins[0])
    for at in joins:
        reg = _made(code, at)
        code.body[at] = None
        for i in code.places[reg][1:]:
            code.body[i] = renamed(code.body[i], reg, to)
    for low, high in makes:
        x, y = code.body[low], code.body[high]
        assert isinstance(x, Instruction) and isinstance(y, Instruction)
        opcode = x.opcode.replace("16", "16x2", 1)
        code.body[low] = code.body[high] = None
        code.body[max(low, high)] = replace(y, opcode=opcode, operands=(to, y.operands[1], x.operands[1]))
