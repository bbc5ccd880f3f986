"""The statements of an entry, with where each register stands and where jumps lead."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from tilec.ir.ptx.module import Addr, Instruction, Label, Not, Operand, Pair, Pred, Reg, Statement, Sym, Vec


@dataclass
class Code:
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

        self.products = [i for i, s in enumerate(self.body) if is_op(s, "wgmma.")]
        self._marks = sorted({*self.products, *(i for jump in self.jumps for i in jump)})
        self._found: dict[tuple[int, ...], bool] = {}

    def closed(self, first: int, last: int) -> bool:
        """Whether no jump crosses the border of a stretch."""
        return all((first < a < last) == (first < b < last) for a, b in self.jumps)

    def may_run(self, reg: Reg, at: int) -> bool:
        """Whether a product of a warp group that has a register may still run at a statement."""
        users = [i for i in self.places[reg] if is_op(self.body[i], "wgmma.mma_async")]
        if not users:
            return False
        key = (bisect(self._marks, at), *users)  # between two marks the answer is one
        if key not in self._found:
            self._found[key] = any(self._runs(way, users) for way in self._ways(at))
        return self._found[key]

    def _ways(self, at: int) -> Iterator[list[tuple[int, int]]]:
        """Fences, products and waits on the ways to a statement, each with the place up to which a jump
        may skip it: from the entry, and once around each loop."""
        before = [(i, at) for i in self.products if i < at]
        yield before
        for end, start in self.jumps:
            if start <= at <= end:
                yield [(i, end) for i in self.products if at < i < end] + [w for w in before if w[0] > start]

    def _runs(self, way: Sequence[tuple[int, int]], users: Collection[int]) -> bool:
        """Whether the last of some products may run after a way."""
        running, groups = False, 0  # groups: of products, from that of the last user on
        for i, limit in way:
            if i in users:
                running, groups = True, 0
            elif is_op(self.body[i], "wgmma.commit"):
                groups += 1
            elif is_op(self.body[i], "wgmma.wait") and _number(self.body[i]) < groups:
                running = running and any(a < i < b <= limit for a, b in self.jumps)
        return running

    def statements(self) -> list[Statement]:
        """What is left."""
        return [s for s in self.body if s is not None]


def is_op(s: Statement | None, opcode: str) -> bool:
    """Whether a statement is an instruction whose opcode begins so."""
    return isinstance(s, Instruction) and s.opcode.startswith(opcode)


def _number(s: Statement | None) -> int:
    assert isinstance(s, Instruction)
    return int(getattr(s.operands[0], "value", 1 << 20))


def _targets(s: Statement | None) -> tuple[str, ...]:
    if not is_op(s, "bra"):
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


def renamed(s: Statement | None, old: Reg, new: Reg) -> Instruction:
    """An instruction with another register in place of one."""
    assert isinstance(s, Instruction)
    pred = s.pred if s.pred is None or s.pred.reg != old else Pred(new, s.pred.negated)
    operands = tuple(_put(o, old, new) for o in s.operands)
    return Instruction(s.opcode, operands, pred, s.comment, s.loc, s.line)


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
