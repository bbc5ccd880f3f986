"""What a loop carries is written where the next turn wants it, not copied there at the turn's end.

ptxas (13.5) finds most of these copies itself, but in loops of wgmma, whose accumulators have fixed
places, it keeps dozens: the scores' exponentials of attention with head size 64 took 64 moves a turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tilec.ir.ptx.module import (
    Addr,
    Instruction,
    Label,
    Not,
    Operand,
    Pair,
    Pred,
    Reg,
    Statement,
    Sym,
    Vec,
)

# Instructions that write their first operand and read the others, and do nothing else.
PLAIN = (
    "mov", "fma", "add", "sub", "mul", "mad", "max", "min", "neg", "abs", "ex2", "lg2", "rcp", "sqrt",
    "rsqrt", "sin", "cos", "tanh", "div", "cvt", "selp", "and", "or", "xor", "not", "shl", "shr", "prmt",
    "shfl",
)  # fmt: skip


def in_place(body: Sequence[Statement]) -> list[Statement]:
    """The statements with ``mov p, x`` of loops of wgmma gone, where x can be p from the start.

    x is made once, and last read by the copy; between, nothing reads or writes p, no way leads in
    or out, and no running product has p.
    """
    code = _Code(list(body))
    for start, end in code.loops():
        for at in range(start, end):
            move = code.move(at)
            if move is not None:
                code.join(start, end, at, *move)
    return [s for s in code.body if s is not None]


@dataclass
class _Code:
    """Statements (None: gone), and where each register stands."""

    body: list[Statement | None]

    def __post_init__(self) -> None:
        self.places: dict[Reg, list[int]] = {}
        for i, s in enumerate(self.body):
            for reg in dict.fromkeys(_registers(s)) if isinstance(s, Instruction) else ():
                self.places.setdefault(reg, []).append(i)
        self.labels = {s.name: i for i, s in enumerate(self.body) if isinstance(s, Label)}
        self.jumps = [
            (i, self.labels[to]) for i, s in enumerate(self.body) for to in _targets(s) if to in self.labels
        ]

    def loops(self) -> Iterator[tuple[int, int]]:
        """First and last statement of each loop that has products of warp groups."""
        for end, start in self.jumps:
            inside = self.body[start:end]
            if start < end and any(_is(s, "wgmma.mma_async") for s in inside):
                yield start, end

    def move(self, at: int) -> tuple[Reg, Reg] | None:
        s = self.body[at]
        if not isinstance(s, Instruction) or not s.opcode.startswith("mov.") or s.pred is not None:
            return None
        to, source = s.operands
        ours = isinstance(to, Reg) and isinstance(source, Reg) and to != source and "." not in source.name
        return (to, source) if ours else None  # type: ignore[return-value]

    def join(self, start: int, end: int, at: int, to: Reg, source: Reg) -> None:
        """Let ``source`` be ``to`` from where it is made, if it may, and drop the copy."""
        places = self.places[source]
        made = places[0]
        if not start < made < at or places[-1] != at or not self._made_once(source, places):
            return
        if any(made < i < at for i in self.places[to]) or not self._closed(made, at):
            return
        if self._may_run(start, end, made, to):
            return
        for i in places[:-1]:
            self.body[i] = _renamed(self.body[i], source, to)
        self.body[at] = None
        self.places[to] = sorted({*self.places[to], *places} - {at})
        self.places[source] = []

    def _made_once(self, reg: Reg, places: list[int]) -> bool:
        first, *later = (self.body[i] for i in places)
        assert isinstance(first, Instruction)
        plain = first.opcode.split(".")[0] in PLAIN and first.operands[0] == reg and first.pred is None
        return plain and all(isinstance(s, Instruction) and s.operands[:1] != (reg,) for s in later)

    def _closed(self, first: int, last: int) -> bool:
        """Whether no jump crosses the border of a stretch."""
        return all((first < a < last) == (first < b < last) for a, b in self.jumps)

    def _may_run(self, start: int, end: int, made: int, reg: Reg) -> bool:
        """Whether a product that has a register may still run when it is written."""
        turn = [*range(made, end), *range(start, made)]
        users = [
            n for n, i in enumerate(turn) if i in self.places[reg] and _is(self.body[i], "wgmma.mma_async")
        ]
        if not users:
            return False
        since = 0
        for s in (self.body[i] for i in turn[users[-1] :]):
            since += _is(s, "wgmma.commit_group")
            if _is(s, "wgmma.wait_group") and _number(s) < since:
                return False
        return True


def _is(s: Statement | None, opcode: str) -> bool:
    return isinstance(s, Instruction) and s.opcode.startswith(opcode)


def _number(s: Statement | None) -> int:
    assert isinstance(s, Instruction)
    return int(getattr(s.operands[0], "value", 1 << 20))


def _targets(s: Statement | None) -> tuple[str, ...]:
    if not _is(s, "bra"):
        return ()
    assert isinstance(s, Instruction)
    return tuple(o.name for o in s.operands if isinstance(o, Sym))


def _registers(s: Instruction) -> Iterator[Reg]:
    for o in s.operands:
        yield from _of(o)
    if s.pred is not None:
        yield s.pred.reg


def _of(o: Operand) -> Iterator[Reg]:
    if isinstance(o, Reg):
        yield o
    elif isinstance(o, Addr):
        yield from (part for inner in (o.base, *(o.coords or ())) for part in _of(inner))
    elif isinstance(o, Vec):
        yield from (part for inner in o.items for part in _of(inner))
    elif isinstance(o, Pair):
        yield from (part for inner in (o.first, o.second) for part in _of(inner))
    elif isinstance(o, Not):
        yield from _of(o.reg)


def _renamed(s: Statement | None, old: Reg, new: Reg) -> Instruction:
    assert isinstance(s, Instruction)
    pred = s.pred if s.pred is None or s.pred.reg != old else Pred(new, s.pred.negated)
    return replace(s, operands=tuple(_put(o, old, new) for o in s.operands), pred=pred)


def _put(o: Operand, old: Reg, new: Reg) -> Operand:
    if isinstance(o, Reg):
        return new if o == old else o
    if isinstance(o, Addr):
        coords = None if o.coords is None else tuple(_put(c, old, new) for c in o.coords)
        return replace(o, base=_put(o.base, old, new), coords=coords)  # type: ignore[arg-type]
    if isinstance(o, Vec):
        return Vec(tuple(_put(i, old, new) for i in o.items))
    if isinstance(o, Pair):
        return Pair(_put(o.first, old, new), _put(o.second, old, new))
    return Not(new) if isinstance(o, Not) and o.reg == old else o
