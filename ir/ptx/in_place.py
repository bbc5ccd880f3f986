"""What a loop carries is written where the next turn wants it, not copied there at the turn's end.

ptxas (13.5) finds most of these copies itself, but in loops of wgmma, whose accumulators have fixed
places, it keeps dozens: the scores' exponentials of attention with head size 64 took 64 moves a turn.
"""

from __future__ import annotations

from collections.abc import Iterator

from tilec.ir.ptx.code import Code, is_op, renamed
from tilec.ir.ptx.module import Instruction, Reg, Statement

# Instructions that write their first operand and read the others, and do nothing else.
PLAIN = (
    "mov", "fma", "add", "sub", "mul", "mad", "max", "min", "neg", "abs", "ex2", "lg2", "rcp", "sqrt",
    "rsqrt", "sin", "cos", "tanh", "div", "cvt", "selp", "and", "or", "xor", "not", "shl", "shr", "prmt",
    "shfl",
)  # fmt: skip


def in_place(code: Code) -> None:
    """Take out ``mov p, x`` of loops of wgmma where x can be p from the start.

    x is made once, and last read by the copy; between, nothing reads or writes p, no way leads in
    or out, and no running product has p.
    """
    for start, end in _loops(code):
        for at in range(start, end):
            move = _move(code.body[at])
            if move is not None:
                _join(code, start, at, *move)


def _loops(code: Code) -> Iterator[tuple[int, int]]:
    """First and last statement of each loop that has products of warp groups."""
    for end, start in code.jumps:
        inside = code.body[start:end]
        if start < end and any(is_op(s, "wgmma.mma_async") for s in inside):
            yield start, end


def _move(s: Statement | None) -> tuple[Reg, Reg] | None:
    if not isinstance(s, Instruction) or not s.opcode.startswith("mov.") or s.pred is not None:
        return None
    to, source = s.operands
    ours = isinstance(to, Reg) and isinstance(source, Reg) and to != source and "." not in source.name
    return (to, source) if ours else None  # type: ignore[return-value]


def _join(code: Code, start: int, at: int, to: Reg, source: Reg) -> None:
    """Let ``source`` be ``to`` from where it is made, if it may, and drop the copy."""
    places = code.places[source]
    made = places[0]
    if not start < made < at or places[-1] != at or not _made_once(code, source, places):
        return
    if any(made < i < at for i in code.places[to]) or not code.closed(made, at):
        return
    if code.may_run(to, made):
        return
    for i in places[:-1]:
        code.body[i] = renamed(code.body[i], source, to)
    code.body[at] = None
    code.places[to] = sorted({*code.places[to], *places} - {at})
    code.places[source] = []


def _made_once(code: Code, reg: Reg, places: list[int]) -> bool:
    first, *later = (code.body[i] for i in places)
    assert isinstance(first, Instruction)
    plain = first.opcode.split(".")[0] in PLAIN and first.operands[0] == reg and first.pred is None
    return plain and all(isinstance(s, Instruction) and s.operands[:1] != (reg,) for s in later)
